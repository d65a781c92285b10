//! What was otherwise in guards of ABI 4 to 8. It is read, and never written.
//!
//! The records here are frozen: see docs/internals/abi.md.

use portguard_common::drop_log::Rate;
use portguard_common::layout::Shared;
use portguard_common::rpc::{REQUESTS, Requests};
use portguard_common::totals::{Count, Totals};

/// The last version with these layouts.
pub(super) const LAST: u32 = 8;

/// The counters by request of ABI 4 to 8, which know eight procedures. The indexes are the first ones of today.
pub(super) type OldRequests = [u64; 16];

/// The same as counters of today.
pub(super) fn current(old: OldRequests) -> Requests {
    let mut requests = [0; REQUESTS];
    for (current, old) in requests.iter_mut().zip(old) {
        *current = old;
    }
    requests
}

/// The log rate of a guard of ABI 4 to 8, as one of today. There, each CPU had a token bucket of its own.
pub(super) fn log_rate(of_each_cpu: Rate, cpus: u32) -> Rate {
    const SECOND: u64 = 1_000_000_000;
    let interval = of_each_cpu.entries;
    // Rounded: the interval was rounded down.
    let all = (SECOND * u64::from(cpus.max(1)) + interval / 2).checked_div(interval).unwrap_or(0);
    Rate::per_second(u32::try_from(all).unwrap_or(u32::MAX))
}

/// What one CPU has counted, beside the sources.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct OldTotals {
    allowed: Count,
    drops: [Count; 16],
    would_drop: Count,
    unattributed: Count,
    requests: OldRequests,
    not_logged: u64,
    reserved: [u64; 25],
}

// SAFETY: integers of the same size, without padding (asserted below); zeroes are the empty value.
unsafe impl Shared for OldTotals {}

const _: () = assert!(size_of::<OldTotals>() == 640);

impl OldTotals {
    /// The same in the current layout. Reasons that came later have no packets here.
    pub(super) fn current(&self) -> Totals {
        let Self { allowed, drops, would_drop, unattributed, requests, not_logged, reserved: _ } = *self;
        Totals {
            allowed,
            drops,
            would_drop,
            unattributed,
            requests: current(requests),
            not_logged,
            ..Totals::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::mem::{offset_of, size_of};

    use portguard_common::rpc::{Procedure, Request};
    use portguard_common::totals::Tick;
    use portguard_common::transport::Protocol;

    use super::*;

    #[test]
    fn nothing_that_was_counted_is_lost_or_moves() {
        let old = OldTotals {
            allowed: Count { packets: 1, bytes: 2 },
            drops: std::array::from_fn(|index| Count { packets: 100 + index as u64, bytes: 200 }),
            would_drop: Count { packets: 3, bytes: 4 },
            unattributed: Count { packets: 5, bytes: 6 },
            requests: std::array::from_fn(|index| 300 + index as u64),
            not_logged: 7,
            reserved: [0; 25],
        };
        let Totals { allowed, drops, would_drop, unattributed, requests, not_logged, tick, reserved } =
            old.current();
        assert_eq!((allowed, would_drop, unattributed), (old.allowed, old.would_drop, old.unattributed));
        assert_eq!((drops, not_logged, tick, reserved), (old.drops, 7, Tick::default(), [0; 7]));
        for request in Request::all() {
            let known = request.procedure() as usize <= Procedure::NotRpc as usize;
            let expected = if known { 300 + request.index() as u64 } else { 0 };
            assert_eq!(requests[request.index()], expected, "{request:?}");
        }
        let last = Request::new(Protocol::Tcp, Procedure::NotRpc);
        assert_eq!(requests[last.index()], 315);
        // The program adds to the same bytes, but for those behind the first sixteen requests.
        assert_eq!(offset_of!(OldTotals, requests), offset_of!(Totals, requests));
        assert_eq!(size_of::<OldTotals>(), size_of::<Totals>());
    }
}
