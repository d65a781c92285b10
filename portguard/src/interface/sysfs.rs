//! Properties of an interface that only sysfs shows.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::{Interface, name_bytes};

/// The directory of the interfaces in sysfs.
pub(super) const ROOT: &str = "/sys/class/net";

/// Whether an interface has an entry with this name. Sysfs shows the interfaces of the network namespace in which it was
/// mounted, so the index is compared, too: another interface with the same name has another index.
pub(super) fn has(root: &Path, interface: &Interface, entry: &str) -> bool {
    let directory = root.join(OsStr::from_bytes(&name_bytes(&interface.name)));
    let index = fs::read_to_string(directory.join("ifindex")).ok().and_then(|text| text.trim().parse().ok());
    index == Some(interface.index) && directory.join(entry).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_of_another_namespace_is_not_taken_for_one_with_its_name() {
        let root = tempfile::tempdir().unwrap();
        let entry = root.path().join("lan").join("dsa");
        fs::create_dir_all(entry).unwrap();
        fs::write(root.path().join("lan/ifindex"), "7\n").unwrap();
        let interface =
            |index, name: &str| Interface { index, name: name.to_owned(), ..Interface::example() };
        assert!(has(root.path(), &interface(7, "lan"), "dsa"));
        assert!(!has(root.path(), &interface(8, "lan"), "dsa"));
        assert!(!has(root.path(), &interface(7, "lan"), "wireless"));
        assert!(!has(root.path(), &interface(7, "wan"), "dsa"));
    }
}
