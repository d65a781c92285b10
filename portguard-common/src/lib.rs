//! What the kernel program and its loader agree on: the parser, the verdict, and the records of the accounting.
//!
//! The same lines are compiled for the kernel (`bpfel-unknown-none`) and for the host, where the unit, property and
//! fuzz tests run them.
//!
//! Invariants:
//! - Parsing is total: every frame has exactly one [`verdict::Verdict`]; every loop is bounded by a named constant.
//! - No panic is reachable: in the kernel a panic is an endless loop, which the verifier refuses.
//! - Only [`cursor`] has `unsafe` code, the marker traits of wire and map layouts aside.
//! - Types in shared maps are `repr(C)`, without padding, `bool` or `Option`; their size is asserted where they are
//!   defined. A change to one of them, or to the meaning of a map, bumps [`ABI_VERSION`].
//!
//! Integers are in host order; wire values stay byte arrays.
#![no_std]

pub mod address;
pub mod confirm;
pub mod cursor;
pub mod drop_log;
pub mod epoch;
pub mod frame;
pub mod index;
pub mod ipv4;
pub mod ipv6;
pub mod layout;
pub mod listed;
pub mod policy;
pub mod reason;
pub mod rpc;
pub mod sources;
pub mod totals;
pub mod transport;
pub mod verdict;

/// The guarded port: portmapper, rpcbind (RFC 1833, section 3).
pub const PORT: u16 = 111;

/// The version of everything that lives in pinned maps: docs/internals/abi.md.
pub const ABI_VERSION: u32 = 5;

/// The versions that a loader can read, and upgrade to its own without a gap. It leaves guards of any other alone.
pub const READABLE_ABI_VERSIONS: [u32; 2] = [4, ABI_VERSION];

/// The names of programs and maps in the object, of which the pins have the same.
pub mod names {
    /// The guard, for packets in one buffer.
    pub const PROGRAM: &str = "portguard";
    /// The guard, for packets in several buffers.
    pub const PROGRAM_FRAGS: &str = "portguard_frags";
    /// The clock: see the kernel program.
    pub const CLOCK: &str = "portguard_clock";
    /// One [`crate::policy::Policy`].
    pub const POLICY: &str = "POLICY";
    /// Tries by slot.
    pub const LISTS_V4: &str = "LISTS_V4";
    /// Tries by slot.
    pub const LISTS_V6: &str = "LISTS_V6";
    /// [`crate::index::Front`] by slot.
    pub const FRONTS_V4: &str = "FRONTS_V4";
    /// [`crate::index::Front`] by slot.
    pub const FRONTS_V6: &str = "FRONTS_V6";
    /// The lines of indexes by slot.
    pub const INDEXES_V4: &str = "INDEXES_V4";
    /// The lines of indexes by slot.
    pub const INDEXES_V6: &str = "INDEXES_V6";
    /// [`crate::totals::Totals`] by CPU.
    pub const TOTALS: &str = "TOTALS";
    /// [`crate::sources::BucketV4`] by CPU and hash.
    pub const BUCKETS_V4: &str = "BUCKETS_V4";
    /// [`crate::sources::Record`] by bucket and way.
    pub const RECORDS_V4: &str = "RECORDS_V4";
    /// [`crate::sources::BucketV6`] by CPU and hash.
    pub const BUCKETS_V6: &str = "BUCKETS_V6";
    /// [`crate::sources::Record`] by bucket and way.
    pub const RECORDS_V6: &str = "RECORDS_V6";
    /// [`crate::drop_log::TokenBucket`] by CPU.
    pub const LOG_BUCKETS: &str = "LOG_BUCKETS";
    /// A ring of [`crate::drop_log::Event`].
    pub const LOG: &str = "LOG";
    /// One [`crate::epoch::Epoch`]; not in the object, the loader makes it.
    pub const EPOCH: &str = "EPOCH";
}
