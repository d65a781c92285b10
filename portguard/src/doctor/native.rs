//! Whether drivers will run the guard themselves.

use std::collections::BTreeMap;

use super::guards::Guards;
use super::remedy::RemedyKind;
use super::xdp::{self, Features};
use super::{Finding, kernel};
use crate::guard::{self, Hook, Lacking, Obstacle};
use crate::interface::{Driver, HV_NETVSC, Interface, XdpMode};

const ID: &str = "native";
/// Kinds of devices whose drivers have native XDP, on kernels that do not tell; cards have no kind.
const NATIVE: [&str; 3] = ["bond", "tun", "veth"];
/// The first kernel on which virtio shares queues where there are too few.
const VIRTIO_SHARES: (u32, u32) = (5, 13);
/// The first kernel on which a bond hands programs on to its ports.
const NATIVE_BONDS: (u32, u32) = (5, 15);
/// `ARPHRD_NONE`: a tun device has native XDP if its frames are Ethernet's.
const ARPHRD_NONE: u16 = 0xfffe;

/// What there is under the drivers.
#[derive(Debug, Clone, Copy)]
struct Host {
    kernel: (u32, u32),
    cpus: u32,
}

pub(super) fn examine(all: &[Interface], guards: &Guards) -> Vec<Finding> {
    let cpus = std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u32);
    let mut findings = Vec::new();
    let features = xdp::features().unwrap_or_else(|failure| {
        findings.push(Finding::warning(
            ID,
            format!("the kernel does not report the XDP features of the drivers: {failure}"),
            RemedyKind::Again.text("Run portguard doctor again."),
        ));
        BTreeMap::new()
    });
    let host = Host { kernel: kernel::version().unwrap_or(kernel::SEVERAL_BUFFERS), cpus };
    let guardable = all.iter().filter(|it| it.up && guard::require_guardable(it).is_ok());
    findings.extend(guardable.map(|it| {
        let driver = Driver::of(&it.name);
        let features = features.get(&it.index).copied();
        judge(it, &driver, features, host, guards.hook(it)).about(&it.name)
    }));
    findings
}

fn judge(
    interface: &Interface,
    driver: &Driver,
    features: Option<Features>,
    host: Host,
    hook: Option<Hook>,
) -> Finding {
    let name = &interface.name;
    let kind = interface.kind.as_deref();
    if hook == Some(Hook::Tcx) {
        return Finding::ok(ID, "the guard runs at tcx, behind the driver");
    }
    if guard::needs_tcx(interface) {
        return Finding::ok(
            ID,
            "its packets cannot be read at XDP: the guard runs at tcx, behind the driver",
        );
    }
    if hook == Some(Hook::Xdp(XdpMode::Native)) {
        let ports = match kind {
            Some("bond") => "; ports whose drivers have no native mode cannot join the bond",
            _ => "",
        };
        return Finding::ok(ID, format!("the guard runs in the driver{}{ports}", of(driver)));
    }
    if hook.is_none() && !interface.xdp.is_empty() {
        return Finding::ok(ID, "not checked: an XDP program is on it that is not known to be a guard");
    }
    if let Some(obstacle) = obstacle(interface, driver, features, host) {
        return Finding::warning(
            ID,
            format!("native mode will be refused{}: {}", of(driver), obstacle.why()),
            RemedyKind::MakeNative.text(format!(
                "{}. Or use --mode generic, which `attach` selects by itself.",
                obstacle.remedy(name)
            )),
        );
    }
    if !has_native(interface, features) {
        let found = match kind {
            Some(kind) => format!("devices of kind {kind} have no native mode: generic mode is used"),
            None => format!("there is no native mode{}: generic mode is used", of(driver)),
        };
        return Finding::ok(ID, found);
    }
    if kind == Some("bond") {
        let found = match host.kernel >= NATIVE_BONDS {
            true => {
                "possible with --mode native; `attach` selects generic mode, so that ports of any kind can join"
            }
            false => "a bond has no native mode before Linux 5.15: generic mode is used",
        };
        return Finding::ok(ID, found);
    }
    if driver.name.as_deref() == Some(HV_NETVSC) {
        let found = "possible with --mode native; `attach` selects generic mode, which also sees packets that arrive \
            over a virtual function whose driver does not accept the program";
        return Finding::ok(ID, found);
    }
    if kind == Some("veth") {
        return Finding::ok(ID, "possible; it slows bulk TCP down on veth, and --mode generic does not");
    }
    let channels =
        driver.channels.map(|(now, most)| format!(", {now} of {most} channels")).unwrap_or_default();
    Finding::ok(ID, format!("no obstacle is known{}{channels}, MTU {}", of(driver), interface.mtu))
}

fn of(driver: &Driver) -> String {
    driver.name.as_ref().map(|name| format!(" (driver {name})")).unwrap_or_default()
}

/// Whether the driver has native mode: as the kernel tells, else as is known of its kind.
fn has_native(interface: &Interface, features: Option<Features>) -> bool {
    let kind = interface.kind.as_deref();
    let known = || interface.hardware_type != ARPHRD_NONE && kind.is_none_or(|kind| NATIVE.contains(&kind));
    features.map_or_else(known, |features| features.native)
}

