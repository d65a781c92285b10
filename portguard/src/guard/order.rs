//! The order of a guard: the list and settings that it must have. Each part is read from the place where it takes
//! effect, so the order and the state in force cannot disagree. docs/internals/abi.md has a table of these places.

use std::fmt;
use std::path::{Path, PathBuf};

use portguard_common::drop_log::Rate;

use crate::error::Result;
use crate::guard::abi8;
use crate::guard::hook::{Hook, HookChoice};
use crate::guard::in_force;
use crate::guard::instance::Instance;
use crate::guard::sizes::Sizes;
use crate::printable::printable;

/// The limit of the drop log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLimit {
    /// No drop is logged.
    Off,
    /// The most entries in a second, on all CPUs together.
    PerSecond(u32),
}

impl LogLimit {
    /// The same as a record of the policy.
    pub(super) fn rate(self) -> Rate {
        match self {
            Self::Off => Rate::OFF,
            Self::PerSecond(lines) => Rate::per_second(lines),
        }
    }

    /// The limit from the policy of a guard with this ABI and so many CPUs.
    pub(super) fn of(rate: Rate, abi: u32, cpus: u32) -> Self {
        let rate = if abi <= abi8::LAST { abi8::log_rate(rate, cpus) } else { rate };
        match rate.in_program() {
            0 => Self::Off,
            lines => Self::PerSecond(lines),
        }
    }
}

impl fmt::Display for LogLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::PerSecond(lines) => write!(f, "{lines}/s"),
        }
    }
}

/// The parts of an order that a user has named, without the list. `None` leaves the part of a guard unchanged, and
/// means the default for a new guard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Named {
    /// Where the program runs.
    pub hook: Option<HookChoice>,
    /// Whether the guard runs in audit mode.
    pub audit: Option<bool>,
    /// The number of sources that each CPU remembers, of each address family.
    pub sources: Option<u32>,
    /// The limit of the drop log.
    pub log: Option<LogLimit>,
}

/// The order of a guard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The file of its list.
    pub list: PathBuf,
    /// Where its program runs.
    pub hook: Hook,
    /// Whether it runs in audit mode.
    pub audit: bool,
    /// The number of sources that each CPU remembers, of each address family.
    pub sources: u32,
    /// The limit of the drop log.
    pub log: LogLimit,
}

/// The order of a guard whose link is gone. It has no hook, because only the link had it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastOrder {
    /// The file of the list.
    pub list: PathBuf,
    /// Whether the guard ran in audit mode.
    pub audit: bool,
    /// The number of sources that each CPU remembered, of each address family.
    pub sources: u32,
}

impl LastOrder {
    /// The last order of an instance.
    pub(super) fn of(instance: &Instance) -> Result<Self> {
        Ok(Self {
            list: in_force::list(instance).map(|list| list.path).unwrap_or_default(),
            audit: instance.is_audit(),
            sources: instance.counters.own.sizes()?.sources(),
        })
    }
}

impl Order {
    /// The order of an instance, whose program runs there.
    pub(super) fn of(instance: &Instance, hook: Hook) -> Result<Self> {
        let sizes = instance.counters.own.sizes()?;
        Ok(Self {
            list: in_force::list(instance).map(|list| list.path).unwrap_or_default(),
            hook,
            audit: instance.is_audit(),
            sources: sizes.sources(),
            log: LogLimit::of(instance.policy.read(0).log_rate, instance.abi(), sizes.cpus()),
        })
    }

    /// The parts of the order that differ in another one, with a text for each: `audit -> enforcing`.
    pub fn changes_to(&self, new: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        let mut change = |what: &str, before: &dyn fmt::Display, after: &dyn fmt::Display| {
            changes.push(format!("{what}{before} -> {after}"));
        };
        if self.list != new.list {
            let shown = |path: &Path| printable(&path.to_string_lossy());
            change("allowlist ", &shown(&self.list), &shown(&new.list));
        }
        if self.audit != new.audit {
            change("", &state(self.audit), &state(new.audit));
        }
        match (self.hook, new.hook) {
            (before, after) if before == after => {}
            (Hook::Xdp(before), Hook::Xdp(after)) => change("mode ", &before.key(), &after.key()),
            (before, after) => change("hook ", &before.key(), &after.key()),
        }
        if self.sources != new.sources {
            change("sources ", &self.sources, &new.sources);
        }
        if self.log != new.log {
            change("log ", &self.log, &new.log);
        }
        changes
    }

