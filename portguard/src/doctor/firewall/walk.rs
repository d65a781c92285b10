//! What rules do with a packet of a stranger. Pure.
//!
//! An answer is never more certain than the rules: a condition that is not understood may hold or not, and both cases
//! are followed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use portguard_common::transport::Protocol;

use super::rules::{Action, Atom, Changes, Condition, Rules, Scope, Stranger, Subject, Table};

/// Chains may call one another, but not endlessly (`NFT_JUMP_STACK_SIZE` is 16).
const DEEPEST: u32 = 16;
/// A stranger is taken for outside of what a condition names, if that is less than this part of all addresses.
const LARGEST_SHARE: f64 = 1.0 / 16.0;

/// Whether something holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Yes,
    No,
    Maybe,
}

/// What may become of a packet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub accepted: bool,
    pub dropped: bool,
    /// Something else, in these words.
    pub other: BTreeSet<String>,
    /// It comes to the end of a chain.
    ends: bool,
}

impl Rules {
    /// What becomes of a stranger's packet: all chains that it enters must let it through.
    pub(crate) fn outcome(
        &self,
        stranger: &Stranger<'_>,
        lowers: &[&str],
        bridge: bool,
    ) -> Vec<(String, Outcome)> {
        let (outcomes, changes) = self.walk(stranger, lowers, bridge, Changes::default());
        if changes == Changes::default() {
            return outcomes;
        }
        // A change may come before whatever looks at it.
        self.walk(stranger, lowers, bridge, changes).0
    }

    /// The same, if rules change these things; and what the rules change that the packet comes to.
    fn walk(
        &self,
        stranger: &Stranger<'_>,
        lowers: &[&str],
        bridge: bool,
        changes: Changes,
    ) -> (Vec<(String, Outcome)>, Changes) {
        let (mut outcomes, mut made) = (Vec::new(), changes);
        for table in &self.tables {
            for (name, chain) in &table.chains {
                let Some(base) = &chain.base else { continue };
                let (enters, interface) = match &base.scope {
                    Scope::Ip { ipv6 } => (ipv6.is_none_or(|ipv6| ipv6 == stranger.ipv6), stranger.interface),
                    Scope::Devices(devices) => enters_at(devices.as_deref(), stranger.interface, lowers),
                    Scope::Bridge => (bridge, None),
                };
                if !enters {
                    continue;
                }
                let certain = !matches!(base.scope, Scope::Devices(_) | Scope::Bridge) || interface.is_some();
                let stranger = Stranger { interface, ..stranger.clone() };
                let mut walk = Walk { table, stranger: &stranger, changes, made, known: BTreeMap::new() };
                let mut outcome = walk.chain(name, DEEPEST);
                made = walk.made;
                if outcome.ends {
                    outcome.dropped |= base.drops;
                    outcome.accepted |= !base.drops;
                    outcome.ends = false;
                }
                if !certain && (base.drops || table.has_drops()) {
                    (outcome.accepted, outcome.dropped) = (true, true);
                }
                outcomes.push((format!("{}, chain {name}", table.name), outcome));
            }
        }
        (outcomes, made)
    }
}

impl Table {
    fn has_drops(&self) -> bool {
        let drops = |action: &Action| !matches!(action, Action::None | Action::Accept | Action::Return);
        self.chains.values().flat_map(|chain| &chain.rules).any(|rule| drops(&rule.action))
    }
}

struct Walk<'a> {
    table: &'a Table,
    stranger: &'a Stranger<'a>,
    /// What may be changed.
    changes: Changes,
    /// What the rules change that the packet has come to.
    made: Changes,
    /// What was found out of a chain: it is the same each time.
    known: BTreeMap<&'a str, Outcome>,
}

impl<'a> Walk<'a> {
    fn chain(&mut self, name: &'a str, depth: u32) -> Outcome {
        if let Some(outcome) = self.known.get(name) {
            return outcome.clone();
        }
        let chain = self.table.chains.get(name).filter(|_| depth > 0);
        let Some(chain) = chain else { return Outcome::other(format!("a call of chain {name}")) };
        let mut outcome = Outcome::default();
        for rule in &chain.rules {
            let holds = all(rule.conditions.iter().map(|condition| self.holds(condition)));
            if holds == Answer::No {
                continue;
            }
            self.made.marks |= rule.changes.marks;
            self.made.untracks |= rule.changes.untracks;
            let (taken, goes_on) = self.action(&rule.action, depth);
            outcome.join(&taken);
            if holds == Answer::Yes && !goes_on {
                self.known.insert(name, outcome.clone());
                return outcome;
            }
        }
        outcome.ends = true;
        self.known.insert(name, outcome.clone());
        outcome
    }

