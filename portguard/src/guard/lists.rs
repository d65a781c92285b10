//! Puts a list in force: fills new tries and indexes beside those in force, verifies the tries, and switches in one
//! step.
//!
//! The tries of a list are pinned as `list<generation>-v4` and `-v6` in the directory of the interface, so that the list
//! in force can be read back from the kernel. A pin with another generation than that of the list in force is a
//! leftover of a loader that was killed.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::thread;
use std::time::Duration;

use aya::Pod;
use aya::maps::lpm_trie::Key;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use portguard_common::address::{V4, V6};
use portguard_common::policy::{FROM_FILE, FROM_LAST_GOOD, ListRecord, PATH_LEN, Policy};

use crate::allowlist::lookup_builder::{self, Index};
use crate::allowlist::{Allowlist, Origin, Sha256Sum};
use crate::error::{Error, Result};
use crate::family::Family;
use crate::guard::bpf;
use crate::guard::clock;
use crate::guard::event::Event;
use crate::guard::indexes;
use crate::guard::instance::{Instance, Lists};
use crate::guard::mapped::Mapped;
use crate::guard::tries::{self, new_trie};
use crate::printable::printable;

/// A list that is complete in the kernel, but not yet in force.
#[derive(Debug)]
#[must_use = "a list that is filled but not switched to is never in force"]
pub(super) struct Filled {
    slot: u32,
    generation: u64,
}

/// Where the list in force came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListInfo {
    /// 1 for the list that the guard was attached with, and one more for each list after it.
    pub generation: u64,
    /// The absolute path of the file when the list was read.
    pub path: PathBuf,
    /// Whether the list was read from that file, or from the last good list.
    pub origin: Origin,
    /// The SHA-256 of the bytes of the list.
    pub sha256: Sha256Sum,
    /// The number of IPv4 prefixes.
    pub prefixes_v4: u32,
    /// The number of IPv6 prefixes.
    pub prefixes_v6: u32,
    /// When it was loaded, in nanoseconds of Unix time.
    pub loaded_at: u64,
}

impl ListInfo {
    /// The prefixes of a family.
    pub fn prefixes(&self, family: Family) -> u32 {
        match family {
            Family::V4 => self.prefixes_v4,
            Family::V6 => self.prefixes_v6,
        }
    }

    /// Fails if this list has entries of an address family, and a list that replaces it has none of them.
    pub(super) fn require_no_family_lost(&self, list: &Allowlist) -> Result<()> {
        let is_lost = |family: &Family| self.prefixes(*family) > 0 && list.prefixes(*family) == 0;
        let lost: Vec<&str> = Family::ALL.into_iter().filter(is_lost).map(Family::name).collect();
        if lost.is_empty() {
            return Ok(());
        }
        let path = printable(&list.path().to_string_lossy());
        Err(Error::failed(format!("{path} has no {} entry any more", lost.join(" and no ")))
            .because(format!(
                "the list in force has {} IPv4 and {} IPv6 entries",
                self.prefixes_v4, self.prefixes_v6
            ))
            .remedy("The list in force remains. If this is intended, add --allow-empty."))
    }
}

/// The list in force; `None` if the instance never had one.
pub(super) fn in_force(instance: &Instance) -> Option<ListInfo> {
    let record = record_in_force(&instance.policy)?;
    let path = record.path.get(..record.path_len as usize)?;
    Some(ListInfo {
        generation: record.generation,
        path: Path::new(OsStr::from_bytes(path)).to_owned(),
        origin: if record.origin == FROM_LAST_GOOD { Origin::LastGood } else { Origin::File },
        sha256: record.sha256.into(),
        prefixes_v4: record.prefixes_v4,
        prefixes_v6: record.prefixes_v6,
        loaded_at: clock::unix_time(instance.abi(), record.loaded_at),
    })
}

fn record_in_force(policy: &Mapped<Policy>) -> Option<ListRecord> {
    let record = loop {
        let copy = policy.read(0);
        fence(Ordering::Acquire);
        let record = *copy.lists.get(copy.active as usize)?;
        let again = policy.read(0);
        let unchanged = again.active == copy.active
            && again.lists.get(copy.active as usize)?.generation == record.generation;
        // Two reloads since the copy began may have overwritten the record.
        if unchanged {
            break record;
        }
    };
    (record.generation > 0).then_some(record)
}

