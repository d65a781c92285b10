//! Whether drivers will run the guard themselves.

use super::ethtool::Driver;
use super::guards::{Guarded, Guards};
use super::{Finding, kernel};
use crate::guard::{self, Obstacle};
use crate::interface::{Interface, XdpMode};

const ID: &str = "native";
/// Kinds of devices whose drivers have native XDP; cards have no kind.
const NATIVE: [&str; 4] = ["bond", "team", "tun", "veth"];
/// The first kernel on which virtio shares queues where there are too few.
const VIRTIO_SHARES: (u32, u32) = (5, 13);
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
    let host = Host { kernel: kernel::version().unwrap_or(kernel::SEVERAL_BUFFERS), cpus };
    all.iter()
        .filter(|it| it.up && guard::require_guardable(it).is_ok())
        .map(|it| judge(it, &Driver::of(&it.name), host, guards.on(it) == Guarded::Yes).about(&it.name))
        .collect()
}

fn judge(interface: &Interface, driver: &Driver, host: Host, guarded: bool) -> Finding {
    let name = &interface.name;
    if guarded && interface.xdp.iter().any(|xdp| xdp.mode == XdpMode::Native) {
        return Finding::ok(ID, format!("the guard runs in the driver{}", of(driver)));
    }
    let kind = interface.kind.as_deref();
    if interface.hardware_type == ARPHRD_NONE || kind.is_some_and(|kind| !NATIVE.contains(&kind)) {
        let kind = kind.unwrap_or("this kind");
        return Finding::ok(ID, format!("devices of kind {kind} have no native mode: generic mode is used"));
    }
    if let Some(obstacle) = obstacle(interface, driver, host) {
        return Finding::warning(
            ID,
            format!("native mode will be refused{}: {}", of(driver), obstacle.why()),
            format!("{}. Or use --mode generic, which `attach` does by itself.", obstacle.remedy(name)),
        );
    }
    if kind == Some("veth") {
        return Finding::ok(ID, "possible; it slows bulk TCP down on veth, and --mode generic does not");
    }
    let channels =
        driver.channels.map(|(now, most)| format!(", {now} of {most} channels")).unwrap_or_default();
    Finding::ok(ID, format!("nothing known is in its way{}{channels}, MTU {}", of(driver), interface.mtu))
}

fn of(driver: &Driver) -> String {
    driver.name.as_ref().map(|name| format!(" (driver {name})")).unwrap_or_default()
}

fn obstacle(interface: &Interface, driver: &Driver, host: Host) -> Option<Obstacle> {
    let of_mtu = || {
        let one_buffer = host.kernel < kernel::SEVERAL_BUFFERS;
        one_buffer.then(|| Obstacle::of_mtu(interface.mtu)).flatten()
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
    let of_offloads = || driver.large_receive_offload.then_some(Obstacle::LargeReceiveOffload);
    of_offloads().or_else(of_mtu).or_else(of_channels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;

    const NEW: Host = Host { kernel: (6, 18), cpus: 8 };
    const OLD: Host = Host { kernel: (5, 10), cpus: 8 };

    fn card(mtu: u32, kind: Option<&str>) -> Interface {
        Interface {
            index: 2,
            name: "eth0".into(),
            mtu,
            hardware_type: 1,
            kind: kind.map(str::to_owned),
            loopback: false,
            up: true,
            controller: None,
            lower: None,
            packet_information: false,
            alternative_names: vec![],
            xdp: vec![],
        }
    }

    fn driver(name: &str, now: u32, most: u32) -> Driver {
        Driver { name: Some(name.into()), large_receive_offload: false, channels: Some((now, most)) }
    }

    #[test]
    fn what_drivers_are_known_to_refuse_is_foreseen() {
        let lro = Driver { large_receive_offload: true, ..driver("hv_netvsc", 4, 4) };
        for (mtu, driver, host, expected) in [
            (1500, driver("ixgbe", 8, 8), NEW, None),
            (1500, lro, NEW, Some("lro off")),
            (9000, driver("ixgbe", 8, 8), NEW, None),
            (9000, driver("ixgbe", 8, 8), OLD, Some("Lower the MTU to 3498")),
            (1500, driver("ena", 5, 8), NEW, Some("ethtool -L eth0 combined")),
            (1500, driver("ena", 4, 8), NEW, None),
            (1500, driver("virtio_net", 8, 8), OLD, Some("ethtool -L eth0 combined")),
            (1500, driver("virtio_net", 8, 8), NEW, None),
            (1500, driver("virtio_net", 8, 16), OLD, None),
        ] {
            let finding = judge(&card(mtu, None), &driver, host, false);
            let remedy = finding.remedy.unwrap_or_default();
            assert_eq!(finding.status == Status::Warning, expected.is_some(), "{driver:?}");
            assert!(remedy.contains(expected.unwrap_or_default()), "{remedy}");
        }
    }

    #[test]
    fn generic_mode_is_said_where_there_is_no_other() {
        let found = |kind| judge(&card(1500, Some(kind)), &Driver::default(), NEW, false).found;
        assert!(found("bridge").contains("generic mode is used"));
        assert!(found("veth").contains("bulk TCP"));
    }
}
