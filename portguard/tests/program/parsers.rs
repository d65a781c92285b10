//! Two parsers, one truth: on random frames, the host build is held against an oracle (etherparse), and the loaded
//! program against the host build, verdict by verdict and counter by counter.
//!
//! `PORTGUARD_FRAMES` says how many frames, `PORTGUARD_SEED` which. Whatever disagreement is found becomes a case of the
//! table in [`crate::frames`].

use std::collections::BTreeMap;

use portguard_common::calls::UdpCalls;
use portguard_common::reason::{Denial, Fault};
use portguard_testkit::figures::Figures;
use portguard_testkit::oracle::{self, Finding, Generator, is_listed};

use crate::frames::{ALLOWLIST, Expect, Link, Protocol};
use crate::host::Host;
use crate::kernel::{Kernel, Moved, ONE_BUFFER, Outcome, SHORTEST, Unit};

/// Frames in an ordinary test run.
const FEW: u64 = 50_000;
/// Frames of which the counters are compared at once.
const BATCH: u64 = 250_000;
/// Of a hundred frames, how many etherparse must be able to take apart on its own, or the generator makes too much
/// nonsense.
const BY_THE_BOOK: u64 = 20;

/// What there was to judge.
#[derive(Debug, Default)]
struct Tally {
    frames: u64,
    for_the_port: u64,
    faulty: u64,
    by_the_book: u64,
    /// Lookups over UDP from listed sources, where these may ask for nothing else.
    lookups: u64,
}

/// The hook that frames are judged at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hook {
    Xdp,
    Tcx,
}

impl Hook {
    /// Whether the kernel runs a program there on such a frame. At tcx it wants the whole IP header (`bpf_prog_test_run_skb`).
    fn runs_on(self, frame: &[u8]) -> bool {
        let needed = match frame.get(12..14) {
            Some([8, 0]) => 14 + 20,
            Some([0x86, 0xdd]) => 14 + 40,
            _ => SHORTEST,
        };
        self == Self::Xdp || frame.len() >= needed
    }
}

#[test]
fn oracle_host_and_kernel_agree_on_random_frames() {
    let tally = agree(ALLOWLIST, Generator::wild, Hook::Xdp);
    let figures = Figures::of("parsers")
        .with("frames", tally.frames)
        .with("for port 111", tally.for_the_port)
        .with("with faulty headers", tally.faulty)
        .with("taken apart by etherparse alone", tally.by_the_book)
        .with("disagreements", 0);
    println!("\n{figures}");
    let share = |part: u64| 100 * part / tally.frames;
    assert!(share(tally.by_the_book) >= BY_THE_BOOK, "{figures}");
    assert!(share(tally.for_the_port) >= 10 && share(tally.faulty) >= 3, "{figures}");
}

#[test]
fn oracle_host_and_kernel_agree_on_random_calls() {
    let tally = agree(&format!("udp: lookups\n{ALLOWLIST}"), Generator::calls, Hook::Xdp);
    let figures = Figures::of("calls")
        .with("frames", tally.frames)
        .with("for port 111", tally.for_the_port)
        .with("lookups of listed sources", tally.lookups)
        .with("disagreements", 0);
    println!("\n{figures}");
    assert!(100 * tally.lookups / tally.frames >= 2, "{figures}");
}

/// At tcx, the same frames have the same verdicts and counters.
#[test]
fn at_tcx_oracle_host_and_kernel_agree_on_random_frames_and_calls() {
    let frames = agree(ALLOWLIST, Generator::wild, Hook::Tcx);
    let calls = agree(&format!("udp: lookups\n{ALLOWLIST}"), Generator::calls, Hook::Tcx);
    assert!(10 * frames.for_the_port >= frames.frames && 50 * calls.lookups >= calls.frames);
}

/// Judges random frames by the list, and fails where the three disagree.
fn agree(allowlist: &str, generator: fn(u64) -> Generator, hook: Hook) -> Tally {
    let (seed, frames) = (oracle::seed(), oracle::frames(FEW));
    let host = Host::new(allowlist);
    let mut generator = generator(seed);
    let mut tally = Tally::default();
    while tally.frames < frames {
        let mut batch = Vec::new();
        while (batch.len() as u64) < BATCH.min(frames - tally.frames) {
            batch.extend(generator.datagram());
        }
        let mut wrong = Vec::new();
        for frame in &batch {
            wrong.extend(against_oracle(&host, frame, &mut tally));
        }
        disagreements(&host, allowlist, hook, &batch.iter().collect::<Vec<_>>(), &mut wrong);
        assert!(
            wrong.is_empty(),
            "PORTGUARD_SEED={seed}: {} disagreements, the first of them:\n{}",
            wrong.len(),
            wrong[..wrong.len().min(20)].join("\n")
        );
        tally.frames += batch.len() as u64;
    }
    tally
}

