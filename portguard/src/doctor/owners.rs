//! Which processes have sockets.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// A process with sockets that were asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Process {
    pub id: u32,
    /// Its name, as `ps -o comm` shows it.
    pub name: String,
    /// Its command line, word for word.
    pub command: Vec<String>,
    /// The inodes of all of its sockets.
    pub sockets: BTreeSet<u64>,
}

/// The processes that have any of these sockets, of those that may be looked at.
pub(super) fn of(wanted: &BTreeSet<u64>) -> Vec<Process> {
    if wanted.is_empty() {
        return Vec::new();
    }
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let mut processes: Vec<Process> = ids.filter_map(|id| process(id, wanted)).collect();
    processes.sort_unstable_by_key(|process| process.id);
    processes
}

fn process(id: u32, wanted: &BTreeSet<u64>) -> Option<Process> {
    let directory = format!("/proc/{id}");
    let sockets = sockets(&Path::new(&directory).join("fd"));
    if sockets.is_disjoint(wanted) {
        return None;
    }
    // It may have ended meanwhile.
    let name = fs::read_to_string(format!("{directory}/comm")).ok()?.trim().to_owned();
    let command = fs::read(format!("{directory}/cmdline")).ok()?;
    let words = command.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
    Some(Process { id, name, command: words.filter(|word| !word.is_empty()).collect(), sockets })
}

/// The inodes of the sockets among descriptors, which are links to `socket:[4711]`.
fn sockets(descriptors: &Path) -> BTreeSet<u64> {
    let Ok(entries) = fs::read_dir(descriptors) else { return BTreeSet::new() };
    let inode = |target: &Path| target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok();
    entries.filter_map(|entry| inode(&fs::read_link(entry.ok()?.path()).ok()?)).collect()
}
