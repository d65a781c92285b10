//! Counts packets in the cells of this CPU.

use aya_ebpf::helpers::generated::{bpf_get_smp_processor_id, bpf_jiffies64};
use portguard_common::sources::{Event, Record, Records, STAMP_SHIFT, Stamp, WAYS};
use portguard_common::totals::{Count, Totals};
use portguard_common::verdict::{Fault, Knock};

use crate::family::Family;
use crate::maps::{self, Cells, TOTALS};

/// The cells of this CPU, for one packet of `bytes`.
pub(crate) struct Account {
    cpu: u32,
    bytes: u64,
}

impl Account {
    #[inline(always)]
    pub(crate) fn open(bytes: u64) -> Self {
        // SAFETY: the helper has no preconditions.
        Self { cpu: unsafe { bpf_get_smp_processor_id() }, bytes }
    }

    #[inline(always)]
    pub(crate) fn allowed(&self) {
        self.add(|totals| &mut totals.allowed);
    }

    #[inline(always)]
    pub(crate) fn rejected(&self, fault: Fault) {
        self.add(|totals| totals.fault(fault));
    }

    #[inline(always)]
    pub(crate) fn let_through_in_audit_mode(&self) {
        self.add(|totals| &mut totals.would_drop);
    }

    #[inline(always)]
    pub(crate) fn denied<A: Family>(&self, knock: Knock<A>) {
        if !self.attribute(knock) {
            self.add(|totals| &mut totals.unattributed);
        }
    }

    #[inline(always)]
    fn add(&self, counter: impl FnOnce(&mut Totals) -> &mut Count) {
        if let Some(totals) = TOTALS.get_ptr_mut(self.cpu) {
            // SAFETY: the map holds zeroed or written `Totals`, and no other CPU writes to this CPU's.
            counter(unsafe { &mut *totals }).add_packet(self.bytes);
        }
    }

    /// Whether the source table had a place for the packet.
    #[inline(always)]
    fn attribute<A: Family>(&self, knock: Knock<A>) -> bool {
        let source = knock.source;
        let hash = source.hash(&maps::seed());
        let bits = maps::bucket_bits();
        // The upper bits pick the bucket, the lower ones the way.
        let index = (self.cpu << bits) + (u64::from(hash) << bits >> 32) as u32;
        let Some(bucket) = A::buckets().get_ptr_mut(index) else { return false };
        let event = Event { source, hash, bytes: self.bytes, protocol: knock.protocol, now: now() };
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
