//! The guards of this network namespace, and what is left of those that are gone.

use portguard_common::calls::UdpCalls;

use super::Finding;
use super::callers::{self, Callers};
use super::entries::Entries;
use super::remedy::{self, Remedy, RemedyKind};
use crate::allowlist::OnDisk;
use crate::control::Description;
use crate::error::{Error, Result};
use crate::guard::{self, Guard, Hook, PinRoot};
use crate::interface::{self, Interface};
use crate::ops::services::{Services, Unguarded, UnguardedState};
use crate::printable::quoted;

/// What is known of guards.
#[derive(Debug)]
pub(super) struct Guards(Result<Seen>);

#[derive(Debug, Default)]
struct Seen {
    guards: Vec<Facts>,
    /// Guards that are there, and cannot be used.
    damaged: Vec<Error>,
    gone: Vec<Gone>,
    /// What services are to guard and do not.
    unguarded: Vec<(Unguarded, Owner)>,
    /// Why services could not be asked what they keep.
    silent: Vec<Error>,
}

/// A guard.
#[derive(Debug)]
struct Facts {
    ifindex: u32,
    interface: String,
    hook: Hook,
    /// The programs of others that run in front of it.
    in_front: Vec<u32>,
    enforcing: bool,
    list: String,
    file: OnDisk,
    udp_calls: UdpCalls,
    entries: Entries,
    owner: Option<Owner>,
    /// What it does otherwise than its owner is ordered.
    differences: Vec<String>,
    callers: Callers,
}

/// The service that keeps a guard.
#[derive(Debug, Clone)]
pub(super) struct Owner {
    /// What an administrator calls it.
    pub(super) name: String,
    /// Where its order is changed.
    pub(super) place: String,
    /// Where it says what it could not do.
    pub(super) log: String,
    /// Whether it is ordered to let everything through.
    pub(super) audit: bool,
}

impl From<&Description> for Owner {
    fn from(service: &Description) -> Self {
        Self { name: service.name(), place: service.place(), log: service.log(), audit: service.order.audit }
    }
}

/// A guard whose link is gone.
#[derive(Debug)]
struct Gone {
    ifindex: u32,
    /// No name: the interface is gone as well.
    interface: Option<String>,
    remedy: Remedy,
}

/// Whether an interface has a guard; the better, the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Guarded {
    No,
    /// It lets everything through, and counts.
    Audit,
    /// It has a program, and this process may not see whose.
    Unknown,
    Enforcing,
}

impl Guards {
    pub(super) fn gather() -> Self {
        Self(guard::require_privileges().and_then(|()| gather()))
    }

    /// Whether an interface has a guard.
    pub(super) fn on(&self, interface: &Interface) -> Guarded {
        match &self.0 {
            Ok(seen) => match seen.guards.iter().find(|guard| guard.ifindex == interface.index) {
                Some(guard) if guard.enforcing => Guarded::Enforcing,
                Some(_) => Guarded::Audit,
                None => Guarded::No,
            },
            Err(_) if !interface.xdp.is_empty() => Guarded::Unknown,
            Err(_) => Guarded::No,
        }
    }

    /// Where the guard of an interface runs, if it has one.
    pub(super) fn hook(&self, interface: &Interface) -> Option<Hook> {
        let seen = self.0.as_ref().ok()?;
        seen.guards.iter().find(|guard| guard.ifindex == interface.index).map(|guard| guard.hook)
    }

    /// What makes the guard of an interface drop, if that is known: it depends on who keeps the guard, and on what it was
    /// ordered to do before.
    pub(super) fn remedy(&self, interface: &Interface) -> Option<Remedy> {
        let seen = self.0.as_ref().ok()?;
        if let Some(guard) = seen.guards.iter().find(|guard| guard.ifindex == interface.index) {
            return (!guard.enforcing).then(|| remedy_of_audit(guard));
        }
        if let Some((_, owner)) = seen.unguarded.iter().find(|(it, _)| interface.is_called(&it.interface)) {
            return Some(remedy::of_open(owner));
        }
        seen.gone.iter().find(|gone| gone.ifindex == interface.index).map(|gone| gone.remedy.clone())
    }

