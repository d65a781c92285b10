//! The record of a change that waits for its confirmation, pinned in the directory of its interface.
//!
//! Only loaders read and write it. A record is pinned whole, and replaced whole: no field of one that is pinned changes.

use crate::layout::Shared;

/// [`Pending::state`]: the change waits, unless the instance of before is live: then it was never in force, or is no more.
pub const PENDING: u32 = 1;
/// [`Pending::state`]: the change was not confirmed, and what was before is in force.
pub const REJECTED: u32 = 2;

/// [`Pending::restores`]: the guard is taken off.
pub const RESTORES_NO_GUARD: u32 = 1;
/// [`Pending::restores`]: the link runs the program of [`Pending::before`] again.
pub const RESTORES_INSTANCE: u32 = 2;

/// The one value of the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Pending {
    /// [`PENDING`] or [`REJECTED`].
    pub state: u32,
    /// How the state of before comes back: [`RESTORES_NO_GUARD`] or [`RESTORES_INSTANCE`].
    pub restores: u32,
    /// Until when the change waits, in nanoseconds of `CLOCK_BOOTTIME`.
    pub deadline: u64,
    /// Distinguishes this change from others.
    pub token: u64,
    /// The instance of before, which stays pinned until the change is confirmed. Zeroes if there was none.
    pub before: InstanceId,
    /// The instance on trial.
    pub trial: InstanceId,
    /// The hash of the list on trial; zeroes if it is the list of before.
    pub sha256: [u8; 32],
}

// SAFETY: integers, a byte array and `Shared` records, without padding (asserted below); zeroes are no record.
unsafe impl Shared for Pending {}

const _: () = assert!(size_of::<Pending>() == 24 + 2 * size_of::<InstanceId>() + 32);

/// What the name of the directory of an instance says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct InstanceId {
    /// The layout of its maps.
    pub abi: u32,
    /// Its number.
    pub number: u32,
    /// 1 if it only counts what it would drop, else 0.
    pub audit: u32,
    /// Zero.
    pub reserved: u32,
}

// SAFETY: integers of the same size, without padding (asserted below); zeroes are no instance.
unsafe impl Shared for InstanceId {}

const _: () = assert!(size_of::<InstanceId>() == 16);
