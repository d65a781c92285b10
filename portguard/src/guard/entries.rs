//! Brings the table of entries, and the trie, from the list in force to another one.
//!
//! The trie has the prefixes of both lists while the other one is filled in. Only prefixes that one of the two lists has are
//! inserted or removed. For each prefix, the table tells which entry of each list covers it: see
//! [`portguard_common::entry`].

use std::cmp::Ordering;

use aya::maps::lpm_trie::Key;
use portguard_common::entry::{Entry, Number, length_and_state, state};
use portguard_common::policy::SLOTS;

use crate::error::Result;
use crate::guard::list_maps::{ListMaps, Listed};
use crate::guard::mapped::Mapped;
use crate::guard::tries::cannot_fill;

/// The entries of a list in an address family: network address, length of the prefix, number in the file. They are in order.
pub(super) type Entries<W> = Vec<(W, u8, u32)>;

/// Writes a list into a slot that is not in force. `change` is what [`plan`] has found for it. `done` gets the number of entries that
/// the trie has.
///
/// # Errors
/// There is no room, or the kernel refuses. The list in force is unchanged.
pub(super) fn fill<A: Listed>(
    maps: &mut ListMaps<A>,
    slot: u32,
    list: &Entries<A::Wire>,
    change: Change<A>,
    mut done: impl FnMut(usize),
) -> Result<()> {
    let table = Table(&maps.entries);
    let Change { kept, new } = change;
    let mut free = table.places(|entry| entry.state() == state::FREE);
    let mut placed = Vec::with_capacity(new.len());
    for entry in new {
        let place = free.next().ok_or_else(|| cannot_fill().because("its maps have no room for it"))?;
        placed.push((place, entry));
    }
    for (place, number) in kept {
        table.set_number(place, slot, number);
    }
    for (place, entry) in placed {
        table.set(place, entry);
    }
    // Of those that a killed loader left, it is unknown whether the trie has them. To insert one twice does no harm.
    let places: Vec<_> = table.places(|entry| entry.state() == state::WRITING).collect();
    let keys: Vec<_> = places.iter().map(|place| key(&maps.entries.read(*place))).collect();
    let before = list.len() - keys.len().min(list.len());
    maps.trie.insert(&keys, &places, |inserted| done(before + inserted))?;
    for (place, key) in places.iter().zip(&keys) {
        table.set_state(*place, key.prefix_len() as u8, state::LISTED);
    }
    maps.trie.verify(&keys, &places)
}

/// What changes in the table when a list is written into a slot that is not in force, and whether there is room for it. `active` is the
/// slot of the list in force, if there is one.
pub(super) fn plan<A: Listed>(
    maps: &ListMaps<A>,
    slot: u32,
    active: Option<u32>,
    list: &Entries<A::Wire>,
) -> (Change<A>, Room) {
    let table = Table(&maps.entries);
    let change = Change::between(&table.present(), list, slot, active);
    let new = change.new.len();
    let free = table.places(|entry| entry.state() == state::FREE).count();
    let removed = table.places(|entry| entry.state() == state::REMOVED).count();
    let room = match () {
        () if new <= free => Room::Now,
        () if new <= free + removed => Room::AfterGracePeriod,
        () => Room::None,
    };
    (change, room)
}

/// Whether there is room for a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Room {
    /// There is.
    Now,
    /// There is when packets that are being judged now use no entries any more that were removed.
    AfterGracePeriod,
    /// There is not.
    None,
}

/// Frees the places of the entries that were removed from the trie before the last grace period.
pub(super) fn free_removed<A: Listed>(maps: &ListMaps<A>) {
    let table = Table(&maps.entries);
    for place in table.places(|entry| entry.state() == state::REMOVED) {
        table.set_state(place, 0, state::FREE);
    }
}

/// Removes the prefixes from the trie that the list in force does not have.
pub(super) fn remove_others<A: Listed>(maps: &mut ListMaps<A>, active: u32) -> Result<()> {
    let table = Table(&maps.entries);
    let is_other =
        |entry: &Entry<A>| is_present(entry) && entry.numbers[active as usize % SLOTS].get_own().is_none();
    let others: Vec<_> = table.places(is_other).collect();
    let keys: Vec<_> = others.iter().map(|place| key(&maps.entries.read(*place))).collect();
    // If this loader is killed meanwhile, a list that has such a prefix inserts it again.
    for (place, key) in others.iter().zip(&keys) {
        table.set_state(*place, key.prefix_len() as u8, state::WRITING);
    }
    maps.trie.remove(&keys)?;
    for place in others {
        table.set_state(place, 0, state::REMOVED);
    }
    Ok(())
}

/// The entries of the list in a slot, in no particular order.
pub(super) fn of_slot<A: Listed>(entries: &Mapped<Entry<A>>, slot: u32) -> Entries<A::Wire> {
    let entries = (0..entries.len()).map(|place| entries.read(place)).filter(is_present);
    entries
        .filter_map(|entry| {
            let number = entry.numbers[slot as usize % SLOTS].get_own()?;
            Some((entry.address.to_wire(), entry.length(), number))
        })
        .collect()
}

