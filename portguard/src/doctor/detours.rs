//! Ways by which packets come past a guard although it is on: redirected to its interface, or unpacked by the kernel where no
//! guard sees them. `docs/attach-points.md`, "What no guard sees".

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use nix::libc;
use nix::sys::socket::SockProtocol;

use super::guards::{Guarded, Guards};
use super::remedy::RemedyKind;
use super::{Finding, facts, routes};
use crate::guard::{self, Hook};
use crate::interface::{self, Interface, XdpMode};
use crate::netlink::{self, Attributes, Failure, malformed, u16_at, u32_at};

const REDIRECT: &str = "redirect";
const MPLS: &str = "mpls";
const SEG6LOCAL: &str = "seg6local";

/// `struct tcmsg`: family, index, handle, parent, info.
const TC_HEADER_LEN: usize = 20;
/// `TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)`: the parent of filters of what comes in.
const INGRESS: u32 = 0xffff_fff2;
/// `TCA_KIND`.
const TCA_KIND: u16 = 1;
/// `RTA_ENCAP_TYPE`, and `LWTUNNEL_ENCAP_SEG6_LOCAL` (`include/uapi/linux/lwtunnel.h`).
const RTA_ENCAP_TYPE: u16 = 21;
const ENCAP_SEG6_LOCAL: u16 = 7;

/// `filtered` are the interfaces with filters for arriving packets.
pub(super) fn examine(
    all: &[Interface],
    guards: &Guards,
    filtered: Result<BTreeSet<u32>, Failure>,
) -> Vec<Finding> {
    let (on, hook) =
        (|interface: &Interface| guards.on(interface), |interface: &Interface| guards.hook(interface));
    let mut findings = Vec::new();
    match filtered {
        Ok(filtered) => findings.extend(redirects(all, &on, &hook, &filtered)),
        Err(failure) => findings.push(unknown(REDIRECT, "filters for arriving packets", &failure)),
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
        RemedyKind::Again.text("Run portguard doctor again."),
    )
}

/// What may be redirected to a guarded interface without being judged there. A guard at tcx judges it: tcx runs on what is redirected to an
/// interface, too.
fn redirects(
    all: &[Interface],
    on: &dyn Fn(&Interface) -> Guarded,
    hook: &dyn Fn(&Interface) -> Option<Hook>,
    filtered: &BTreeSet<u32>,
) -> Vec<Finding> {
    let is_enforcing = |it: &&Interface| on(it) == Guarded::Enforcing && hook(it) != Some(Hook::Tcx);
    let mut findings = Vec::new();
    for it in all.iter().filter(is_enforcing) {
        let native = hook(it) == Some(Hook::Xdp(XdpMode::Native));
        let redirected = match (it.kind.as_deref(), native) {
            (Some("veth"), true) => "bpf_redirect_peer",
            (Some("veth"), false) => "bpf_redirect, mirred",
            (Some("netkit"), _) => "bpf_redirect",
            _ => continue,
        };
        let finding = Finding::warning(
            REDIRECT,
            format!(
                "packets that a program on the host of its other end redirects into it ({redirected}) bypass the guard"
            ),
            RemedyKind::GuardOtherEnd
                .text("Also guard the interfaces of that host on which such packets arrive."),
        );
        findings.push(finding.about(&it.name));
    }
    if !all.iter().any(|it| is_enforcing(&it)) {
        return findings;
    }
    // What audit mode lets through is told by another check.
    let open = all.iter().filter(|it| it.up && !it.loopback && on(it) == Guarded::No);
    for it in open.filter(|it| filtered.contains(&it.index)) {
        let name = &it.name;
        let finding = Finding::warning(
            REDIRECT,
            "it has filters for arriving packets, and no guard: packets that the filters redirect to a guarded \
             interface bypass the guard there",
            RemedyKind::LookAtFilters.text(format!(
                "See their actions with: tc filter show dev {name} ingress; bpftool net show dev {name}. If they redirect: \
                 portguard attach {name}"
            )),
        );
        findings.push(finding.about(name));
    }
    findings
}

/// The interfaces with programs or rules of others that look at what comes in behind XDP, by index: filters of tc, or programs on tcx.
pub(super) fn filtered(all: &[Interface]) -> Result<BTreeSet<u32>, Failure> {
    let request = vec![0; TC_HEADER_LEN];
    let qdiscs = netlink::dump(SockProtocol::NetlinkRoute, libc::RTM_GETQDISC, &request, libc::RTM_NEWQDISC)?;
    let mut interfaces = BTreeSet::new();
    for qdisc in &qdiscs {
        if let Some(interface) = ingress_of(qdisc)?
            && has_filters(interface)?
        {
            interfaces.insert(interface);
        }
    }
    interfaces.extend(all.iter().filter(|it| guard::has_others_on_tcx(it)).map(|it| it.index));
    Ok(interfaces)
}

/// Whether an interface that has a place for filters of what comes in has any there.
fn has_filters(interface: u32) -> Result<bool, Failure> {
    let mut request = vec![0; TC_HEADER_LEN];
    request.splice(4..8, interface.to_ne_bytes());
    request.splice(12..16, INGRESS.to_ne_bytes());
    let filters =
        netlink::dump(SockProtocol::NetlinkRoute, libc::RTM_GETTFILTER, &request, libc::RTM_NEWTFILTER)?;
    Ok(!filters.is_empty())
}

