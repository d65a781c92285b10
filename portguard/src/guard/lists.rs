//! How a list takes the place of the one in force: it is filled in beside that, verified, and switched to in one step.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use ipnet::IpNet;
use portguard_common::address::{V4, V6};
use portguard_common::calls::UdpCalls;
use portguard_common::conditions::Conditions;
use portguard_common::lookup::Lookup;
use portguard_common::policy::{FROM_FILE, FROM_LAST_GOOD, ListRecord, PATH_LEN, Policy, SLOTS};

use crate::allowlist::lookup_builder::Index;
use crate::allowlist::{Allowlist, Origin};
use crate::error::{Error, Result};
use crate::guard::abi5;
use crate::guard::clock;
use crate::guard::conditions;
use crate::guard::entries::{self, Change, Entries, Room};
use crate::guard::event::Event;
use crate::guard::grace::GracePeriod;
use crate::guard::in_force;
use crate::guard::indexes;
use crate::guard::instance::Instance;
use crate::guard::list_maps::{Capacity, ListMaps, Listed};
use crate::guard::mapped::Mapped;
use crate::guard::tries::{self, Trie, cannot_fill, unreadable};
use crate::interface::Interface;

/// A list that is complete in the kernel, but not yet in force.
#[derive(Debug)]
#[must_use = "a list that is filled but not switched to is never in force"]
pub(super) struct Filled {
    slot: u32,
}

/// A list, before it has a generation.
#[derive(Debug)]
pub(super) struct Content {
    v4: Part<V4>,
    v6: Part<V6>,
    /// The conditions of the entries with the first numbers.
    conditions: Vec<Conditions>,
    /// The description of the list, without its generation.
    record: ListRecord,
    udp_calls: UdpCalls,
}

/// The part of a list in an address family.
#[derive(Debug)]
struct Part<A: Listed> {
    /// In order.
    entries: Entries<A::Wire>,
    index: Index<A>,
}

impl<A: Listed> Part<A> {
    /// `in_index` has the numbers that the index is to have for the entries with the first numbers; the others have no conditions.
    fn of(mut entries: Entries<A::Wire>, in_index: &[u32]) -> Self {
        entries.sort_unstable_by_key(|(wire, length, _)| (A::from_wire(*wire).upper_bits(), *length));
        let index = if entries.iter().any(|(.., number)| (*number as usize) < in_index.len()) {
            Index::with_conditions(entries.iter().map(|(wire, length, number)| {
                let number = in_index.get(*number as usize).copied().unwrap_or(0);
                (A::from_wire(*wire), *length, number)
            }))
        } else {
            Index::of(entries.iter().map(|(wire, length, _)| (A::from_wire(*wire), *length)))
        };
        Self { entries, index }
    }

    fn capacity(&self) -> Result<Capacity> {
        Capacity::of(self.entries.len(), self.index.blocks.len())
    }
}

impl Content {
    /// The content for a list that was read from a file, on an interface.
    pub(super) fn of(list: &Allowlist, interface: &Interface) -> Result<Self> {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (number, entry) in (0_u32..).zip(list.numbered()) {
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
        Ok(Self::new(v4, v6, conditions::of_list(list, interface), record, list.udp_calls()))
    }

    /// The content for the list that an instance has in force, read back from the kernel.
    pub(super) fn in_force(interface: &Path, instance: &Instance) -> Result<Self> {
        let (slot, record, v4, v6) = in_force::entries(interface, instance)?.ok_or_else(no_list)?;
        if (v4.len(), v6.len()) != (record.prefixes_v4 as usize, record.prefixes_v6 as usize) {
            let (has_v4, has_v6) = (v4.len(), v6.len());
            let what = format!(
                "it has {has_v4} IPv4 and {has_v6} IPv6 prefixes, not {} and {}",
                record.prefixes_v4, record.prefixes_v6
            );
            return Err(unreadable(interface).because(what));
        }
        let loaded_at = clock::boot_time(instance.abi(), record.loaded_at);
        let conditions = conditions::read(instance, slot);
        Ok(Self::new(v4, v6, conditions, ListRecord { loaded_at, ..record }, instance.udp_calls()))
    }

    fn new(
        v4: Entries<[u8; 4]>,
        v6: Entries<[u8; 16]>,
        conditions: Vec<Conditions>,
        record: ListRecord,
        udp_calls: UdpCalls,
    ) -> Self {
        let in_index = conditions::in_index(&conditions, udp_calls);
        // On another CPU, if there is one.
        let (v4, v6) = thread::scope(|scope| {
            let v4 = scope.spawn(|| Part::of(v4, &in_index));
            let v6 = Part::of(v6, &in_index);
            (v4.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), v6)
        });
        Self { v4, v6, conditions, record, udp_calls }
    }

