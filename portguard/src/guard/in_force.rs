//! The list that an instance has in force, read back from the kernel.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{Ordering, fence};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use portguard_common::address::{V4, V6};
use portguard_common::calls::UdpCalls;
use portguard_common::conditions::Conditions;
use portguard_common::policy::{FROM_LAST_GOOD, ListRecord};

use crate::allowlist::{Allowlist, Origin, Sha256Sum};
use crate::error::{Error, Result};
use crate::family::Family;
use crate::guard::abi5;
use crate::guard::clock;
use crate::guard::conditions;
use crate::guard::entries::{self, Entries};
use crate::guard::instance::Instance;
use crate::guard::list_maps::ListMaps;
use crate::guard::tries::unreadable;
use crate::printable::printable;

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
    /// The calls that it permits over UDP.
    pub udp_calls: UdpCalls,
    /// The number of entries that have conditions.
    pub conditional: u32,
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
pub(super) fn list(instance: &Instance) -> Option<ListInfo> {
    let (slot, record) = slot_and_record(instance)?;
    let path = record.path.get(..record.path_len as usize)?;
    Some(ListInfo {
        generation: record.generation,
        path: Path::new(OsStr::from_bytes(path)).to_owned(),
        origin: if record.origin == FROM_LAST_GOOD { Origin::LastGood } else { Origin::File },
        sha256: record.sha256.into(),
        prefixes_v4: record.prefixes_v4,
        prefixes_v6: record.prefixes_v6,
        udp_calls: instance.udp_calls(),
        conditional: conditions::of_slot(instance, slot).count,
        loaded_at: clock::unix_time(instance.abi(), record.loaded_at),
    })
}

/// The slot of the list in force, and its description.
pub(super) fn slot_and_record(instance: &Instance) -> Option<(u32, ListRecord)> {
    let read = || {
        let slot = instance.active();
        let record = *instance.policy.read(0).lists.get(slot as usize)?;
        fence(Ordering::Acquire);
        Some((slot, record))
    };
    loop {
        let (slot, record) = read()?;
        // Two reloads since the copy began may have overwritten the record.
        if read().is_some_and(|(again, same)| again == slot && same.generation == record.generation) {
            return (record.generation > 0).then_some((slot, record));
        }
    }
}

/// The prefixes of the list in force, read back from the kernel, in order.
pub(super) fn prefixes(interface: &Path, instance: &Instance) -> Result<Vec<IpNet>> {
    let Some((_, _, v4, v6)) = entries(interface, instance)? else { return Ok(Vec::new()) };
    let mut prefixes: Vec<IpNet> = Vec::with_capacity(v4.len() + v6.len());
    for (wire, length, _) in v4 {
        let prefix =
            Ipv4Net::new(wire.into(), length).map_err(|error| unreadable(interface).caused_by(error))?;
        prefixes.push(prefix.into());
    }
    for (wire, length, _) in v6 {
        let prefix =
            Ipv6Net::new(wire.into(), length).map_err(|error| unreadable(interface).caused_by(error))?;
        prefixes.push(prefix.into());
    }
    // Stable, because they are nearly in order.
    prefixes.sort();
    Ok(prefixes)
}

/// The conditions of the entries of the list in force, in the order of the numbers of their entries.
pub(super) fn conditions(instance: &Instance) -> Vec<Conditions> {
    slot_and_record(instance).map_or_else(Vec::new, |(slot, _)| conditions::read(instance, slot))
}

/// The entries of the list in force that have conditions, with these.
pub(super) fn conditions_of_entries(
    interface: &Path,
    instance: &Instance,
) -> Result<BTreeMap<IpNet, Conditions>> {
    let Some((slot, _, v4, v6)) = entries(interface, instance)? else { return Ok(BTreeMap::new()) };
    let conditions = conditions::read(instance, slot);
    let v4 = v4.into_iter().map(|(wire, length, number)| (IpAddr::from(wire), length, number));
    let v6 = v6.into_iter().map(|(wire, length, number)| (IpAddr::from(wire), length, number));
    let with = v4.chain(v6).filter_map(|(address, length, number)| {
        Some((IpNet::new(address, length), *conditions.get(number as usize)?))
    });
    with.map(|(prefix, conditions)| {
        Ok((prefix.map_err(|error| unreadable(interface).caused_by(error))?, conditions))
    })
    .collect()
}

/// The entries of both families, with the slot and the description of their list.
pub(super) type InForce = (u32, ListRecord, Entries<[u8; 4]>, Entries<[u8; 16]>);

/// The entries of the list in force, in no particular order; `None` if there is no list.
pub(super) fn entries(interface: &Path, instance: &Instance) -> Result<Option<InForce>> {
    loop {
        let Some((slot, record)) = slot_and_record(instance) else { return Ok(None) };
        let (v4, v6) = if instance.has_current_lists() {
            let directory = instance.directory();
            let v4 = entries::of_slot::<V4>(&ListMaps::open(directory)?.entries, slot);
            (v4, entries::of_slot::<V6>(&ListMaps::open(directory)?.entries, slot))
        } else {
            let v4 = abi5::entries(interface, record.generation, "v4")?;
            (v4, abi5::entries(interface, record.generation, "v6")?)
        };
        // Two reloads meanwhile have written another list into the slot.
        if slot_and_record(instance).is_none_or(|(_, same)| same.generation == record.generation) {
            return Ok(Some((slot, record, v4, v6)));
        }
    }
}

/// The entry of the list in force that covers an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Covering {
    /// Its prefix.
    pub prefix: IpNet,
    /// Its number: see [`Allowlist::numbered`].
    pub number: u32,
    /// Its conditions, if it has any.
    pub conditions: Option<Conditions>,
}

/// Looks an address up in the list in force, in the kernel's tries.
pub(super) fn covering(interface: &Path, instance: &Instance, address: IpAddr) -> Result<Option<Covering>> {
    let Some((slot, record)) = slot_and_record(instance) else { return Ok(None) };
    let found = match address {
        IpAddr::V4(v4) if instance.has_current_lists() => {
            entries::covering::<V4>(&mut ListMaps::open(instance.directory())?, slot, v4.octets())?
        }
        IpAddr::V6(v6) if instance.has_current_lists() => {
            entries::covering::<V6>(&mut ListMaps::open(instance.directory())?, slot, v6.octets())?
        }
        IpAddr::V4(v4) => abi5::covering(interface, record.generation, "v4", v4.octets(), 32)?,
        IpAddr::V6(v6) => abi5::covering(interface, record.generation, "v6", v6.octets(), 128)?,
    };
    let covering = |(length, number)| {
        let prefix = IpNet::new(address, length).map_err(|error| unreadable(interface).caused_by(error))?;
        let conditions = conditions::of_entry(instance, slot, number);
        Ok(Covering { prefix: prefix.trunc(), number, conditions })
    };
    found.map(covering).transpose()
}
