//! The directory where portguard keeps state that survives a reboot.

use std::env;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

const DEFAULT: &str = "/var/lib/portguard";

/// The path of the directory: what systemd names in `$STATE_DIRECTORY`, or `/var/lib/portguard`.
pub(crate) fn path() -> PathBuf {
    first_of(&env::var_os("STATE_DIRECTORY").unwrap_or_default())
}

/// systemd separates several directories by colons (systemd.exec(5)); the first one belongs to the service itself.
fn first_of(named: &OsStr) -> PathBuf {
    let first = named.as_bytes().split(|&byte| byte == b':').next().unwrap_or_default();
    if first.is_empty() { DEFAULT.into() } else { OsStr::from_bytes(first).into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_may_name_none_one_or_several_directories() {
        let first = |named: &str| first_of(OsStr::new(named));
        assert_eq!(first(""), PathBuf::from(DEFAULT));
        assert_eq!(first("/var/lib/private/portguard"), PathBuf::from("/var/lib/private/portguard"));
        assert_eq!(first("/srv/one:/srv/two"), PathBuf::from("/srv/one"));
    }
}