/// The prefixes of the list in force, read back from the kernel.
pub(super) fn prefixes_in_force(interface: &Path, instance: &Instance) -> Result<BTreeSet<IpNet>> {
    let Some(list) = in_force(instance) else { return Ok(BTreeSet::new()) };
    let mut prefixes: Vec<IpNet> = Vec::new();
    for (key, _) in tries::entries::<[u8; 4]>(&pin(interface, list.generation, "v4"))? {
        let prefix = Ipv4Net::new(key.data().into(), key.prefix_len() as u8)
            .map_err(|error| unreadable(interface).caused_by(error))?;
        prefixes.push(prefix.into());
    }
    for (key, _) in tries::entries::<[u8; 16]>(&pin(interface, list.generation, "v6"))? {
        let prefix = Ipv6Net::new(key.data().into(), key.prefix_len() as u8)
            .map_err(|error| unreadable(interface).caused_by(error))?;
        prefixes.push(prefix.into());
    }
    // One `collect` builds the set from sorted prefixes, which is many times as fast as single insertions.
    Ok(prefixes.into_iter().collect())
}

/// Entries of an address family: network address, length of the prefix, number in the file.
type Entries<W> = Vec<(W, u8, u32)>;

/// The content of a slot: a list, before it has a generation.
#[derive(Debug)]
pub(super) struct Content {
    v4: Entries<[u8; 4]>,
    v6: Entries<[u8; 16]>,
    /// The description of the list, without its generation.
    record: ListRecord,
}

impl Content {
    /// The content for a list that was read from a file.
    pub(super) fn of(list: &Allowlist) -> Result<Self> {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (number, entry) in (0_u32..).zip(list.entries()) {
            match entry.prefix() {
                IpNet::V4(prefix) => v4.push((prefix.addr().octets(), prefix.prefix_len(), number)),
                IpNet::V6(prefix) => v6.push((prefix.addr().octets(), prefix.prefix_len(), number)),
            }
        }
        let bytes = list.path().as_os_str().as_bytes();
        let mut path = [0; PATH_LEN];
        path.get_mut(..bytes.len())
            .ok_or_else(|| Error::failed("the path of the allowlist is too long"))?
            .copy_from_slice(bytes);
        let record = ListRecord {
            generation: 0,
            loaded_at: clock::boot_now(),
            sha256: *list.sha256().as_bytes(),
            prefixes_v4: list.prefixes_v4() as u32,
            prefixes_v6: list.prefixes_v6() as u32,
            path_len: bytes.len() as u32,
            origin: match list.origin() {
                Origin::File => FROM_FILE,
                Origin::LastGood => FROM_LAST_GOOD,
            },
            path,
        };
        Ok(Self { v4, v6, record })
    }

    /// The content for the list that an instance has in force, read back from its tries.
    pub(super) fn in_force(interface: &Path, instance: &Instance) -> Result<Self> {
        let record = record_in_force(&instance.policy).ok_or_else(no_list)?;
        let pin = |family| pin(interface, record.generation, family);
        let v4 = tries::entries(&pin("v4"))?;
        let v6 = tries::entries(&pin("v6"))?;
        if (v4.len(), v6.len()) != (record.prefixes_v4 as usize, record.prefixes_v6 as usize) {
            let (has_v4, has_v6) = (v4.len(), v6.len());
            let what = format!(
                "it has {has_v4} IPv4 and {has_v6} IPv6 prefixes, not {} and {}",
                record.prefixes_v4, record.prefixes_v6
            );
            return Err(unreadable(interface).because(what));
        }
        let loaded_at = clock::boot_time(instance.abi(), record.loaded_at);
        Ok(Self { v4: flat(v4), v6: flat(v6), record: ListRecord { loaded_at, ..record } })
    }
}

fn flat<W: Pod>(entries: Vec<(Key<W>, u32)>) -> Entries<W> {
    entries.into_iter().map(|(key, number)| (key.data(), key.prefix_len() as u8, number)).collect()
}

/// The entry of the list in force that covers an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Covering {
    /// Its prefix.
    pub prefix: IpNet,
    /// Its number in the file; the first entry has the number 0.
    pub number: u32,
}

