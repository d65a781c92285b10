//! Writes a sample of the denied packets into the ring that the service reads.
//!
//! The rate is a constant of the loaded program. If it is zero, the verifier sees that this code is never reached, and
//! removes it.

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use portguard_common::conditions::take;
use portguard_common::drop_log::Event;

use crate::accounting::Cells;
use crate::budget::InMap;
use crate::clock::SECOND;
use crate::denied::Packet;
use crate::family::Family;
use crate::hook::Hook;
use crate::maps::{self, LOG, LOG_BUDGET};

/// Logs a denied packet, if the log is on and has room.
#[inline(always)]
pub(crate) fn denied<A: Family>(hook: impl Hook, source: A, packet: Packet) {
    if maps::log_rate() != 0 {
        hook.log(
            source.words(),
            packet.pack() | u64::from(A::VERSION) << VERSION_SHIFT,
            packet.count.packets,
        );
    }
}

/// The position of the version of IP, above the bits of a packed [`Packet`].
const VERSION_SHIFT: u32 = 56;

/// Writes an entry for a denied packet, or counts the packet as not logged. `source` is in the form of [`Event::source`];
/// `packed` is a packed [`Packet`] with the version of IP, and stands for so many packets.
#[inline(always)]
pub(crate) fn write(hook: impl Hook, source: [u64; 2], packed: u64, packets: u64) {
    let packet = Packet::unpack(packed, packets);
    if !write_entry(hook, source, packet, (packed >> VERSION_SHIFT & 0xf) as u8)
        && let Some(mut cells) = Cells::of_this_cpu()
    {
        let totals = cells.totals();
        totals.not_logged = totals.not_logged.wrapping_add(packets);
    }
}

/// Writes an entry; false if there is no budget or no room for it.
#[inline(always)]
fn write_entry(hook: impl Hook, source: [u64; 2], packet: Packet, ip_version: u8) -> bool {
    // SAFETY: the helper has no preconditions.
    let at = unsafe { bpf_ktime_get_ns() };
    let Some(log) = LOG_BUDGET.get_ptr_mut(0) else { return false };
    // SAFETY: the element of the map, whose record is aligned and begins with its budget. Nothing else accesses it.
    let budget = unsafe { InMap::new(log.cast()) };
    if !take(&budget, maps::log_rate(), (at / SECOND) as u32, 1) {
        return false;
    }
    let Some(mut entry) = LOG.reserve(0) else { return false };
    entry.write(Event {
        at,
        source,
        ifindex: hook.interface(),
        bytes: packet.count.bytes as u32,
        port_be: packet.source_port_be,
        ip_version,
        request: packet.request.index() as u8,
        dropped: u8::from(!maps::is_audit()),
        reason: packet.reason as u8,
        reserved: [0; 2],
    });
    entry.submit(0);
    true
}
