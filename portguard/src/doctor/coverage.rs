//! Which interfaces no guard covers: `docs/attach-points.md` says what does.

use std::collections::BTreeMap;

use super::guards::{Guarded, Guards};
use super::reach::{Exposure, Reach};
use super::remedy::{self, Remedy, RemedyKind};
use super::{Finding, elsewhere};
use crate::error::Error;
use crate::guard;
use crate::interface::{Address, Details, Interface};

const ID: &str = "coverage";
/// Devices sit on one another, but not endlessly.
pub(super) const DEEPEST: u32 = 8;

/// Kinds of devices that sit on one other interface.
const SITS_ON_ONE: [&str; 5] = ["vlan", "macvlan", "macvtap", "ipvlan", "ipvtap"];

/// What is known of interfaces.
struct Known<'a> {
    /// Is there a guard on one?
    on: &'a dyn Fn(&Interface) -> Guarded,
    /// Why can there be none?
    refusal: &'a dyn Fn(&Interface) -> Option<Error>,
    /// What makes its guard drop, or puts it back?
    remedy: &'a dyn Fn(&Interface) -> Option<Remedy>,
    /// Do strangers get an answer over one, if no guard keeps them off? The others are those below it.
    reach: &'a dyn Fn(&Interface, &[&Interface]) -> Reach,
    /// How well is guarded what those sit on that sit on an interface of another network namespace? By index.
    elsewhere: &'a BTreeMap<u32, Guarded>,
}

pub(super) fn examine(
    all: &[Interface],
    addresses: &[Address],
    guards: &Guards,
    exposure: &Exposure<'_>,
) -> Vec<Finding> {
    let refusal = |interface: &Interface| guard::require_attachable(interface).err();
    let (on, remedy) =
        (|interface: &Interface| guards.on(interface), |interface: &Interface| guards.remedy(interface));
    let reach = |interface: &Interface, lowers: &[&Interface]| exposure.of(interface, lowers);
    let elsewhere = elsewhere::guarded(all);
    let known = Known { on: &on, refusal: &refusal, remedy: &remedy, reach: &reach, elsewhere: &elsewhere };
    judge(all, addresses, &known)
}

fn judge(all: &[Interface], addresses: &[Address], known: &Known<'_>) -> Vec<Finding> {
    let has_address = |it: &Interface| addresses.iter().any(|address| address.interface.index == it.index);
    let mut findings = Vec::new();
    for it in all.iter().filter(|it| !it.loopback && it.up) {
        let finding = match (switch_of(it, all), has_address(it)) {
            (Some(_), false) => continue,
            (Some(switch), true) => Finding::ok(ID, format!("its packets arrive on {}", switch.name)),
            // In a VRF of its own, an interface without an address delivers to no address of others.
            (None, false) if it.controller.is_some() => continue,
            (None, has_address) => judge_one(it, all, known, has_address),
        };
        findings.push(finding.about(&it.name));
    }
    if findings.is_empty() {
        return vec![Finding::ok(ID, "only the loopback interface is up: no other host can reach this host")];
    }
    findings
}

/// The device that takes all packets of its ports, before the stack of this host sees them (`rx_handler`), if an interface is such
/// a port.
fn switch_of<'a>(interface: &Interface, all: &'a [Interface]) -> Option<&'a Interface> {
    let controller = all.iter().find(|it| Some(it.index) == interface.controller)?;
    matches!(controller.kind.as_deref(), Some("bridge" | "bond" | "team" | "openvswitch"))
        .then_some(controller)
}

