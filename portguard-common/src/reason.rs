//! Why packets are dropped. This is the one list: counters, JSON, metrics and text go through it.

/// An enum whose variants stand once, each with the key that users see: `ALL` has them in order, and counts them.
macro_rules! listed {
    ($(#[$about:meta])* pub enum $name:ident { $($(#[$doc:meta])* $variant:ident = $key:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// All of them, in order: each at its own number.
            pub const ALL: [Self; [$($key),+].len()] = [$(Self::$variant),+];

            /// What it is called in JSON and metrics. None is renamed.
            pub const fn key(self) -> &'static str {
                match self { $(Self::$variant => $key,)+ }
            }
        }
    };
}

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

    /// What it is called in JSON and metrics. None is renamed.
    pub const fn key(self) -> &'static str {
        match self {
            Self::NotAllowed => "not_allowed",
            Self::Fault(fault) => fault.key(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_stands_at_its_number_and_has_a_key_of_its_own() {
        for (number, fault) in Fault::ALL.into_iter().enumerate() {
            assert_eq!(fault as usize, number);
        }
        let keys = DropReason::ALL.map(DropReason::key);
        assert_eq!(keys, ["not_allowed", "truncated", "malformed", "too_many_headers"]);
    }
}