    /// The parts of this order that differ from the parts that a user has named, in the form of [`Order::changes_to`],
    /// with the named part last.
    pub fn differences_from(&self, list: &Path, named: Named) -> Vec<String> {
        let Named { hook, audit, sources, log } = named;
        let mut differences = self.changes_to(&Self {
            list: list.to_owned(),
            hook: self.hook,
            audit: audit.unwrap_or(self.audit),
            sources: sources.map_or(self.sources, Sizes::sources_for),
            log: log.unwrap_or(self.log),
        });
        differences.extend(hook.and_then(|choice| choice.difference_of(self.hook)).map(|it| it.to_string()));
        differences
    }
}

fn state(audit: bool) -> &'static str {
    if audit { "audit" } else { "enforcing" }
}

/// The sizes for this number of sources; `now` if it has them already, or if no number is named.
pub(super) fn sizes_for(sources: Option<u32>, now: Sizes) -> Result<Sizes> {
    match sources {
        Some(sources) if !now.are_for(sources) => Sizes::of_this_host(Some(sources)),
        _ => Ok(now),
    }
}

#[cfg(test)]
mod tests {
    use portguard_common::ABI_VERSION;

    use super::*;
    use crate::guard::ModeChoice;
    use crate::interface::XdpMode;

    #[test]
    fn whatever_limit_is_ordered_is_the_one_in_force() {
        for ordered in (1..=100_000).map(LogLimit::PerSecond).chain([LogLimit::Off]) {
            assert_eq!(LogLimit::of(ordered.rate(), ABI_VERSION, 2), ordered);
        }
    }

    #[test]
    fn a_guard_of_an_earlier_abi_keeps_its_limit_in_an_upgrade() {
        for cpus in [1, 2, 3, 16, 64, 8192] {
            for lines in [1, 2, 3, 10, 99, 1000, 20_000] {
                // As ABI 8 has stored it.
                let interval = 1_000_000_000 * u64::from(cpus) / u64::from(lines);
                let rate = Rate { entries: interval, reserved: interval.max(1_000_000_000) };
                assert_eq!(LogLimit::of(rate, 8, cpus), LogLimit::PerSecond(lines), "{lines} on {cpus} CPUs");
            }
            assert_eq!(LogLimit::of(Rate::OFF, 8, cpus), LogLimit::Off);
        }
    }

    #[test]
    fn each_part_that_differs_is_one_line() {
        let order = Order {
            list: "/a".into(),
            hook: Hook::Xdp(XdpMode::Native),
            audit: true,
            sources: 16_384,
            log: LogLimit::Off,
        };
        assert_eq!(order.changes_to(&order), Vec::<String>::new());
        let other = Order {
            list: "/b".into(),
            hook: Hook::Xdp(XdpMode::Generic),
            audit: false,
            sources: 512,
            log: LogLimit::PerSecond(10),
        };
        assert_eq!(
            order.changes_to(&other),
            [
                "allowlist /a -> /b",
                "audit -> enforcing",
                "mode native -> generic",
                "sources 16384 -> 512",
                "log off -> 10/s"
            ]
        );
        let at_tcx = Order { hook: Hook::Tcx, ..order.clone() };
        assert_eq!(order.changes_to(&at_tcx), ["hook xdp -> tcx"]);
        let named = Named { hook: Some(HookChoice::Auto), sources: Some(400), ..Named::default() };
        assert_eq!(order.differences_from(Path::new("/a"), named), ["sources 16384 -> 512"]);
        let generic = HookChoice::Xdp(ModeChoice::Generic);
        let named = Named { hook: Some(generic), ..Named::default() };
        assert_eq!(order.differences_from(Path::new("/a"), named), ["mode native -> generic"]);
    }
}