    /// The calls that the list permits over UDP.
    pub(super) fn udp_calls(&self) -> UdpCalls {
        self.udp_calls
    }

    /// Whether any of its entries has conditions.
    pub(super) fn has_conditions(&self) -> bool {
        !self.conditions.is_empty()
    }

    /// What maps must have room for, so that they can hold this list.
    pub(super) fn capacities(&self) -> Result<Capacities> {
        let conditions = conditions::capacity(self.conditions.len());
        Ok(Capacities { v4: self.v4.capacity()?, v6: self.v6.capacity()?, conditions })
    }

    /// What is to change in the maps of an instance, so that they have this list in the slot that is not in force; `None` if they have
    /// no room for it, or if the program of the instance permits other calls than the list, or has the code for conditions and the list has
    /// none, or the other way round.
    ///
    /// # Errors
    /// The maps cannot be opened.
    pub(super) fn plan(&self, instance: &Instance) -> Result<Option<Plan>> {
        if self.udp_calls != instance.udp_calls()
            || self.has_conditions() != instance.has_conditions()
            || !conditions::have_room(instance, self.conditions.len())
        {
            return Ok(None);
        }
        let v4 = ListMaps::<V4>::open(instance.directory())?;
        let v6 = ListMaps::<V6>::open(instance.directory())?;
        let blocks = |capacity: Capacity, blocks: usize| blocks <= capacity.blocks as usize;
        if !blocks(v4.capacity(), self.v4.index.blocks.len())
            || !blocks(v6.capacity(), self.v6.index.blocks.len())
        {
            return Ok(None);
        }
        let active = in_force::slot_and_record(instance).map(|(slot, _)| slot);
        let slot = active.map_or(0, |active| 1 - active);
        let (change_v4, room_v4) = entries::plan(&v4, slot, active, &self.v4.entries);
        let (change_v6, room_v6) = entries::plan(&v6, slot, active, &self.v6.entries);
        match room_v4.max(room_v6) {
            Room::Now => {}
            Room::AfterGracePeriod => {
                GracePeriod::prepare()?.wait();
                entries::free_removed(&v4);
                entries::free_removed(&v6);
            }
            Room::None => return Ok(None),
        }
        Ok(Some(Plan { slot, v4: change_v4, v6: change_v6 }))
    }
}

/// How a list comes into a slot that is not in force.
pub(super) struct Plan {
    slot: u32,
    v4: Change<V4>,
    v6: Change<V6>,
}

/// How much of a list fits into the maps of an instance.
#[derive(Debug, Clone, Copy)]
pub(super) struct Capacities {
    pub(super) v4: Capacity,
    pub(super) v6: Capacity,
    /// The number of entries of one list that may have conditions.
    pub(super) conditions: u32,
}

/// Fills the slot that is not in force of an instance whose maps were made for the list.
pub(super) fn fill_new(
    instance: &Instance,
    before: Option<u64>,
    content: &Content,
    tell: &mut dyn FnMut(Event),
) -> Result<Filled> {
    let plan =
        content.plan(instance)?.ok_or_else(|| cannot_fill().because("its maps have no room for it"))?;
    fill(instance, before, content, plan, tell)
}

/// Fills the slot that is not in force by a plan for it. It never changes the list in force, also if it fails. `before` is the
/// generation of the list in force: that of this instance, or of an instance with maps of its own that this one
/// replaces.
pub(super) fn fill(
    instance: &Instance,
    before: Option<u64>,
    content: &Content,
    plan: Plan,
    tell: &mut dyn FnMut(Event),
) -> Result<Filled> {
    let generation = before.map_or(1, |generation| generation + 1);
    let Content { v4, v6, conditions, record, udp_calls: _ } = content;
    let of = v4.entries.len() + v6.entries.len();
    let slot = plan.slot;
    conditions::fill(instance, slot, conditions)?;
    let mut filling = Filling { instance, slot, done: 0, of, tell };
    filling.family(v4, plan.v4).and_then(|()| filling.family(v6, plan.v6)).inspect_err(|_| {
        // The part that was filled takes memory, and a lack of memory may be the cause. The first error is the one to
        // report.
        discard(instance);
    })?;
    describe(&instance.policy, slot, ListRecord { generation, ..*record });
    Ok(Filled { slot })
}

/// A list that is being written into a slot.
struct Filling<'a> {
    instance: &'a Instance,
    slot: u32,
    done: usize,
    of: usize,
    tell: &'a mut dyn FnMut(Event),
}