    /// The names of the interfaces with a guard that enforces.
    pub(super) fn enforcing(&self) -> impl Iterator<Item = &str> {
        let guards = self.0.iter().flat_map(|seen| &seen.guards);
        guards.filter(|guard| guard.enforcing).map(|guard| &*guard.interface)
    }

    pub(super) fn findings(&self) -> Vec<Finding> {
        match &self.0 {
            Ok(seen) => judge(seen),
            Err(error) => {
                let why = error.why().map(|why| format!(": {why}")).unwrap_or_default();
                let advice = RemedyKind::OfError.text(error.advice().unwrap_or("Run portguard as root."));
                vec![Finding::warning(
                    "guards",
                    format!("the guards cannot be read: {}{why}", error.what()),
                    advice,
                )]
            }
        }
    }
}

fn gather() -> Result<Seen> {
    let mut services = Services::ask();
    let pin_root = PinRoot::find()?;
    let mut seen = Seen { silent: std::mem::take(&mut services.silent), ..Seen::default() };
    let interfaces = interface::all()?;
    let servers = callers::servers(&interfaces)?;
    for guard in Guard::select(pin_root.as_ref(), &[])? {
        let guard = match guard {
            Ok(guard) => guard,
            Err(error) => {
                seen.damaged.push(error);
                continue;
            }
        };
        let list = guard.list();
        seen.guards.push(Facts {
            ifindex: guard.interface().index,
            interface: guard.interface().name.clone(),
            hook: guard.hook(),
            in_front: guard.programs_in_front()?,
            enforcing: guard.is_enforcing(),
            list: list.as_ref().map(|list| list.path.display().to_string()).unwrap_or_default(),
            udp_calls: list.as_ref().map_or(UdpCalls::All, |list| list.udp_calls),
            entries: Entries::gather(&guard, list.as_ref()),
            file: list.map_or(OnDisk::Unchanged, |list| OnDisk::of(&list.path, list.sha256)),
            owner: services.owner_of(guard.interface()).map(Owner::from),
            differences: services.of(&guard).map(|service| service.differences).unwrap_or_default(),
            callers: Callers::gather(&guard, &servers)?,
        });
    }
    for unguarded in services.unguarded(pin_root.as_ref(), &interfaces)? {
        if let Some(owner) = services.ordered_to_guard(&unguarded.interface).map(Owner::from) {
            seen.unguarded.push((unguarded, owner));
        }
    }
    for ifindex in pin_root.as_ref().map_or(Ok(Vec::new()), guard::remains)? {
        let interface = interfaces.iter().find(|interface| interface.index == ifindex);
        if interface.is_some_and(|interface| services.owner_of(interface).is_some()) {
            // The service puts it back, and is told of by itself.
            continue;
        }
        let order = pin_root.as_ref().and_then(|pin_root| guard::order_of_remains(pin_root, ifindex));
        let name = interface.map(|interface| &*interface.name);
        let remedy = remedy::of_gone(name, order.as_ref());
        seen.gone.push(Gone { ifindex, interface: name.map(str::to_owned), remedy });
    }
    Ok(seen)
}

