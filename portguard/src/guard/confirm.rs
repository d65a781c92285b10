//! The record of a change that waits for its confirmation: a map of one element, pinned as `confirm` in the directory of the
//! interface.
//!
//! The record is pinned before the link runs the instance on trial, and identifies that instance. The program that the
//! link runs therefore shows at any moment whether the change is in force.

use std::fs;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aya::maps::{Array, MapData};
use aya_obj::generated::BPF_F_MMAPABLE;
use portguard_common::confirm::{
    InstanceId, PENDING, Pending, REJECTED, RESTORES_INSTANCE, RESTORES_NO_GUARD,
};
use portguard_common::listed;

use serde::Serialize;

use crate::allowlist::Sha256Sum;
use crate::error::{Error, Result};
use crate::guard::instance::{Instance, InstanceName};
use crate::guard::mapped::Mapped;
use crate::guard::{bpf, clock};

/// The file name of the pin.
const PIN: &str = "confirm";
/// The file name of a record that is not complete yet.
const NEW_PIN: &str = "confirm-new";
/// [`Pending::sha256`] if no list is on trial.
const NO_LIST: [u8; 32] = [0; 32];

/// A request to make a change on trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trial {
    /// How long the change waits for its confirmation, from the time at which its record is made.
    pub time: Duration,
    /// A random number that distinguishes the change from others.
    pub token: u64,
}

impl Trial {
    /// A trial that lasts this number of seconds, with a new token.
    pub fn of_seconds(seconds: u64) -> Self {
        Self { time: Duration::from_secs(seconds), token: RandomState::new().build_hasher().finish() }
    }

    fn deadline(self) -> u64 {
        clock::boot_now().saturating_add(u64::try_from(self.time.as_nanos()).unwrap_or(u64::MAX))
    }
}

listed! {
    /// The state of a change on trial.
    #[derive(Serialize)]
    #[serde(into = "&'static str")]
    pub enum Waits {
        /// It is in force, and waits for its confirmation.
        Pending = "pending",
        /// It is in force, was not confirmed in time, and the previous state has not been restored yet.
        Overdue = "overdue",
        /// It was not confirmed, and the previous state is in force.
        Rejected = "rejected",
    }
}

/// The last change of a guard that was on trial, unless it was confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confirmation {
    /// Whether it is in force, and whether its deadline has passed.
    pub state: Waits,
    /// Its deadline, in nanoseconds of Unix time.
    pub deadline: u64,
    /// The time until the deadline; zero after it.
    pub remaining: Duration,
    /// A random number that distinguishes the change from others.
    pub token: u64,
    /// Whether it is a first attachment: if it is not confirmed, the guard is detached.
    pub is_first: bool,
}

impl Confirmation {
    /// Interprets a record. `live` is the instance whose program the link runs; `None` if its pins are damaged.
    pub(super) fn of(record: &Pending, live: Option<InstanceName>) -> Self {
        let remaining = remaining(record);
        let state = match () {
            () if !is_in_force(record, live) => Waits::Rejected,
            () if remaining.is_zero() => Waits::Overdue,
            () => Waits::Pending,
        };
        let deadline = clock::unix_time_to_come(record.deadline);
        let is_first = record.restores == RESTORES_NO_GUARD;
        Self { state, deadline, remaining, token: record.token, is_first }
    }

    /// Whether the change is in force.
    pub fn is_in_force(&self) -> bool {
        self.state != Waits::Rejected
    }
}

impl From<InstanceName> for InstanceId {
    fn from(InstanceName { abi, number, audit }: InstanceName) -> Self {
        Self { abi, number, audit: audit.into(), reserved: 0 }
    }
}

impl From<InstanceId> for InstanceName {
    fn from(InstanceId { abi, number, audit, reserved: _ }: InstanceId) -> Self {
        Self { abi, number, audit: audit != 0 }
    }
}

/// Whether the change of a record is in force. If the pins of the live instance are damaged, a pending change counts as
/// in force.
pub(super) fn is_in_force(record: &Pending, live: Option<InstanceName>) -> bool {
    record.state == PENDING
        && (record.restores == RESTORES_NO_GUARD || live != Some(InstanceName::from(record.before)))
}

/// The time until the deadline of a change; zero after it.
pub(super) fn remaining(record: &Pending) -> Duration {
    Duration::from_nanos(record.deadline.saturating_sub(clock::boot_now()))
}

/// The record of a first attachment.
pub(super) fn first(trial: Trial, instance: &Instance) -> Pending {
    Pending {
        state: PENDING,
        restores: RESTORES_NO_GUARD,
        deadline: trial.deadline(),
        token: trial.token,
        before: InstanceId::default(),
        trial: instance.name().into(),
        sha256: NO_LIST,
    }
}

