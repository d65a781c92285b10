//! What `top` knows: the last poll at each guard, and how fast its counters move. Pure: it is told polls and times.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use portguard_common::totals::Count;

use crate::guard::{Hook, SetId, Snapshot, Source};
use crate::top::filter::Filter;
use crate::top::rate::{History, Rate, growth, span_since_reset};

/// For how long a guard that is gone is shown, unless its interface was asked for by name.
const REMEMBERED: Duration = Duration::from_secs(60);

/// What a poll of one interface has found: its guard, or why there is none to be read.
#[derive(Debug, Clone)]
pub struct Poll {
    /// The name of the interface.
    pub interface: String,
    /// The guard.
    pub found: Result<Reading, String>,
}

/// The counters of a guard.
#[derive(Debug, Clone)]
pub struct Reading {
    /// Where it runs.
    pub hook: Hook,
    /// Whether it drops, or only counts.
    pub enforcing: bool,
    /// What its counters hold.
    pub snapshot: Snapshot,
}

/// A denied source of one guard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The name of the interface.
    pub interface: String,
    /// The source.
    pub address: IpAddr,
}

/// A denied source, and its rate; none before the second poll.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// What is counted.
    pub source: Source,
    /// How fast that grows.
    pub rate: Option<Rate>,
}

/// A guard that was there at the last poll.
#[derive(Debug, Clone)]
pub struct Guarded {
    /// What was read, but for the sources.
    pub reading: Reading,
    /// How fast packets are dropped, or would be in audit mode.
    pub refused: Option<Rate>,
    /// How fast packets come in that are allowed.
    pub allowed: Option<Rate>,
    /// How fast packets come in whose sources are not remembered.
    pub unattributed: Option<Rate>,
    /// The sources.
    pub rows: Vec<Row>,
}

/// An interface.
#[derive(Debug, Clone)]
pub struct Watched {
    /// Its name.
    pub name: String,
    /// Its guard, or why there is none to be read.
    pub state: Result<Guarded, String>,
    /// Packets a second that were dropped, or would have been.
    pub refused: History,
    /// Packets a second that were allowed.
    pub allowed: History,
    baseline: Option<Baseline>,
    seen: Duration,
}

/// What the counters held when they were read last.
#[derive(Debug, Clone)]
struct Baseline {
    at: Duration,
    set: SetId,
    refused: Count,
    allowed: Count,
    unattributed: Count,
    sources: HashMap<IpAddr, Count>,
}

/// The source that is followed, if it was there at some time.
#[derive(Debug, Clone)]
pub struct Followed {
    /// Which one.
    pub key: Key,
    /// What was known of it last.
    pub last: Option<Row>,
    /// Whether it was there at the last poll.
    pub is_there: bool,
    /// Its packets a second, since it is followed.
    pub history: History,
}

/// Everything that can be shown.
#[derive(Debug, Clone, Default)]
pub struct Model {
    interfaces: Vec<Watched>,
    named: Vec<String>,
    taken_at: u64,
    trouble: Option<String>,
    followed: Option<Followed>,
}

/// The order of sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Most packets first.
    Packets,
    /// Most bytes first.
    Bytes,
    /// Most packets a second first.
    Rate,
    /// Last seen first.
    Recent,
}

impl Model {
    /// Nothing yet; of the interfaces that were asked for by name, if any were, also those are shown that have no guard.
    pub fn new(named: Vec<String>) -> Self {
        Self { named, ..Self::default() }
    }

    /// Takes in a poll of everything, at a time of a clock that never goes back; `taken_at` is the same in nanoseconds of
    /// Unix time. If nothing could be looked at, the last poll stays, and why is told.
    pub fn update(&mut self, at: Duration, taken_at: u64, polls: Result<Vec<Poll>, String>) {
        self.taken_at = taken_at;
        let polls = match polls {
            Ok(polls) => {
                self.trouble = None;
                polls
            }
            Err(trouble) => {
                self.trouble = Some(trouble);
                return;
            }
        };
        let mut gone: Vec<String> = self.interfaces.iter().map(|watched| watched.name.clone()).collect();
        for Poll { interface, found } in polls {
            gone.retain(|name| *name != interface);
            self.watched(interface).take(at, found);
        }
        for name in gone {
            self.watched(name).take(at, Err("no guard is attached any more".to_owned()));
        }
        let named = &self.named;
        self.interfaces.retain(|watched| {
            watched.state.is_ok()
                || named.contains(&watched.name)
                || at.saturating_sub(watched.seen) < REMEMBERED
        });
        if let Some(mut followed) = self.followed.take() {
            followed.take(self.row(&followed.key));
            self.followed = Some(followed);
        }
    }

    fn watched(&mut self, name: String) -> &mut Watched {
        let at = self.interfaces.iter().position(|watched| watched.name == name).unwrap_or_else(|| {
            self.interfaces.push(Watched::new(name));
            self.interfaces.len() - 1
        });
        &mut self.interfaces[at]
    }

    /// When the last poll was taken, in nanoseconds of Unix time.
    pub fn taken_at(&self) -> u64 {
        self.taken_at
    }

    /// Why the last poll has failed.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// The interfaces; only one, if one is chosen.
    pub fn interfaces<'a>(&'a self, chosen: Option<&'a str>) -> impl Iterator<Item = &'a Watched> {
        self.interfaces.iter().filter(move |watched| chosen.is_none_or(|name| watched.name == name))
    }

