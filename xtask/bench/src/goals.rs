//! What portguard wants to be measured by, as ratios within one run, and whether it is met.

use std::fmt;

use super::results::{Case, Family, Firewall, Operation, Results, Sources, TestProgram};
use super::test_run::LIST;

const MILLION: usize = 1_000_000;

/// A bound, and what was measured.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Goal {
    /// What is bounded.
    pub(super) what: &'static str,
    /// Its bound.
    pub(super) bound: Bound,
    /// What was measured, or nothing.
    pub(super) value: Option<f64>,
}

/// A bound, with its unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Bound {
    /// No more than this.
    AtMost(f64, &'static str),
    /// No less than this.
    AtLeast(f64, &'static str),
}

/// How a value stands to its bound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Verdict {
    /// It was not measured.
    Unknown,
    /// It is within its bound.
    Met,
    /// It is beyond its bound, by this share of it.
    MissedBy(f64),
}

impl Goal {
    /// Whether it is met.
    pub(super) fn verdict(&self) -> Verdict {
        let Some(value) = self.value else { return Verdict::Unknown };
        let beyond = match self.bound {
            Bound::AtMost(bound, _) => value / bound - 1.0,
            Bound::AtLeast(bound, _) => 1.0 - value / bound,
        };
        if beyond <= 0.0 { Verdict::Met } else { Verdict::MissedBy(beyond) }
    }

    /// The value with its unit.
    pub(super) fn shown(&self) -> String {
        let (Bound::AtMost(_, unit) | Bound::AtLeast(_, unit)) = self.bound;
        self.value.map_or_else(|| "not measured".to_owned(), |value| format!("{value:.2}{unit}"))
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(bound, unit) => write!(f, "<= {bound}{unit}"),
            Self::AtLeast(bound, unit) => write!(f, ">= {bound}{unit}"),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("-"),
            Self::Met => f.write_str("met"),
            Self::MissedBy(share) => write!(f, "missed by {:.0} %", share * 100.0),
        }
    }
}

/// All goals.
pub(super) fn goals(results: &Results) -> Vec<Goal> {
    let mut goals = on_one_frame(results);
    goals.extend(with_a_million(results));
    goals.extend(for_the_administrator(results));
    goals.extend(on_the_wire(results));
    let accounted = results.accounts.map(|accounts| {
        100.0 * (accounts.attributed + accounts.unattributed) as f64 / accounts.denied as f64
    });
    let scaling = results.scaling.iter().find(|row| row.tested == TestProgram::Portguard);
    goals.extend([
        at_most("two CPUs, over one", 1.1, "x", scaling.map(|row| row.ratio.median)),
        Goal { what: "drops accounted for", bound: Bound::AtLeast(100.0, " %"), value: accounted },
    ]);
    goals
}

/// With the list that is not large.
fn case(family: Family, sources: Sources, source_count: usize) -> Case {
    Case { family, tagged: false, sources, source_count, list: LIST }
}

fn on_one_frame(results: &Results) -> Vec<Goal> {
    let (v4, v6) = (Family::V4, Family::V6);
    let flood = |family| case(family, Sources::Denied, results.machine.flood);
    let cost = |tested, case| Some(results.case(tested, case)?.nanoseconds.median);
    let ratio = |case| Some(results.case(TestProgram::Portguard, case)?.ratio.median);
    let portguard = |case| cost(TestProgram::Portguard, case);
    let allowed = |family| {
        let rows = results.cases.iter().filter(|row| {
            row.tested == TestProgram::Portguard
                && Case { list: LIST, ..row.case } == case(family, Sources::AllowedSame, 1)
                && row.case.list <= LIST
        });
        rows.map(|row| row.ratio.median).reduce(f64::max)
    };
    let fresh = |sources| {
        let is_it = |case: Case| case.family == v4 && case.sources == sources;
        let row = results.cases.iter().find(|row| row.tested == TestProgram::Portguard && is_it(row.case));
        row.map(|row| row.ratio.median)
    };
    let other = case(v4, Sources::OtherPort, 1);
    vec![
        at_most("other port, IPv4, over bare PASS", 1.12, "x", ratio(other)),
        at_most("other port, IPv6, over bare PASS", 1.12, "x", ratio(case(v6, Sources::OtherPort, 1))),
        at_most(
            "other port, over xdp-filter's default",
            0.3,
            "x",
            over(portguard(other), cost(TestProgram::XdpFilter, other)),
        ),
        at_most("allowed, up to 1 k prefixes, IPv4, over bare PASS", 1.35, "x", allowed(v4)),
        at_most("allowed, up to 1 k prefixes, IPv6, over bare PASS", 1.38, "x", allowed(v6)),
        at_most(
            "denied, same source, IPv4, over bare DROP",
            1.4,
            "x",
            ratio(case(v4, Sources::DeniedSame, 1)),
        ),
        at_most(
            "denied, same source, IPv6, over bare DROP",
            1.5,
            "x",
            ratio(case(v6, Sources::DeniedSame, 1)),
        ),
        at_most("denied, random sources, IPv4, over bare DROP", 1.55, "x", ratio(flood(v4))),
        at_most("denied, random sources, IPv6, over bare DROP", 1.8, "x", ratio(flood(v6))),
        at_most("denied, each source once, IPv4, over bare DROP", 1.5, "x", fresh(Sources::Fresh)),
        at_most(
            "the same, over known sources, IPv4, over bare DROP",
            1.5,
            "x",
            fresh(Sources::FreshOverEstablished),
        ),
        at_most(
            "denied, 16,384 sources, IPv4, over bare DROP",
            2.0,
            "x",
            ratio(case(v4, Sources::Denied, 16 * 1024)),
        ),
        at_most(
            "denied, 16,384 sources, IPv6, over bare DROP",
            2.5,
            "x",
            ratio(case(v6, Sources::Denied, 16 * 1024)),
        ),
        at_most(
            "denied, random sources, in audit mode, over bare DROP",
            1.55,
            "x",
            results.case(TestProgram::PortguardAudit, flood(v4)).map(|row| row.ratio.median),
        ),
        at_least(
            "denied, random sources, faster than LPM + LRU",
            7.0,
            "x",
            over(cost(TestProgram::LpmLru, flood(v4)), portguard(flood(v4))),
        ),
    ]
}

