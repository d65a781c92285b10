//! Something for each reason to drop a packet, which JSON has by the key of the reason.

use std::fmt;
use std::marker::PhantomData;

use portguard_common::reason::{ByDenial, ByFault, Denial, DropReason, Fault};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap as _, Serializer};

/// A reason in text: its key, as words.
pub fn name(reason: DropReason) -> String {
    reason.key().replace('_', " ")
}

/// Something for each [`Denial`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PerDenial<T>(pub ByDenial<T>);

impl<T: Copy> PerDenial<T> {
    /// Each, with its reason, in the order that users see.
    pub fn each(self) -> impl Iterator<Item = (Denial, T)> {
        Denial::ALL.into_iter().zip(self.0)
    }

    /// Those of sources that an entry of the list covers: all but [`Denial::NotAllowed`].
    pub fn of_listed(self) -> impl Iterator<Item = (Denial, T)> {
        self.each().filter(|(denial, _)| *denial != Denial::NotAllowed)
    }
}

impl<T: Copy + Serialize> Serialize for PerDenial<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.each().map(|(denial, value)| (denial.key(), value)))
    }
}

/// Something for each [`DropReason`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ByReason<T> {
    /// [`DropReason::Denied`].
    pub denied: ByDenial<T>,
    /// [`DropReason::Fault`].
    pub faults: ByFault<T>,
}

impl<T> ByReason<T> {
    /// Each, with its reason, in the order that users see.
    pub fn each(self) -> impl Iterator<Item = (DropReason, T)> {
        let denied = Denial::ALL.map(DropReason::Denied).into_iter().zip(self.denied);
        denied.chain(Fault::ALL.map(DropReason::Fault).into_iter().zip(self.faults))
    }

    /// What something else is for each reason.
    pub fn map<U>(self, mut change: impl FnMut(T) -> U) -> ByReason<U> {
        ByReason { denied: self.denied.map(&mut change), faults: self.faults.map(change) }
    }
}

impl<T: Copy + Serialize> Serialize for ByReason<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(DropReason::ALL.len()))?;
        for (reason, value) in (*self).each() {
            map.serialize_entry(reason.key(), &value)?;
        }
        map.end()
    }
}

impl<'de, T: Default + Deserialize<'de>> Deserialize<'de> for ByReason<T> {
    /// A reason that is missing was not known when this was written; one that is not known is left out.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reasons<T>(PhantomData<T>);

        impl<'de, T: Default + Deserialize<'de>> Visitor<'de> for Reasons<T> {
            type Value = ByReason<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map with reasons to drop packets")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut reasons = ByReason::default();
                while let Some(key) = map.next_key::<String>()? {
                    let place = match DropReason::from_key(&key) {
                        Some(DropReason::Denied(denial)) => reasons.denied.get_mut(denial as usize),
                        Some(DropReason::Fault(fault)) => reasons.faults.get_mut(fault as usize),
                        None => None,
                    };
                    match place {
                        Some(place) => *place = map.next_value()?,
                        None => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(reasons)
            }
        }

        deserializer.deserialize_map(Reasons(PhantomData))
    }
}
