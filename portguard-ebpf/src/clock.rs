//! The clock of deadlines and rates.

use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_boot_ns};

use crate::accounting::Cells;

/// A second in nanoseconds.
pub(crate) const SECOND: u64 = 1_000_000_000;

/// Nanoseconds of `CLOCK_BOOTTIME`, as of the last tick.
///
/// `bpf_ktime_get_boot_ns` reads the counter of the processor by a call, which takes longer than the rest of a look-up. So each CPU asks it
/// once for each tick of the kernel (1 to 10 ms), and keeps the answer beside its counters; to read the number of the tick takes one
/// instruction. Ticks do not go on while the machine is suspended: the time is then that of before until the next one.
#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: the helper has no preconditions.
    let jiffies = unsafe { bpf_jiffies64() };
    let Some(mut cells) = Cells::of_this_cpu() else { return asked() };
    let tick = &mut cells.totals().tick;
    if tick.jiffies != jiffies {
        tick.boot_time = asked();
        tick.jiffies = jiffies;
    }
    tick.boot_time
}

/// Nanoseconds of `CLOCK_BOOTTIME`.
#[inline(always)]
fn asked() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_boot_ns() }
}
