//! The budgets of rates, in the elements of a map: all CPUs read and write them.

use portguard_common::conditions::{self, Budget, SharedBudget};

use crate::clock::{self, SECOND};
use crate::maps::CONDITIONS;

/// Takes so many of the packets that the conditions at this place let pass in this second.
#[inline(always)]
pub(crate) fn takes(place: u32, packets: u32) -> bool {
    portguard_takes(place, packets) != 0
}

/// See [`takes`]. Returns 0 or 1.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn portguard_takes(place: u32, packets: u32) -> u32 {
    let Some(conditions) = CONDITIONS.get_ptr_mut(place) else { return 0 };
    // SAFETY: the map holds conditions, and the loader does not change those of a list in force but for their deadlines.
    let rate = unsafe { (*conditions).rate };
    // SAFETY: the conditions stay while the program runs.
    let budget = unsafe { InMap::new(&raw mut (*conditions).budget) };
    conditions::take(&budget, rate, (clock::now() / SECOND) as u32, packets).into()
}

/// A budget that other CPUs change at the same time, so there is no reference to it.
#[derive(Clone, Copy)]
pub(crate) struct InMap(*mut Budget);

impl InMap {
    /// The budget at this address.
    ///
    /// # Safety
    ///
    /// It must lie in the element of a map, aligned to eight bytes. All accesses to it must go through this type, or be such as
    /// a reader with a memory mapping has.
    #[inline(always)]
    pub(crate) unsafe fn new(budget: *mut Budget) -> Self {
        Self(budget)
    }
}

// Aligned words are loaded and stored whole. The accesses are volatile, so that the compiler keeps their order.
impl SharedBudget for InMap {
    #[inline(always)]
    fn total(&self) -> u64 {
        // SAFETY: by the contract of `new`.
        unsafe { (&raw const (*self.0).total).read_volatile() }
    }

    #[inline(always)]
    fn window(&self, number: usize) -> u64 {
        // SAFETY: by the contract of `new`; the number is 0 or 1.
        unsafe { (&raw const (*self.0).windows[number & 1]).read_volatile() }
    }

    #[inline(always)]
    fn set_window(&self, number: usize, window: u64) {
        // SAFETY: by the contract of `new`; the number is 0 or 1.
        unsafe { (&raw mut (*self.0).windows[number & 1]).write_volatile(window) }
    }

    /// The form without a result is the one that Linux before 5.12 has (`BPF_XADD`).
    #[inline(always)]
    fn add(&self, packets: u32) {
        // SAFETY: the operation reads and writes the eight bytes of the total.
        unsafe {
            core::arch::asm!(
                "lock *(u64 *)({at} + 0) += {packets}",
                at = in(reg) &raw mut (*self.0).total,
                packets = in(reg) u64::from(packets),
                options(nostack),
            );
        }
    }
}
