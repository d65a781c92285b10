//! The entries: a table beside the trie of an address family, which maps a prefix to its place in the table.
//!
//! The trie has the prefixes of the list in force, and for a time those of the list before or after it. The table tells for
//! both slots which entry of their list covers a prefix. A reload therefore changes only those prefixes in the trie that one
//! of the lists has, and the other one has not. The loader also reads the list in force back from the table.

use crate::address::{Address, V4, V6};
use crate::layout::Shared;
use crate::policy::SLOTS;

/// An address family that has a table of entries.
pub trait Family: Address {
    /// Fills a place to a multiple of the alignment of the address.
    type Padding: Shared + core::fmt::Debug + PartialEq + Default;
}

impl Family for V4 {
    type Padding = [u32; 0];
}

impl Family for V6 {
    type Padding = [u32; 1];
}

/// A place in the table.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct Entry<A: Family> {
    /// The network address.
    pub address: A,
    /// The length of the prefix in bits 0 to 7, and the state of the place in bits 8 to 15: one of [`mod@state`].
    pub length_and_state: u32,
    /// For each slot: which entry of its list covers the prefix.
    pub numbers: [Number; SLOTS],
    /// Zero.
    pub padding: A::Padding,
}

// SAFETY: integers and arrays of them, without padding (asserted below); zeroes are a free place.
unsafe impl<A: Family> Shared for Entry<A> {}

const _: () = assert!(size_of::<Entry<V4>>() == 16);
const _: () = assert!(size_of::<Entry<V6>>() == 32);

/// The states of a place. Only the loader uses them.
pub mod state {
    /// Nothing is there.
    pub const FREE: u8 = 0;
    /// The trie has the prefix.
    pub const LISTED: u8 = 1;
    /// A loader inserts the prefix into the trie or removes it, or was killed while it did: the trie may have the prefix.
    pub const WRITING: u8 = 2;
    /// The trie has the prefix no more, but a packet that is being judged may have found it there before. The place is free
    /// after the next grace period.
    pub const REMOVED: u8 = 3;
}

impl<A: Family> Entry<A> {
    /// The length of the prefix.
    pub fn length(&self) -> u8 {
        self.length_and_state as u8
    }

    /// The state of the place.
    pub fn state(&self) -> u8 {
        (self.length_and_state >> 8) as u8
    }
}

/// The length of a prefix and the state of its place as [`Entry::length_and_state`].
pub const fn length_and_state(length: u8, state: u8) -> u32 {
    length as u32 | (state as u32) << 8
}

/// Which entry of a list covers a prefix: none, or the one with a number. The first numbers are those of the entries that have conditions
/// ([`crate::conditions`]), in the order of the file; the numbers of the others follow, in the same order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct Number(u32);

// SAFETY: an integer.
unsafe impl Shared for Number {}

impl Number {
    /// No entry.
    pub const NONE: Self = Self(0);

    const OF_SHORTER: u32 = 1 << 31;
    /// One more than the greatest number.
    pub const LIMIT: u32 = Self::OF_SHORTER - 1;

    /// The entry with this number, whose prefix it is.
    pub const fn own(number: u32) -> Self {
        Self(number + 1)
    }

    /// The same entry, for a longer prefix that it covers.
    pub const fn for_longer(self) -> Self {
        Self(if self.0 == 0 { 0 } else { self.0 | Self::OF_SHORTER })
    }

    /// Whether an entry covers the prefix.
    #[inline(always)]
    pub const fn covers(self) -> bool {
        self.0 != 0
    }

    /// The number of the entry; `None` if there is none.
    pub const fn get(self) -> Option<u32> {
        (self.0 & !Self::OF_SHORTER).checked_sub(1)
    }

    /// The number of the entry whose prefix it is; `None` if the list has no such entry.
    pub const fn get_own(self) -> Option<u32> {
        if self.0 & Self::OF_SHORTER == 0 { self.get() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_tells_whether_the_entry_has_this_prefix_or_a_shorter_one() {
        assert_eq!((Number::NONE.get(), Number::NONE.get_own()), (None, None));
        assert!(!Number::NONE.covers() && !Number::NONE.for_longer().covers());
        for number in [0, 1, Number::LIMIT - 1] {
            let own = Number::own(number);
            assert_eq!((own.get(), own.get_own(), own.covers()), (Some(number), Some(number), true));
            let longer = own.for_longer();
            assert_eq!((longer.get(), longer.get_own(), longer.covers()), (Some(number), None, true));
            assert_eq!(longer.for_longer(), longer);
        }
    }
}
