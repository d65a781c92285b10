//! Reads what the metrics tell: from the kernel, without the lock, and whatever the keeper is at.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use crate::allowlist::{FileStamp, OnDisk, Sha256Sum};
use crate::error::Result;
use crate::guard::{self, Guard, Home, ListInfo, unix_now};
use crate::interface;
use crate::output::metrics::{self, Metrics, State};
use crate::service::ServiceOrder;
use crate::service::reloads::Reloads;

/// A file may change twice within a tick of the file system's clock: what was found out is not believed until the last
/// change is so old, in nanoseconds.
const SETTLED: i128 = 2_000_000_000;

/// Reads the guards of some interfaces.
#[derive(Debug)]
pub(in crate::service) struct Reader {
    home: Home,
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
        home: Home,
        interfaces: Vec<String>,
        order: ServiceOrder,
        reloads: Reloads,
    ) -> Self {
        Self { home, interfaces, order, reloads, files: HashMap::new() }
    }

    /// All there is to tell.
    pub(super) fn metrics(&mut self) -> Result<Metrics> {
        let there = interface::all()?;
        let mut interfaces = Vec::with_capacity(self.interfaces.len());
        for name in &self.interfaces {
            let found = there.iter().find(|interface| interface.is_called(name));
            let state = match found.map(|interface| Guard::find(&self.home, interface)) {
                None => State::Away,
                Some(Ok(None)) => State::Open,
                Some(Ok(Some(guard))) => {
                    let list = guard.list().map(|list| {
                        let file = look_into(&mut self.files, name, &list);
                        (list, file)
                    });
                    State::Guarded(Some(Box::new(metrics::Guard {
                        mode: guard.mode().word(),
                        enforcing: guard.is_enforcing(),
                        as_ordered: self.order.differences(&guard).is_ok_and(|it| it.is_empty()),
                        list,
                        sums: guard.sums(),
                    })))
                }
                // The keeper tells what is the matter.
                Some(Err(_)) => match found.map(|interface| guard::is_on(&self.home, interface)) {
                    Some(Ok(true)) => State::Guarded(None),
                    _ => State::Open,
                },
            };
            interfaces.push(metrics::Interface { name: name.clone(), state });
        }
        Ok(Metrics { version: env!("CARGO_PKG_VERSION"), reloads: self.reloads.read(), interfaces })
    }

    /// How it is with each interface.
    pub(super) fn health(&self) -> Result<Vec<(String, Health)>> {
        let there = interface::all()?;
        let health = |name: &String| -> Result<Health> {
            let found = there.iter().find(|interface| interface.is_called(name));
            let Some(interface) = found else { return Ok(Health::Waiting) };
            match Guard::find(&self.home, interface) {
                Ok(None) => Ok(Health::Open),
                Ok(Some(guard)) => {
                    let differences = self.order.differences(&guard)?;
                    Ok(match (differences.is_empty(), guard.is_enforcing()) {
                        (true, true) => Health::Enforcing,
                        (true, false) => Health::Audit,
                        (false, _) => Health::NotAsOrdered(differences.join(", ")),
                    })
                }
                // It is on, and nothing more is known of it.
                Err(error) => Ok(Health::NotAsOrdered(error.to_string())),
            }
        };
        self.interfaces.iter().map(|name| Ok((name.clone(), health(name)?))).collect()
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
