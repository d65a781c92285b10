//! The reports of a service: for commands, for systemd, and the last line of its log.

use super::Reconciler;
use super::target::{State, Target};
use crate::control::{Description, Kept, OrderDescription};
use crate::error::Result;
use crate::guard::{self, Guard, HookChoice, LogLimit, PinRoot};
use crate::interface;
use crate::ops::trial;
use crate::service::ServiceOrder;

impl Reconciler {
    /// The description of the service for commands.
    pub(in crate::service) fn description(&self) -> Result<Description> {
        let &ServiceOrder { ref allowlist, hook, audit, sources, log } = &self.order;
        let order = OrderDescription {
            allowlist: allowlist.clone(),
            hook: hook.map(|hook| hook.key().to_owned()),
            mode: hook.and_then(HookChoice::mode).map(|mode| mode.key().to_owned()),
            audit,
            sources,
            log_rate: match log {
                LogLimit::Off => None,
                LogLimit::PerSecond(lines) => Some(lines),
            },
        };
        let kept = |target: &Target| {
            let (ifindex, state) = match &target.state {
                State::Waiting => (None, "waiting for the interface"),
                State::Kept { ifindex, differs: None, .. } => (Some(*ifindex), "as ordered"),
                State::Kept { ifindex, differs: Some(_), .. } => (Some(*ifindex), "not as ordered"),
                State::Open(_) => (None, "not guarded"),
                State::NotOurs(_) => (None, "kept by another service"),
            };
            let why = match &target.state {
                State::Open(why) => Some(why.clone()),
                State::Waiting | State::Kept { .. } | State::NotOurs(_) => None,
            };
            Kept { name: target.name.clone(), ifindex, state: state.to_owned(), open: why.is_some(), why }
        };
        Description::of_this_process(order, self.targets.iter().map(kept).collect())
    }

    /// The state of all interfaces in one line.
    pub(in crate::service) fn summary(&self) -> String {
        let line = |target: &Target| {
            let name = &target.name;
            match &target.state {
                State::Waiting => format!("{name}: waiting for the interface"),
                State::Open(why) => format!("{name}: NOT GUARDED: {why}"),
                State::NotOurs(why) => why.clone(),
                State::Kept { differs: Some(differs), .. } => format!("{name}: NOT AS ORDERED: {differs}"),
                State::Kept { .. } => match describe(&self.pin_root, name) {
                    Ok(text) => format!("{name}: {text}"),
                    Err(error) => error.to_string(),
                },
            }
        };
        let mut lines: Vec<String> = self.targets.iter().map(line).collect();
        if self.broken.is_some() {
            lines.push(format!("{} is BROKEN, the lists in force remain", self.order.allowlist.display()));
        }
        lines.join("; ")
    }

    /// The last message: which interfaces have their guards now.
    pub(in crate::service) fn farewell(&self) -> String {
        let interfaces = match interface::all() {
            Ok(interfaces) => interfaces,
            Err(error) => return format!("stopped; portguard cannot see whether the guards are on: {error}"),
        };
        let (mut guarded, mut open) = (0, Vec::new());
        for target in &self.targets {
            let Some(interface) = interfaces.iter().find(|interface| interface.is_called(&target.name))
            else {
                continue;
            };
            match guard::is_on(&self.pin_root, interface) {
                Ok(true) => guarded += 1,
                Ok(false) => open.push(target.name.clone()),
                Err(error) => open.push(format!("{} ({error})", target.name)),
            }
        }
        match (guarded, &open[..]) {
            (0, []) => "stopped".to_owned(),
            (_, []) => "stopped; the guards remain on (portguard detach takes them off)".to_owned(),
            (0, open) => format!("stopped; NOT GUARDED, port 111 is open: {}", open.join(", ")),
            (_, open) => format!(
                "stopped; NOT GUARDED, port 111 is open: {}; the other guards remain on (portguard detach takes them \
                 off)",
                open.join(", ")
            ),
        }
    }
}

/// The state of the guard of an interface, as text.
fn describe(pin_root: &PinRoot, name: &str) -> Result<String> {
    let guard = Guard::by_name(Some(pin_root), name)?;
    let generation = guard.list().map_or(0, |list| list.generation);
    let counters = guard.counters()?;
    let refused = if guard.is_enforcing() {
        format!("{} dropped", counters.dropped().packets)
    } else {
        format!("audit only, {} would be dropped", counters.would_drop.packets)
    };
    let trial = guard.confirmation()?.map(|it| format!(", {}", trial::summary(&it))).unwrap_or_default();
    Ok(format!("generation {generation}, {} allowed, {refused}{trial}", counters.allowed.packets))
}
