//! Why packets are dropped. This is the one list: counters, JSON, metrics and text go through it.

use crate::listed;

listed! {
    /// Why an IP packet is dropped without a look-up in the allowlist. No working sender sends such packets.
    pub enum Fault {
        /// The frame ends within a header that decides about the port.
        Truncated = "truncated",
        /// A header contradicts itself.
        Malformed = "malformed",
        /// More VLAN tags or extension headers than [`crate::frame::MAX_VLAN_TAGS`] and
        /// [`crate::ipv6::MAX_EXTENSION_HEADERS`].
        TooManyHeaders = "too_many_headers",
    }
}

/// Something for each [`Fault`], at its number.
pub type ByFault<T> = [T; Fault::ALL.len()];

/// Why a packet is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// It is for the guarded port, and no entry covers its source.
    NotAllowed,
    /// Whatever its source.
    Fault(Fault),
}

impl DropReason {
    /// All of them, in the order that users see.
    pub const ALL: [Self; 1 + Fault::ALL.len()] = {
        let mut all = [Self::NotAllowed; 1 + Fault::ALL.len()];
        let mut number = 0;
        while number < Fault::ALL.len() {
            all[1 + number] = Self::Fault(Fault::ALL[number]);
            number += 1;
        }
        all
    };

    /// The position of its counter in [`crate::totals::Totals::drops`].
    #[inline(always)]
    pub const fn number(self) -> usize {
        match self {
            Self::NotAllowed => 0,
            Self::Fault(fault) => 1 + fault as usize,
        }
    }

    /// What it is called in JSON and metrics. None is renamed.
    pub const fn key(self) -> &'static str {
        match self {
            Self::NotAllowed => "not_allowed",
            Self::Fault(fault) => fault.key(),
        }
    }

    /// The one with this key.
    pub fn from_key(key: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.key() == key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_key_of_its_own() {
        for (number, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(DropReason::from_key(reason.key()), Some(reason));
            assert_eq!(reason.number(), number);
        }
        assert_eq!(DropReason::ALL[0].key(), "not_allowed");
    }
}