/// The entry of the list in a slot that covers an address: the length of its prefix, and its number in the file.
pub(super) fn covering<A: Listed>(
    maps: &mut ListMaps<A>,
    slot: u32,
    address: A::Wire,
) -> Result<Option<(u8, u32)>> {
    let mut length = A::WIDTH;
    // Each round finds a shorter prefix.
    while let Some(place) = maps.trie.longest(address, length)? {
        let entry = maps.entries.read(place.min(maps.entries.len() - 1));
        let number = entry.numbers[slot as usize % SLOTS];
        if let Some(number) = number.get_own() {
            return Ok(Some((entry.length(), number)));
        }
        let Some(shorter) = entry.length().checked_sub(1).filter(|_| number.covers()) else { break };
        length = shorter;
    }
    Ok(None)
}

fn is_present<A: Listed>(entry: &Entry<A>) -> bool {
    matches!(entry.state(), state::LISTED | state::WRITING)
}

fn key<A: Listed>(entry: &Entry<A>) -> Key<A::Wire> {
    Key::new(entry.length().into(), entry.address.to_wire())
}

/// The table, in memory that the kernel program reads.
struct Table<'m, A: Listed>(&'m Mapped<Entry<A>>);

impl<A: Listed> Table<'_, A> {
    fn places(&self, is_one: impl Fn(&Entry<A>) -> bool) -> impl Iterator<Item = u32> {
        (0..self.0.len()).filter(move |place| is_one(&self.0.read(*place)))
    }

    /// The entries whose prefixes the trie has, or may have, in order.
    fn present(&self) -> Vec<Present<A>> {
        let mut present: Vec<_> = (0..self.0.len())
            .map(|place| (place, self.0.read(place)))
            .filter(|(_, entry)| is_present(entry))
            .map(|(place, entry)| Present { wire: entry.address.to_wire(), place, entry })
            .collect();
        // The places of a list that was filled into an empty table are in order: this sort then takes one pass.
        present.sort_by_key(Present::order);
        present
    }

    fn set(&self, place: u32, entry: Entry<A>) {
        // SAFETY: the place is mapped, and free: the program does not read it.
        unsafe { self.0.element(place).write_volatile(entry) };
    }

    fn set_number(&self, place: u32, slot: u32, number: Number) {
        // SAFETY: the place is mapped; the slot is not in force, so the program does not read the number.
        unsafe { (&raw mut (*self.0.element(place)).numbers[slot as usize % SLOTS]).write_volatile(number) };
    }

    fn set_state(&self, place: u32, length: u8, state: u8) {
        // SAFETY: the place is mapped, and the program does not read this field.
        unsafe {
            (&raw mut (*self.0.element(place)).length_and_state)
                .write_volatile(length_and_state(length, state));
        }
    }
}

/// An entry whose prefix the trie has.
struct Present<A: Listed> {
    wire: A::Wire,
    place: u32,
    entry: Entry<A>,
}

impl<A: Listed> Present<A> {
    fn prefix(&self) -> (A::Wire, u8) {
        (self.wire, self.entry.length())
    }

    /// What prefixes are ordered by.
    fn order(&self) -> (u128, u8) {
        (self.entry.address.upper_bits(), self.entry.length())
    }
}

/// What changes in the table when a list is written into a slot.
pub(super) struct Change<A: Listed> {
    /// The entries that are there, by place: the number in the slot.
    kept: Vec<(u32, Number)>,
    /// The entries that are not there.
    new: Vec<Entry<A>>,
}

impl<A: Listed> Change<A> {
    /// The change from the entries that are there to a list with these entries. Both are in order.
    fn between(present: &[Present<A>], list: &Entries<A::Wire>, slot: u32, active: Option<u32>) -> Self {
        let mut change = Self { kept: Vec::with_capacity(present.len()), new: Vec::new() };
        let (mut before, mut after) = (Covers::<A>::default(), Covers::<A>::default());
        let in_force =
            |entry: &Entry<A>| active.map_or(Number::NONE, |active| entry.numbers[active as usize % SLOTS]);
        let (mut present, mut list) = (present.iter().peekable(), list.iter().peekable());
        loop {
            let order = match (present.peek(), list.peek()) {
                (None, None) => return change,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(there), Some((wire, length, _))) => {
                    there.order().cmp(&(A::from_wire(*wire).upper_bits(), *length))
                }
            };
            let there = if order == Ordering::Greater { None } else { present.next() };
            let listed = if order == Ordering::Less { None } else { list.next() };
            let Some((wire, length)) =
                there.map(Present::prefix).or(listed.map(|(wire, length, _)| (*wire, *length)))
            else {
                return change;
            };
            let address = A::from_wire(wire);
            let bits = address.upper_bits();
            let number = match listed {
                Some((_, _, number)) => after.own(bits, length, Number::own(*number)),
                None => after.of(bits, length),
            };
            match there {
                Some(there) => {
                    let number_before = in_force(&there.entry);
                    if number_before.get_own().is_some() {
                        before.own(bits, length, number_before);
                    }
                    change.kept.push((there.place, number));
                }
                None => {
                    let mut numbers = [Number::NONE; SLOTS];
                    if let Some(active) = active {
                        numbers[active as usize % SLOTS] = before.of(bits, length);
                    }
                    numbers[slot as usize % SLOTS] = number;
                    let length_and_state = length_and_state(length, state::WRITING);
                    change.new.push(Entry {
                        address,
                        length_and_state,
                        numbers,
                        padding: A::Padding::default(),
                    });
                }
            }
        }
    }
}

