//! Reads what the kernel program has counted, in one set of counters.
//!
//! Each denied packet is in one way or in one remainder of the source tables, so the total of the denied packets is
//! the sum over the tables: the parts add up at each moment of a reading.

use std::fmt;
use std::str::FromStr;

use aya::maps::MapData;
use portguard_common::address::{V4, V6};
use portguard_common::epoch::Epoch;
use portguard_common::layout::Shared;
use portguard_common::names;
use portguard_common::reason::{ByDenial, ByFault, Denial, DropReason};
use portguard_common::rpc::Requests;
use portguard_common::source_table::{Seed, Sighting, WAYS};
use portguard_common::totals::{Count, Totals};

use crate::allowlist::Sha256Sum;
use crate::error::{Error, Result};
use crate::family::Family;
use crate::guard::abi5;
use crate::guard::by_reason::ByReason;
use crate::guard::cells;
use crate::guard::clock::{self, Calendar, Clock, unix_now};
use crate::guard::denied_source::Source;
use crate::guard::mapped::Mapped;
use crate::guard::sizes::Sizes;

/// One set of counters.
#[derive(Debug)]
pub struct Counters {
    abi: u32,
    cells: Cells,
    epoch: Mapped<Epoch>,
    clock: Clock,
}

/// The cells of all CPUs, in the layout of an ABI.
#[derive(Debug)]
enum Cells {
    Current(cells::Cells),
    Abi5(abi5::Cells),
}

impl Cells {
    fn open(abi: u32, map: impl Fn(&str) -> Result<MapData>) -> Result<Self> {
        if abi <= abi5::LAST {
            abi5::Cells::open(map).map(Self::Abi5)
        } else {
            cells::Cells::open(abi, map).map(Self::Current)
        }
    }

    fn sizes(&self) -> Option<Sizes> {
        match self {
            Self::Current(cells) => cells.sizes(),
            Self::Abi5(cells) => cells.sizes(),
        }
    }

    fn totals(&self, cpu: u32) -> Totals {
        match self {
            Self::Current(cells) => cells.totals(cpu),
            Self::Abi5(cells) => cells.totals(cpu),
        }
    }

    /// What takes memory to tell what sources have asked for.
    fn requests(&self) -> Result<Option<cells::AllRequests>> {
        match self {
            Self::Current(cells) => cells.requests().map(Some),
            Self::Abi5(_) => Ok(None),
        }
    }

    /// Puts the sources of a bucket into `seen`, and returns the bucket's remainder. Without `requests`, it may not tell what they
    /// asked for.
    fn bucket<K: InBoth>(
        &self,
        cpu: u32,
        bucket: u32,
        requests: Option<&cells::AllRequests>,
        seen: &mut Vec<(K, Sighting)>,
    ) -> Count {
        match self {
            Self::Current(cells) => cells.bucket(cpu, bucket, requests, seen),
            Self::Abi5(cells) => cells.bucket(cpu, bucket, seen),
        }
    }
}

/// An address family with cells in all layouts.
trait InBoth: cells::Counted + abi5::Counted {}

impl<K: cells::Counted + abi5::Counted> InBoth for K {}

/// The identity of a set of counters, also among those of other boots: a hash of its random seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SetId(pub u64);

impl fmt::Display for SetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for SetId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let digits = (text.len() == 16 && text.bytes().all(is_digit)).then_some(text);
        let number = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
        number.map(Self).ok_or("not 16 hexadecimal digits in lower case")
    }
}

/// What the counters of a guard hold at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// When it was taken, in nanoseconds of Unix time.
    pub taken_at: u64,
    /// When the counters were at zero, in nanoseconds of Unix time.
    pub since: u64,
    /// Which counters: another one means that they have begun anew.
    pub set: SetId,
    /// Packets for the guarded port from sources on the list.
    pub allowed: Count,
    /// Packets that were denied for their source, by reason. Their sum is that over `sources`, and `unattributed`.
    pub denied: ByDenial<Count>,
    /// Packets that were dropped whatever their source.
    pub faults: ByFault<Count>,
    /// How many of these and the ones above passed because the guard was in audit mode.
    pub would_drop: Count,
    /// The sources that are remembered, in no particular order.
    pub sources: Vec<Source>,
    /// Denied packets that are counted for no source, because the source tables had no room.
    pub unattributed: Count,
    /// What the packets of `denied` asked for.
    pub requests: Requests,
    /// Packets of `denied` that were to be logged, and for which the log had no room.
    pub not_logged: u64,
}

/// What the counters of a guard hold at one moment, without regard to who was denied. None of them ever goes down while
/// they count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sums {
    /// What is counted beside the source tables.
    pub totals: Totals,
    /// Packets that were denied for their source, by reason.
    pub denied: ByDenial<Count>,
    /// Those of them that are counted for no source, because the source tables had no room.
    pub unattributed: Count,
    /// The table of IPv4 sources.
    pub v4: Fill,
    /// The table of IPv6 sources.
    pub v6: Fill,
}

