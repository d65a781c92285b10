//! The program of an earlier portguard, and the one of this: the same verdicts, and the same counters.
//!
//! `PORTGUARD_EARLIER` names the earlier one; `PORTGUARD_FRAMES` says how many frames, `PORTGUARD_SEED` which.

use std::collections::BTreeMap;
use std::env;
use std::path::Path;

use portguard_common::rpc::{Procedure, Request};
use portguard_testkit::figures::Figures;
use portguard_testkit::oracle::{self, Generator};

use crate::frames::{ALLOWLIST, Link};
use crate::kernel::{Kernel, Moved, without_tcx};

/// Frames in an ordinary test run.
const FEW: u64 = 50_000;
/// Frames of which the counters are compared at once.
const BATCH: u64 = 250_000;

#[test]
fn an_earlier_program_and_this_one_judge_and_count_the_same() {
    let (seed, frames) = (oracle::seed(), oracle::frames(FEW));
    let _alone = without_tcx();
    let earlier = env::var_os("PORTGUARD_EARLIER").expect("PORTGUARD_EARLIER: cargo xtask test sets it");
    let mut generator = Generator::wild(seed);
    let (mut tried, mut denied) = (0, 0);
    while tried < frames {
        let mut batch = Vec::new();
        while (batch.len() as u64) < BATCH.min(frames - tried) {
            batch.extend(generator.datagram());
        }
        let kernels = [
            Kernel::by(Path::new(&earlier), Link::Ethernet, ALLOWLIST, &[]),
            Kernel::new(Link::Ethernet, ALLOWLIST, &[]),
        ];
        let longest = kernels.iter().map(Kernel::longest).min().expect("two");
        let batch: Vec<_> = batch.iter().filter(|frame| frame.len() <= longest).collect();
        let [(before, counted_before), (now, counted_now)] =
            kernels.each_ref().map(|it| it.judge_all(&batch));
        for ((frame, before), now) in batch.iter().zip(before).zip(now) {
            assert_eq!(now, before, "PORTGUARD_SEED={seed}: passes: {}", hex(frame));
        }
        assert_eq!(sums(&counted_now), sums(&counted_before), "PORTGUARD_SEED={seed}");
        denied +=
            sums(&counted_now).get(r#"Denied("not_allowed", Packets)"#).copied().unwrap_or_default() as u64;
        tried += batch.len() as u64;
    }
    let figures = Figures::of("earlier").with("frames", tried).with("denied", denied).with("differences", 0);
    println!("\n{figures}");
    assert!(denied * 20 > tried, "{figures}");
}

/// All counters; the packets of all sources and of those that were evicted are one, since the two may evict others.
fn sums(moved: &[(Moved, i128)]) -> BTreeMap<String, i128> {
    let mut sums = BTreeMap::new();
    for (counter, by) in moved {
        let name = match counter {
            Moved::Source(_, unit) | Moved::Unattributed(unit) => format!("denied, {unit:?}"),
            // Those of evicted sources are nowhere.
            Moved::SourceTcp(_) => continue,
            Moved::Request(index) => format!("{:?}", in_abi_8(Request::from_index(*index as u8))),
            other => format!("{other:?}"),
        };
        *sums.entry(name).or_default() += by;
    }
    sums
}

/// As what guards of ABI 4 to 8 count a request, which know fewer kinds.
fn in_abi_8(request: Request) -> Request {
    let procedure = match request.procedure() {
        Procedure::GetVersionAddress => Procedure::GetAddress,
        Procedure::GetAddressList
        | Procedure::GetTime
        | Procedure::ToTransport
        | Procedure::ToUniversal
        | Procedure::OtherProgram => Procedure::OtherRpc,
        known => known,
    };
    Request::new(request.protocol(), procedure)
}

fn hex(frame: &[u8]) -> String {
    frame.iter().map(|byte| format!("{byte:02x}")).collect()
}
