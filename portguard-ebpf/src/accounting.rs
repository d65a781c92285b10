//! Counts packets in the cells of this CPU.

use aya_ebpf::helpers::generated::{bpf_get_smp_processor_id, bpf_jiffies64};
use portguard_common::rpc::Request;
use portguard_common::source_table::{Event, Record, Records, STAMP_SHIFT, Stamp, WAYS};
use portguard_common::totals::Totals;
use portguard_common::verdict::Fault;

use crate::family::Family;
use crate::maps::{self, Cells, TOTALS};

/// The number of this CPU, which selects its cells.
#[inline(always)]
pub(crate) fn cpu() -> u32 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_get_smp_processor_id() }
}

/// The totals of a CPU. A caller may pass the number of its own CPU only, and may hold one reference at a time.
#[inline(always)]
pub(crate) fn totals_of(cpu: u32) -> Option<&'static mut Totals> {
    // SAFETY: the map holds zeroed or written `Totals`, no other CPU writes to this CPU's, and the caller holds no other
    // reference.
    TOTALS.get_ptr_mut(cpu).map(|totals| unsafe { &mut *totals })
}

/// The cells of this CPU, for one packet of `bytes`.
pub(crate) struct Account {
    cpu: u32,
    bytes: u64,
    totals: Option<&'static mut Totals>,
}

impl Account {
    #[inline(always)]
    pub(crate) fn open(bytes: u64) -> Self {
        let cpu = cpu();
        Self { cpu, bytes, totals: totals_of(cpu) }
    }

    #[inline(always)]
    pub(crate) fn allowed(&mut self) {
        if let Some(totals) = &mut self.totals {
            totals.allowed.add_packet(self.bytes);
        }
    }

    #[inline(always)]
    pub(crate) fn rejected(&mut self, fault: Fault) {
        if let Some(totals) = &mut self.totals {
            totals.fault(fault).add_packet(self.bytes);
        }
    }

    #[inline(always)]
    pub(crate) fn let_through_in_audit_mode(&mut self) {
        if let Some(totals) = &mut self.totals {
            totals.would_drop.add_packet(self.bytes);
        }
    }

    #[inline(always)]
    pub(crate) fn denied<A: Family>(&mut self, source: A, request: Request) {
        let is_attributed = self.attribute(source, request);
        if let Some(totals) = &mut self.totals {
            let requests = &mut totals.requests[request.index()];
            *requests = requests.wrapping_add(1);
            if !is_attributed {
                totals.unattributed.add_packet(self.bytes);
            }
        }
    }

    /// Counts the packet in the source table; false if the table has no bucket for it.
    #[inline(always)]
    fn attribute<A: Family>(&self, source: A, request: Request) -> bool {
        let hash = source.hash(maps::seed);
        let bits = maps::bucket_bits();
        // The upper bits of the hash select the bucket, and the lower ones the way.
        let index = (self.cpu << bits) + (u64::from(hash) << bits >> 32) as u32;
        let Some(bucket) = A::buckets().get_ptr_mut(index) else { return false };
        let event = Event { source, hash, bytes: self.bytes, request, now: now() };
        // SAFETY: the map holds zeroed or written buckets, and no other CPU writes to this CPU's slice.
        unsafe { &mut *bucket }.count(&event, &mut RecordsOf { records: A::records(), bucket: index });
        true
    }
}

#[inline(always)]
fn now() -> Stamp {
    // SAFETY: the helper has no preconditions.
    (unsafe { bpf_jiffies64() } >> STAMP_SHIFT) as Stamp
}

/// The records of a bucket in their map.
struct RecordsOf {
    records: &'static Cells<Record>,
    bucket: u32,
}

impl Records for RecordsOf {
    #[inline(always)]
    fn record(&mut self, way: usize) -> Option<&mut Record> {
        let record = self.records.get_ptr_mut(self.bucket * WAYS as u32 + way as u32)?;
        // SAFETY: the map holds zeroed or written records, no other CPU writes to this CPU's, and the algorithm holds
        // one record at a time.
        Some(unsafe { &mut *record })
    }
}
