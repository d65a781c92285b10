//! Why packets are dropped. This is the one list: counters, JSON, metrics and text go through it.

use crate::listed;
use crate::totals::MOST_REASONS;

listed! {
    /// Why a packet for the guarded port is denied: for its source, and what the allowlist says of it. Denied packets are counted by source.
    pub enum Denial {
        /// No entry covers its source.
        NotAllowed = "not_allowed",
        /// An entry covers its source, and permits no such call over UDP ([`crate::calls`]).
        CallNotAllowed = "call_not_allowed",
        /// The entry that covers its source is for other interfaces ([`crate::conditions`]).
        WrongInterface = "wrong_interface",
        /// The entry that covers its source has ended.
        Expired = "expired",
        /// The entry that covers its source has let pass as many packets over UDP as it may in this second.
        RateExceeded = "rate_exceeded",
    }
}

impl Denial {
    /// The one with this number. Fails closed: all other numbers are [`Denial::NotAllowed`].
    #[inline(always)]
    pub const fn from_number(number: u8) -> Self {
        match number {
            1 => Self::CallNotAllowed,
            2 => Self::WrongInterface,
            3 => Self::Expired,
            4 => Self::RateExceeded,
            _ => Self::NotAllowed,
        }
    }
}

/// Something for each [`Denial`], at its number.
pub type ByDenial<T> = [T; Denial::ALL.len()];

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
    /// It is for the guarded port, and its source may not send it.
    Denied(Denial),
    /// Whatever its source.
    Fault(Fault),
}

impl DropReason {
    /// All of them, in the order that users see.
    pub const ALL: [Self; Denial::ALL.len() + Fault::ALL.len()] = {
        let mut all = [Self::Denied(Denial::NotAllowed); Denial::ALL.len() + Fault::ALL.len()];
        let mut number = 0;
        while number < all.len() {
            all[number] = if number < Denial::ALL.len() {
                Self::Denied(Denial::ALL[number])
            } else {
                Self::Fault(Fault::ALL[number - Denial::ALL.len()])
            };
            number += 1;
        }
        all
    };

    /// The position of its counter in [`crate::totals::Totals::drops`]. The counters of guards that are attached keep theirs: faults come
    /// behind the first denial, and the other denials are counted from the end.
    #[inline(always)]
    pub const fn number(self) -> usize {
        match self {
            Self::Denied(Denial::NotAllowed) => 0,
            Self::Fault(fault) => 1 + fault as usize,
            Self::Denied(denial) => MOST_REASONS - denial as usize,
        }
    }

    /// What it is called in JSON and metrics. None is renamed.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Denied(denial) => denial.key(),
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
    fn each_reason_has_a_key_and_a_counter_of_its_own() {
        let mut taken = [false; MOST_REASONS];
        for reason in DropReason::ALL {
            assert_eq!(DropReason::from_key(reason.key()), Some(reason));
            assert!(!core::mem::replace(&mut taken[reason.number()], true), "{reason:?}");
        }
    }

    #[test]
    fn each_denial_is_found_by_its_number() {
        assert!((0..).zip(Denial::ALL).all(|(number, denial)| Denial::from_number(number) == denial));
        assert_eq!(Denial::from_number(Denial::ALL.len() as u8), Denial::NotAllowed);
    }

    #[test]
    fn counters_of_guards_that_are_attached_keep_their_places() {
        let places = [
            ("not_allowed", 0),
            ("truncated", 1),
            ("malformed", 2),
            ("too_many_headers", 3),
            ("call_not_allowed", 15),
            ("wrong_interface", 14),
            ("expired", 13),
            ("rate_exceeded", 12),
        ];
        for (key, number) in places {
            assert_eq!(DropReason::from_key(key).map(DropReason::number), Some(number), "{key}");
        }
    }
}
