//! The conditions of the entries of a list, in the kernel: see [`portguard_common::conditions`].

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use portguard_common::calls::UdpCalls;
use portguard_common::conditions::{Budget, Conditions, NEVER};
use portguard_common::lookup::{Lookup, WithConditions};
use portguard_common::policy::SLOTS;

use crate::allowlist::{Allowlist, Effective, InterfacePattern};
use crate::error::Result;
use crate::guard::clock;
use crate::guard::instance::Instance;
use crate::guard::tries::cannot_fill;
use crate::interface::Interface;

/// The fewest entries with conditions that there is room for, if there are any.
const LEAST: u32 = 64;

/// The conditions of a list on an interface, in the order of the numbers of their entries.
pub(super) fn of_list(list: &Allowlist, interface: &Interface) -> Vec<Conditions> {
    let clocks = Clocks::now();
    let conditional = list.numbered().take_while(|entry| entry.conditions().is_some());
    conditional
        .map(|entry| {
            let Effective { interfaces, until, udp, rate } = list.effective(entry);
            let until = until.map_or(NEVER, |until| u64::try_from(until.as_nanosecond()).unwrap_or(0));
            let is_elsewhere = interfaces.is_some_and(|patterns| !is_one_of(patterns, interface));
            Conditions {
                deadline: clocks.deadline(until),
                is_elsewhere: is_elsewhere.into(),
                rate: rate.map_or(0, Into::into),
                until,
                ..Conditions::none(udp)
            }
        })
        .collect()
}

/// The numbers that the index has for the entries with these conditions, of a list that permits these calls over UDP: 0 for what restricts
/// nothing here, else one more than the number of the first entry with the same conditions.
///
/// A flood in the names of many entries then reads few conditions, which stay in the caches. A rate is counted with the entry's own conditions,
/// so that its number stays.
pub(super) fn in_index(conditions: &[Conditions], udp_calls: UdpCalls) -> Vec<u32> {
    let unrestricted = Conditions::none(udp_calls);
    let mut first: HashMap<_, u32> = HashMap::new();
    let numbers = (1..).zip(conditions).map(|(number, stated)| match stated {
        stated if stated.are_stated_as(&unrestricted) => 0,
        Conditions { rate: 0, until, udp_calls, is_elsewhere, .. } => {
            *first.entry((*until, *udp_calls, *is_elsewhere)).or_insert(number)
        }
        _ => number,
    });
    numbers.collect()
}

/// Whether a name of an interface matches one of the patterns.
fn is_one_of(patterns: &[InterfacePattern], interface: &Interface) -> bool {
    patterns.iter().any(|pattern| interface.names().into_iter().any(|name| pattern.matches(name)))
}

/// Two clocks at one moment, in nanoseconds.
#[derive(Debug, Clone, Copy)]
struct Clocks {
    unix: u64,
    boot: u64,
}

impl Clocks {
    fn now() -> Self {
        Self { unix: clock::unix_now(), boot: clock::boot_now() }
    }

    /// When it is this Unix time, in nanoseconds of `CLOCK_BOOTTIME`; 0 if that is over.
    fn deadline(self, until: u64) -> u64 {
        match until.checked_sub(self.unix) {
            _ if until == NEVER => NEVER,
            Some(left) if left > 0 => self.boot.saturating_add(left).min(NEVER - 1),
            _ => 0,
        }
    }
}

/// How many conditions of one list there is to be room for, if a list has so many.
pub(super) fn capacity(conditions: usize) -> u32 {
    match conditions as u32 {
        0 => 0,
        some => (some + some / 4).max(LEAST),
    }
}

/// The room for the conditions of one list; 0 if the instance has none.
fn room(instance: &Instance) -> u32 {
    instance.conditions.as_ref().map_or(0, |conditions| conditions.len() / SLOTS as u32)
}

/// Whether there is room for the conditions of a list.
pub(super) fn have_room(instance: &Instance, conditions: usize) -> bool {
    conditions <= room(instance) as usize
}

/// Where the conditions of the list in a slot are.
pub(super) fn of_slot(instance: &Instance, slot: u32) -> WithConditions {
    let none = WithConditions { first: 0, count: 0 };
    let Some(lookup) = &instance.lookup else { return none };
    // Both are written before the slot comes into force.
    let [first, count] = [0, size_of::<u32>()].map(|at| lookup.read_u32(0, offset(slot) + at));
    if count <= room(instance) { WithConditions { first, count } } else { none }
}

/// The offset of the conditions of a slot in [`Lookup`].
fn offset(slot: u32) -> usize {
    std::mem::offset_of!(Lookup, conditions) + slot as usize % SLOTS * size_of::<WithConditions>()
}