fn judge_one(interface: &Interface, all: &[Interface], known: &Known<'_>, has_address: bool) -> Finding {
    let lowers = all_below(interface, all, DEEPEST);
    let is_unknown = |it: &&Interface| sits_elsewhere(it) && !known.elsewhere.contains_key(&it.index);
    let reach = match (known.reach)(interface, &lowers) {
        Reach::Open(_) if std::iter::once(&interface).chain(&lowers).any(is_unknown) => Reach::Unclear(
            "the interface under it is in another network namespace, where a guard can be".to_owned(),
        ),
        reach => reach,
    };
    let words = match &reach {
        Reach::Open(words) => words.clone(),
        Reach::Closed(words) => (*words).to_owned(),
        Reach::Blocked(by) => {
            format!("port 111 is blocked by {by}, for all hosts that it does not name")
        }
        Reach::Unclear(why) => format!("portguard cannot tell whether port 111 is open: {why}"),
    };
    if (known.on)(interface) == Guarded::Enforcing
        && let Err(error) = guard::require_guardable(interface)
    {
        // It was changed under the guard, or an earlier portguard knew less.
        let why = error.why().map(|why| format!(" ({why})")).unwrap_or_default();
        let found = format!("a guard is on it, but does not see all of its packets: {}{why}", error.what());
        return Finding::failure(ID, found, of_refusal(RemedyKind::GuardElsewhere, &error));
    }
    match covered(interface, all, known, DEEPEST) {
        Guarded::Enforcing if (known.on)(interface) == Guarded::Enforcing => {
            return Finding::ok(ID, "guarded");
        }
        Guarded::Enforcing => return guarded_below(interface, all, known.on),
        Guarded::Unknown => {
            let found = "an XDP program is on it, or on the interfaces under it; portguard cannot see whether that is a guard";
            return Finding::warning(
                ID,
                found,
                RemedyKind::ReadAbove.text("See the finding above for the reason."),
            );
        }
        Guarded::Audit => {
            let remedy = (known.remedy)(interface).unwrap_or_else(|| {
                RemedyKind::EnforceBelow
                    .text("Let the guards of the interfaces under it enforce; the findings above show how.")
            });
            return Finding::warning(ID, format!("not guarded: audit mode drops nothing; {words}"), remedy);
        }
        Guarded::No => {}
    }
    if interface.kind.as_deref() == Some("dummy") {
        return Finding::ok(ID, "no packet arrives on it (dummy)");
    }
    let (why, remedy) = match (known.refusal)(interface) {
        None => {
            let remedy = (known.remedy)(interface);
            (String::new(), remedy.unwrap_or_else(|| remedy::of_unguarded(&interface.name)))
        }
        Some(error) => (
            format!(
                ", and cannot be: {}{}",
                error.what().trim_start_matches(&format!("{}: ", interface.name)),
                error.why().map(|why| format!(" ({why})")).unwrap_or_default()
            ),
            of_refusal(
                if interface.xdp.is_empty() { RemedyKind::GuardElsewhere } else { RemedyKind::RemoveProgram },
                &error,
            ),
        ),
    };
    // The weak host model: Linux takes a packet for any of its addresses, whatever interface it arrives on
    // (Documentation/networking/ip-sysctl.rst, rp_filter and arp_ignore).
    let words = match has_address {
        true => words,
        false => {
            format!("{words}; it has no address, but takes packets for the addresses of other interfaces")
        }
    };
    match reach {
        Reach::Open(_) => Finding::failure(ID, format!("not guarded{why}: {words}"), remedy),
        Reach::Closed(_) => Finding::warning(ID, format!("not guarded{why}; {words}"), remedy),
        Reach::Blocked(_) => Finding::ok(ID, format!("not guarded{why}; {words}")),
        Reach::Unclear(_) => Finding::warning(
            ID,
            format!("not guarded{why}; {words}"),
            RemedyKind::AskFromOutside
                .text(format!("Ask from another host: portguard probe ADDRESS. Or: {}", remedy.text)),
        ),
    }
}

fn guarded_below(interface: &Interface, all: &[Interface], on: &dyn Fn(&Interface) -> Guarded) -> Finding {
    let Some((sibling, remedy)) = open_to_siblings(interface, all, on, DEEPEST) else {
        return Finding::ok(ID, "guarded by the interfaces under it");
    };
    let it = if sibling.index == interface.index { "it" } else { &sibling.name };
    Finding::warning(
        ID,
        format!(
            "guarded by the interfaces under it, but not from other devices on the interface under {it}, in any \
             namespace: packets between these are switched above the guard"
        ),
        remedy,
    )
}

/// The device without a guard of its own, this one or one below it, that gets packets from its siblings past the guard below
/// both; and what helps.
fn open_to_siblings<'a>(
    interface: &'a Interface,
    all: &'a [Interface],
    on: &dyn Fn(&Interface) -> Guarded,
    depth: u32,
) -> Option<(&'a Interface, Remedy)> {
    if depth == 0 || on(interface) == Guarded::Enforcing {
        return None;
    }
    if let Some(remedy) = of_siblings(interface) {
        return Some((interface, remedy));
    }
    below(interface, all).into_iter().find_map(|it| open_to_siblings(it, all, on, depth - 1))
}