fn judge(seen: &Seen) -> Vec<Finding> {
    let mut findings = Vec::new();
    for guard in &seen.guards {
        findings.push(judge_guard(guard).about(&guard.interface));
        findings.extend(judge_position(guard).map(|finding| finding.about(&guard.interface)));
        findings.extend(judge_order(guard).map(|finding| finding.about(&guard.interface)));
        findings.push(judge_list(guard).about(&guard.interface));
        let entries = guard.entries.judge(&guard.interface, &guard.list, guard.udp_calls);
        findings.extend(entries.into_iter().map(|finding| finding.about(&guard.interface)));
        let callers = guard.callers.judge(&guard.interface, &guard.list);
        findings.extend(callers.into_iter().map(|finding| finding.about(&guard.interface)));
    }
    for error in &seen.damaged {
        let why = error.why().map(|why| format!(": {why}")).unwrap_or_default();
        let advice = RemedyKind::OfError.text(error.advice().unwrap_or("See `portguard status`."));
        findings.push(Finding::failure("guard.damaged", format!("{}{why}", error.what()), advice));
    }
    findings.extend(seen.unguarded.iter().map(|(it, owner)| judge_unguarded(it, owner).about(&it.interface)));
    for Gone { ifindex, interface, remedy } in &seen.gone {
        findings.push(match interface {
            Some(name) => Finding::failure(
                "guard.gone",
                "it had a guard, but the link of the guard is gone: it was detached",
                remedy.clone(),
            )
            .about(name),
            None => Finding::warning(
                "guard.gone",
                format!("the interface with index {ifindex} had a guard, and is gone"),
                remedy.clone(),
            ),
        });
    }
    for error in &seen.silent {
        let why = error.why().map(|why| format!(": {why}")).unwrap_or_default();
        let advice = RemedyKind::RestartService
            .text(error.advice().unwrap_or("Restart the service; the guards remain."));
        findings.push(Finding::warning("guard.service", format!("{}{why}", error.what()), advice));
    }
    findings
}

fn judge_guard(guard: &Facts) -> Finding {
    const ID: &str = "guard";
    let hook = guard.hook;
    if guard.enforcing {
        Finding::ok(ID, format!("enforcing, {hook}"))
    } else {
        Finding::warning(ID, format!("audit only, {hook}: nothing is dropped"), remedy_of_audit(guard))
    }
}

fn remedy_of_audit(guard: &Facts) -> Remedy {
    match &guard.owner {
        None => RemedyKind::Enforce.text(format!("portguard attach {} --enforce", quoted(&guard.interface))),
        Some(owner) if owner.audit => remedy::of_ordered_audit(owner),
        Some(owner) => remedy::of_difference(&guard.interface, owner, &guard.differences),
    }
}

/// Whether the programs of others see packets before a guard at tcx does: they can redirect them past it.
fn judge_position(guard: &Facts) -> Option<Finding> {
    if guard.in_front.is_empty() {
        return None;
    }
    let programs: Vec<String> = guard.in_front.iter().map(u32::to_string).collect();
    let (of, run) = if programs.len() == 1 { ("program", "runs") } else { ("programs", "run") };
    let found =
        format!("{of} {} {run} in front of it at tcx, and can redirect packets past it", programs.join(", "));
    let interface = quoted(&guard.interface);
    let remedy = RemedyKind::ToTheFront.text(match &guard.owner {
        None => format!("portguard attach {interface}"),
        Some(owner) => format!(
            "{} puts it in front at most three times an hour. Find out who attaches the other: bpftool net show dev {interface}",
            owner.name
        ),
    });
    Some(Finding::warning("guard.position", found, remedy))
}

/// Whether a guard does what the service that keeps it is ordered to do.
fn judge_order(guard: &Facts) -> Option<Finding> {
    const ID: &str = "guard.order";
    let owner = guard.owner.as_ref()?;
    if guard.differences.is_empty() {
        return Some(Finding::ok(ID, format!("as ordered, kept by {}", owner.name)));
    }
    let found = format!("NOT AS ORDERED by {}: {}", owner.name, guard.differences.join(", "));
    let remedy = remedy::of_difference(&guard.interface, owner, &guard.differences);
    Some(Finding::failure(ID, found, remedy))
}

fn judge_unguarded(unguarded: &Unguarded, owner: &Owner) -> Finding {
    let why = unguarded.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    match unguarded.state {
        UnguardedState::Open => Finding::failure(
            "guard.open",
            format!("port 111 is open, but {} must guard it{why}", owner.name),
            remedy::of_open(owner),
        ),
        UnguardedState::Waiting => Finding::warning(
            "guard.waiting",
            format!("there is no such interface, and {} waits for it", owner.name),
            remedy::of_waiting(owner),
        ),
    }
}

