//! Reads what the metrics tell: from the kernel, without the lock, and whatever the keeper is at.

use std::collections::HashMap;
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

    /// The interfaces that have no guard, or are not there.
    pub(super) fn unguarded(&self) -> Result<Vec<String>> {
        let there = interface::all()?;
        let mut unguarded = Vec::new();
        for name in &self.interfaces {
            let found = there.iter().find(|interface| interface.is_called(name));
            if !found.map(|interface| guard::is_on(&self.home, interface)).transpose()?.unwrap_or(false) {
                unguarded.push(name.clone());
            }
        }
        Ok(unguarded)
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
