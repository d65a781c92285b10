//! Small files, in which the kernel tells facts.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::interface;

/// A number in a file of `/proc/sys`; `None`: there is no such file.
pub(super) fn number(path: impl AsRef<Path>) -> io::Result<Option<u32>> {
    match fs::read_to_string(path) {
        Ok(text) => text.trim().parse().map(Some).map_err(|_| io::ErrorKind::InvalidData.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The setting of an interface, and that of all; 0 where there is none.
pub(super) fn setting(family: &str, interface: &str, name: &str) -> (u32, u32) {
    let read = |scope: &[u8]| {
        let path =
            Path::new("/proc/sys/net").join(family).join("conf").join(OsStr::from_bytes(scope)).join(name);
        number(path).ok().flatten().unwrap_or_default()
    };
    (read(&interface::name_bytes(interface)), read(b"all"))
}
