//! What was measured, as it is kept in `target/bench/results.json`, or `quick.json`.

use std::fmt;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use portguard_testkit::built::workspace;
use serde::{Deserialize, Serialize};

use super::spread::Spread;

/// Where results are kept, below the root of the workspace.
const FOLDER: &str = "target/bench";

/// The form of the file; to be counted up when a field changes its meaning.
const SCHEMA: u32 = 2;

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub(super) const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The bits of an address.
    pub(super) fn width(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// Everything; what was not measured yet is empty.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Results {
    /// Of this form.
    pub(super) schema: u32,
    /// The machine that the figures hold for.
    pub(super) machine: Machine,
    /// Part 1: one program on one frame.
    pub(super) cases: Vec<Measured>,
    /// Part 1: what portguard counted of it.
    pub(super) accounts: Option<Accounts>,
    /// Part 2: floods of real frames.
    pub(super) wire: Vec<OnWire>,
    /// Part 2: the version of nft, and how the kernel keeps its interval sets.
    pub(super) nft: String,
    /// Part 3: lists of all sizes.
    pub(super) loading: Vec<Loading>,
    /// Part 3: building the indexes of the longest list of each family, in milliseconds.
    pub(super) indexes: Vec<(Family, Spread)>,
    /// Part 3: many sources.
    pub(super) reading: Option<Reading>,
    /// Part 4: two CPUs.
    pub(super) scaling: Vec<Scaling>,
    /// Part 5: the kernel's trie.
    pub(super) trie: Vec<TrieLookup>,
}

/// Where it was measured.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Machine {
    /// The day, as year-month-day, UTC.
    pub(super) date: String,
    /// The release of the kernel.
    pub(super) kernel: String,
    /// The name of the CPU.
    pub(super) cpu: String,
    /// How many there are.
    pub(super) cpus: usize,
    /// The commit of the sources.
    pub(super) commit: String,
    /// How many sources a flood has.
    pub(super) flood: usize,
    /// The short form, whose figures say little.
    pub(super) quick: bool,
}

/// Where the packets of a case come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Sources {
    /// One source on the list, to TCP port 443.
    OtherPort,
    /// One source on the list.
    AllowedSame,
    /// Many sources on the list.
    Allowed,
    /// One source that is not on the list.
    DeniedSame,
    /// Many sources from everywhere that are not on the list.
    Denied,
    /// Many sources that are not on the list, but next to entries.
    Neighbours,
    /// Sources from everywhere that are not on the list, none of which comes again before as many others as nobody remembers.
    Fresh,
    /// The same, when the table of sources is full of those that came several times.
    FreshOverEstablished,
}

impl Sources {
    /// Whether the packets reach port 111 and are denied.
    pub(super) fn are_denied(self) -> bool {
        !matches!(self, Self::OtherPort | Self::AllowedSame | Self::Allowed)
    }

    /// Whether they need a guard whose table has seen nothing else.
    pub(super) fn need_own_table(self) -> bool {
        matches!(self, Self::Fresh | Self::FreshOverEstablished)
    }

    /// Whether there is one source only, in the frame itself.
    pub(super) fn are_one(self) -> bool {
        matches!(self, Self::OtherPort | Self::AllowedSame | Self::DeniedSame)
    }
}

impl fmt::Display for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OtherPort => "other port",
            Self::AllowedSame => "allowed, same source",
            Self::Allowed => "allowed, random sources",
            Self::DeniedSame => "denied, same source",
            Self::Denied => "denied, random sources",
            Self::Neighbours => "denied, next to entries",
            Self::Fresh => "denied, each source once",
            Self::FreshOverEstablished => "the same, the table full of known sources",
        })
    }
}

/// What the programs are run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Case {
    /// Of the packet.
    pub(super) family: Family,
    /// Whether it is behind a VLAN tag.
    pub(super) tagged: bool,
    /// Where it comes from.
    pub(super) sources: Sources,
    /// How many sources there are.
    pub(super) source_count: usize,
    /// How many prefixes the list has, of each family.
    pub(super) list: usize,
}

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum TestProgram {
    /// A program that only passes, or only drops.
    Bare,
    /// portguard, as its `attach` has put it there.
    Portguard,
    /// portguard in audit mode, in which denied packets pass.
    PortguardAudit,
    /// portguard while its service logs a sample of the drops.
    PortguardLog,
    /// portguard with a list that permits lookups only: the packets for its port, which are DUMPs, are dropped from listed sources,
    /// too.
    PortguardLookups,
    /// portguard with a list whose entries all have conditions: each ends some time, and permits lookups only. DUMPs are dropped.
    PortguardConditions,
    /// An LPM trie that holds the list, and nothing else.
    Lpm,
    /// An LPM trie and an LRU hash per CPU of 64 Ki sources.
    LpmLru,
    /// xdp-filter with all features, its default: denies the whole port.
    XdpFilter,
    /// xdp-filter with the one feature that denies the whole port of UDP.
    XdpFilterUdp,
}

