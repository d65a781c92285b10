//! The order of a guard: what it is to do. Each part is read from where it takes effect, so what is ordered and what is in
//! force cannot disagree; docs/internals/abi.md has the table.

use std::fmt;
use std::path::{Path, PathBuf};

use portguard_common::drop_log::Rate;

use crate::error::Result;
use crate::guard::ModeChoice;
use crate::guard::instance::Instance;
use crate::guard::lists;
use crate::guard::sizes::Sizes;
use crate::interface::XdpMode;
use crate::printable::printable;

/// How many drops may be logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLimit {
    /// None.
    Off,
    /// So many a second, on all CPUs together.
    PerSecond(u32),
}

impl LogLimit {
    /// What each CPU may log.
    pub(super) fn rate(self, cpus: u32) -> Rate {
        match self {
            Self::Off => Rate::OFF,
            Self::PerSecond(lines) => Rate::per_cpu(lines, cpus),
        }
    }

    /// The limit that is in force where this one is ordered.
    fn rounded(self, cpus: u32) -> Self {
        Self::of(self.rate(cpus), cpus)
    }

    /// What all CPUs may log, by what each may.
    pub(super) fn of(rate: Rate, cpus: u32) -> Self {
        const SECOND: u64 = 1_000_000_000;
        // Rounded: the interval was rounded down.
        let all = SECOND * u64::from(cpus.max(1));
        let lines = (all + rate.interval / 2).checked_div(rate.interval);
        lines.map_or(Self::Off, |lines| Self::PerSecond(u32::try_from(lines).unwrap_or(u32::MAX)))
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

/// The parts of an order that somebody names, but for the list. `None` leaves a guard as it is, and is the default for a
/// new one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Named {
    /// How the kernel runs it.
    pub mode: Option<ModeChoice>,
    /// Whether it only counts what it would drop.
    pub audit: Option<bool>,
    /// How many sources each CPU remembers, of each address family.
    pub sources: Option<u32>,
    /// How many drops may be logged a second.
    pub log: Option<LogLimit>,
}

/// What a guard is ordered to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The file of its list.
    pub list: PathBuf,
    /// Where its program runs.
    pub mode: XdpMode,
    /// Whether it only counts what it would drop.
    pub audit: bool,
    /// How many sources each CPU remembers, of each address family.
    pub sources: u32,
    /// How many drops may be logged a second.
    pub log: LogLimit,
    /// How many CPUs share that limit: each gets a whole number of nanoseconds for a line, so some limits are the same.
    pub cpus: u32,
}

/// What is left of an order when the link of the guard is gone: the mode has gone with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastOrder {
    /// The file of the list.
    pub list: PathBuf,
    /// Whether the guard only counted what it would drop.
    pub audit: bool,
    /// How many sources each CPU remembered, of each address family.
    pub sources: u32,
}

impl LastOrder {
    /// What an instance did.
    pub(super) fn of(instance: &Instance) -> Result<Self> {
        Ok(Self {
            list: lists::in_force(instance).map(|list| list.path).unwrap_or_default(),
            audit: instance.is_audit(),
            sources: instance.counters.own.sizes()?.sources(),
        })
    }
}

impl Order {
    /// What an instance does whose link runs it in this mode.
    pub(super) fn of(instance: &Instance, mode: XdpMode) -> Result<Self> {
        let sizes = instance.counters.own.sizes()?;
        Ok(Self {
            list: lists::in_force(instance).map(|list| list.path).unwrap_or_default(),
            mode,
            audit: instance.is_audit(),
            sources: sizes.sources(),
            log: LogLimit::of(instance.policy.read(0).log_rate, sizes.cpus()),
            cpus: sizes.cpus(),
        })
    }

    /// What differs in another order, a line for each part: `audit -> enforcing`.
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
        if self.mode != new.mode {
            change("mode ", &self.mode.key(), &new.mode.key());
        }
        if self.sources != new.sources {
            change("sources ", &self.sources, &new.sources);
        }
        if self.log != new.log {
            change("log ", &self.log, &new.log);
        }
        changes
    }

    /// What of this order differs from what somebody named: the same lines, towards what was named.
    pub fn differences_from(&self, list: &Path, named: Named) -> Vec<String> {
        let Named { mode, audit, sources, log } = named;
        self.changes_to(&Self {
            list: list.to_owned(),
            mode: mode.and_then(mode_in_force).unwrap_or(self.mode),
            audit: audit.unwrap_or(self.audit),
            sources: sources.map_or(self.sources, Sizes::sources_for),
            log: log.map_or(self.log, |log| log.rounded(self.cpus)),
            cpus: self.cpus,
        })
    }
}

fn state(audit: bool) -> &'static str {
    if audit { "audit" } else { "enforcing" }
}

/// The one mode that a choice means; `None` if several will do.
pub(super) fn mode_in_force(choice: ModeChoice) -> Option<XdpMode> {
    match choice {
        ModeChoice::Auto => None,
        ModeChoice::Native => Some(XdpMode::Native),
        ModeChoice::Generic => Some(XdpMode::Generic),
        ModeChoice::Offload => Some(XdpMode::Offload),
    }
}

/// The sizes that somebody gets who asks for so many sources.
pub(super) fn sizes_for(sources: Option<u32>, now: Sizes) -> Result<Sizes> {
    match sources {
        Some(sources) if !now.are_for(sources) => Sizes::of_this_host(Some(sources)),
        _ => Ok(now),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_limit_is_ordered_is_the_one_in_force() {
        for cpus in [1, 2, 3, 16, 64, 8192] {
            for lines in 1..=100_000 {
                let ordered = LogLimit::PerSecond(lines);
                let in_force = LogLimit::of(ordered.rate(cpus), cpus);
                assert_eq!(ordered.rounded(cpus), in_force, "{lines} on {cpus} CPUs");
            }
            assert_eq!(LogLimit::PerSecond(10).rounded(cpus), LogLimit::PerSecond(10));
            assert_eq!(LogLimit::Off.rounded(cpus), LogLimit::Off);
        }
    }

    #[test]
    fn each_part_that_differs_is_one_line() {
        let order = Order {
            list: "/a".into(),
            mode: XdpMode::Native,
            audit: true,
            sources: 16_384,
            log: LogLimit::Off,
            cpus: 2,
        };
        assert_eq!(order.changes_to(&order), Vec::<String>::new());
        let other = Order {
            list: "/b".into(),
            mode: XdpMode::Generic,
            audit: false,
            sources: 512,
            log: LogLimit::PerSecond(10),
            cpus: 2,
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
        let named = Named { mode: Some(ModeChoice::Auto), sources: Some(400), ..Named::default() };
        assert_eq!(order.differences_from(Path::new("/a"), named), ["sources 16384 -> 512"]);
    }
}
