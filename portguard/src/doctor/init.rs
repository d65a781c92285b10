//! What starts services on this host.

use std::path::Path;

/// The kinds of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Init {
    Systemd,
    OpenRc,
    Chkconfig,
    UpdateRcD,
    Other,
}

impl Init {
    /// That of the system below a root directory.
    pub(super) fn of(root: &Path) -> Self {
        let has = |paths: &[&str]| paths.iter().any(|path| root.join(path).exists());
        // sd_booted(3)
        if has(&["run/systemd/system"]) {
            Self::Systemd
        } else if has(&["run/openrc", "sbin/rc-update", "usr/sbin/rc-update"]) {
            Self::OpenRc
        } else if has(&["usr/sbin/update-rc.d", "sbin/update-rc.d"]) {
            Self::UpdateRcD
        } else if has(&["sbin/chkconfig", "usr/sbin/chkconfig"]) {
            Self::Chkconfig
        } else {
            Self::Other
        }
    }

    /// The commands that switch rpcbind off for good.
    pub(super) fn switch_off(self) -> String {
        match self {
            // The socket would start the service again.
            Self::Systemd => "systemctl mask --now rpcbind.service rpcbind.socket",
            Self::OpenRc => "rc-service rpcbind stop; rc-update del rpcbind",
            Self::Chkconfig => "service rpcbind stop; chkconfig rpcbind off",
            Self::UpdateRcD => "service rpcbind stop; update-rc.d rpcbind disable",
            Self::Other => {
                "stop rpcbind, and remove it from the services that this host starts (/etc/rc?.d, /etc/inittab)"
            }
        }
        .to_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_host_is_told_what_it_has() {
        for (has, expected, told) in [
            (
                &["run/systemd/system", "usr/sbin/update-rc.d"][..],
                Init::Systemd,
                "rpcbind.service rpcbind.socket",
            ),
            (&["sbin/rc-update"], Init::OpenRc, "rc-update del rpcbind"),
            (&["sbin/chkconfig"], Init::Chkconfig, "chkconfig rpcbind off"),
            (&["usr/sbin/update-rc.d"], Init::UpdateRcD, "update-rc.d rpcbind disable"),
            (&[], Init::Other, "/etc/rc?.d"),
        ] {
            let root = tempfile::tempdir().unwrap();
            for path in has {
                fs::create_dir_all(root.path().join(path)).unwrap();
            }
            let init = Init::of(root.path());
            assert_eq!(init, expected);
            assert!(init.switch_off().contains(told));
        }
    }
}
