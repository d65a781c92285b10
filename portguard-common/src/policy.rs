//! What the guard enforces: which list is in force, and where the list came from. Whether it drops or only counts is a
//! constant of the program. docs/internals/abi.md says what changed from one ABI to the next.
//!
//! There are two slots for lists. A reload fills the one that is not in force and then stores its number in
//! [`Policy::active`]: from one packet to the next the new list is in force, for IPv4 and IPv6 together, and so is its
//! description.

use crate::drop_log::Rate;
use crate::layout::Shared;

/// Slots for lists; a slot is the index of a trie in each of the two outer maps.
pub const SLOTS: usize = 2;

/// The longest path of an allowlist, in bytes (`PATH_MAX` of Linux, with its NUL).
pub const PATH_LEN: usize = 4096;

/// [`ListRecord::origin`]: the list was read from the file at [`ListRecord::path`].
pub const FROM_FILE: u32 = 0;
/// [`ListRecord::origin`]: that file was broken, and the copy of what it last held in good order was taken.
pub const FROM_LAST_GOOD: u32 = 1;

/// The one value of the policy map. The kernel program reads `active`, the loader the rest.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Policy {
    /// The slot whose list is in force.
    pub active: u32,
    /// Zero.
    pub reserved: u32,
    /// When the guard was attached, in nanoseconds of `CLOCK_BOOTTIME` (of Unix time in ABI 4).
    pub attached_at: u64,
    /// How much each CPU may log: the constant of the program that runs, for the next one.
    pub log_rate: Rate,
    /// What is in the slots.
    pub lists: [ListRecord; SLOTS],
}

// SAFETY: integers and a `Shared` array, without padding (asserted below); zeroes are an empty policy.
unsafe impl Shared for Policy {}

const _: () = assert!(size_of::<Policy>() == 32 + SLOTS * size_of::<ListRecord>());

/// Where the list in a slot came from.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ListRecord {
    /// 1 for the list that the guard was attached with, one more for each list after it.
    pub generation: u64,
    /// When the list was put into the slot, in nanoseconds of `CLOCK_BOOTTIME` (of Unix time in ABI 4).
    pub loaded_at: u64,
    /// Of the bytes of the file.
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