    /// What an action makes of a packet, and whether the next rule may see it.
    fn action(&mut self, action: &'a Action, depth: u32) -> (Outcome, bool) {
        match action {
            Action::None => (Outcome::default(), true),
            Action::Accept => (Outcome { accepted: true, ..Outcome::default() }, false),
            Action::Drop => (Outcome { dropped: true, ..Outcome::default() }, false),
            Action::Return => (Outcome { ends: true, ..Outcome::default() }, false),
            Action::Other(what) => (Outcome::other(what.clone()), false),
            Action::Goto(chain) => (self.chain(chain, depth - 1), false),
            Action::Jump(chain) => {
                let mut outcome = self.chain(chain, depth - 1);
                let goes_on = std::mem::take(&mut outcome.ends);
                (outcome, goes_on)
            }
            Action::Map { subjects, elements } => self.map(subjects, elements, depth),
        }
    }

    fn map(
        &mut self,
        subjects: &[Subject],
        elements: &'a [(Vec<Atom>, Action)],
        depth: u32,
    ) -> (Outcome, bool) {
        let (mut outcome, mut goes_on) = (Outcome::default(), false);
        for (atoms, action) in elements {
            let fits = self.fits(subjects, atoms);
            if fits == Answer::No {
                continue;
            }
            let (taken, next) = self.action(action, depth);
            outcome.join(&taken);
            goes_on |= next;
            if fits == Answer::Yes {
                return (outcome, goes_on);
            }
        }
        (outcome, true)
    }

    fn holds(&self, condition: &Condition) -> Answer {
        let Condition { subjects, elements, negated } = condition;
        let mut holds = Answer::No;
        for element in elements {
            match self.fits(subjects, element) {
                Answer::Yes => {
                    holds = Answer::Yes;
                    break;
                }
                Answer::Maybe => holds = Answer::Maybe,
                Answer::No => {}
            }
        }
        // Of many addresses, a stranger may have one.
        let sources = subjects.iter().position(|subject| *subject == Subject::Source);
        if let (Answer::No, Some(at)) = (holds, sources)
            && elements.iter().filter_map(|element| element.get(at)).map(Atom::share).sum::<f64>()
                > LARGEST_SHARE
        {
            holds = Answer::Maybe;
        }
        match (holds, negated) {
            (Answer::Yes, true) => Answer::No,
            (Answer::No, true) => Answer::Yes,
            (holds, _) => holds,
        }
    }

    fn fits(&self, subjects: &[Subject], atoms: &[Atom]) -> Answer {
        if subjects.len() != atoms.len() {
            return Answer::Maybe;
        }
        all(subjects.iter().zip(atoms).map(|(subject, atom)| self.has(*subject, atom)))
    }

    /// Whether the packet has a value.
    fn has(&self, subject: Subject, atom: &Atom) -> Answer {
        let text = match atom {
            Atom::Unknown => return Answer::Maybe,
            Atom::Any => return Answer::Yes,
            Atom::Text(text) => Some(&**text),
            _ => None,
        };
        let stranger = self.stranger;
        match subject {
            Subject::Unknown => Answer::Maybe,
            // What is compared with its absence fits.
            Subject::Absent => yes(text == Some("missing")),
            Subject::Interface => match (stranger.interface, text) {
                (Some(interface), Some(pattern)) => yes(fits_pattern(interface, pattern)),
                _ => Answer::Maybe,
            },
            Subject::Family => match text {
                Some("ip6" | "ipv6") => yes(stranger.ipv6),
                Some("ip" | "ipv4") => yes(!stranger.ipv6),
                Some("arp" | "vlan" | "8021q" | "8021ad") => Answer::No,
                _ => Answer::Maybe,
            },
            Subject::Protocol => {
                let (name, number) = match stranger.protocol {
                    Protocol::Udp => ("udp", 17),
                    Protocol::Tcp => ("tcp", 6),
                };
                text.map_or_else(|| atom.is_number(number), |text| yes(text.eq_ignore_ascii_case(name)))
            }
            Subject::Port => match text {
                Some("sunrpc" | "rpcbind" | "portmapper") => yes(stranger.port == portguard_common::PORT),
                Some(_) => Answer::Maybe,
                None => atom.is_number(stranger.port.into()),
            },
            Subject::Source => atom.covers_stranger(stranger.ipv6),
            Subject::Destination => {
                let all = stranger.destinations;
                match all.iter().filter(|it| atom.covers(**it)).count() {
                    _ if all.is_empty() => Answer::Maybe,
                    0 => Answer::No,
                    count if count == all.len() => Answer::Yes,
                    _ => Answer::Maybe,
                }
            }
            Subject::ConnectionState => match text.map(str::to_ascii_lowercase).as_deref() {
                Some("new" | "untracked") if self.changes.untracks => Answer::Maybe,
                Some("new") => Answer::Yes,
                Some(_) => Answer::No,
                None => Answer::Maybe,
            },
            // A packet whose destination was changed is told elsewhere.
            Subject::ConnectionStatus => yes(text.is_some_and(|text| text.eq_ignore_ascii_case("none"))),
            Subject::Mark if self.changes.marks => Answer::Maybe,
            Subject::Mark => atom.is_number(0),
            Subject::PacketType => match text {
                Some("host" | "unicast") => Answer::Yes,
                Some(_) => Answer::No,
                None => Answer::Maybe,
            },
            Subject::DestinationType => match text {
                Some(text) => yes(text.eq_ignore_ascii_case("local")),
                None => Answer::Maybe,
            },
            Subject::ReversePath => match text {
                Some("missing") => Answer::No,
                Some("exists") => Answer::Yes,
                _ => Answer::Maybe,
            },
        }
    }
}