/// Looks an address up in the list in force, in the kernel's tries.
pub(super) fn covering(interface: &Path, instance: &Instance, address: IpAddr) -> Result<Option<Covering>> {
    let Some(list) = in_force(instance) else { return Ok(None) };
    let found = match address {
        IpAddr::V4(v4) => tries::covering(&pin(interface, list.generation, "v4"), v4.octets(), 32)?,
        IpAddr::V6(v6) => tries::covering(&pin(interface, list.generation, "v6"), v6.octets(), 128)?,
    };
    let covering = |(length, number)| {
        let prefix = IpNet::new(address, length).map_err(|error| unreadable(interface).caused_by(error))?;
        Ok(Covering { prefix: prefix.trunc(), number })
    };
    found.map(covering).transpose()
}

/// Fills the slot that is not in force. It never changes the list in force, also if it fails. `before` is the
/// generation of the list in force: that of this instance, or of an instance with maps of its own that this one
/// replaces.
pub(super) fn fill(
    interface: &Path,
    instance: &Instance,
    before: Option<u64>,
    content: Content,
    tell: &mut dyn FnMut(Event),
) -> Result<Filled> {
    let generation = before.map_or(1, |generation| generation + 1);
    let slot = if in_force(instance).is_some() { 1 - instance.policy.read(0).active } else { 0 };
    let Content { mut v4, mut v6, record } = content;
    remove_pins(interface, before)?;
    let of = v4.len() + v6.len();
    let mut filling = Filling { interface, generation, slot, done: 0, of, tell };
    filling
        .family::<V4>(&instance.lists_v4, &mut v4, "v4")
        .and_then(|()| filling.family::<V6>(&instance.lists_v6, &mut v6, "v6"))
        .inspect_err(|_| {
            // The part that was filled takes memory, and a lack of memory may be the cause. The first error is the one
            // to report.
            let _ = clear(instance, slot);
            let _ = remove_pins(interface, before);
        })?;
    describe(&instance.policy, slot, ListRecord { generation, ..record });
    Ok(Filled { slot, generation })
}

/// A list that is being written into a slot.
struct Filling<'a> {
    interface: &'a Path,
    generation: u64,
    slot: u32,
    done: usize,
    of: usize,
    tell: &'a mut dyn FnMut(Event),
}

