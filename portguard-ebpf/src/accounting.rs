//! Counts a verdict and turns it into an action.

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::btf_maps::Array;
use aya_ebpf::helpers::generated::{bpf_get_smp_processor_id, bpf_jiffies64};
use portguard_common::sources::{Bucket, Event, Key, Record, Records, STAMP_SHIFT, Seed, Stamp, WAYS};
use portguard_common::totals::Totals;
use portguard_common::transport::{Protocol, Source};
use portguard_common::verdict::{Knock, Verdict};

use crate::maps::{self, BUCKETS_V4, BUCKETS_V6, POLICY, RECORDS_V4, RECORDS_V6, TOTALS};

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

    /// Counts the verdict and gives the action.
    #[inline(always)]
    pub(crate) fn settle(&self, verdict: Verdict<'_>) -> u32 {
        match verdict {
            Verdict::Pass => XDP_PASS,
            Verdict::Allow => {
                if let Some(totals) = self.totals() {
                    totals.allowed.add_packet(self.bytes);
                }
                XDP_PASS
            }
            Verdict::Deny(knock) => {
                self.attribute(knock);
                self.drop_unless_audit()
            }
            Verdict::Reject(fault) => {
                if let Some(totals) = self.totals() {
                    totals.fault(fault).add_packet(self.bytes);
                }
                self.drop_unless_audit()
            }
        }
    }

    #[inline(always)]
    fn drop_unless_audit(&self) -> u32 {
        let Some(policy) = POLICY.get_ptr(0) else { return XDP_DROP };
        // SAFETY: the map holds one `Policy` for as long as the program runs; the loader stores the field in one
        // aligned write.
        if unsafe { (&raw const (*policy).audit).read_volatile() } == 0 {
            return XDP_DROP;
        }
        if let Some(totals) = self.totals() {
            totals.would_drop.add_packet(self.bytes);
        }
        XDP_PASS
    }

    #[inline(always)]
    fn totals(&self) -> Option<&mut Totals> {
        // SAFETY: the map holds zeroed or written `Totals`, and no other CPU writes to this CPU's.
        TOTALS.get_ptr_mut(self.cpu).map(|totals| unsafe { &mut *totals })
    }

    #[inline(always)]
    fn attribute(&self, knock: Knock<'_>) {
        let counted = match knock.source {
            Source::V4(&address) => {
                self.count(u32::from_ne_bytes(address), knock.protocol, &BUCKETS_V4, &RECORDS_V4)
            }
            Source::V6(address) => self.count(words(address), knock.protocol, &BUCKETS_V6, &RECORDS_V6),
        };
        if !counted && let Some(totals) = self.totals() {
            totals.unattributed.add_packet(self.bytes);
        }
    }

    /// Whether the tables had a place for the packet.
    #[inline(always)]
    fn count<K: Key, const F: usize>(
        &self,
        source: K,
        protocol: Protocol,
        buckets: &Array<Bucket<K>, 1, F>,
        records: &Array<Record, 1, F>,
    ) -> bool {
        let seed: Seed = maps::seed();
        let hash = source.hash(&seed);
        let bits = maps::bucket_bits();
        // The upper bits pick the bucket, the lower ones the way.
        let index = (self.cpu << bits) + (u64::from(hash) << bits >> 32) as u32;
        let Some(bucket) = buckets.get_ptr_mut(index) else { return false };
        let event = Event { source, hash, bytes: self.bytes, protocol, now: now() };
        // SAFETY: the map holds zeroed or written buckets, and no other CPU writes to this CPU's slice.
        unsafe { &mut *bucket }.count(&event, &RecordsOf { records, bucket: index });
        true
    }
}

/// An IPv6 address as a key.
#[inline(always)]
fn words(address: &[u8; 16]) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, rest @ ..] = *address;
    [u64::from_ne_bytes([a, b, c, d, e, f, g, h]), u64::from_ne_bytes(rest)]
}

#[inline(always)]
fn now() -> Stamp {
    // SAFETY: the helper has no preconditions.
    (unsafe { bpf_jiffies64() } >> STAMP_SHIFT) as Stamp
}

/// The records of a bucket in their map.
struct RecordsOf<'m, const F: usize> {
    records: &'m Array<Record, 1, F>,
    bucket: u32,
}

impl<const F: usize> Records for RecordsOf<'_, F> {
    #[inline(always)]
    fn record(&self, way: usize) -> Option<&mut Record> {
        let record = self.records.get_ptr_mut(self.bucket * WAYS as u32 + way as u32)?;
        // SAFETY: the map holds zeroed or written records, no other CPU writes to this CPU's, and the algorithm holds
        // one record at a time.
        Some(unsafe { &mut *record })
    }
}