impl Outcome {
    fn other(what: String) -> Self {
        Self { other: BTreeSet::from([what]), ..Self::default() }
    }

    fn join(&mut self, other: &Self) {
        self.accepted |= other.accepted;
        self.dropped |= other.dropped;
        self.ends |= other.ends;
        self.other.extend(other.other.iter().cloned());
    }

    /// Whether it is certain that the packet does not get through.
    pub(crate) fn is_dropped(&self) -> bool {
        self.dropped && !self.accepted && self.other.is_empty()
    }

    /// Whether it is certain that it does.
    pub(crate) fn is_accepted(&self) -> bool {
        self.accepted && !self.dropped && self.other.is_empty()
    }
}

impl Atom {
    fn is_number(&self, number: u64) -> Answer {
        match self {
            Self::Number(own) => yes(*own == number),
            Self::Range(low, high) => yes((*low..=*high).contains(&number)),
            _ => Answer::Maybe,
        }
    }

    fn covers(&self, address: IpAddr) -> bool {
        match self {
            Self::Prefix(prefix) => prefix.contains(&address),
            Self::Addresses(low, high) => {
                low.is_ipv4() == address.is_ipv4() && (*low..=*high).contains(&address)
            }
            _ => false,
        }
    }

    /// Whether an address that nobody names is among some prefixes; `None`: these are so many that it may be.
    pub(in crate::doctor) fn names_strangers(prefixes: &[IpNet], ipv6: bool) -> Option<bool> {
        let answers: Vec<Answer> =
            prefixes.iter().map(|prefix| Self::Prefix(*prefix).covers_stranger(ipv6)).collect();
        let share: f64 = prefixes
            .iter()
            .filter(|it| matches!(it, IpNet::V6(_)) == ipv6)
            .map(|it| Self::Prefix(*it).share())
            .sum();
        match () {
            () if answers.contains(&Answer::Yes) => Some(true),
            () if answers.contains(&Answer::Maybe) || share > LARGEST_SHARE => None,
            () => Some(false),
        }
    }

    /// Whether an address that nobody names is among these.
    fn covers_stranger(&self, ipv6: bool) -> Answer {
        match self {
            Self::Prefix(prefix) if matches!(prefix, IpNet::V6(_)) != ipv6 => Answer::No,
            Self::Prefix(prefix) if prefix.prefix_len() == 0 => Answer::Yes,
            Self::Prefix(_) | Self::Addresses(..) if self.share() > LARGEST_SHARE => Answer::Maybe,
            Self::Prefix(_) | Self::Addresses(..) => Answer::No,
            _ => Answer::Maybe,
        }
    }

    /// The part of all addresses, or of all global unicast addresses of IPv6 (2000::/3), that these are.
    fn share(&self) -> f64 {
        let of_prefix = |prefix: &IpNet| match prefix {
            IpNet::V4(prefix) => 0.5_f64.powi(prefix.prefix_len().into()),
            IpNet::V6(prefix) if prefix.prefix_len() < 3 => 1.0,
            IpNet::V6(prefix) => 0.5_f64.powi(i32::from(prefix.prefix_len()) - 3),
        };
        match self {
            Self::Prefix(prefix) => of_prefix(prefix),
            Self::Addresses(IpAddr::V4(low), IpAddr::V4(high)) => {
                f64::from(high.to_bits().saturating_sub(low.to_bits())) / f64::from(u32::MAX)
            }
            Self::Addresses(IpAddr::V6(low), IpAddr::V6(high)) => {
                high.to_bits().saturating_sub(low.to_bits()) as f64 / (u128::MAX >> 3) as f64
            }
            _ => 0.0,
        }
    }
}

fn yes(holds: bool) -> Answer {
    if holds { Answer::Yes } else { Answer::No }
}

/// Whether all hold.
fn all(answers: impl Iterator<Item = Answer>) -> Answer {
    let mut all = Answer::Yes;
    for answer in answers {
        match answer {
            Answer::No => return Answer::No,
            Answer::Maybe => all = Answer::Maybe,
            Answer::Yes => {}
        }
    }
    all
}

/// Whether a packet enters a chain of some devices, and the interface that its rules see. Below that on which the packet arrives,
/// it may have another header in front; and if that is not known, nothing is certain.
fn enters_at<'a>(
    devices: Option<&[String]>,
    interface: Option<&'a str>,
    lowers: &[&str],
) -> (bool, Option<&'a str>) {
    let (Some(devices), Some(interface)) = (devices, interface) else { return (true, None) };
    if devices.iter().any(|device| device == interface) {
        return (true, Some(interface));
    }
    (devices.iter().any(|device| lowers.contains(&device.as_str())), None)
}

/// Whether a name fits a pattern: `eth*` of nftables, `eth+` of iptables.
fn fits_pattern(name: &str, pattern: &str) -> bool {
    match pattern.strip_suffix(['*', '+']) {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
