//! The record of a change that waits for its confirmation, pinned in the directory of its interface.
//!
//! Only loaders read and write it. A loader writes all of a record before it pins the record under its name. It never
//! changes a field of a pinned record, but replaces the record by another one.

use crate::layout::Shared;

/// [`Pending::state`]: the change waits for its confirmation. If the previous instance is live, the change is not in
/// force: a loader was killed before it put the change in force, or after it took the change back.
pub const PENDING: u32 = 1;
/// [`Pending::state`]: the change was not confirmed, and the previous state is in force.
pub const REJECTED: u32 = 2;

/// [`Pending::restores`]: there was no guard before the change, so restoring detaches the guard.
pub const RESTORES_NO_GUARD: u32 = 1;
/// [`Pending::restores`]: restoring makes the link run the program of [`Pending::before`] again.
pub const RESTORES_INSTANCE: u32 = 2;

/// The only value of the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Pending {
    /// [`PENDING`] or [`REJECTED`].
    pub state: u32,
    /// How the previous state is restored: [`RESTORES_NO_GUARD`] or [`RESTORES_INSTANCE`].
    pub restores: u32,
    /// The time at which a change without confirmation is taken back, in nanoseconds of `CLOCK_BOOTTIME`.
    pub deadline: u64,
    /// A random number that distinguishes this change from others.
    pub token: u64,
    /// The previous instance, which remains pinned until the change is confirmed. Zeroes if there was none.
    pub before: InstanceId,
    /// The instance on trial.
    pub trial: InstanceId,
    /// The SHA-256 of the list on trial. Zeroes if the change keeps the previous list, or is a first attachment.
    pub sha256: [u8; 32],
}

// SAFETY: integers, a byte array and `Shared` records, without padding (asserted below); zeroes are no record.
unsafe impl Shared for Pending {}

const _: () = assert!(size_of::<Pending>() == 24 + 2 * size_of::<InstanceId>() + 32);

/// An instance, as the name of its directory identifies it (`abi5-7-audit`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct InstanceId {
    /// The ABI version of its maps.
    pub abi: u32,
    /// Its number, which is higher than that of each instance that was pinned when it was made.
    pub number: u32,
    /// 1 in audit mode, 0 if it enforces.
    pub audit: u32,
    /// Zero.
    pub reserved: u32,
}

// SAFETY: integers of the same size, without padding (asserted below); zeroes are no instance.
unsafe impl Shared for InstanceId {}

const _: () = assert!(size_of::<InstanceId>() == 16);