/// The entries of a list that cover a prefix, the shortest first. Prefixes come in order.
struct Covers<A> {
    entries: Vec<(u128, u8, Number)>,
    family: std::marker::PhantomData<A>,
}

impl<A> Default for Covers<A> {
    fn default() -> Self {
        Self { entries: Vec::new(), family: std::marker::PhantomData }
    }
}

impl<A> Covers<A> {
    /// The number of the longest entry that covers a prefix.
    fn of(&mut self, bits: u128, length: u8) -> Number {
        while let Some((covering, shorter, number)) = self.entries.last() {
            let differs = (bits ^ covering).leading_zeros() < u32::from(*shorter);
            if *shorter <= length && !differs {
                return number.for_longer();
            }
            self.entries.pop();
        }
        Number::NONE
    }

    /// An entry of the list, which covers prefixes after it.
    fn own(&mut self, bits: u128, length: u8, number: Number) -> Number {
        self.of(bits, length);
        self.entries.push((bits, length, number));
        number
    }
}

#[cfg(test)]
mod tests {
    use portguard_common::address::V4;
    use proptest::prelude::*;

    use super::*;

    /// Prefixes near each other, so that many cover others.
    fn list() -> impl Strategy<Value = Vec<(u32, u8)>> {
        proptest::collection::btree_set((0_u32..64, 26_u8..=32), 0..24).prop_map(|prefixes| {
            let network = |(host, length): (u32, u8)| (host & !((1 << (32 - length)) - 1), length);
            let prefixes: std::collections::BTreeSet<_> = prefixes.into_iter().map(network).collect();
            prefixes.into_iter().collect()
        })
    }

    fn numbered(list: &[(u32, u8)]) -> Entries<[u8; 4]> {
        (0..).zip(list).map(|(number, (network, length))| (network.to_be_bytes(), *length, number)).collect()
    }

    /// Which entry of a list covers a prefix, found by looking at each.
    fn naive(list: &[(u32, u8)], (network, length): (u32, u8)) -> Number {
        let covers = |&(_, (covering, shorter)): &(u32, &(u32, u8))| {
            *shorter <= length && (network ^ covering).leading_zeros() >= u32::from(*shorter)
        };
        let longest = (0..).zip(list).filter(covers).max_by_key(|(_, (_, shorter))| *shorter);
        match longest {
            Some((number, (_, shorter))) if *shorter == length => Number::own(number),
            Some((number, _)) => Number::own(number).for_longer(),
            None => Number::NONE,
        }
    }

    /// The table after the lists, each of which was written into the slot that was not in force.
    fn written(lists: &[Vec<(u32, u8)>]) -> Vec<Present<V4>> {
        let mut present: Vec<Present<V4>> = Vec::new();
        for (number, list) in (0_u32..).zip(lists) {
            let (slot, active) = (number % 2, number.checked_sub(1).map(|before| before % 2));
            let change = Change::between(&present, &numbered(list), slot, active);
            for (place, number) in change.kept {
                let there = present.iter_mut().find(|there| there.place == place).expect("it is there");
                there.entry.numbers[slot as usize] = number;
            }
            let first = present.iter().map(|there| there.place + 1).max().unwrap_or(0);
            let new = (first..).zip(change.new);
            present.extend(new.map(|(place, entry)| Present { wire: entry.address.to_wire(), place, entry }));
            present.sort_by_key(Present::order);
        }
        present
    }

    proptest! {
        /// The trie has the prefixes of both lists, and each place tells for both slots what covers its prefix.
        #[test]
        fn each_place_names_the_entry_of_both_lists(lists in proptest::collection::vec(list(), 1..4)) {
            let present = written(&lists);
            for (number, list) in lists.iter().enumerate().rev().take(2) {
                for there in &present {
                    let prefix = (u32::from_be_bytes(there.wire), there.entry.length());
                    prop_assert_eq!(there.entry.numbers[number % 2], naive(list, prefix), "{:?}", prefix);
                }
                for prefix in list {
                    let is_there = |there: &Present<V4>| there.prefix() == (prefix.0.to_be_bytes(), prefix.1);
                    prop_assert!(present.iter().any(is_there), "{:?} is in the trie", prefix);
                }
            }
        }
    }
}
