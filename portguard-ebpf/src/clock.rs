//! The clock of deadlines and rates: `CLOCK_BOOTTIME`, in nanoseconds.

use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_boot_ns};

use crate::accounting::Cells;

/// A second in nanoseconds.
pub(crate) const SECOND: u64 = 1_000_000_000;

/// The time, as of the first question in this tick of the kernel (1 to 10 ms).
///
/// To ask for the time is a call that reads the counter of the processor, and takes longer than the rest of a look-up. To read the number of
/// the tick takes one instruction. So each CPU keeps the answer for a tick beside its counters. While the machine is suspended there are no
/// ticks: until the first one after it wakes, the time is that of before.
#[inline(always)]
pub(crate) fn at_tick() -> u64 {
    // SAFETY: the helper has no preconditions.
    let jiffies = unsafe { bpf_jiffies64() };
    let Some(mut cells) = Cells::of_this_cpu() else { return now() };
    let tick = &raw mut cells.totals().tick;
    // The accesses are volatile, so that the compiler keeps their order: the time is stored first and loaded last. A program that another
    // one interrupts (PREEMPT_RT) then finds a time that is not older than the number of the tick.
    //
    // SAFETY: the tick is in the cells of this CPU.
    unsafe {
        if (&raw const (*tick).jiffies).read_volatile() != jiffies {
            (&raw mut (*tick).boot_time).write_volatile(now());
            (&raw mut (*tick).jiffies).write_volatile(jiffies);
        }
        (&raw const (*tick).boot_time).read_volatile()
    }
}

/// The time.
#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_boot_ns() }
}
