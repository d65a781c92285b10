//! Keeps services asleep that Debian starts when it installs them.
//!
//! Installing rpcbind opens port 111 to the world, which is what portguard is there to prevent. So the units of a
//! package are masked before it is installed, for good, and the administrator is told how to undo that. Where systemd
//! does not run (a container, a chroot), maintainer scripts start daemons through init scripts and ask
//! `/usr/sbin/policy-rc.d` first; there, one stands in for the time of the installation. Services that are installed
//! already are the administrator's: they are not touched.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// Where the administrator's units are; theirs come before those of packages.
const UNITS: &str = "/etc/systemd/system";

/// What maintainer scripts ask before they start anything.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// The answer, for the services of the packages that setup installs: 101, not allowed.
const ANSWER: &str = "\
#!/bin/sh
# Written by `cargo xtask setup` of portguard for the time of an installation; can be removed.
case \"$*\" in
    *rpcbind*|*nfs-*|*nfsd*|*rpc-statd*|*prometheus*) exit 101 ;;
esac
";

/// While it lives, nothing starts; the masks stay.
#[derive(Debug)]
pub(super) struct Asleep {
    policy: Option<PathBuf>,
}

impl Asleep {
    /// Puts the units to sleep, before their packages are installed.
    pub(super) fn new(units: &[&str]) -> Result<Self> {
        if units.is_empty() {
            return Ok(Self { policy: None });
        }
        for unit in units {
            mask(Path::new(UNITS), unit)?;
        }
        eprintln!(
            "setup: masked {units}, so that nothing listens on this machine; to use them yourself: systemctl unmask \
             {units}",
            units = units.join(" ")
        );
        let policy = Path::new(POLICY);
        Ok(Self { policy: deny(policy)?.then(|| policy.to_owned()) })
    }
}

impl Drop for Asleep {
    fn drop(&mut self) {
        if let Some(policy) = &self.policy
            && let Err(error) = fs::remove_file(policy)
        {
            eprintln!("setup: cannot remove {}: {error}; remove it yourself", policy.display());
        }
    }
}

/// Does what `systemctl mask` does, which works without systemd too.
fn mask(units: &Path, unit: &str) -> Result<()> {
    let link = units.join(unit);
    fs::create_dir_all(units).with_context(|| format!("cannot make {}", units.display()))?;
    match symlink("/dev/null", &link) {
        // The administrator has a say already.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result.with_context(|| format!("cannot mask {unit} in {}", units.display())),
    }
}

/// Has maintainer scripts start nothing; tells whether the policy is ours, to be removed. One of the administrator
/// is left alone.
fn deny(policy: &Path) -> Result<bool> {
    match fs::read_to_string(policy) {
        Ok(text) => Ok(text == ANSWER),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::write(policy, ANSWER)
                .and_then(|()| fs::set_permissions(policy, fs::Permissions::from_mode(0o755)))
                .with_context(|| format!("cannot write {}", policy.display()))?;
            Ok(true)
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", policy.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::requirement::TOOLS;

    /// A folder of this test, empty.
    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("portguard-setup-{}-{name}", std::process::id()));
        fs::create_dir(&folder).expect("a fresh folder");
        folder
    }

    #[test]
    fn a_mask_points_nowhere_and_leaves_the_administrators_units_alone() {
        let units = folder("mask");
        fs::write(units.join("mine.service"), "[Service]").expect("a unit");
        mask(&units, "rpcbind.service").expect("the first mask");
        mask(&units, "rpcbind.service").expect("the same mask again");
        mask(&units, "mine.service").expect("a unit that is there");
        assert_eq!(fs::read_link(units.join("rpcbind.service")).expect("a link"), Path::new("/dev/null"));
        assert_eq!(fs::read_to_string(units.join("mine.service")).expect("still there"), "[Service]");
        fs::remove_dir_all(units).expect("tidy");
    }

    #[test]
    fn the_policy_denies_our_services_only() {
        let folder = folder("policy");
        let policy = folder.join("policy-rc.d");
        assert!(deny(&policy).expect("written"), "ours, to be removed");
        assert!(deny(&policy).expect("there"), "a policy left by a setup that was killed is ours, too");
        let answer = |service: &str| {
            let status = std::process::Command::new(&policy).args([service, "start"]).status();
            status.expect("the policy runs").code()
        };
        let services = TOOLS.iter().flat_map(|tool| tool.units).chain(&["rpcbind", "nfs-common"]);
        for service in services {
            assert_eq!(answer(service), Some(101), "{service}");
        }
        assert_eq!(answer("ssh"), Some(0));
        fs::write(&policy, "#!/bin/sh\nexit 0\n").expect("a policy of the administrator");
        assert!(!deny(&policy).expect("there"), "not ours");
        fs::remove_dir_all(folder).expect("tidy");
    }
}
