//! The order of a guard: what it is to do. Each part is read from where it takes effect, so what is ordered and what is in
//! force cannot disagree; docs/internals/abi.md has the table.

use std::fmt;
use std::path::{Path, PathBuf};

use portguard_common::drop_log::Rate;
use portguard_common::policy::{MODE_AUTO, MODE_GENERIC, MODE_NATIVE};

use crate::allowlist::printable;
use crate::cli::ModeChoice;
use crate::error::Result;
use crate::guard::instance::Instance;
use crate::guard::lists;
use crate::guard::sizes::Sizes;

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
    pub(super) fn rate(self, sizes: Sizes) -> Rate {
        match self {
            Self::Off => Rate::OFF,
            Self::PerSecond(lines) => Rate::per_cpu(lines, sizes.cpus()),
        }
    }

    /// What all CPUs may log, by what each may.
    pub(super) fn of(rate: Rate, sizes: Sizes) -> Self {
        const SECOND: u64 = 1_000_000_000;
        // Rounded: the interval was rounded down.
        let all = SECOND * u64::from(sizes.cpus());
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
    /// How the kernel is to run it; what came of that is [`super::Guard::mode`].
    pub mode: ModeChoice,
    /// Whether it only counts what it would drop.
    pub audit: bool,
    /// How many sources each CPU remembers, of each address family.
    pub sources: u32,
    /// How many drops may be logged a second.
    pub log: LogLimit,
}

impl Order {
    /// What an instance does.
    pub(super) fn of(instance: &Instance) -> Result<Self> {
        let policy = instance.policy.read(0);
        let sizes = instance.counters.own.sizes()?;
        Ok(Self {
            list: lists::in_force(instance).map(|list| list.path).unwrap_or_default(),
            mode: mode_of(policy.mode),
            audit: instance.is_audit(),
            sources: sizes.sources(),
            log: LogLimit::of(policy.log_rate, sizes),
        })
    }

    /// What differs in another order, a line for each part: `audit -> enforcing`.
    pub fn changes_to(&self, new: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        let mut change = |what: &str, before: &dyn fmt::Display, after: &dyn fmt::Display| {
            changes.push(format!("{what}{before} -> {after}"));
        };
        if self.list != new.list {
            let shown = |path: &PathBuf| printable(&path.to_string_lossy());
            change("allowlist ", &shown(&self.list), &shown(&new.list));
        }
        if self.audit != new.audit {
            change("", &state(self.audit), &state(new.audit));
        }
        if self.mode != new.mode {
            change("mode ", &self.mode.word(), &new.mode.word());
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
            mode: mode.unwrap_or(self.mode),
            audit: audit.unwrap_or(self.audit),
            sources: sources.map_or(self.sources, Sizes::sources_for),
            log: log.unwrap_or(self.log),
        })
    }
}

fn state(audit: bool) -> &'static str {
    if audit { "audit" } else { "enforcing" }
}

/// A mode that was ordered, as maps hold it.
pub(super) fn mode_number(mode: ModeChoice) -> u32 {
    match mode {
        // There is no guard in offload mode.
        ModeChoice::Auto | ModeChoice::Offload => MODE_AUTO,
        ModeChoice::Native => MODE_NATIVE,
        ModeChoice::Generic => MODE_GENERIC,
    }
}

/// The mode that a number in a map means.
pub(super) fn mode_of(number: u32) -> ModeChoice {
    match number {
        MODE_NATIVE => ModeChoice::Native,
        MODE_GENERIC => ModeChoice::Generic,
        _ => ModeChoice::Auto,
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
    fn a_log_limit_is_found_again_from_the_rate() {
        for cpus in [1, 2, 3, 64, 8192] {
            for lines in [1, 2, 3, 10, 999, 100_000] {
                let sizes = Sizes::for_host(cpus, usize::MAX);
                let rate = LogLimit::PerSecond(lines).rate(sizes);
                assert_eq!(LogLimit::of(rate, sizes), LogLimit::PerSecond(lines), "{cpus} CPUs");
            }
        }
        assert_eq!(LogLimit::of(Rate::OFF, Sizes::for_host(2, usize::MAX)), LogLimit::Off);
    }

    #[test]
    fn each_part_that_differs_is_one_line() {
        let order = Order {
            list: "/a".into(),
            mode: ModeChoice::Auto,
            audit: true,
            sources: 16_384,
            log: LogLimit::Off,
        };
        assert_eq!(order.changes_to(&order), Vec::<String>::new());
        let other = Order {
            list: "/b".into(),
            mode: ModeChoice::Generic,
            audit: false,
            sources: 512,
            log: LogLimit::PerSecond(10),
        };
        assert_eq!(
            order.changes_to(&other),
            [
                "allowlist /a -> /b",
                "audit -> enforcing",
                "mode auto -> generic",
                "sources 16384 -> 512",
                "log off -> 10/s"
            ]
        );
        let named = Named { sources: Some(400), ..Named::default() };
        assert_eq!(order.differences_from(Path::new("/a"), named), ["sources 16384 -> 512"]);
    }
}
