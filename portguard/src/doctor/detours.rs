//! Ways by which packets come past a guard although it is on: redirected to its interface, or unpacked by the kernel where no
//! guard sees them. `docs/attach-points.md`, "What no guard sees".

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use nix::libc;
use nix::sys::socket::SockProtocol;

use super::guards::{Guarded, Guards};
use super::{Finding, facts};
use crate::interface::{self, Interface, XdpMode};
use crate::netlink::{self, Attributes, Failure, malformed, u16_at, u32_at};

const REDIRECT: &str = "redirect";
const MPLS: &str = "mpls";
const SEG6LOCAL: &str = "seg6local";

/// `struct tcmsg` and `struct rtmsg`.
const QDISC_HEADER_LEN: usize = 20;
const ROUTE_HEADER_LEN: usize = 12;
/// `TCA_KIND`.
const TCA_KIND: u16 = 1;
/// `RTA_ENCAP_TYPE`, and `LWTUNNEL_ENCAP_SEG6_LOCAL` (`include/uapi/linux/lwtunnel.h`).
const RTA_ENCAP_TYPE: u16 = 21;
const ENCAP_SEG6_LOCAL: u16 = 7;

pub(super) fn examine(all: &[Interface], guards: &Guards) -> Vec<Finding> {
    let on = |interface: &Interface| guards.on(interface);
    let mut findings = Vec::new();
    match filtered() {
        Ok(filtered) => findings.extend(redirects(all, &on, &filtered)),
        Err(failure) => findings.push(unknown(REDIRECT, "tc filters", &failure)),
    }
    findings.extend(mpls(all));
    match has_seg6local() {
        Ok(found) => findings.extend(found.then(seg6local)),
        Err(failure) => findings.push(unknown(SEG6LOCAL, "routes of IPv6", &failure)),
    }
    findings
}

fn unknown(id: &'static str, what: &str, failure: &Failure) -> Finding {
    Finding::warning(
        id,
        format!("the kernel does not list the {what}: {failure}"),
        "Run portguard doctor again.",
    )
}

/// What may be redirected to a guarded interface, and pass its guard unseen.
fn redirects(
    all: &[Interface],
    on: &dyn Fn(&Interface) -> Guarded,
    filtered: &BTreeSet<u32>,
) -> Vec<Finding> {
    let is_guarded = |it: &&Interface| matches!(on(it), Guarded::Enforcing);
    let mut findings = Vec::new();
    for it in all.iter().filter(is_guarded).filter(|it| it.kind.as_deref() == Some("veth")) {
        let native = it.xdp.iter().any(|xdp| xdp.mode == XdpMode::Native);
        let redirected = if native { "bpf_redirect_peer" } else { "bpf_redirect, mirred" };
        let finding = Finding::warning(
            REDIRECT,
            format!(
                "what a tc or BPF program of its other end's host redirects into it ({redirected}) passes the guard unseen"
            ),
            "Guard the interfaces of that host that such packets come in on, as well.",
        );
        findings.push(finding.about(&it.name));
    }
    if !all.iter().any(|it| is_guarded(&it)) {
        return findings;
    }
    let outside = all.iter().filter(|it| it.up && !it.loopback && !is_guarded(it));
    for it in outside.filter(|it| filtered.contains(&it.index)) {
        let name = &it.name;
        let finding = Finding::warning(
            REDIRECT,
            "it has tc filters and no guard: what they redirect to a guarded interface passes that guard unseen",
            format!(
                "See what they do with: tc filter show dev {name} ingress. If they redirect: portguard attach {name}"
            ),
        );
        findings.push(finding.about(name));
    }
    findings
}

/// The interfaces that have a place for tc filters of what comes in, by index.
fn filtered() -> Result<BTreeSet<u32>, Failure> {
    let request = vec![0; QDISC_HEADER_LEN];
    let qdiscs = netlink::dump(SockProtocol::NetlinkRoute, libc::RTM_GETQDISC, &request, libc::RTM_NEWQDISC)?;
    let mut interfaces = BTreeSet::new();
    for qdisc in &qdiscs {
        interfaces.extend(ingress_of(qdisc)?);
    }
    Ok(interfaces)
}

/// The interface of a qdisc, by index, if it is for what comes in.
fn ingress_of(qdisc: &[u8]) -> Result<Option<u32>, Failure> {
    let header = || Some((u32_at(qdisc, 4)?, qdisc.get(QDISC_HEADER_LEN..)?));
    let (interface, attributes) = header().ok_or_else(|| malformed("the message of a qdisc is cut off"))?;
    for attribute in Attributes::new(attributes) {
        if let (TCA_KIND, kind) = attribute? {
            return Ok(matches!(kind, b"clsact\0" | b"ingress\0").then_some(interface));
        }
    }
    Ok(None)
}

