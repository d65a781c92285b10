//! Whether the guards are on again after a reboot.

use std::fs;
use std::path::Path;

use super::Finding;
use super::guards::Guards;
use super::init::Init;
use super::remedy::RemedyKind;

const ID: &str = "boot";
/// Where the unit of a service is, if it was installed.
const UNITS: [&str; 4] =
    ["etc/systemd/system", "usr/local/lib/systemd/system", "usr/lib/systemd/system", "lib/systemd/system"];
/// The template, of which each interface has an instance.
const TEMPLATE: &str = "portguard@.service";
/// Where enabled units are linked to, in the folders of what wants or requires them (systemd.unit(5)).
const ENABLED: &str = "etc/systemd/system";

pub(super) fn examine(guards: &Guards) -> Vec<Finding> {
    let root = Path::new("/");
    if Init::of(root) != Init::Systemd
        || !UNITS.iter().any(|folder| root.join(folder).join(TEMPLATE).exists())
    {
        return Vec::new();
    }
    guards
        .enforcing()
        .map(|interface| judge(interface, is_enabled(root, interface)).about(interface))
        .collect()
}

/// Whether systemd starts the service of an interface at boot.
fn is_enabled(root: &Path, interface: &str) -> bool {
    let unit = TEMPLATE.replace('@', &format!("@{interface}"));
    let Ok(folders) = fs::read_dir(root.join(ENABLED)) else { return false };
    let wanting = folders.flatten().filter(|folder| {
        let name = folder.file_name();
        let name = name.to_string_lossy();
        name.ends_with(".wants") || name.ends_with(".requires")
    });
    wanting.map(|folder| folder.path().join(&unit)).any(|link| link.symlink_metadata().is_ok())
}

fn judge(interface: &str, is_enabled: bool) -> Finding {
    match is_enabled {
        true => Finding::ok(ID, "the guard is on again at each boot"),
        false => Finding::warning(
            ID,
            "the guard is not on again after a reboot",
            RemedyKind::EnableUnit.text(format!("systemctl enable portguard@{interface}")),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_link_in_a_folder_of_what_is_started_enables_a_unit() {
        let root = tempfile::tempdir().unwrap();
        assert!(!is_enabled(root.path(), "eth0"));
        for folder in ["multi-user.target.wants", "portguard.target.requires", "other"] {
            fs::create_dir_all(root.path().join(ENABLED).join(folder)).unwrap();
        }
        for (folder, interface, expected) in [
            ("multi-user.target.wants", "eth0", true),
            ("portguard.target.requires", "br-lan", true),
            ("other", "eth1", false),
        ] {
            let link = root.path().join(ENABLED).join(folder).join(format!("portguard@{interface}.service"));
            // Also one whose package is gone for a moment.
            symlink("/nowhere", link).unwrap();
            assert_eq!(is_enabled(root.path(), interface), expected, "{interface}");
        }
        assert!(!is_enabled(root.path(), "eth"));
    }
}