impl Filling<'_> {
    /// Fills in the entries and the index of an address family.
    fn family<A: Listed>(&mut self, part: &Part<A>, change: Change<A>) -> Result<()> {
        let mut maps = ListMaps::open(self.instance.directory())?;
        entries::fill(&mut maps, self.slot, &part.entries, change, |entries| {
            (self.tell)(Event::Filled { entries: self.done + entries, of: self.of });
        })?;
        let lookup = self.instance.lookup.as_ref().ok_or_else(cannot_fill)?;
        if let Err(error) = indexes::fill(lookup, &maps, self.slot, &part.index) {
            (self.tell)(Event::WithoutIndex(error));
        }
        self.done += part.entries.len();
        Ok(())
    }
}

/// Puts a filled list in force. It removes the entries of the previous list when no packet is judged by that list any more.
pub(super) fn switch(instance: &Instance, filled: &Filled) -> Result<()> {
    let Some(lookup) = &instance.lookup else { return Err(cannot_fill()) };
    if instance.active() == filled.slot {
        // The first list of the instance.
        return Ok(());
    }
    // The wait must not fail after the switch.
    let grace = GracePeriod::prepare()?;
    set_active(lookup, filled.slot);
    // A program may have read the number of the old slot just before the switch: the old list must remain until it has judged
    // its packet.
    grace.wait();
    clean_up(instance, filled.slot).map_err(|error| {
        Error::failed("the new list is in force, but the kernel does not release the previous one")
            .caused_by(error)
    })
}

/// Removes the entries that the list in the active slot does not have, after a grace period.
fn clean_up(instance: &Instance, active: u32) -> Result<()> {
    let mut v4 = ListMaps::<V4>::open(instance.directory())?;
    let mut v6 = ListMaps::<V6>::open(instance.directory())?;
    entries::free_removed(&v4);
    entries::free_removed(&v6);
    entries::remove_others(&mut v4, active)?;
    entries::remove_others(&mut v6, active)
}

fn set_active(lookup: &Mapped<Lookup>, slot: u32) {
    // SAFETY: the element is mapped for as long as `lookup` lives, and aligned; the kernel program reads the field in one
    // load.
    let active = unsafe { AtomicU32::from_ptr(&raw mut (*lookup.element(0)).active) };
    active.store(slot, Ordering::Release);
}

/// Writes the description of the list in a slot that is not in force.
fn describe(policy: &Mapped<Policy>, slot: u32, record: ListRecord) {
    let policy = policy.element(0);
    // SAFETY: the element is mapped; the slot is not in force, so no reader uses its record; the slot is 0 or 1.
    unsafe {
        (&raw mut (*policy).lists).cast::<ListRecord>().add(slot as usize % SLOTS).write_volatile(record);
    }
}

/// Removes a list that was filled beside the one in force, after a later step has failed. It takes memory, and a lack of
/// memory may be the cause of the failure. Errors are ignored: the next list removes it, too.
pub(super) fn discard(instance: &Instance) {
    // Lists are never filled into the slots of an earlier ABI.
    if let Some((active, _)) = in_force::slot_and_record(instance).filter(|_| instance.is_current()) {
        let remove = || {
            entries::remove_others(&mut ListMaps::<V4>::open(instance.directory())?, active)?;
            entries::remove_others(&mut ListMaps::<V6>::open(instance.directory())?, active)
        };
        let _ = remove();
    }
}

/// Removes the pins of the lists of ABI 4 and 5, except those of the list that an instance has in force.
pub(super) fn keep_pins_in_force(interface: &Path, instance: &Instance) -> Result<()> {
    let in_force = in_force::list(instance).filter(|_| !instance.has_current_lists());
    abi5::keep_pins(interface, in_force.map(|list| list.generation))
}

/// The tries of a list that nothing refers to any more, but the maps themselves.
pub(super) struct Remains {
    v4: Trie,
    v6: Trie,
}

impl Remains {
    /// Those of the list that an instance has in force, if it is long. The pins may be removed then.
    pub(super) fn of(interface: &Path, instance: &Instance) -> Option<Self> {
        let (_, record) = in_force::slot_and_record(instance)?;
        if record.prefixes_v4.max(record.prefixes_v6) < tries::MANY {
            return None;
        }
        let open = |name: &str, family: &str| match instance.has_current_lists() {
            true => Trie::open(&instance.directory().join(name)),
            false => abi5::trie(interface, record.generation, family),
        };
        Some(Self { v4: open(V4::LIST, "v4").ok()?, v6: open(V6::LIST, "v6").ok()? })
    }

    /// Empties them. The caller has waited for packets that are judged by them.
    pub(super) fn empty(self) {
        self.v4.empty::<[u8; 4]>();
        self.v6.empty::<[u8; 16]>();
    }
}

fn no_list() -> Error {
    Error::failed("there is no list in force")
}