impl Sums {
    /// The table of the sources of a family.
    pub fn fill(&self, family: Family) -> Fill {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }

    /// All that was dropped, or would have been in audit mode, by reason.
    pub fn by_reason(&self) -> ByReason<Count> {
        ByReason { denied: self.denied, faults: self.totals.faults() }
    }
}

/// How full a source table is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fill {
    /// Places that are taken. A source takes one on each CPU that has seen it.
    pub taken: u64,
    /// All places, on all CPUs.
    pub places: u64,
}

impl Snapshot {
    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        let Self { allowed, would_drop, not_logged, .. } = self;
        [allowed, would_drop, &self.refused()].iter().all(|count| count.packets == 0) && *not_logged == 0
    }

    /// All that was dropped, or would have been in audit mode.
    pub fn refused(&self) -> Count {
        let mut sum = self.all_denied();
        self.faults.into_iter().for_each(|count| sum.add(count));
        sum
    }

    /// All packets that were denied for their source.
    pub fn all_denied(&self) -> Count {
        let mut sum = Count::default();
        self.denied.into_iter().for_each(|count| sum.add(count));
        sum
    }

    /// The same, by reason.
    pub fn by_reason(&self) -> ByReason<Count> {
        ByReason { denied: self.denied, faults: self.faults }
    }

    /// All that was dropped.
    pub fn dropped(&self) -> Count {
        let refused = self.refused();
        Count {
            packets: refused.packets.saturating_sub(self.would_drop.packets),
            bytes: refused.bytes.saturating_sub(self.would_drop.bytes),
        }
    }
}

/// The counters of the reasons for which packets were denied.
fn denied_of(totals: &Totals) -> ByDenial<Count> {
    Denial::ALL.map(|denial| totals.drops[DropReason::Denied(denial).number()])
}

/// The counters by reason, of which the first one is what the others leave of a sum.
fn summing_up(all: Count, mut by_reason: ByDenial<Count>) -> ByDenial<Count> {
    let [first, others @ ..] = &mut by_reason;
    *first = all;
    for other in others {
        other.packets = other.packets.min(first.packets);
        other.bytes = other.bytes.min(first.bytes);
        first.packets -= other.packets;
        first.bytes -= other.bytes;
    }
    by_reason
}

impl Counters {
    /// Opens a set of counters with the layout of an ABI; `map` opens one of its maps by name.
    pub fn open(abi: u32, map: impl Fn(&str) -> Result<MapData>, clock: Clock) -> Result<Self> {
        Ok(Self {
            abi,
            cells: Cells::open(abi, &map)?,
            epoch: mapped(&map(names::EPOCH)?, names::EPOCH)?,
            clock,
        })
    }

    /// Stores the current time as the beginning of the counters, which are at zero.
    pub fn begin(&self, seed: Seed) -> Result<()> {
        let now = self.clock.now()?;
        let epoch = Epoch { since: clock::boot_now(), jiffies: now.jiffies, monotonic: now.monotonic, seed };
        // SAFETY: the element is mapped, and nothing else uses it before the instance is live.
        unsafe { self.epoch.element(0).write_volatile(epoch) };
        Ok(())
    }

    /// Of the hash that distributes the sources.
    pub fn seed(&self) -> Seed {
        self.epoch.read(0).seed
    }

    /// The layout of its maps.
    pub fn abi(&self) -> u32 {
        self.abi
    }

    /// When they were at zero, in nanoseconds of `CLOCK_BOOTTIME`.
    pub fn began(&self) -> u64 {
        clock::boot_time(self.abi, self.epoch.read(0).since)
    }

    /// Which set it is.
    pub fn id(&self) -> SetId {
        let bytes: Vec<u8> = self.seed().iter().flat_map(|word| word.to_ne_bytes()).collect();
        let mut first = [0; 8];
        first.copy_from_slice(&Sha256Sum::of(&bytes).as_bytes()[..8]);
        SetId(u64::from_be_bytes(first))
    }

    /// How large they are.
    pub fn sizes(&self) -> Result<Sizes> {
        self.cells
            .sizes()
            .ok_or_else(|| Error::failed("the counters of the guard have sizes that do not fit together"))
    }

