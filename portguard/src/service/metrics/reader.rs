//! Reads what the metrics tell: from the kernel, without the lock, and whatever the reconciler is at.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use crate::allowlist::{FileStamp, OnDisk, Sha256Sum};
use crate::error::{Error, Result};
use crate::guard::{self, Guard, ListInfo, PinRoot, unix_now};
use crate::interface::{self, Interface};
use crate::service::ServiceOrder;
use crate::service::metrics::page::{self, Metrics, State};
use crate::service::reloads::Reloads;

/// A file may change twice within a tick of the file system's clock: what was found out is not believed until the last
/// change is so old, in nanoseconds.
const SETTLED: i128 = 2_000_000_000;

/// Reads the guards of some interfaces.
#[derive(Debug)]
pub(in crate::service) struct Reader {
    pin_root: PinRoot,
    interfaces: Vec<String>,
    order: ServiceOrder,
    reloads: Reloads,
    /// By interface: what a file holds, and what it looked like then from outside. To read a long list at every scrape
    /// would be dear.
    files: HashMap<String, (Look, OnDisk)>,
}

/// A file from outside, beside the hash of the list that it is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Look {
    list: Sha256Sum,
    file: Option<FileStamp>,
}

impl Look {
    fn at(path: &Path, list: Sha256Sum) -> Self {
        Self { list, file: FileStamp::at(path) }
    }

    /// Whether nothing can have changed since, if it looks the same.
    fn is_settled(&self) -> bool {
        self.file.is_some_and(|file| i128::from(unix_now()) - file.changed_at() > SETTLED)
    }
}

impl Reader {
    pub(in crate::service) fn new(
        pin_root: PinRoot,
        interfaces: Vec<String>,
        order: ServiceOrder,
        reloads: Reloads,
    ) -> Self {
        Self { pin_root, interfaces, order, reloads, files: HashMap::new() }
    }

    /// All there is to tell.
    pub(super) fn metrics(&mut self) -> Result<Metrics> {
        let there = interface::all()?;
        let mut interfaces = Vec::with_capacity(self.interfaces.len());
        for name in &self.interfaces {
            let state = match Seen::of(&self.pin_root, &there, name, &self.order) {
                Seen::Away => State::Away,
                Seen::Open => State::Open,
                // The reconciler tells what is the matter.
                Seen::Unreadable(_) => State::Guarded(None),
                Seen::Guarded { guard, differences } => {
                    let list = guard.list().map(|list| {
                        let file = look_into(&mut self.files, name, &list);
                        (list, file)
                    });
                    State::Guarded(Some(Box::new(page::Guard {
                        mode: guard.mode().key(),
                        enforcing: guard.is_enforcing(),
                        as_ordered: differences.is_empty(),
                        list,
                        sums: guard.sums(),
                    })))
                }
            };
            interfaces.push(page::Interface { name: name.clone(), state });
        }
        Ok(Metrics { version: env!("CARGO_PKG_VERSION"), reloads: self.reloads.read(), interfaces })
    }

    /// How it is with each interface.
    pub(super) fn health(&self) -> Result<Vec<(String, Health)>> {
        let there = interface::all()?;
        let health = |name: &String| match Seen::of(&self.pin_root, &there, name, &self.order) {
            Seen::Away => Health::Waiting,
            Seen::Open => Health::Open,
            Seen::Unreadable(error) => Health::NotAsOrdered(error.to_string()),
            Seen::Guarded { differences, .. } if !differences.is_empty() => {
                Health::NotAsOrdered(differences.join(", "))
            }
            Seen::Guarded { guard, .. } if guard.is_enforcing() => Health::Enforcing,
            Seen::Guarded { .. } => Health::Audit,
        };
        Ok(self.interfaces.iter().map(|name| (name.clone(), health(name))).collect())
    }
}

/// An interface as the kernel has it: what both the metrics and the health are made of, so that they agree.
enum Seen {
    /// There is none.
    Away,
    /// There is one, without a guard.
    Open,
    /// A guard is on it that cannot be read.
    Unreadable(Error),
    /// It has a guard, which does so much otherwise than ordered.
    Guarded { guard: Box<Guard>, differences: Vec<String> },
}

impl Seen {
    fn of(pin_root: &PinRoot, there: &[Interface], name: &str, order: &ServiceOrder) -> Self {
        let Some(interface) = there.iter().find(|interface| interface.is_called(name)) else {
            return Self::Away;
        };
        let guard = match Guard::find(pin_root, interface) {
            Ok(Some(guard)) => guard,
            Ok(None) => return Self::Open,
            Err(error) => {
                return match guard::is_on(pin_root, interface) {
                    Ok(true) => Self::Unreadable(error),
                    _ => Self::Open,
                };
            }
        };
        match order.differences(&guard) {
            Ok(differences) => Self::Guarded { guard: Box::new(guard), differences },
            Err(error) => Self::Unreadable(error),
        }
    }
}

/// How it is with an interface, compared with what the service is ordered to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Health {
    /// Its guard drops what the list does not allow, as ordered.
    Enforcing,
    /// Its guard only counts, as ordered.
    Audit,
    /// It has a guard that does otherwise than ordered; how.
    NotAsOrdered(String),
    /// It has no guard.
    Open,
    /// There is no such interface.
    Waiting,
}

impl Health {
    /// Whether it is as ordered.
    pub(super) fn is_as_ordered(&self) -> bool {
        matches!(self, Self::Enforcing | Self::Audit)
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Enforcing => f.write_str("enforcing"),
            Self::Audit => f.write_str("audit mode, as ordered: nothing is dropped"),
            Self::NotAsOrdered(how) => write!(f, "not as ordered: {how}"),
            Self::Open => f.write_str("not guarded"),
            Self::Waiting => f.write_str("not guarded: there is no such interface"),
        }
    }
}

/// What the file of a list in force holds now.
fn look_into(known: &mut HashMap<String, (Look, OnDisk)>, interface: &str, list: &ListInfo) -> OnDisk {
    let look = Look::at(&list.path, list.sha256);
    if let Some((then, held)) = known.get(interface)
        && *then == look
    {
        return held.clone();
    }
    let held = OnDisk::of(&list.path, list.sha256);
    known.remove(interface);
    if look.is_settled() {
        known.insert(interface.to_owned(), (look, held.clone()));
    }
    held
}