fn judge_list(guard: &Facts) -> Finding {
    const ID: &str = "guard.list";
    let Facts { list, interface, .. } = guard;
    match &guard.file {
        OnDisk::Unchanged => Finding::ok(ID, format!("{list} is in force")),
        OnDisk::Changed => Finding::warning(
            ID,
            format!("{list} has changed since it was loaded, and is not in force"),
            RemedyKind::Reload.text(format!("portguard reload {}", quoted(interface))),
        ),
        OnDisk::Broken { problem } => Finding::failure(
            ID,
            format!("{list} is broken: {problem}; the list that it held before is in force"),
            RemedyKind::CheckList.text(format!("portguard check {}", quoted(list))),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;
    use crate::interface::XdpMode;

    fn facts(enforcing: bool, file: OnDisk) -> Facts {
        let list = "/etc/portguard/allowlist.yaml".into();
        Facts {
            ifindex: 2,
            interface: "eth0".into(),
            hook: Hook::Xdp(XdpMode::Native),
            in_front: vec![],
            enforcing,
            list,
            file,
            udp_calls: UdpCalls::All,
            entries: Entries::default(),
            owner: None,
            differences: vec![],
            callers: Callers::default(),
        }
    }

    #[test]
    fn guards_are_judged_by_what_they_keep_out() {
        use Status::{Failure, Ok, Warning};
        let broken = OnDisk::Broken { problem: "line 3: no".into() };
        for (enforcing, file, expected) in [
            (true, OnDisk::Unchanged, [Ok, Ok, Ok]),
            (false, OnDisk::Changed, [Warning, Warning, Ok]),
            (true, broken, [Ok, Failure, Ok]),
        ] {
            let seen = Seen { guards: vec![facts(enforcing, file)], ..Seen::default() };
            let status: Vec<Status> = judge(&seen).iter().map(|finding| finding.status).collect();
            assert_eq!(status, expected);
        }
        let gone = [(2, Some("eth0")), (3, None)].map(|(ifindex, name)| Gone {
            ifindex,
            interface: name.map(str::to_owned),
            remedy: remedy::of_gone(name, None),
        });
        let gone = gone.into();
        let status: Vec<Status> =
            judge(&Seen { gone, ..Seen::default() }).iter().map(|finding| finding.status).collect();
        assert_eq!(status, [Failure, Warning]);
    }

    #[test]
    fn a_guard_that_a_service_keeps_is_changed_where_the_service_is_ordered() {
        use Status::{Failure, Ok, Warning};
        let owner = |audit| Owner {
            name: "process 7 (portguard@eth0.service)".into(),
            place: "portguard@eth0.service (PLACE)".into(),
            log: "journalctl -u portguard@eth0.service".into(),
            audit,
        };
        for (enforcing, audit, differences, expected) in [
            (true, false, vec![], [Ok, Ok, Ok, Ok]),
            (false, true, vec![], [Warning, Ok, Ok, Ok]),
            (false, false, vec!["audit -> enforcing".to_owned()], [Warning, Failure, Ok, Ok]),
            (true, true, vec!["enforcing -> audit".to_owned()], [Ok, Failure, Ok, Ok]),
            (true, false, vec!["mode generic -> native".to_owned()], [Ok, Failure, Ok, Ok]),
        ] {
            let owner = Some(owner(audit));
            let guard = Facts { owner, differences, ..facts(enforcing, OnDisk::Unchanged) };
            let findings = judge(&Seen { guards: vec![guard], ..Seen::default() });
            let status: Vec<Status> = findings.iter().map(|finding| finding.status).collect();
            assert_eq!(status, expected);
            for remedy in
                findings.iter().filter_map(|finding| finding.remedy.as_ref().map(|remedy| &remedy.text))
            {
                // It is refused as long as the service runs.
                let is_possible = !remedy.contains("portguard attach") || remedy.contains("stop the service");
                assert!(is_possible, "{remedy}");
                assert!(remedy.contains("PLACE") || remedy.contains("journalctl"), "{remedy}");
            }
        }
    }
}
