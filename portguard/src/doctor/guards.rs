//! The guards of this network namespace, and what is left of those that are gone.

use super::Finding;
use crate::allowlist::OnDisk;
use crate::error::{Error, Result};
use crate::guard::{self, Guard, Home};
use crate::interface::{self, Interface, XdpMode};

/// What is known of guards.
#[derive(Debug)]
pub(super) struct Guards(Result<Seen>);

#[derive(Debug, Default)]
struct Seen {
    guards: Vec<Facts>,
    /// Guards that are there, and cannot be used.
    damaged: Vec<Error>,
    /// Indexes and names of interfaces whose guard's link is gone; no name: so is the interface.
    gone: Vec<(u32, Option<String>)>,
}

/// A guard.
#[derive(Debug)]
struct Facts {
    ifindex: u32,
    interface: String,
    mode: XdpMode,
    enforcing: bool,
    list: String,
    file: OnDisk,
}

/// Whether an interface has a guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guarded {
    Yes,
    No,
    /// It has a program, and this process may not see whose.
    Unknown,
}

impl Guards {
    pub(super) fn look() -> Self {
        Self(guard::require_privileges().and_then(|()| look()))
    }

    /// Whether an interface has a guard.
    pub(super) fn on(&self, interface: &Interface) -> Guarded {
        match &self.0 {
            Ok(seen) if seen.guards.iter().any(|guard| guard.ifindex == interface.index) => Guarded::Yes,
            Err(_) if !interface.xdp.is_empty() => Guarded::Unknown,
            _ => Guarded::No,
        }
    }

    pub(super) fn findings(&self) -> Vec<Finding> {
        match &self.0 {
            Ok(seen) => judge(seen),
            Err(error) => {
                let why = error.why().map(|why| format!(": {why}")).unwrap_or_default();
                let advice = error.advice().unwrap_or("Run portguard as root.");
                vec![Finding::warning(
                    "guards",
                    format!("guards could not be seen: {}{why}", error.what()),
                    advice,
                )]
            }
        }
    }
}

fn look() -> Result<Seen> {
    let home = Home::find()?;
    let mut seen = Seen::default();
    for guard in Guard::select(home.as_ref(), &[])? {
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
            mode: guard.mode(),
            enforcing: guard.is_enforcing(),
            list: list.as_ref().map(|list| list.path.display().to_string()).unwrap_or_default(),
            file: list.map_or(OnDisk::Unchanged, |list| OnDisk::of(&list.path, list.sha256)),
        });
    }
    if let Some(home) = &home {
        let interfaces = interface::all()?;
        let named = |index: &u32| interfaces.iter().find(|it| it.index == *index).map(|it| it.name.clone());
        seen.gone = guard::remains(home)?.into_iter().map(|index| (index, named(&index))).collect();
    }
    Ok(seen)
}

fn judge(seen: &Seen) -> Vec<Finding> {
    let mut findings = Vec::new();
    for guard in &seen.guards {
        findings.push(judge_guard(guard).about(&guard.interface));
        findings.push(judge_list(guard).about(&guard.interface));
    }
    for error in &seen.damaged {
        let why = error.why().map(|why| format!(": {why}")).unwrap_or_default();
        let advice = error.advice().unwrap_or("See `portguard status`.");
        findings.push(Finding::failure("guard.damaged", format!("{}{why}", error.what()), advice));
    }
    for (index, name) in &seen.gone {
        findings.push(match name {
            Some(name) => Finding::failure(
                "guard.gone",
                "it had a guard, and the link of that is gone: somebody has detached it",
                format!("portguard attach {name}"),
            )
            .about(name),
            None => Finding::warning(
                "guard.gone",
                format!("the interface with index {index} had a guard, and is gone"),
                "If it was made again, attach again; `portguard run` does that by itself.",
            ),
        });
    }
    findings
}

fn judge_guard(guard: &Facts) -> Finding {
    const ID: &str = "guard";
    let mode = guard.mode.word();
    if guard.enforcing {
        Finding::ok(ID, format!("enforcing, {mode} mode"))
    } else {
        Finding::warning(
            ID,
            format!("audit only, {mode} mode: nothing is dropped"),
            format!("portguard attach {}", guard.interface),
        )
    }
}

fn judge_list(guard: &Facts) -> Finding {
    const ID: &str = "guard.list";
    let Facts { list, interface, .. } = guard;
    match &guard.file {
        OnDisk::Unchanged => Finding::ok(ID, format!("{list} is in force")),
        OnDisk::Changed => Finding::warning(
            ID,
            format!("{list} has changed since, and is not in force"),
            format!("portguard reload {interface}"),
        ),
        OnDisk::Broken { problem } => Finding::failure(
            ID,
            format!("{list} is broken: {problem}; the list that it held before is in force"),
            format!("portguard check {list}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;

    fn facts(enforcing: bool, file: OnDisk) -> Facts {
        let list = "/etc/portguard/allowlist.yaml".into();
        Facts { ifindex: 2, interface: "eth0".into(), mode: XdpMode::Native, enforcing, list, file }
    }

    #[test]
    fn guards_are_judged_by_what_they_keep_out() {
        use Status::{Failure, Ok, Warning};
        let broken = OnDisk::Broken { problem: "line 3: no".into() };
        for (enforcing, file, expected) in [
            (true, OnDisk::Unchanged, [Ok, Ok]),
            (false, OnDisk::Changed, [Warning, Warning]),
            (true, broken, [Ok, Failure]),
        ] {
            let seen = Seen { guards: vec![facts(enforcing, file)], ..Seen::default() };
            let status: Vec<Status> = judge(&seen).iter().map(|finding| finding.status).collect();
            assert_eq!(status, expected);
        }
        let gone = vec![(2, Some("eth0".to_owned())), (3, None)];
        let status: Vec<Status> =
            judge(&Seen { gone, ..Seen::default() }).iter().map(|finding| finding.status).collect();
        assert_eq!(status, [Failure, Warning]);
    }
}
