//! The policy of a guard: which list is in force, and where the list came from. Whether the guard drops or only counts is
//! a constant of the program. docs/internals/abi.md lists the changes from one ABI version to the next.
//!
//! There are two slots for lists. A reload fills the slot that is not in force, and then stores its number in
//! [`crate::lookup::Lookup::active`]. That one store puts the new list in force for IPv4 and IPv6 together, with its
//! description.

use crate::drop_log::Rate;
use crate::layout::Shared;

/// The number of slots for lists.
pub const SLOTS: usize = 2;

/// The longest path of an allowlist, in bytes (`PATH_MAX` of Linux, with its NUL).
pub const PATH_LEN: usize = 4096;

/// [`ListRecord::origin`]: the list was read from the file at [`ListRecord::path`].
pub const FROM_FILE: u32 = 0;
/// [`ListRecord::origin`]: that file was not usable, and the loader read the last good list, a copy of an earlier state
/// of the file.
pub const FROM_LAST_GOOD: u32 = 1;

/// The only value of the policy map, which only the loader reads.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Policy {
    /// The slot whose list is in force in ABI 4 and 5; zero since ABI 6.
    pub active_before_abi6: u32,
    /// The calls that the list permits over UDP: a copy of the running program's constant, for the next program. A
    /// [`crate::calls::UdpCalls`], as integer.
    pub udp_calls: u32,
    /// When the guard was attached, in nanoseconds of `CLOCK_BOOTTIME` (of Unix time in ABI 4).
    pub attached_at: u64,
    /// The log rate: a copy of the running program's constant. The loader reads it to give the next program the same rate.
    pub log_rate: Rate,
    /// The descriptions of the lists, indexed by slot.
    pub lists: [ListRecord; SLOTS],
}

// SAFETY: integers and a `Shared` array, without padding (asserted below); zeroes are an empty policy.
unsafe impl Shared for Policy {}

const _: () = assert!(size_of::<Policy>() == 32 + SLOTS * size_of::<ListRecord>());

/// Where the list in a slot came from.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ListRecord {
    /// 1 for the list that the guard was attached with, and one more for each list after it.
    pub generation: u64,
    /// When the list was put into the slot, in nanoseconds of `CLOCK_BOOTTIME` (of Unix time in ABI 4).
    pub loaded_at: u64,
    /// The SHA-256 of the bytes of the file.
    pub sha256: [u8; 32],
    /// Number of IPv4 prefixes.
    pub prefixes_v4: u32,
    /// Number of IPv6 prefixes.
    pub prefixes_v6: u32,
    /// Length of `path` in bytes.
    pub path_len: u32,
    /// How the list came into the slot: [`FROM_FILE`] or [`FROM_LAST_GOOD`].
    pub origin: u32,
    /// The absolute path of the file.
    pub path: [u8; PATH_LEN],
}

// SAFETY: integers and byte arrays, without padding (asserted below); zeroes are an empty record.
unsafe impl Shared for ListRecord {}

const _: () = assert!(size_of::<ListRecord>() == 64 + PATH_LEN);