/// The record of a change from one instance to another. `lists` are the hashes of their lists.
pub(super) fn exchange(
    trial: Trial,
    [before, new]: [&Instance; 2],
    lists: [Option<Sha256Sum>; 2],
) -> Pending {
    let [old_list, new_list] = lists;
    let rejectable = new_list.filter(|_| new_list != old_list);
    Pending {
        state: PENDING,
        restores: RESTORES_INSTANCE,
        deadline: trial.deadline(),
        token: trial.token,
        before: before.name().into(),
        trial: new.name().into(),
        sha256: rejectable.map_or(NO_LIST, |sha256| *sha256.as_bytes()),
    }
}

/// The record for the time after the previous state was restored.
pub(super) fn rejected(record: Pending) -> Pending {
    Pending { state: REJECTED, ..record }
}

/// Whether the list of a record is this one.
pub(super) fn rejects(record: &Pending, list: Sha256Sum) -> bool {
    record.sha256 != NO_LIST && record.sha256 == *list.as_bytes()
}

/// Whether there is a record in the directory of an interface.
pub(super) fn is_there(interface: &Path) -> bool {
    path(interface).exists()
}

/// The record in the directory of an interface, if there is one.
pub(super) fn read(interface: &Path) -> Result<Option<Pending>> {
    let path = path(interface);
    let fd = match bpf::get(&path) {
        Ok(fd) => fd,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::failed(format!("cannot read {}", path.display())).caused_by(error)),
    };
    let map = MapData::from_fd(fd).map_err(|error| failed("cannot read", &path).caused_by(error))?;
    let mapped = Mapped::new(&map).map_err(|error| failed("cannot read", &path).caused_by(error))?;
    Ok(Some(mapped.read(0)))
}

/// Pins a record in the directory of an interface. It replaces an earlier record, if there is one, in one step.
pub(super) fn write(interface: &Path, record: &Pending) -> Result<()> {
    const WORDS: usize = size_of::<Pending>() / size_of::<u64>();
    let (path, new) = (path(interface), interface.join(NEW_PIN));
    remove_pin(&new)?;
    let cannot_write = || failed("cannot write", &path);
    let array = Array::<MapData, [u64; WORDS]>::create(1, BPF_F_MMAPABLE)
        .map_err(|error| cannot_write().caused_by(error))?;
    array.pin(&new).map_err(|error| cannot_write().caused_by(error))?;
    let written = MapData::from_pin(&new)
        .map_err(|error| cannot_write().caused_by(error))
        .and_then(|map| Mapped::new(&map).map_err(|error| cannot_write().caused_by(error)));
    let written = written.map(|mapped: Mapped<Pending>| mapped.write(0, &[*record]));
    written
        .and_then(|()| fs::rename(&new, &path).map_err(|error| cannot_write().caused_by(error)))
        .inspect_err(|_| {
            // The first error is the one to report.
            let _ = remove_pin(&new);
        })
}

/// Removes the record from the directory of an interface, if there is one.
pub(super) fn remove(interface: &Path) -> Result<()> {
    remove_pin(&path(interface))
}

fn remove_pin(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed("cannot remove", path).caused_by(error))
        }
        _ => Ok(()),
    }
}

fn path(interface: &Path) -> PathBuf {
    interface.join(PIN)
}

fn failed(what: &str, path: &Path) -> Error {
    Error::failed(format!("{what} {}", path.display()))
        .remedy("It records the change that waits for its confirmation. The guard remains as it is.")
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: InstanceName = InstanceName { abi: 4, number: 7, audit: true };
    const TRIAL: InstanceName = InstanceName { abi: 5, number: 8, audit: false };

    fn record(restores: u32, time: Duration) -> Pending {
        let trial = Trial { time, token: 1 };
        Pending {
            state: PENDING,
            restores,
            deadline: trial.deadline(),
            token: 1,
            before: BEFORE.into(),
            trial: TRIAL.into(),
            sha256: [1; 32],
        }
    }

    #[test]
    fn the_link_says_whether_a_change_is_in_force() {
        let state = |record: &Pending, live| Confirmation::of(record, live).state;
        let late = record(RESTORES_INSTANCE, Duration::ZERO);
        let early = record(RESTORES_INSTANCE, Duration::from_secs(60));
        assert_eq!(state(&early, Some(TRIAL)), Waits::Pending);
        assert_eq!(state(&late, Some(TRIAL)), Waits::Overdue);
        assert_eq!(state(&early, Some(BEFORE)), Waits::Rejected);
        assert_eq!(state(&rejected(early), Some(TRIAL)), Waits::Rejected);
        // Damaged pins: the link may run the instance on trial.
        assert_eq!(state(&early, None), Waits::Pending);
        assert_eq!(state(&record(RESTORES_NO_GUARD, Duration::ZERO), Some(TRIAL)), Waits::Overdue);
    }

    #[test]
    fn a_list_that_was_there_before_is_not_rejected() {
        let list: Sha256Sum = [1; 32].into();
        assert!(rejects(&record(RESTORES_INSTANCE, Duration::ZERO), list));
        assert!(!rejects(&record(RESTORES_INSTANCE, Duration::ZERO), [2; 32].into()));
        let unchanged = Pending { sha256: NO_LIST, ..record(RESTORES_INSTANCE, Duration::ZERO) };
        assert!(!rejects(&unchanged, NO_LIST.into()));
    }
}
