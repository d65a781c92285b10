//! Counts packets in the cells of this CPU.

use core::marker::PhantomData;

use aya_ebpf::helpers::generated::{bpf_get_smp_processor_id, bpf_jiffies64};
use portguard_common::cells::CellsLayout;
use portguard_common::reason::{Denial, DropReason};
use portguard_common::rpc::{Request, Requests};
use portguard_common::source_table::{Bucket, Event, Record, STAMP_SHIFT, Stamp, WAYS, Ways};
use portguard_common::totals::{Count, Totals};

use crate::family::Family;
use crate::maps::{self, CELLS};

/// The number of this CPU, which selects its cells.
#[inline(always)]
pub(crate) fn cpu() -> u32 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_get_smp_processor_id() }
}

/// The cells of this CPU. No other CPU writes to them.
#[derive(Clone, Copy)]
pub(crate) struct Cells {
    cpu: u32,
    start: *mut u8,
}

impl Cells {
    #[inline(always)]
    pub(crate) fn of_this_cpu() -> Option<Self> {
        let cpu = cpu();
        CELLS.get_ptr_mut(cpu).map(|start| Self { cpu, start: start.cast() })
    }

    /// The totals. A caller may hold one reference at a time.
    #[inline(always)]
    pub(crate) fn totals(&mut self) -> &mut Totals {
        // SAFETY: the cells begin with zeroed or written totals, and the caller holds no other reference.
        unsafe { &mut *self.start.cast() }
    }

    /// A part of the cells.
    ///
    /// # Safety
    ///
    /// `offset` must be that of a `T` in the layout of the cells, and no other reference to it may exist.
    #[inline(always)]
    unsafe fn part<'a, T>(self, offset: usize) -> &'a mut T {
        // SAFETY: the loader makes the cells with this layout; zeroes and what was written are a `T`.
        unsafe { &mut *self.start.wrapping_add(offset).cast() }
    }
}

/// The account of this CPU, for one packet, or for several that the kernel has merged.
pub(crate) struct Account {
    cells: Option<Cells>,
    count: Count,
}

impl Account {
    #[inline(always)]
    pub(crate) fn open(count: Count) -> Self {
        Self { cells: Cells::of_this_cpu(), count }
    }

    #[inline(always)]
    pub(crate) fn allowed(&mut self) {
        if let Some(cells) = &mut self.cells {
            cells.totals().allowed.add(self.count);
        }
    }

    #[inline(always)]
    pub(crate) fn dropped(&mut self, reason: DropReason) {
        if let Some(cells) = &mut self.cells {
            cells.totals().drop_mut(reason).add(self.count);
        }
    }

    #[inline(always)]
    pub(crate) fn let_through_in_audit_mode(&mut self) {
        if let Some(cells) = &mut self.cells {
            cells.totals().would_drop.add(self.count);
        }
    }

    /// Counts a packet that is denied for its source: in the totals, and in the source table.
    #[inline(always)]
    pub(crate) fn denied<A: Family>(&mut self, source: A, request: Request, reason: Denial) {
        let Some(cells) = &mut self.cells else { return };
        let totals = cells.totals();
        totals.drop_mut(DropReason::Denied(reason)).add(self.count);
        let requests = &mut totals.requests[request.index()];
        *requests = requests.wrapping_add(self.count.packets);
        let hash = source.hash(maps::seed);
        let bucket = CellsLayout::bucket_of(hash, maps::bucket_shift());
        let event = Event { source, hash, count: self.count, request, now: now() };
        // SAFETY: the bucket is below the number of buckets, and nobody else refers to it.
        let table = unsafe { cells.part::<Bucket<A>>(A::parts_offset().bucket::<A>(bucket)) };
        table.count(&event, &mut WaysOf { cells: *cells, bucket, family: PhantomData::<A> });
    }
}

#[inline(always)]
fn now() -> Stamp {
    // SAFETY: the helper has no preconditions.
    (unsafe { bpf_jiffies64() } >> STAMP_SHIFT) as Stamp
}

/// What belongs to the ways of a bucket. It shares no byte with the bucket.
struct WaysOf<A> {
    cells: Cells,
    bucket: usize,
    family: PhantomData<A>,
}

impl<A: Family> Ways for WaysOf<A> {
    #[inline(always)]
    fn record(&mut self, way: usize) -> &mut Record {
        let first = A::parts_offset().records(self.bucket);
        // SAFETY: the bucket is below the number of buckets, and the algorithm holds one record at a time.
        let records = unsafe { self.cells.part::<[Record; WAYS]>(first) };
        &mut records[way % WAYS]
    }

    #[inline(always)]
    fn requests(&mut self, way: usize) -> Option<&mut Requests> {
        let bucket = (self.cells.cpu << maps::bucket_bits()) + self.bucket as u32;
        let requests = A::requests().get_ptr_mut(bucket * WAYS as u32 + way as u32)?;
        // SAFETY: the map holds zeroed or written requests, no other CPU writes to this CPU's, and the algorithm holds one
        // reference at a time.
        Some(unsafe { &mut *requests })
    }

    /// An atomic operation that returns a value is a full barrier (`bpf_jit_comp.c` in `arch/arm64/net`). Linux before 5.12
    /// refuses a program that has one, even where it is never reached, so other architectures must not have it.
    #[cfg(bpf_target_arch = "aarch64")]
    #[inline(always)]
    fn advance(sequence: &mut u32) {
        // SAFETY: the operation reads and writes the four bytes that the reference is to.
        unsafe {
            core::arch::asm!(
                "{one} = atomic_fetch_add((u32 *)({at} + 0), {one})",
                one = inout(wreg) 1_u32 => _,
                at = in(reg) sequence,
                options(nostack),
            );
        }
    }
}