/// The interface of a qdisc, by index, if it is for what comes in.
fn ingress_of(qdisc: &[u8]) -> Result<Option<u32>, Failure> {
    let header = || Some((u32_at(qdisc, 4)?, qdisc.get(TC_HEADER_LEN..)?));
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
            "it accepts MPLS: packets for port 111 can arrive behind labels, where no guard sees them",
            RemedyKind::MplsOff.text(format!(
                "sysctl -w net/mpls/conf/{}/input=0, unless this host is a label switch. See the labels that end \
                 here: ip -f mpls route",
                it.name
            )),
        )
        .about(&it.name)
    };
    all.iter().filter(takes).map(finding).collect()
}

fn seg6local() -> Finding {
    Finding::warning(
        SEG6LOCAL,
        "routes unpack packets here (seg6local): packets for port 111 can arrive inside other packets, where no guard \
         sees them",
        RemedyKind::LookAtRoutes.text("See the routes with: ip -6 route show table all | grep seg6local. Guard port 111 by other means (nft) if one \
         ends here."),
    )
}

fn has_seg6local() -> Result<bool, Failure> {
    for route in routes::attributes(libc::AF_INET6)? {
        if leads_to_seg6local(Attributes::new(&route))? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn leads_to_seg6local(attributes: Attributes<'_>) -> Result<bool, Failure> {
    for attribute in attributes {
        let found = match attribute? {
            (RTA_ENCAP_TYPE, value) => u16_at(value, 0) == Some(ENCAP_SEG6_LOCAL),
            (libc::RTA_MULTIPATH, hops) => has_hop_to_seg6local(hops)?,
            _ => false,
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

fn has_hop_to_seg6local(hops: &[u8]) -> Result<bool, Failure> {
    for (_, attributes) in routes::next_hops(hops)? {
        if leads_to_seg6local(attributes)? {
            return Ok(true);
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
        let at_xdp = |it: &Interface| it.xdp.first().map(|xdp| Hook::Xdp(xdp.mode));
        let told = |guarded: &[u32], filtered: &[u32]| -> Vec<String> {
            let on = |it: &Interface| {
                if guarded.contains(&it.index) { Guarded::Enforcing } else { Guarded::No }
            };
            let findings = redirects(&all, &on, &at_xdp, &filtered.iter().copied().collect());
            findings.into_iter().map(|it| format!("{} {}", it.subject.unwrap(), it.found)).collect()
        };
        let on_all_others = |it: &Interface| if it.index == 6 { Guarded::No } else { Guarded::Enforcing };
        assert_eq!(told(&[], &[3, 5]), [""; 0], "nothing is guarded");
        let [native, generic, filters] = &told(&[3, 4], &[3, 5, 6])[..] else { panic!() };
        let audited = |it: &Interface| if it.index == 5 { Guarded::Audit } else { on_all_others(it) };
        assert!(
            redirects(&all, &audited, &at_xdp, &BTreeSet::from([5]))
                .iter()
                .all(|it| it.subject.as_deref() != Some("open0"))
        );
        assert!(redirects(&all, &on_all_others, &|_| Some(Hook::Tcx), &BTreeSet::from([6])).is_empty());
        assert!(native.starts_with("v3 ") && native.contains("(bpf_redirect_peer)"), "{native}");
        assert!(generic.starts_with("v4 ") && generic.contains("mirred"), "{generic}");
        assert!(filters.starts_with("open0 "), "{filters}");
    }

    #[test]
    fn messages_are_decoded_or_a_failure() {
        let qdisc = |kind: &[u8]| {
            let mut message = vec![0; TC_HEADER_LEN];
            message[4] = 7;
            [message, attribute(TCA_KIND, kind)].concat()
        };
        assert_eq!(ingress_of(&qdisc(b"clsact\0")).unwrap(), Some(7));
        assert_eq!(ingress_of(&qdisc(b"fq_codel\0")).unwrap(), None);
        assert!(ingress_of(&qdisc(b"clsact\0")[..10]).is_err());
        let leads = |attributes: &[u8]| leads_to_seg6local(Attributes::new(attributes));
        let encapsulated = |kind: u16| attribute(RTA_ENCAP_TYPE, &kind.to_ne_bytes());
        assert!(leads(&encapsulated(ENCAP_SEG6_LOCAL)).unwrap());
        assert!(!leads(&encapsulated(1)).unwrap());
        assert!(!leads(&[]).unwrap());
        let hop = |kind: u16| {
            let attributes = encapsulated(kind);
            let length = (8 + attributes.len()) as u16;
            [&length.to_ne_bytes()[..], &[0; 6], &attributes].concat()
        };
        let several = |hops: &[Vec<u8>]| leads(&attribute(libc::RTA_MULTIPATH, &hops.concat()));
        assert!(several(&[hop(1), hop(ENCAP_SEG6_LOCAL)]).unwrap());
        assert!(!several(&[hop(1), hop(2)]).unwrap());
        // One that is cut off, or shorter than its own header.
        assert!(several(&[hop(1), vec![9, 0, 0]]).is_err());
        assert!(several(&[vec![4, 0, 0, 0, 0, 0, 0, 0]]).is_err());
        assert!(several(&[vec![0; 8]]).is_err());
    }
}
