//! Reads the values of the metrics from the kernel, without the lock, and independently of the reconciler.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use crate::allowlist::{FileStamp, OnDisk, Sha256Sum};
use crate::error::{Error, Result};
use crate::guard::{self, Guard, ListInfo, PinRoot, unix_now};
use crate::interface::{self, Interface};
use crate::service::ServiceOrder;
use crate::service::metrics::page::{self, Metrics, State};
use crate::service::order::Differences;
use crate::service::reloads::Reloads;

/// The age of the last change from which the content of a file is cached, in nanoseconds. A younger file may change
/// again within the same tick of the file system's clock.
const SETTLED: i128 = 2_000_000_000;

/// Reads the guards of some interfaces.
#[derive(Debug)]
pub(in crate::service) struct Reader {
    pin_root: PinRoot,
    interfaces: Vec<String>,
    order: ServiceOrder,
    reloads: Reloads,
    /// By interface: the state of a file, and its stamp at that time. To read a long list at each scrape would be
    /// expensive.
    files: HashMap<String, (FileCheck, OnDisk)>,
}

/// The stamp of a file, and the hash of the list with which it was compared.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FileCheck {
    list: Sha256Sum,
    file: Option<FileStamp>,
}

impl FileCheck {
    fn at(path: &Path, list: Sha256Sum) -> Self {
        Self { list, file: FileStamp::at(path) }
    }

    /// Whether the same stamp later means that the file has not changed.
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

    /// Reads all metrics.
    pub(super) fn metrics(&mut self) -> Result<Metrics> {
        let there = interface::all()?;
        let mut interfaces = Vec::with_capacity(self.interfaces.len());
        for name in &self.interfaces {
            let state = match Seen::of(&self.pin_root, &there, name, &self.order) {
                Seen::Away => State::Away,
                Seen::Open => State::Open,
                // The reconciler reports the error.
                Seen::Unreadable(_) => State::Guarded(None),
                Seen::Guarded { guard, differences } => {
                    let list = guard.list().map(|list| {
                        let file = check_file(&mut self.files, name, &list);
                        (list, file)
                    });
                    State::Guarded(Some(Box::new(page::Guard {
                        hook: guard.hook(),
                        enforcing: guard.is_enforcing(),
                        as_ordered: differences.text().is_none(),
                        list,
                        deadline_drift: guard.deadline_drift(),
                        sums: guard.sums(),
                    })))
                }
            };
            interfaces.push(page::Interface { name: name.clone(), state });
        }
        Ok(Metrics { version: env!("CARGO_PKG_VERSION"), reloads: self.reloads.read(), interfaces })
    }

    /// The health of each interface.
    pub(super) fn health(&self) -> Result<Vec<(String, Health)>> {
        let there = interface::all()?;
        let health = |name: &String| match Seen::of(&self.pin_root, &there, name, &self.order) {
            Seen::Away => Health::Waiting,
            Seen::Open => Health::Open,
            Seen::Unreadable(error) => Health::NotAsOrdered(error.to_string()),
            Seen::Guarded { guard, differences } => match differences.text() {
                Some(text) => Health::NotAsOrdered(text),
                None if guard.is_enforcing() => Health::Enforcing,
                None => Health::Audit,
            },
        };
        Ok(self.interfaces.iter().map(|name| (name.clone(), health(name))).collect())
    }
}

/// The state of an interface in the kernel. The metrics and the health both use it, so that they agree.
enum Seen {
    /// The interface does not exist.
    Away,
    /// The interface exists, and has no guard.
    Open,
    /// The interface has a guard that cannot be read.
    Unreadable(Error),
    /// The interface has a guard, with these differences from its order.
    Guarded { guard: Box<Guard>, differences: Differences },
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

/// The state of an interface, compared with the order of the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Health {
    /// Its guard enforces, as ordered.
    Enforcing,
    /// Its guard is in audit mode, as ordered.
    Audit,
    /// Its guard differs from the order, in these parts.
    NotAsOrdered(String),
    /// It has no guard.
    Open,
    /// The interface does not exist.
    Waiting,
}

impl Health {
    /// Whether the guard is as ordered.
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

/// The current content of the file of a list in force, compared with that list.
fn check_file(known: &mut HashMap<String, (FileCheck, OnDisk)>, interface: &str, list: &ListInfo) -> OnDisk {
    let check = FileCheck::at(&list.path, list.sha256);
    if let Some((then, held)) = known.get(interface)
        && *then == check
    {
        return held.clone();
    }
    let held = OnDisk::of(&list.path, list.sha256);
    known.remove(interface);
    if check.is_settled() {
        known.insert(interface.to_owned(), (check, held.clone()));
    }
    held
}