/// Writes the conditions of a list into a slot that is not in force.
///
/// # Errors
/// There is no room.
pub(super) fn fill(instance: &Instance, slot: u32, conditions: &[Conditions]) -> Result<()> {
    let Some(lookup) = &instance.lookup else { return Err(cannot_fill()) };
    let first = slot * room(instance);
    if !have_room(instance, conditions.len()) {
        return Err(cannot_fill().because("its maps have no room for the conditions"));
    }
    if let Some(memory) = &instance.conditions {
        memory.write(first, conditions);
    }
    let with = WithConditions { first, count: conditions.len() as u32 };
    // SAFETY: the field is mapped and aligned; the slot is not in force, so the program does not read it.
    unsafe { lookup.element(0).byte_add(offset(slot)).cast::<WithConditions>().write_volatile(with) };
    Ok(())
}

/// The conditions of the list in a slot, in the order of the numbers of their entries. What was let pass is not in them: a list begins with
/// none.
pub(super) fn read(instance: &Instance, slot: u32) -> Vec<Conditions> {
    let Some(memory) = &instance.conditions else { return Vec::new() };
    let WithConditions { first, count } = of_slot(instance, slot);
    (first..first + count)
        .map(|place| Conditions { budget: Budget::default(), ..memory.read(place) })
        .collect()
}

/// A copy of the conditions of both slots, at their places. With a time `at`, in nanoseconds of Unix time, the deadlines and what was let
/// pass are those of that time: what has ended by then has ended, and nothing else does.
pub(super) fn copy(instance: &Instance, at: Option<u64>) -> Vec<Conditions> {
    let Some(memory) = &instance.conditions else { return Vec::new() };
    let copy = (0..memory.len()).map(|place| {
        let conditions: Conditions = memory.read(place);
        let budget = if at.is_some() { Budget::default() } else { conditions.budget };
        Conditions { budget, ..conditions.at(at) }
    });
    copy.collect()
}

/// The conditions of the entry with a number in the list in a slot, if it has any.
pub(super) fn of_entry(instance: &Instance, slot: u32, number: u32) -> Option<Conditions> {
    let WithConditions { first, count } = of_slot(instance, slot);
    let memory = instance.conditions.as_ref().filter(|_| number < count)?;
    Some(memory.read(first + number))
}

/// Computes the deadlines of the entries of both slots again, by the clock of now. Returns by how many nanoseconds the one that was
/// farthest off has moved.
pub(super) fn set_deadlines(instance: &Instance) -> u64 {
    compare_deadlines(instance, |deadline, expected| {
        deadline.store(expected, Ordering::Relaxed);
    })
}

/// How many nanoseconds the deadline that is farthest off is away from the time that the list states, by the clock of now.
pub(super) fn drift(instance: &Instance) -> u64 {
    compare_deadlines(instance, |_, _| {})
}

fn compare_deadlines(instance: &Instance, mut each: impl FnMut(&AtomicU64, u64)) -> u64 {
    let Some(memory) = &instance.conditions else { return 0 };
    let clocks = Clocks::now();
    let mut farthest = 0;
    for slot in 0..SLOTS as u32 {
        let WithConditions { first, count } = of_slot(instance, slot);
        for place in first..first + count {
            let until = memory.word(place, std::mem::offset_of!(Conditions, until));
            if until == NEVER {
                continue;
            }
            // SAFETY: the field is mapped and aligned, and everybody accesses it whole.
            let deadline = unsafe { AtomicU64::from_ptr(&raw mut (*memory.element(place)).deadline) };
            let (before, expected) = (deadline.load(Ordering::Relaxed), clocks.deadline(until));
            // An entry that has ended is not off, whenever it ended.
            let has_ended = |deadline: u64| deadline <= clocks.boot;
            if before != expected && !(has_ended(before) && has_ended(expected)) {
                farthest = farthest.max(before.max(clocks.boot).abs_diff(expected.max(clocks.boot)));
                each(deadline, expected);
            }
        }
    }
    farthest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_with_the_same_conditions_share_a_number_unless_they_have_a_rate() {
        let lookups = Conditions::none(UdpCalls::Lookups);
        let ends = |until| Conditions { until, deadline: until / 2, ..lookups };
        let rated = Conditions { rate: 9, ..lookups };
        let elsewhere = Conditions { is_elsewhere: 1, ..lookups };
        // The deadline is computed from the end, and does not count.
        let same = Conditions { deadline: 7, ..ends(100) };
        let conditions = [ends(100), rated, rated, lookups, same, elsewhere, ends(101), elsewhere, lookups];
        assert_eq!(in_index(&conditions, UdpCalls::All), [1, 2, 3, 4, 1, 6, 7, 6, 4]);
        assert_eq!(in_index(&conditions, UdpCalls::Lookups), [1, 2, 3, 0, 1, 6, 7, 6, 0]);
    }
}