fn with_a_million(results: &Results) -> Vec<Goal> {
    let ratio = |family, sources| {
        let is_it = |case: Case| case.family == family && case.sources == sources && case.list == MILLION;
        let row = results.cases.iter().find(|row| row.tested == TestProgram::Portguard && is_it(row.case));
        row.map(|row| row.ratio.median)
    };
    let (v4, v6) = (Family::V4, Family::V6);
    vec![
        at_most("1 M prefixes, IPv4, denied, over bare DROP", 2.4, "x", ratio(v4, Sources::Denied)),
        at_most("1 M prefixes, IPv6, denied, over bare DROP", 2.4, "x", ratio(v6, Sources::Denied)),
        at_most("1 M prefixes, IPv4, allowed, over bare PASS", 4.0, "x", ratio(v4, Sources::Allowed)),
        at_most("1 M prefixes, IPv6, allowed, over bare PASS", 6.0, "x", ratio(v6, Sources::Allowed)),
    ]
}

fn for_the_administrator(results: &Results) -> Vec<Goal> {
    let loading = |family, list| results.loading.iter().find(|row| row.family == family && row.list == list);
    let wall = |family, list, operation| loading(family, list)?.wall(operation);
    let longest = |list, operation| {
        Family::ALL.into_iter().filter_map(|family| wall(family, list, operation)).reduce(f64::max)
    };
    let waits = Family::ALL.into_iter().filter_map(|family| Some(loading(family, MILLION)?.wait.max));
    let (v4, v6) = (Family::V4, Family::V6);
    vec![
        at_most("attach, ten prefixes", 70.0, " ms", longest(10, Operation::Attach)),
        at_most("reload, ten prefixes", 35.0, " ms", longest(10, Operation::Reload)),
        at_most("check, 1 M prefixes, IPv4", 350.0, " ms", wall(v4, MILLION, Operation::Check)),
        at_most("check, 1 M prefixes, IPv6", 500.0, " ms", wall(v6, MILLION, Operation::Check)),
        at_most(
            "reload, 1 M prefixes, 1 % changed, IPv4",
            900.0,
            " ms",
            wall(v4, MILLION, Operation::ReloadHundredth),
        ),
        at_most(
            "reload, 1 M prefixes, 1 % changed, IPv6",
            1100.0,
            " ms",
            wall(v6, MILLION, Operation::ReloadHundredth),
        ),
        at_most("the longest wait of other work meanwhile", 20.0, " ms", waits.reduce(f64::max)),
        at_most(
            "the index of 1 M prefixes",
            150.0,
            " ms",
            results.indexes.iter().map(|(_, time)| time.median).reduce(f64::max),
        ),
        at_most("reading the sources", 5.0, " ms", results.reading.map(|reading| reading.read_alone.median)),
    ]
}

fn on_the_wire(results: &Results) -> Vec<Goal> {
    let rate = |firewall| Some(results.on_wire(firewall)?.packets_per_second.median);
    let cost = |firewall| Some(results.on_wire(firewall)?.nanoseconds.median);
    let faster = |than| over(rate(Firewall::Portguard), rate(than));
    vec![
        at_most(
            "veth, CPU over bare native",
            1.25,
            "x",
            results.on_wire(Firewall::Portguard).map(|row| row.ratio.median),
        ),
        at_least("veth, packets/s over xdp-filter", 1.3, "x", faster(Firewall::XdpFilter)),
        at_least("veth, packets/s over nftables", 4.0, "x", faster(Firewall::Nft)),
        at_least("veth, packets/s over nftables, per source", 4.0, "x", faster(Firewall::NftPerSource)),
        at_least("veth, packets/s over iptables", 4.0, "x", faster(Firewall::Iptables)),
        at_most(
            "veth, generic, CPU over bare generic",
            1.1,
            "x",
            over(cost(Firewall::PortguardGeneric), cost(Firewall::BareGeneric)),
        ),
    ]
}

fn over(above: Option<f64>, below: Option<f64>) -> Option<f64> {
    Some(above? / below?)
}

fn at_most(what: &'static str, bound: f64, unit: &'static str, value: Option<f64>) -> Goal {
    Goal { what, bound: Bound::AtMost(bound, unit), value }
}

fn at_least(what: &'static str, bound: f64, unit: &'static str, value: Option<f64>) -> Goal {
    Goal { what, bound: Bound::AtLeast(bound, unit), value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_says_by_how_much_it_is_missed() {
        let verdict = |value| at_most("", 1.5, "x", value).verdict();
        assert_eq!(verdict(Some(1.5)), Verdict::Met);
        assert_eq!(verdict(Some(3.0)).to_string(), "missed by 100 %");
        assert_eq!(verdict(None), Verdict::Unknown);
        assert_eq!(at_least("", 4.0, "x", Some(3.0)).verdict().to_string(), "missed by 25 %");
    }

    #[test]
    fn without_results_nothing_is_met() {
        let goals = goals(&Results::default());
        assert!(goals.len() > 15);
        assert!(goals.iter().all(|goal| goal.verdict() == Verdict::Unknown), "{goals:?}");
    }
}