/// Holds the host build against the oracle.
fn against_oracle(host: &Host, frame: &[u8], tally: &mut Tally) -> Option<String> {
    let (finding, bytes) = oracle::judge(frame);
    let expected = match finding {
        Finding::Other => Expect::Pass,
        Finding::Candidate { source, is_tcp: false }
            if is_listed(source) && host.udp_calls == UdpCalls::Lookups =>
        {
            tally.lookups += u64::from(oracle::is_lookup(frame));
            if oracle::is_lookup(frame) {
                Expect::Allowed
            } else {
                Expect::Refused(source, Denial::CallNotAllowed)
            }
        }
        Finding::Candidate { source, .. } if is_listed(source) => Expect::Allowed,
        Finding::Candidate { source, is_tcp: true } => Expect::Denied(source, Protocol::Tcp),
        Finding::Candidate { source, is_tcp: false } => Expect::Denied(source, Protocol::Udp),
        Finding::Truncated => Expect::Fault(Fault::Truncated),
        Finding::Malformed => Expect::Fault(Fault::Malformed),
        Finding::TooManyHeaders => Expect::Fault(Fault::TooManyHeaders),
    };
    let is_for_the_port = matches!(finding, Finding::Candidate { .. });
    tally.for_the_port += u64::from(is_for_the_port);
    tally.faulty += u64::from(!is_for_the_port && finding != Finding::Other);
    let (verdict, counted) = host.verdict(Link::Ethernet, frame);
    if verdict != expected {
        return Some(format!("{}\n  host: {verdict:?}, oracle: {expected:?}", hex(frame)));
    }
    if verdict != Expect::Pass && counted != bytes as u64 {
        return Some(format!("{}\n  host: {counted} bytes, oracle: {bytes}", hex(frame)));
    }
    let port = oracle::port_by_the_book(frame)?;
    tally.by_the_book += 1;
    if finding != Finding::TooManyHeaders && (port == portguard_common::PORT) != is_for_the_port {
        return Some(format!("{}\n  etherparse: for port {port}, guard: {verdict:?}", hex(frame)));
    }
    None
}

/// Holds the loaded program against the host build. The counters are compared for all frames at once; if they differ,
/// for ever smaller parts, until the frames are found.
fn disagreements(host: &Host, allowlist: &str, hook: Hook, frames: &[&Vec<u8>], wrong: &mut Vec<String>) {
    if wrong.len() > 20 {
        return;
    }
    // A new guard each time: its counters are at zero, and no source has made way for another.
    let arguments: &[&str] = if hook == Hook::Tcx { &["--hook", "tcx"] } else { &[] };
    let kernel = Kernel::new(Link::Ethernet, allowlist, arguments);
    let longest = kernel.longest();
    let is_run = |frame: &&&Vec<u8>| frame.len() <= longest && hook.runs_on(frame);
    let frames: Vec<&Vec<u8>> = frames.iter().filter(is_run).copied().collect();
    let (passed, moved) = kernel.judge_all(&frames);
    let mut expected: BTreeMap<Moved, i128> = BTreeMap::new();
    let mut verdicts_agree = true;
    for (frame, passed) in frames.iter().zip(passed) {
        let (verdict, bytes) = host.verdict_of_buffers(Link::Ethernet, frame, ONE_BUFFER);
        let outcome = Outcome::expected(verdict, bytes, false);
        if outcome.passed != passed {
            verdicts_agree = false;
            let name = if passed { "passed" } else { "dropped" };
            wrong.push(format!("{}\n  host: {verdict:?}, kernel: {name}", hex(frame)));
        }
        for (counter, by) in outcome.moved {
            *expected.entry(counter).or_default() += by;
        }
    }
    if let Err(difference) = compare(&expected, &moved)
        && verdicts_agree
    {
        match frames[..] {
            [frame] => wrong.push(format!("{}\n  {difference}", hex(frame))),
            _ => {
                let before = wrong.len();
                let (left, right) = frames.split_at(frames.len() / 2);
                disagreements(host, allowlist, hook, left, wrong);
                disagreements(host, allowlist, hook, right, wrong);
                if wrong.len() == before {
                    wrong.push(format!(
                        "{} frames together, but neither half of them: {difference}",
                        frames.len()
                    ));
                }
            }
        }
    }
}

/// Compares what should have moved with what has: all totals exactly, and every source exactly, too, unless some
/// had to make way for others; then none has more than it sent, and what is missing is in the remainder.
fn compare(expected: &BTreeMap<Moved, i128>, moved: &[(Moved, i128)]) -> Result<(), String> {
    let moved: BTreeMap<Moved, i128> = moved.iter().copied().collect();
    let of = |values: &BTreeMap<Moved, i128>, counter| values.get(&counter).copied().unwrap_or_default();
    let remainder = of(&moved, Moved::Unattributed(Unit::Packets));
    for counter in expected.keys().chain(moved.keys()) {
        let (should, is) = (of(expected, *counter), of(&moved, *counter));
        let agrees = match counter {
            // Part of the totals: checked below. What was asked for is held against an oracle of its own.
            Moved::Unattributed(_) | Moved::Request(_) => true,
            Moved::Source(..) | Moved::SourceTcp(_) if remainder > 0 => is <= should,
            _ => is == should,
        };
        if !agrees {
            return Err(format!("{counter:?}: {is} instead of {should}, {remainder} packets unattributed"));
        }
    }
    for unit in [Unit::Packets, Unit::Bytes] {
        let sources: i128 = moved
            .iter()
            .filter(|(counter, _)| matches!(counter, Moved::Source(_, of) if *of == unit))
            .map(|(_, by)| by)
            .sum();
        let total = sources + of(&moved, Moved::Unattributed(unit));
        let should = Denial::ALL
            .map(|denial| of(expected, Moved::Denied(denial.key(), unit)))
            .into_iter()
            .sum::<i128>();
        if total != should {
            return Err(format!("{unit:?} of all sources: {total} instead of {should}"));
        }
    }
    Ok(())
}

fn hex(frame: &[u8]) -> String {
    frame.iter().map(|byte| format!("{byte:02x}")).collect()
}
