//! Settings by which packets get past a guard, or past its list.

use std::path::Path;

use super::remedy::RemedyKind;
use super::{Finding, facts};
use crate::interface::{Address, Details, Interface};

/// The settings of an interface, as they are in force.
#[derive(Debug, Clone, Copy, Default)]
struct Settings {
    rp_filter: u32,
    seg6: bool,
    rpl: bool,
    ipv6_off: bool,
}

impl Settings {
    fn read(interface: &str) -> Self {
        let ipv6 = |name| facts::setting("ipv6", interface, name);
        let (own, all) = facts::setting("ipv4", interface, "rp_filter");
        // Of the first, the greater counts (`IN_DEV_RPFILTER`); the second must be on for both (`ipv6_srh_rcv`).
        let both = |(own, all): (u32, u32)| own != 0 && all != 0;
        Self {
            rp_filter: own.max(all),
            seg6: both(ipv6("seg6_enabled")),
            rpl: both(ipv6("rpl_seg_enabled")),
            ipv6_off: ipv6("disable_ipv6").0 != 0,
        }
    }
}

pub(super) fn examine(all: &[Interface], addresses: &[Address]) -> Vec<Finding> {
    let outside: Vec<&Interface> = all.iter().filter(|it| !it.loopback && it.up).collect();
    let settings: Vec<(&Interface, Settings)> =
        outside.into_iter().map(|it| (it, Settings::read(&it.name))).collect();
    judge(&settings, addresses, Path::new("/proc/net/if_inet6").exists())
}

fn judge(settings: &[(&Interface, Settings)], addresses: &[Address], has_ipv6: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let has_v4 = |it: &Interface| {
        addresses.iter().any(|address| address.interface.index == it.index && address.address.is_ipv4())
    };
    let several = settings.iter().filter(|(it, _)| has_v4(it)).count() > 1;
    for &(interface, Settings { rp_filter, seg6, rpl, ipv6_off }) in settings {
        let name = &interface.name;
        let mut add = |finding: Finding| findings.push(finding.about(name));
        if has_v4(interface) {
            add(judge_rp_filter(name, rp_filter, several));
        }
        for (on, setting) in [(seg6, "seg6_enabled"), (rpl, "rpl_seg_enabled")] {
            if on {
                add(Finding::failure(
                    "segment_routing",
                    format!(
                        "{setting} is on: packets for port 111 can arrive inside other packets, where no guard sees \
                         them"
                    ),
                    RemedyKind::SegmentRoutingOff.text(format!(
                        "sysctl -w net/ipv6/conf/{name}/{setting}=0, unless this host is a segment router."
                    )),
                ));
            }
        }
        if let Details::Tun { packet_information: true, .. } = interface.details {
            add(Finding::warning(
                "packet_information",
                "its packets have packet information: the program that holds the device sets their protocol",
                RemedyKind::PacketInformationOff
                    .text("Open the device with IFF_NO_PI, or trust the program that holds it."),
            ));
        }
        if has_ipv6 {
            let state = if ipv6_off { "off; a guard judges IPv6 nevertheless" } else { "on" };
            add(Finding::ok("ipv6", format!("IPv6 is {state}")));
        }
    }
    if !has_ipv6 {
        findings.push(Finding::ok("ipv6", "this kernel has no IPv6; a guard judges IPv6 nevertheless"));
    }
    findings
}

fn judge_rp_filter(name: &str, rp_filter: u32, several: bool) -> Finding {
    const ID: &str = "rp_filter";
    match (rp_filter, several) {
        (1, _) => Finding::ok(
            ID,
            "1: packets whose sources belong to another interface are not accepted on this one",
        ),
        (value, false) => Finding::ok(ID, format!("{value}, which makes no difference with one interface")),
        (value, true) => Finding::warning(
            ID,
            format!(
                "{value}: a packet with a forged source of the allowlist passes the guard, even if that source is \
                 behind another interface"
            ),
            RemedyKind::StrictReversePath.text(format!(
                "sysctl -w net/ipv4/conf/all/rp_filter=1 net/ipv4/conf/{name}/rp_filter=1 (2 does not help); for IPv6: \
                 nft, fib saddr . iif"
            )),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;

    #[test]
    fn only_strict_filtering_is_enough_and_only_between_interfaces() {
        let status = |value, several| judge_rp_filter("eth0", value, several).status;
        assert_eq!(
            [0, 1, 2].map(|value| status(value, true)),
            [Status::Warning, Status::Ok, Status::Warning]
        );
        assert_eq!([0, 1, 2].map(|value| status(value, false)), [Status::Ok; 3]);
    }
}
