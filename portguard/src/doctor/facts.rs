//! Small files, in which the kernel tells facts.

use std::fs;
use std::io;

/// A number in a file of `/proc/sys`; `None`: there is no such file.
pub(super) fn number(path: &str) -> io::Result<Option<u32>> {
    match fs::read_to_string(path) {
        Ok(text) => text.trim().parse().map(Some).map_err(|_| io::ErrorKind::InvalidData.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The setting of an interface, and that of all; 0 where there is none.
pub(super) fn setting(family: &str, interface: &str, name: &str) -> (u32, u32) {
    let read = |scope: &str| {
        number(&format!("/proc/sys/net/{family}/conf/{scope}/{name}")).ok().flatten().unwrap_or_default()
    };
    (read(interface), read("all"))
}