/// What will keep the driver from running a guard, where it could in another setup.
fn obstacle(
    interface: &Interface,
    driver: &Driver,
    features: Option<Features>,
    host: Host,
) -> Option<Obstacle> {
    if driver.large_receive_offload && (interface.kind.is_none() || has_native(interface, features)) {
        return Some(Obstacle::LargeReceiveOffload);
    }
    if !has_native(interface, features) {
        // A cable has it or not by its queues (`veth_set_xdp_features` of `drivers/net/veth.c`).
        return (interface.kind.as_deref() == Some("veth")).then_some(Obstacle::Queues);
    }
    let of_mtu = || {
        // Of devices that are no cards, each has its own way with long packets.
        let of_driver =
            || interface.kind.is_none() && features.is_some_and(|features| !features.several_buffers);
        let lacking = match host.kernel < kernel::SEVERAL_BUFFERS {
            true => Lacking::Kernel,
            false => of_driver().then_some(Lacking::Driver)?,
        };
        Obstacle::of_mtu(interface.mtu, lacking)
    };
    let of_channels = || {
        let (now, most) = driver.channels?;
        let too_many = match driver.name.as_deref()? {
            "ena" => 2 * now > most,
            "virtio_net" => host.kernel < VIRTIO_SHARES && now + host.cpus > most,
            _ => false,
        };
        too_many.then_some(Obstacle::Channels)
    };
    of_mtu().or_else(of_channels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;
    use crate::interface::AttachedXdp;

    const NEW: Host = Host { kernel: (6, 18), cpus: 8 };
    const OLD: Host = Host { kernel: (5, 10), cpus: 8 };

    fn card(mtu: u32, kind: Option<&str>) -> Interface {
        Interface { mtu, kind: kind.map(str::to_owned), ..Interface::example() }
    }

    fn driver(name: &str, now: u32, most: u32) -> Driver {
        Driver { name: Some(name.into()), large_receive_offload: false, channels: Some((now, most)) }
    }

    #[test]
    fn what_drivers_are_known_to_refuse_is_foreseen() {
        let lro = Driver { large_receive_offload: true, ..driver("hv_netvsc", 4, 4) };
        let all = Some(Features { native: true, several_buffers: true });
        let one = Some(Features { native: true, several_buffers: false });
        let none = Some(Features { native: false, several_buffers: false });
        for (mtu, driver, features, host, expected) in [
            (1500, driver("ixgbe", 8, 8), None, NEW, None),
            (1500, lro.clone(), None, NEW, Some("lro off")),
            // Some drivers have none for as long as it is on.
            (1500, lro, none, NEW, Some("lro off")),
            (9000, driver("ixgbe", 8, 8), None, NEW, None),
            (9000, driver("ixgbe", 8, 8), one, NEW, Some("which its driver lacks")),
            (3498, driver("ixgbe", 8, 8), one, NEW, None),
            (9000, driver("ice", 8, 8), all, NEW, None),
            (9000, driver("e1000e", 1, 1), none, NEW, None),
            (9000, driver("ixgbe", 8, 8), None, OLD, Some("Lower the MTU to 3498")),
            (1500, driver("ena", 5, 8), all, NEW, Some("ethtool -L eth0 combined")),
            (1500, driver("ena", 4, 8), all, NEW, None),
            (1500, driver("virtio_net", 8, 8), None, OLD, Some("ethtool -L eth0 combined")),
            (1500, driver("virtio_net", 8, 8), all, NEW, None),
            (1500, driver("virtio_net", 8, 16), None, OLD, None),
        ] {
            let finding = judge(&card(mtu, None), &driver, features, host, None);
            let told = format!("{} {}", finding.found, finding.remedy.map(|it| it.text).unwrap_or_default());
            assert_eq!(finding.status == Status::Warning, expected.is_some(), "{driver:?}");
            assert!(told.contains(expected.unwrap_or_default()), "{told}");
        }
    }

    #[test]
    fn a_guard_in_generic_mode_is_told_what_keeps_it_there() {
        let generic = AttachedXdp { mode: XdpMode::Generic, program_id: 7 };
        let card = Interface { xdp: vec![generic], ..card(9000, None) };
        let judge = |hook| judge(&card, &driver("ixgbe", 8, 8), None, OLD, hook);
        assert_eq!(judge(Some(Hook::Xdp(XdpMode::Generic))).status, Status::Warning);
        assert_eq!(judge(Some(Hook::Tcx)).status, Status::Ok);
        let foreign = judge(None);
        assert_eq!(foreign.status, Status::Ok);
        assert!(foreign.found.contains("not checked"), "{}", foreign.found);
    }

    #[test]
    fn generic_mode_is_said_where_there_is_no_other() {
        let found = |kind, features| judge(&card(1500, kind), &Driver::default(), features, NEW, None).found;
        assert!(found(Some("bridge"), None).contains("generic mode is used"));
        assert!(found(Some("veth"), None).contains("bulk TCP"));
        let none = Some(Features { native: false, several_buffers: false });
        assert!(found(None, none).contains("there is no native mode"));
        // What the kernel tells goes before what is known of the kind.
        assert!(found(Some("tun"), none).contains("generic mode is used"));
        assert!(
            found(Some("bridge"), Some(Features { native: true, several_buffers: true }))
                .contains("no obstacle is known")
        );
    }
}