/// What guards an interface from its siblings, if packets between them do not pass the interface under them
/// (`macvlan_queue_xmit`, `ipvlan_xmit_mode_l2`).
fn of_siblings(interface: &Interface) -> Option<Remedy> {
    match interface.details {
        Details::Macvlan { switched: true } => Some(remedy::of_unguarded(&interface.name)),
        // There is no guard on one.
        Details::Ipvlan { switched: true } => Some(RemedyKind::Isolate.text(format!(
            "Isolate them in the namespace of the interface under them: ip link set {} type ipvlan private",
            interface.name
        ))),
        _ => None,
    }
}

/// How well all that comes in on an interface is guarded: by the interface itself, or by everything below it.
fn covered(interface: &Interface, all: &[Interface], known: &Known<'_>, depth: u32) -> Guarded {
    let own = (known.on)(interface);
    if own == Guarded::Enforcing || depth == 0 {
        return own;
    }
    if let Some(elsewhere) = known.elsewhere.get(&interface.index) {
        return own.max(*elsewhere);
    }
    let below = below(interface, all);
    let below = below.into_iter().map(|it| covered(it, all, known, depth - 1)).min();
    below.map_or(own, |below| own.max(below))
}

/// What helps where no guard can be: somebody else's program is in its place, or the device is of another kind.
fn of_refusal(kind: RemedyKind, error: &Error) -> Remedy {
    kind.text(error.advice().unwrap_or("Guard port 111 by other means (nft)."))
}

/// Whether an interface sits on one of another network namespace.
pub(super) fn sits_elsewhere(interface: &Interface) -> bool {
    interface.link_namespace.is_some() && SITS_ON_ONE.contains(&interface.kind.as_deref().unwrap_or_default())
}

/// How well an interface is guarded.
pub(super) fn guarded(interface: &Interface, all: &[Interface], guards: &Guards) -> Guarded {
    let on = |interface: &Interface| guards.on(interface);
    let known = Known {
        on: &on,
        refusal: &|_| None,
        remedy: &|_| None,
        reach: &|_, _| Reach::Closed(""),
        elsewhere: &BTreeMap::new(),
    };
    covered(interface, all, &known, DEEPEST)
}

/// All interfaces below one.
pub(super) fn all_below<'a>(interface: &Interface, all: &'a [Interface], depth: u32) -> Vec<&'a Interface> {
    let below = if depth == 0 { Vec::new() } else { below(interface, all) };
    below.into_iter().flat_map(|it| [vec![it], all_below(it, all, depth - 1)].concat()).collect()
}