fn mpls(all: &[Interface]) -> Vec<Finding> {
    let setting = |path: &Path| facts::number(path).ok().flatten().unwrap_or_default();
    let root = Path::new("/proc/sys/net/mpls");
    if setting(&root.join("platform_labels")) == 0 {
        return Vec::new();
    }
    let conf = |it: &Interface| root.join("conf").join(OsStr::from_bytes(&interface::name_bytes(&it.name)));
    let takes = |it: &&Interface| it.up && setting(&conf(it).join("input")) != 0;
    let finding = |it: &Interface| {
        Finding::warning(
            MPLS,
            "it takes MPLS: packets for port 111 can come behind labels, where no guard sees them",
            format!(
                "sysctl -w net.mpls.conf.{}.input=0, unless this host is a label switch. See which labels end here: ip -f mpls route",
                it.name
            ),
        )
        .about(&it.name)
    };
    all.iter().filter(takes).map(finding).collect()
}

fn seg6local() -> Finding {
    Finding::warning(
        SEG6LOCAL,
        "routes unpack packets here (seg6local): packets for port 111 can come inside others, where no guard sees them",
        "See them with: ip -6 route show table all | grep seg6local. Guard port 111 by other means (nft) if one ends here.",
    )
}

fn has_seg6local() -> Result<bool, Failure> {
    let mut request = vec![0; ROUTE_HEADER_LEN];
    request.splice(..1, [libc::AF_INET6 as u8]);
    let routes = netlink::dump(SockProtocol::NetlinkRoute, libc::RTM_GETROUTE, &request, libc::RTM_NEWROUTE)?;
    for route in &routes {
        if is_seg6local(route)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_seg6local(route: &[u8]) -> Result<bool, Failure> {
    let attributes =
        route.get(ROUTE_HEADER_LEN..).ok_or_else(|| malformed("the message of a route is cut off"))?;
    for attribute in Attributes::new(attributes) {
        if let (RTA_ENCAP_TYPE, value) = attribute? {
            return Ok(u16_at(value, 0) == Some(ENCAP_SEG6_LOCAL));
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interface::AttachedXdp;
    use crate::netlink::attribute;

    #[test]
    fn only_what_leads_past_a_guard_is_told() {
        let veth = |index, mode| Interface {
            index,
            name: format!("v{index}"),
            kind: Some("veth".to_owned()),
            xdp: vec![AttachedXdp { mode, program_id: 7 }],
            ..Interface::example()
        };
        let all = [
            veth(3, XdpMode::Native),
            veth(4, XdpMode::Generic),
            Interface { index: 5, name: "open0".to_owned(), ..Interface::example() },
            Interface { index: 6, name: "down0".to_owned(), up: false, ..Interface::example() },
        ];
        let told = |guarded: &[u32], filtered: &[u32]| -> Vec<String> {
            let on = |it: &Interface| {
                if guarded.contains(&it.index) { Guarded::Enforcing } else { Guarded::No }
            };
            let findings = redirects(&all, &on, &filtered.iter().copied().collect());
            findings.into_iter().map(|it| format!("{} {}", it.subject.unwrap(), it.found)).collect()
        };
        assert_eq!(told(&[], &[3, 5]), [""; 0], "nothing is guarded");
        let [native, generic, filters] = &told(&[3, 4], &[3, 5, 6])[..] else { panic!() };
        assert!(native.starts_with("v3 ") && native.contains("(bpf_redirect_peer)"), "{native}");
        assert!(generic.starts_with("v4 ") && generic.contains("mirred"), "{generic}");
        assert!(filters.starts_with("open0 "), "{filters}");
    }

    #[test]
    fn messages_are_decoded_or_a_failure() {
        let qdisc = |kind: &[u8]| {
            let mut message = vec![0; QDISC_HEADER_LEN];
            message[4] = 7;
            [message, attribute(TCA_KIND, kind)].concat()
        };
        assert_eq!(ingress_of(&qdisc(b"clsact\0")).unwrap(), Some(7));
        assert_eq!(ingress_of(&qdisc(b"fq_codel\0")).unwrap(), None);
        assert!(ingress_of(&qdisc(b"clsact\0")[..10]).is_err());
        let route =
            |kind: u16| [vec![0; ROUTE_HEADER_LEN], attribute(RTA_ENCAP_TYPE, &kind.to_ne_bytes())].concat();
        assert!(is_seg6local(&route(ENCAP_SEG6_LOCAL)).unwrap());
        assert!(!is_seg6local(&route(1)).unwrap());
        assert!(!is_seg6local(&[0; ROUTE_HEADER_LEN]).unwrap());
        assert!(is_seg6local(&[0; 3]).is_err());
    }
}