impl TestProgram {
    /// All, the one that the others are compared with first.
    pub(super) const ALL: [Self; 10] = [
        Self::Bare,
        Self::Portguard,
        Self::PortguardAudit,
        Self::PortguardLog,
        Self::PortguardLookups,
        Self::PortguardConditions,
        Self::Lpm,
        Self::LpmLru,
        Self::XdpFilter,
        Self::XdpFilterUdp,
    ];
}

impl fmt::Display for TestProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bare => "bare",
            Self::Portguard => "portguard",
            Self::PortguardAudit => "portguard --audit",
            Self::PortguardLog => "portguard --log-drops",
            Self::PortguardLookups => "portguard, udp: lookups",
            Self::PortguardConditions => "portguard, conditions",
            Self::Lpm => "LPM",
            Self::LpmLru => "LPM + LRU",
            Self::XdpFilter => "xdp-filter",
            Self::XdpFilterUdp => "xdp-filter -f udp",
        })
    }
}

/// One program in one case.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Measured {
    /// The case.
    pub(super) case: Case,
    /// The program.
    pub(super) tested: TestProgram,
    /// CPU time for a packet, in nanoseconds.
    pub(super) nanoseconds: Spread,
    /// The same over the bare program's of the same round.
    pub(super) ratio: Spread,
    /// The same less the bare program's, in nanoseconds.
    pub(super) over: Spread,
    /// How many packets a round had.
    pub(super) repeats: u32,
    /// How many rounds were measured anew because the two clocks did not agree.
    pub(super) disturbed: u32,
    /// How many rounds there were.
    pub(super) rounds: u32,
    /// How many of them are not in the figures, because the host was in a slow phase by the bare program.
    pub(super) left_out: u32,
}

/// What portguard counted, and what it should have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Accounts {
    /// Packets that were denied.
    pub(super) denied: u64,
    /// Those in the record of their source.
    pub(super) attributed: u64,
    /// Those of sources that are no longer remembered.
    pub(super) unattributed: u64,
}

/// Who stands at the end of a cable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Firewall {
    /// A program that only drops, in native mode.
    Bare,
    /// portguard.
    Portguard,
    /// An LPM trie and an LRU hash.
    LpmLru,
    /// xdp-filter with all features.
    XdpFilter,
    /// xdp-filter with one.
    XdpFilterUdp,
    /// A program that only drops, in generic mode.
    BareGeneric,
    /// portguard in generic mode.
    PortguardGeneric,
    /// An LPM trie and an LRU hash in generic mode.
    LpmLruGeneric,
    /// xdp-filter with all features in generic mode.
    XdpFilterGeneric,
    /// portguard at tcx.
    PortguardTcx,
    /// iptables in the raw table, with an ipset.
    Iptables,
    /// nftables at ingress, with an interval set.
    Nft,
    /// The same, with a counter for each source.
    NftPerSource,
}

impl Firewall {
    /// All, the one that the others are compared with first.
    pub(super) const ALL: [Self; 13] = [
        Self::Bare,
        Self::Portguard,
        Self::LpmLru,
        Self::XdpFilter,
        Self::XdpFilterUdp,
        Self::BareGeneric,
        Self::PortguardGeneric,
        Self::LpmLruGeneric,
        Self::XdpFilterGeneric,
        Self::PortguardTcx,
        Self::Iptables,
        Self::Nft,
        Self::NftPerSource,
    ];

    /// Whether it is an XDP program in generic mode.
    pub(super) fn is_generic(self) -> bool {
        matches!(
            self,
            Self::BareGeneric | Self::PortguardGeneric | Self::LpmLruGeneric | Self::XdpFilterGeneric
        )
    }
}

impl fmt::Display for Firewall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bare => "bare XDP_DROP, native",
            Self::Portguard => "portguard, native",
            Self::LpmLru => "LPM + LRU, native",
            Self::XdpFilter => "xdp-filter, native",
            Self::XdpFilterUdp => "xdp-filter -f udp, native",
            Self::BareGeneric => "bare XDP_DROP, generic",
            Self::PortguardGeneric => "portguard, generic",
            Self::LpmLruGeneric => "LPM + LRU, generic",
            Self::XdpFilterGeneric => "xdp-filter, generic",
            Self::PortguardTcx => "portguard, tcx",
            Self::Iptables => "iptables raw + ipset",
            Self::Nft => "nft, netdev ingress",
            Self::NftPerSource => "nft, netdev ingress, per source",
        })
    }
}