impl Filling<'_> {
    /// Fills the trie and the index of an address family. An entry is a network address, the length of the prefix, and
    /// its number in the file.
    fn family<A: lookup_builder::Family<Wire: Pod + Ord + Sync, Block: Send>>(
        &mut self,
        lists: &Lists<A>,
        entries: &mut [(A::Wire, u8, u32)],
        name: &str,
    ) -> Result<()> {
        // Insertions in order make the kernel three times as fast, and the index needs the entries in order.
        entries.sort_unstable();
        let keys: Vec<_> = entries.iter().map(|&(wire, length, _)| Key::new(length.into(), wire)).collect();
        let numbers: Vec<_> = entries.iter().map(|&(_, _, number)| number).collect();
        let prefixes = || keys.iter().map(|key| (A::from_wire(key.data()), key.prefix_len() as u8));
        // The index is built on another CPU, if there is one: the trie takes several times as long.
        let (trie, index) = thread::scope(|scope| {
            let index = scope.spawn(|| Index::of(prefixes()));
            let trie = new_trie(&keys, &numbers, |entries| {
                (self.tell)(Event::Filled { entries: self.done + entries, of: self.of });
            });
            (trie, index.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        let trie = trie?;
        if let Err(error) = indexes::fill(lists, self.slot, &index) {
            (self.tell)(Event::WithoutIndex(error));
        }
        self.done += keys.len();
        let path = pin(self.interface, self.generation, name);
        bpf::pin(trie.fd().as_fd(), &path)
            .map_err(|error| Error::failed(format!("cannot pin {}", path.display())).caused_by(error))?;
        bpf::set_inner_map(lists.tries.as_fd(), self.slot, trie.fd().as_fd())
            .map_err(|error| cannot_fill().caused_by(error))
    }
}

/// Puts a filled list in force. It removes the previous list when no packet is judged by that list any more.
pub(super) fn switch(interface: &Path, instance: &Instance, filled: &Filled) -> Result<()> {
    let policy = instance.policy.element(0);
    // SAFETY: the element is mapped for as long as `instance` lives, and aligned; the kernel program reads the field
    // in one load.
    let active = unsafe { AtomicU32::from_ptr(&raw mut (*policy).active) };
    let before = active.swap(filled.slot, Ordering::Release);
    if before == filled.slot {
        return Ok(());
    }
    // A program may have read the number of the old slot just before the switch: the tries must remain in that slot
    // until it has judged its packet.
    GracePeriod::prepare(interface, instance)?.wait();
    clear(instance, before).map_err(|error| {
        Error::failed("the new list is in force, but the kernel does not release the previous one")
            .caused_by(error)
    })?;
    remove_pins(interface, Some(filled.generation))
}

/// Removes the maps from a slot that is not in force.
fn clear(instance: &Instance, slot: u32) -> io::Result<()> {
    for outer in instance.lists_v4.slots().into_iter().chain(instance.lists_v6.slots()) {
        match bpf::clear_inner_map(outer.as_fd(), slot) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Waits until each packet that is being judged now has been judged and counted. The kernel waits for that whenever a
/// slot of an array of maps is set, even to the map that is already in it.
pub(crate) struct GracePeriod {
    outer: OwnedFd,
    slot: u32,
    trie: OwnedFd,
}

impl GracePeriod {
    /// Opens the maps that a wait needs. The list in force does not change.
    pub(crate) fn prepare(interface: &Path, instance: &Instance) -> Result<Self> {
        let list = in_force(instance).ok_or_else(no_list)?;
        let path = pin(interface, list.generation, "v4");
        let cannot_use = |error| Error::failed(format!("cannot use {}", path.display())).caused_by(error);
        let trie = bpf::get(&path).map_err(cannot_use)?;
        let outer = instance.lists_v4.tries.try_clone().map_err(cannot_use)?;
        Ok(Self { outer, slot: instance.policy.read(0).active, trie })
    }

    /// Waits until all packets that are being judged now are finished.
    pub(crate) fn wait(&self) {
        let waited = bpf::set_inner_map(self.outer.as_fd(), self.slot, self.trie.as_fd());
        if waited.is_err() {
            // An error is not expected, because the maps are open. A packet takes microseconds.
            thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Writes the description of the list in a slot that is not in force.
fn describe(policy: &Mapped<Policy>, slot: u32, record: ListRecord) {
    let policy = policy.element(0);
    // SAFETY: the element is mapped; the slot is not in force, so no reader uses its record; the slot is 0 or 1.
    unsafe { (&raw mut (*policy).lists).cast::<ListRecord>().add(slot as usize).write_volatile(record) };
}

/// Removes the pins of all lists, except the one that came into force together with its instance.
pub(super) fn keep_pins_of(interface: &Path, filled: &Filled) -> Result<()> {
    remove_pins(interface, Some(filled.generation))
}

/// Removes the pins of all lists, except the one that an instance has in force.
pub(super) fn keep_pins_in_force(interface: &Path, instance: &Instance) -> Result<()> {
    let list = in_force(instance).ok_or_else(no_list)?;
    remove_pins(interface, Some(list.generation))
}

/// Removes a list that was filled beside the one in force, after a later step has failed. It takes memory, and a lack of
/// memory may be the cause of the failure.
pub(super) fn let_go(interface: &Path, instance: &Instance) {
    // Lists are never filled into the slots of an earlier ABI.
    if instance.is_current() && in_force(instance).is_some() {
        let _ = clear(instance, 1 - instance.policy.read(0).active);
    }
    let _ = keep_pins_in_force(interface, instance);
}

fn no_list() -> Error {
    Error::failed("there is no list in force")
}

fn pin(interface: &Path, generation: u64, family: &str) -> PathBuf {
    interface.join(format!("list{generation}-{family}"))
}

/// Removes the pins of all lists, except those of the generation `keep`.
fn remove_pins(interface: &Path, keep: Option<u64>) -> Result<()> {
    let failed = |error| Error::failed(format!("cannot clean up {}", interface.display())).caused_by(error);
    let keep = keep.map(|generation| format!("list{generation}-"));
    for entry in fs::read_dir(interface).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("list") && !keep.as_ref().is_some_and(|keep| name.starts_with(keep)) {
            fs::remove_file(entry.path()).map_err(failed)?;
        }
    }
    Ok(())
}

pub(super) fn unreadable(path: &Path) -> Error {
    Error::failed(format!("cannot read the list in force from {}", path.display()))
}

pub(super) fn cannot_fill() -> Error {
    Error::failed("cannot fill a new list in the kernel").remedy("The list in force is unchanged.")
}