    /// The sources that pass a filter, in order.
    pub fn rows<'a>(
        &'a self,
        chosen: Option<&'a str>,
        filter: &Filter,
        order: Order,
    ) -> Vec<(&'a Watched, &'a Row)> {
        let rows = self.interfaces(chosen).flat_map(|watched| {
            let rows = watched.state.as_ref().map(|guarded| &guarded.rows[..]).unwrap_or_default();
            rows.iter().map(move |row| (watched, row))
        });
        let mut rows: Vec<_> = rows.filter(|(_, row)| filter.matches(row.source.address)).collect();
        // A full table has too many to compute their ranks again and again.
        rows.sort_by_cached_key(|(_, row)| (Reverse(rank(row, order)), row.source.address));
        rows
    }

    /// A source, if it is remembered.
    pub fn row(&self, key: &Key) -> Option<Row> {
        let guarded =
            self.interfaces(Some(&key.interface)).find_map(|watched| watched.state.as_ref().ok())?;
        guarded.rows.iter().find(|row| row.source.address == key.address).cloned()
    }

    /// Follows a source from now on, or none.
    pub fn follow(&mut self, key: Option<Key>) {
        self.followed = key.map(|key| {
            let last = self.row(&key);
            Followed { key, is_there: last.is_some(), last, history: History::default() }
        });
    }

    /// The source that is followed.
    pub fn followed(&self) -> Option<&Followed> {
        self.followed.as_ref()
    }
}

/// Rates are never negative, and so in the order of their bits.
fn rank(row: &Row, order: Order) -> (u64, u64) {
    let Count { packets, bytes } = row.source.count;
    match order {
        Order::Packets => (packets, bytes),
        Order::Bytes => (bytes, packets),
        Order::Rate => (row.rate.unwrap_or_default().packets.to_bits(), packets),
        Order::Recent => (row.source.last_seen, packets),
    }
}

impl Followed {
    fn take(&mut self, row: Option<Row>) {
        self.is_there = row.is_some();
        self.history.push(row.as_ref().and_then(|row| row.rate).map(|rate| rate.packets));
        if row.is_some() {
            self.last = row;
        }
    }
}

impl Watched {
    fn new(name: String) -> Self {
        Self {
            name,
            state: Err(String::new()),
            refused: History::default(),
            allowed: History::default(),
            baseline: None,
            seen: Duration::ZERO,
        }
    }

    fn take(&mut self, at: Duration, found: Result<Reading, String>) {
        let reading = match found {
            Ok(reading) => reading,
            Err(why) => {
                self.state = Err(why);
                self.refused.push(None);
                self.allowed.push(None);
                return;
            }
        };
        self.seen = at;
        let guarded = Guarded::new(at, reading, self.baseline.as_ref());
        // The first poll is no sample: there is nothing to compare it with.
        if self.baseline.is_some() {
            self.refused.push(guarded.refused.map(|rate| rate.packets));
            self.allowed.push(guarded.allowed.map(|rate| rate.packets));
        }
        self.baseline = Some(Baseline::of(at, &guarded));
        self.state = Ok(guarded);
    }
}

impl Guarded {
    fn new(at: Duration, mut reading: Reading, baseline: Option<&Baseline>) -> Self {
        let sources = std::mem::take(&mut reading.snapshot.sources);
        let snapshot = &reading.snapshot;
        let pace = baseline.map(|baseline| Pace::since(baseline, at, snapshot));
        let rate = |earlier: fn(&Baseline) -> Count, now| {
            pace.as_ref().map(|pace| pace.rate(pace.baseline.map(earlier), now))
        };
        let refused = rate(|baseline| baseline.refused, snapshot.refused());
        let allowed = rate(|baseline| baseline.allowed, snapshot.allowed);
        let unattributed = rate(|baseline| baseline.unattributed, snapshot.unattributed);
        let row = |source: Source| {
            // One that was not there has come since: whoever had its place is gone.
            let earlier = |baseline: &Baseline| baseline.sources.get(&source.address).copied();
            let rate = pace.as_ref().map(|pace| pace.rate(pace.baseline.and_then(earlier), source.count));
            Row { source, rate }
        };
        let rows = sources.into_iter().map(row).collect();
        Self { reading, refused, allowed, unattributed, rows }
    }
}

/// What rates are computed from: what there was before, unless the counters have begun anew, and the time.
struct Pace<'a> {
    baseline: Option<&'a Baseline>,
    span: Duration,
}

impl<'a> Pace<'a> {
    fn since(baseline: &'a Baseline, at: Duration, snapshot: &Snapshot) -> Self {
        let elapsed = at.saturating_sub(baseline.at);
        // Attached again, or reset.
        let anew = snapshot.set != baseline.set;
        if anew {
            let age = Duration::from_nanos(snapshot.taken_at.saturating_sub(snapshot.since));
            Self { baseline: None, span: span_since_reset(elapsed, age) }
        } else {
            Self { baseline: Some(baseline), span: elapsed }
        }
    }

    fn rate(&self, earlier: Option<Count>, now: Count) -> Rate {
        Rate::of(growth(earlier.unwrap_or_default(), now), self.span)
    }
}

impl Baseline {
    fn of(at: Duration, guarded: &Guarded) -> Self {
        let snapshot = &guarded.reading.snapshot;
        Self {
            at,
            set: snapshot.set,
            refused: snapshot.refused(),
            allowed: snapshot.allowed,
            unattributed: snapshot.unattributed,
            sources: guarded.rows.iter().map(|row| (row.source.address, row.source.count)).collect(),
        }
    }
}