/// A firewall under a flood.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct OnWire {
    /// The firewall.
    pub(super) firewall: Firewall,
    /// What it has taken in, in a second.
    pub(super) packets_per_second: Spread,
    /// CPU time for a packet, that of making it included, in nanoseconds.
    pub(super) nanoseconds: Spread,
    /// The same over the bare program's of the same round.
    pub(super) ratio: Spread,
    /// The share of the frames that were sent and have arrived.
    pub(super) arrived: Spread,
    /// Packets that have arrived in all rounds.
    pub(super) received: u64,
    /// Those that the firewall itself says it has dropped, if it counts.
    pub(super) counted: Option<u64>,
}

/// Something that an administrator does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Operation {
    /// `portguard check`: reads and validates.
    Check,
    /// `portguard attach`: that, loads the program, fills the list and attaches.
    Attach,
    /// `portguard reload` with one prefix less.
    Reload,
    /// `portguard reload` with other prefixes in place of one in a hundred.
    ReloadHundredth,
    /// `portguard stats --json --top 0`.
    Stats,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Check => "check",
            Self::Attach => "attach",
            Self::Reload => "reload",
            Self::ReloadHundredth => "reload, 1 % changed",
            Self::Stats => "stats",
        })
    }
}

/// What a operation took, in milliseconds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Timing {
    /// The operation.
    pub(super) operation: Operation,
    /// By the clock on the wall.
    pub(super) wall: Spread,
    /// CPU time of the program's own.
    pub(super) user: Spread,
    /// CPU time of the kernel for it.
    pub(super) system: Spread,
    /// The most memory of all times, in bytes.
    pub(super) memory: u64,
}

/// All operations with one list.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Loading {
    /// Of the prefixes.
    pub(super) family: Family,
    /// How many there are.
    pub(super) list: usize,
    /// The operations.
    pub(super) timings: Vec<Timing>,
    /// The longest that other work has waited for a CPU while one in a hundred prefixes was changed, in milliseconds.
    pub(super) wait: Spread,
}

impl Loading {
    /// How long a operation took, in milliseconds.
    pub(super) fn wall(&self, operation: Operation) -> Option<f64> {
        self.timings.iter().find(|timing| timing.operation == operation).map(|timing| timing.wall.median)
    }
}

/// How long it takes to read the counters of many sources, in milliseconds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Reading {
    /// How many sources were remembered.
    pub(super) sources: usize,
    /// `status --json`: all but reading counters.
    pub(super) status: Spread,
    /// `stats --json --top 0`.
    pub(super) read: Spread,
    /// What of it is reading: less `status` of the same round.
    pub(super) read_alone: Spread,
    /// `stats --json`.
    pub(super) print: Spread,
}

/// What a look-up in the kernel's LPM trie takes.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct TrieLookup {
    /// How many hosts the trie has.
    pub(super) entries: usize,
    /// CPU time of a look-up of one of them, in nanoseconds.
    pub(super) nanoseconds: Spread,
}

/// What another CPU at the same work does to the cost.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Scaling {
    /// The program.
    pub(super) tested: TestProgram,
    /// CPU time for a packet by one CPU, in nanoseconds.
    pub(super) alone: Spread,
    /// The same by two at once, on average.
    pub(super) both: Spread,
    /// The latter over the former of the same round.
    pub(super) ratio: Spread,
}

impl Results {
    /// What was measured before, in the same form; nothing if that was never.
    pub(super) fn load(quick: bool) -> Self {
        let text = fs::read_to_string(path(quick)).unwrap_or_default();
        // An older form is as good as nothing.
        let known: Self = serde_json::from_str(&text).unwrap_or_default();
        if known.schema == SCHEMA { known } else { Self { schema: SCHEMA, ..Self::default() } }
    }

    /// Writes everything down.
    pub(super) fn save(&self) -> Result<()> {
        let path = path(self.machine.quick);
        fs::create_dir_all(path.parent().context("a file is in a folder")?)
            .and_then(|()| fs::write(&path, serde_json::to_string_pretty(self)? + "\n"))
            .with_context(|| format!("cannot write {}", path.display()))?;
        eprintln!("bench: written to {}", path.display());
        Ok(())
    }

    /// A firewall under a flood.
    pub(super) fn on_wire(&self, firewall: Firewall) -> Option<&OnWire> {
        self.wire.iter().find(|row| row.firewall == firewall)
    }

    /// A program in a case.
    pub(super) fn case(&self, tested: TestProgram, case: Case) -> Option<&Measured> {
        self.cases.iter().find(|measured| measured.tested == tested && measured.case == case)
    }
}

fn path(quick: bool) -> PathBuf {
    let name = if quick { "quick.json" } else { "results.json" };
    workspace().join(FOLDER).join(name)
}
