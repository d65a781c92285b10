//! The code that the kernel program and its loader share: the parser, the verdict, and the records in shared maps.
//!
//! The same code is compiled for the kernel (`bpfel-unknown-none`) and for the host. The unit, property and fuzz tests
//! run the host build.
//!
//! Invariants:
//! - Parsing is total: every frame has exactly one [`verdict::Verdict`]; every loop is bounded by a named constant.
//! - No panic is reachable: in the kernel a panic is an endless loop, which the verifier refuses.
//! - Only [`cursor`] has `unsafe` code, apart from implementations of the marker traits in [`layout`].
//! - Types in shared maps are `repr(C)`, without padding, `bool` or `Option`; their size is asserted where they are
//!   defined. A change to one of them, or to the meaning of a map, bumps [`ABI_VERSION`].
//!
//! Integers are in host byte order, except addresses ([`address`]). Other fields of headers remain byte arrays, and
//! names that end in `_be` mark network byte order.
#![no_std]

pub mod address;
pub mod calls;
pub mod cells;
pub mod conditions;
pub mod confirm;
pub mod cursor;
pub mod drop_log;
pub mod entry;
pub mod epoch;
pub mod frame;
pub mod ipv4;
pub mod ipv6;
pub mod layout;
pub mod listed;
pub mod lookup;
pub mod policy;
pub mod prefilter;
pub mod reason;
pub mod rpc;
pub mod source_table;
pub mod totals;
pub mod transport;
pub mod verdict;

/// The guarded port: portmapper, rpcbind (RFC 1833, section 3).
pub const PORT: u16 = 111;

/// The version of everything that lives in pinned maps: docs/internals/abi.md.
pub const ABI_VERSION: u32 = 9;

/// The ABI versions of guards that a loader can read, and can upgrade to its own version without a gap in the
/// filtering. It leaves guards of other versions unchanged.
pub const READABLE_ABI_VERSIONS: [u32; 6] = [4, 5, 6, 7, 8, ABI_VERSION];

/// The names of programs and maps in the object file. The pins have the same names, except the guard's program.
pub mod names {
    /// The guard, for packets in one buffer.
    pub const PROGRAM: &str = "portguard";
    /// The guard, for packets in several buffers.
    pub const PROGRAM_FRAGS: &str = "portguard_frags";
    /// The guard at tcx.
    pub const PROGRAM_TCX: &str = "portguard_tcx";
    /// The program that reads the clocks of the kernel, `portguard_clock` in `portguard-ebpf/src/main.rs`.
    pub const CLOCK: &str = "portguard_clock";
    /// One [`crate::policy::Policy`]. The loader creates this map; it is not in the object file.
    pub const POLICY: &str = "POLICY";
    /// One [`crate::lookup::Lookup`].
    pub const LOOKUP: &str = "LOOKUP";
    /// The section of the object file for `LOOKUP`.
    pub const LOOKUP_SECTION: &str = ".bss.lookup";
    /// The trie of IPv4: from a prefix to its place in `ENTRIES_V4`.
    pub const LIST_V4: &str = "LIST_V4";
    /// The trie of IPv6: from a prefix to its place in `ENTRIES_V6`.
    pub const LIST_V6: &str = "LIST_V6";
    /// An array of [`crate::entry::Entry`].
    pub const ENTRIES_V4: &str = "ENTRIES_V4";
    /// An array of [`crate::entry::Entry`].
    pub const ENTRIES_V6: &str = "ENTRIES_V6";
    /// The blocks of the IPv4 indexes ([`crate::lookup::Indexed::Block`]) that do not fit into their direct tables: one half
    /// for each slot.
    pub const BLOCKS_V4: &str = "BLOCKS_V4";
    /// As `BLOCKS_V4`, for IPv6.
    pub const BLOCKS_V6: &str = "BLOCKS_V6";
    /// An array of [`crate::conditions::Conditions`]: one half for each slot, indexed by the numbers of the entries that have
    /// conditions, which are the first ones.
    pub const CONDITIONS: &str = "CONDITIONS";
    /// An array with the cells of each CPU: [`crate::cells`].
    pub const CELLS: &str = "CELLS";
    /// An array of [`crate::rpc::Requests`]: a slice for each CPU, indexed by bucket and way.
    pub const REQUESTS_V4: &str = "REQUESTS_V4";
    /// As `REQUESTS_V4`, for IPv6.
    pub const REQUESTS_V6: &str = "REQUESTS_V6";
    /// One [`crate::drop_log::LogBudget`].
    pub const LOG_BUDGET: &str = "LOG_BUDGET";
    /// A ring buffer of [`crate::drop_log::Event`].
    pub const LOG: &str = "LOG";
    /// The sources that have asked over a connection of TCP, in audit mode: addresses as of IPv6, without values. An instance
    /// need not have it.
    pub const CONNECTED: &str = "CONNECTED";
    /// One [`crate::epoch::Epoch`]. The loader creates this map; it is not in the object file.
    pub const EPOCH: &str = "EPOCH";
}