/// What all that comes in on an interface comes in on before: what it sits on, or its ports.
fn below<'a>(interface: &Interface, all: &'a [Interface]) -> Vec<&'a Interface> {
    match interface.kind.as_deref() {
        // One in another network namespace has an index of that namespace, and is not to be seen from here.
        Some(kind) if SITS_ON_ONE.contains(&kind) && interface.link_namespace.is_none() => {
            all.iter().filter(|it| Some(it.index) == interface.lower).collect()
        }
        // What is redirected to it has arrived on another one, or is this host's own.
        Some("ifb") => {
            let arrives = |it: &&Interface| it.up && !it.loopback && it.kind.as_deref() != Some("ifb");
            all.iter().filter(arrives).collect()
        }
        Some("bridge" | "bond" | "team" | "vrf") => {
            all.iter().filter(|it| it.controller == Some(interface.index)).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;

    /// `ARPHRD_TUNNEL`.
    const TUNNEL: u16 = 768;

    fn interface(index: u32, kind: Option<&str>, controller: Option<u32>, lower: Option<u32>) -> Interface {
        let (name, kind) = (format!("if{index}"), kind.map(str::to_owned));
        Interface { index, name, kind, controller, lower, ..Interface::example() }
    }

    fn reach(exposed: bool) -> Reach {
        match exposed {
            true => Reach::Open("port 111 is open to every host that can reach it".to_owned()),
            false => Reach::Closed("no process listens on port 111 now"),
        }
    }

    /// What is said of the last interface, which has an address, if some are guarded.
    fn said(all: &[Interface], guarded: &[u32], exposed: bool) -> (Status, String) {
        let last = all.last().unwrap().clone();
        let addresses = [Address { address: "192.0.2.1".parse().unwrap(), interface: last }];
        let on = |it: &Interface| if guarded.contains(&it.index) { Guarded::Enforcing } else { Guarded::No };
        said_if(all, &addresses, &on, exposed)
    }

    fn said_if(
        all: &[Interface],
        addresses: &[Address],
        on: &dyn Fn(&Interface) -> Guarded,
        exposed: bool,
    ) -> (Status, String) {
        let refusal = |it: &Interface| guard::require_guardable(it).err();
        let known = Known {
            on,
            refusal: &refusal,
            remedy: &|_| None,
            reach: &|_, _| reach(exposed),
            elsewhere: &BTreeMap::new(),
        };
        let about = Some(&*addresses[0].interface.name);
        let finding = judge(all, addresses, &known).into_iter().find(|it| it.subject.as_deref() == about);
        finding.map_or((Status::Ok, String::new()), |finding| (finding.status, finding.found))
    }

    #[test]
    fn a_guard_covers_what_sits_on_its_interface() {
        let card = |index, controller| interface(index, None, controller, None);
        let vlan = [card(2, None), interface(3, Some("vlan"), None, Some(2))];
        assert_eq!(said(&vlan, &[3], true), (Status::Ok, "guarded".into()));
        assert_eq!(said(&vlan, &[2], true), (Status::Ok, "guarded by the interfaces under it".into()));
        assert_eq!(said(&vlan, &[], true).0, Status::Failure);
        assert_eq!(said(&vlan, &[], false).0, Status::Warning);
        let bridge = [card(2, Some(4)), card(3, Some(4)), interface(4, Some("bridge"), None, None)];
        assert_eq!(said(&bridge, &[2, 3], true).0, Status::Ok);
        assert_eq!(said(&bridge, &[2], true).0, Status::Failure, "what comes in on the other port");
        // A cable ends at its other end, and a tunnel's packets are still wrapped on what carries them.
        for kind in ["veth", "gre", "vxlan"] {
            let pair = [card(2, None), interface(3, Some(kind), None, Some(2))];
            assert_eq!(said(&pair, &[2], true).0, Status::Failure, "{kind}");
        }
        // What it sits on is in another network namespace, and only has that index there.
        let macvlan = Interface { link_namespace: Some(0), ..interface(3, Some("macvlan"), None, Some(2)) };
        let (status, found) = said(&[card(2, None), macvlan], &[2], true);
        assert_eq!(status, Status::Warning);
        assert!(found.contains("cannot tell"), "{found}");
        // Its siblings go past the guard under it.
        let details = Details::Macvlan { switched: true };
        let macvlan = Interface { details, ..interface(3, Some("macvlan"), None, Some(2)) };
        let (status, found) = said(&[card(2, None), macvlan.clone()], &[2], true);
        assert_eq!(status, Status::Warning);
        assert!(found.contains("other devices on the interface under it"), "{found}");
        assert_eq!(said(&[card(2, None), macvlan.clone()], &[2, 3], true), (Status::Ok, "guarded".into()));
        // Also one that is a port.
        let port = Interface { controller: Some(4), ..macvlan };
        let bridge = interface(4, Some("bridge"), None, None);
        let (status, found) = said(&[card(2, None), port, bridge], &[2], true);
        assert_eq!(status, Status::Warning);
        assert!(found.contains("other devices on the interface under if3"), "{found}");
        // Each sits on the other.
        let loop_ = [interface(2, Some("vlan"), None, Some(3)), interface(3, Some("vlan"), None, Some(2))];
        assert_eq!(said(&loop_, &[], true).0, Status::Failure);
    }

    #[test]
    fn an_interface_without_an_address_counts_and_a_port_does_not() {
        let card = |index, controller| interface(index, None, controller, None);
        let address = |it: &Interface| Address { address: "fe80::1".parse().unwrap(), interface: it.clone() };
        let told = |all: &[Interface], addresses: &[Address], guarded: &[u32]| -> Vec<(String, Status)> {
            let on =
                |it: &Interface| if guarded.contains(&it.index) { Guarded::Enforcing } else { Guarded::No };
            let known = Known {
                on: &on,
                refusal: &|_| None,
                remedy: &|_| None,
                reach: &|_, _| reach(true),
                elsewhere: &BTreeMap::new(),
            };
            let findings = judge(all, addresses, &known);
            findings.into_iter().map(|it| (it.subject.unwrap_or_default(), it.status)).collect()
        };
        let expect = |all: &[(&str, Status)]| -> Vec<_> {
            all.iter().map(|(name, status)| ((*name).to_owned(), *status)).collect()
        };
        let bare = [card(2, None)];
        assert_eq!(told(&bare, &[], &[]), expect(&[("if2", Status::Failure)]));
        assert_eq!(told(&bare, &[], &[2]), expect(&[("if2", Status::Ok)]));
        // Docker, libvirt, Proxmox: a guest's port has an address of the link by itself.
        for kind in ["bridge", "bond", "team"] {
            let ports = [card(2, Some(4)), card(3, Some(4)), interface(4, Some(kind), None, None)];
            let addresses = [address(&ports[1]), address(&ports[2])];
            let found = told(&ports, &addresses, &[4]);
            assert_eq!(found, expect(&[("if3", Status::Ok), ("if4", Status::Ok)]), "{kind}");
            let found = told(&ports, &addresses, &[2, 3]);
            assert_eq!(found, expect(&[("if3", Status::Ok), ("if4", Status::Ok)]), "{kind}");
            let found = told(&ports, &addresses, &[2]);
            assert_eq!(found, expect(&[("if3", Status::Ok), ("if4", Status::Failure)]), "{kind}");
        }
        // The ports of a VRF keep their packets.
        let vrf = [card(2, Some(3)), interface(3, Some("vrf"), None, None)];
        let found = told(&vrf, &[address(&vrf[0])], &[]);
        assert_eq!(found[0], ("if2".to_owned(), Status::Failure));
    }

    #[test]
    fn a_guard_that_only_counts_guards_nothing() {
        use Guarded::{Audit, Enforcing, No, Unknown};
        let bridge = [
            interface(2, None, Some(4), None),
            interface(3, None, Some(4), None),
            interface(4, Some("bridge"), None, None),
        ];
        let addresses = [Address { address: "192.0.2.1".parse().unwrap(), interface: bridge[2].clone() }];
        for (guards, expected) in [
            ([No, No, Audit], "not guarded: audit mode"),
            ([Audit, Audit, No], "not guarded: audit mode"),
            ([Audit, Enforcing, No], "not guarded: audit mode"),
            ([Audit, No, No], "not guarded: port 111"),
            ([Audit, No, Audit], "not guarded: audit mode"),
            ([Audit, Unknown, No], "not guarded: audit mode"),
            ([Enforcing, Unknown, No], "an XDP program is on it"),
            ([Enforcing, Enforcing, Audit], "guarded by the interfaces under it"),
            ([Audit, No, Enforcing], "guarded"),
        ] {
            let on = |it: &Interface| guards[it.index as usize - 2];
            let (status, found) = said_if(&bridge, &addresses, &on, true);
            assert!(found.starts_with(expected), "{guards:?}: {found}");
            assert_eq!(status == Status::Ok, expected.starts_with("guarded"), "{guards:?}: {found}");
        }
    }

    #[test]
    fn what_cannot_be_guarded_is_named() {
        let vti = Interface { hardware_type: TUNNEL, ..interface(2, Some("vti"), None, None) };
        let (status, found) = said(&[vti], &[], true);
        assert_eq!(status, Status::Failure);
        assert!(found.contains("link type 768 (vti)"), "{found}");
        // With a guard on it, too.
        let ipvlan = interface(2, Some("ipvlan"), None, None);
        let (status, found) = said(&[ipvlan], &[2], true);
        assert_eq!(status, Status::Failure);
        assert!(found.contains("does not see all of its packets"), "{found}");
        let dummy = interface(2, Some("dummy"), None, None);
        assert_eq!(said(&[dummy], &[], true).0, Status::Ok);
        let down = Interface { up: false, ..interface(2, None, None, None) };
        assert_eq!(said(&[down], &[], true).0, Status::Ok);
    }
}