    /// What all CPUs have counted, but for the sources.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for cpu in 0..self.cells.sizes().map_or(0, Sizes::cpus) {
            totals.add(&self.cells.totals(cpu));
        }
        totals
    }

    /// What they hold now, without the sources: takes no memory.
    pub fn sums(&self) -> Sums {
        let mut parts = Parts::default();
        let (v4, v6) = (self.sum::<V4>(&mut parts), self.sum::<V6>(&mut parts));
        let totals = self.totals();
        let Parts { mut all, mut remainders } = parts;
        for sum in [&mut all, &mut remainders] {
            sum.add(totals.unattributed);
        }
        // ABI 4 and 5 have no counter of their own for the one reason that they know.
        let denied =
            if self.abi <= abi5::LAST { summing_up(all, ByDenial::default()) } else { denied_of(&totals) };
        Sums { totals, denied, unattributed: remainders, v4, v6 }
    }

    /// What they hold now.
    pub fn read(&self) -> Result<Snapshot> {
        let requests = self.cells.requests()?;
        let epoch = self.epoch.read(0);
        let now = self.clock.now()?;
        let since = clock::unix_time(self.abi, epoch.since);
        let taken_at = unix_now();
        let calendar = Calendar::new(epoch, since, now, taken_at);
        // Before the sources: what is counted in between is not among these, or its reason is the first one.
        let by_reason = denied_of(&self.totals());
        let (mut sources, mut unattributed) = (Vec::new(), Count::default());
        let requests = requests.as_ref();
        self.read_sources::<V4>(&calendar, requests, &mut sources, &mut unattributed);
        self.read_sources::<V6>(&calendar, requests, &mut sources, &mut unattributed);
        let totals = self.totals();
        unattributed.add(totals.unattributed);
        let mut all = unattributed;
        for source in &sources {
            all.add(source.count);
        }
        Ok(Snapshot {
            taken_at,
            since: since.min(taken_at),
            set: self.id(),
            allowed: totals.allowed,
            denied: summing_up(all, by_reason),
            faults: totals.faults(),
            would_drop: totals.would_drop,
            sources,
            unattributed,
            requests: totals.requests,
            not_logged: totals.not_logged,
        })
    }

    /// Reads the sources of an address family. The cells of all CPUs share one hash, so a source is in the same bucket on
    /// each CPU: the counts of all CPUs are added bucket by bucket.
    fn read_sources<K: InBoth>(
        &self,
        calendar: &Calendar,
        requests: Option<&cells::AllRequests>,
        sources: &mut Vec<Source>,
        remainder: &mut Count,
    ) {
        let Some(sizes) = self.cells.sizes() else { return };
        let (mut seen, mut together) = (Vec::new(), Vec::<(K, Sighting)>::new());
        for bucket in 0..sizes.buckets() {
            for cpu in 0..sizes.cpus() {
                remainder.add(self.cells.bucket(cpu, bucket, requests, &mut seen));
                if together.is_empty() {
                    std::mem::swap(&mut seen, &mut together);
                    continue;
                }
                for (source, sighting) in &seen {
                    match together.iter_mut().find(|(known, _)| known == source) {
                        Some((_, sum)) => add(sum, sighting),
                        None => together.push((*source, *sighting)),
                    }
                }
            }
            sources.extend(together.iter().map(|(source, sighting)| Source {
                address: source.ip(),
                count: sighting.count,
                asked: (&sighting.requests).into(),
                first_seen: calendar.time(sighting.first_seen),
                last_seen: calendar.time(sighting.last_seen),
            }));
            together.clear();
        }
    }

    /// Adds up the packets of an address family.
    fn sum<K: InBoth>(&self, parts: &mut Parts) -> Fill {
        let mut fill = Fill::default();
        let Some(sizes) = self.cells.sizes() else { return fill };
        let mut seen: Vec<(K, Sighting)> = Vec::new();
        for (cpu, bucket) in
            (0..sizes.cpus()).flat_map(|cpu| (0..sizes.buckets()).map(move |bucket| (cpu, bucket)))
        {
            let remainder = self.cells.bucket(cpu, bucket, None, &mut seen);
            parts.remainders.add(remainder);
            parts.all.add(remainder);
            fill.places += WAYS as u64;
            fill.taken += seen.len() as u64;
            for (_, sighting) in &seen {
                parts.all.add(sighting.count);
            }
        }
        fill
    }
}

/// The packets in the source tables.
#[derive(Debug, Clone, Copy, Default)]
struct Parts {
    all: Count,
    /// Those that are in no way.
    remainders: Count,
}

pub(super) fn mapped<T: Shared>(map: &MapData, name: &str) -> Result<Mapped<T>> {
    Mapped::new(map)
        .map_err(|error| Error::failed(format!("cannot read the map {name} of the guard")).caused_by(error))
}

/// Adds what another CPU has seen of the same source.
fn add(sum: &mut Sighting, more: &Sighting) {
    sum.count.add(more.count);
    for (sum, more) in sum.requests.iter_mut().zip(more.requests) {
        *sum = sum.wrapping_add(more);
    }
    sum.first_seen = earlier(sum.first_seen, more.first_seen);
    sum.last_seen = later(sum.last_seen, more.last_seen);
}

/// The earlier of two stamps, which may have wrapped between them.
fn earlier(a: u32, b: u32) -> u32 {
    if a.wrapping_sub(b).cast_signed() < 0 { a } else { b }
}

/// The later of two stamps.
fn later(a: u32, b: u32) -> u32 {
    if earlier(a, b) == a { b } else { a }
}
