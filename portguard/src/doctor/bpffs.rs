//! Where guards are kept: whether what is pinned there lasts.

use nix::sys::statvfs::{FsFlags, statvfs};

use super::Finding;
use super::remedy::RemedyKind;
use crate::error::{Error, Kind};
use crate::guard::{self, BPFFS, PinRoot, Whose};

const MOUNT: &str = "bpffs.mount";
const LASTS: &str = "bpffs.lasts";

/// What is at the place.
#[derive(Debug)]
enum Place {
    Mounted { read_only: bool },
    Nothing,
    Unusable(Error),
}

pub(super) fn examine() -> Vec<Finding> {
    let place = match PinRoot::find().and_then(|_| guard::is_bpffs_mounted()) {
        Ok(true) => Place::Mounted {
            read_only: statvfs(BPFFS).is_ok_and(|stat| stat.flags().contains(FsFlags::ST_RDONLY)),
        },
        Ok(false) => Place::Nothing,
        Err(error) => Place::Unusable(error),
    };
    let mut findings = vec![judge(&place)];
    if matches!(place, Place::Mounted { .. }) {
        findings.extend(guard::whose().map(judge_mount));
    }
    findings
}

fn judge(place: &Place) -> Finding {
    match place {
        Place::Mounted { read_only: false } => {
            Finding::ok(MOUNT, format!("the BPF file system is at {BPFFS}"))
        }
        Place::Mounted { read_only: true } => Finding::failure(
            MOUNT,
            format!("{BPFFS} is read-only: no guard can be kept there"),
            RemedyKind::Remount
                .text(format!("mount -o remount,rw {BPFFS}; for a systemd unit: ReadWritePaths={BPFFS}")),
        ),
        Place::Nothing => Finding::warning(
            MOUNT,
            format!("no BPF file system is mounted at {BPFFS}"),
            RemedyKind::Mount.text(format!("`portguard attach` mounts it; or: mount -t bpf bpf {BPFFS}")),
        ),
        Place::Unusable(error) if error.kind() == Kind::NotPermitted => Finding::warning(
            MOUNT,
            format!("{BPFFS} cannot be read: not permitted"),
            RemedyKind::BecomeRoot.text("Run portguard as root."),
        ),
        Place::Unusable(error) => {
            let why = error.why().map(|why| format!(": {why}")).unwrap_or_default();
            Finding::failure(
                MOUNT,
                format!("{}{why}", error.what()),
                RemedyKind::OfError.text(error.advice().unwrap_or("See `portguard status`.")),
            )
        }
    }
}

fn judge_mount(whose: Whose) -> Finding {
    match whose {
        Whose::Host => {
            Finding::ok(LASTS, "it is that of the first process, so guards remain until the reboot")
        }
        Whose::Own => Finding::warning(
            LASTS,
            format!("{BPFFS} is not that of the first process: guards end with this mount"),
            RemedyKind::MountOfHost.text("Enter network namespaces with: nsenter --net=/run/netns/NAME; give containers the /sys/fs/bpf of the host."),
        ),
        Whose::Container => Finding::warning(
            LASTS,
            format!("this is a container: if {BPFFS} is not that of the host, guards end with the container"),
            RemedyKind::MountOfHost.text("Mount that of the host into the container: docker run --volume /sys/fs/bpf:/sys/fs/bpf, or a hostPath \
             volume."),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;

    #[test]
    fn a_place_is_judged_by_what_can_be_kept_there() {
        let status = |place| judge(&place).status;
        assert_eq!(status(Place::Mounted { read_only: false }), Status::Ok);
        assert_eq!(status(Place::Mounted { read_only: true }), Status::Failure);
        assert_eq!(status(Place::Nothing), Status::Warning);
        assert_eq!(status(Place::Unusable(Error::new(Kind::NotPermitted, "no"))), Status::Warning);
        assert_eq!(status(Place::Unusable(Error::failed("own mounts"))), Status::Failure);
        let lasts = [Whose::Host, Whose::Own, Whose::Container].map(|whose| judge_mount(whose).status);
        assert_eq!(lasts, [Status::Ok, Status::Warning, Status::Warning]);
    }
}
