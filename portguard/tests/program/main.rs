//! The verdict, frame by frame: the host build of the parser and the program in the kernel against one table; and against
//! each other, and an oracle, on random frames.

mod calls;
mod conditions;
mod earlier;
mod frames;
mod host;
mod kernel;
mod lookups;
mod parsers;
mod verifier;

use frames::{ALLOWLIST, Case, Expect, Link, ethernet_cases, raw_ip_cases};
use host::Host;
use kernel::{Kernel, ONE_BUFFER, Outcome, SHORTEST};
use portguard_testkit::figures::Figures;

/// Fails with all the cases that went wrong, not only the first.
fn report(wrong: &[String], of: usize) {
    assert!(of > 0, "nothing was checked");
    assert!(wrong.is_empty(), "{} of {of} cases:\n{}", wrong.len(), wrong.join("\n"));
}

fn check_host(link: Link, allowlist: &str, cases: &[Case]) {
    let host = Host::new(allowlist);
    let mut wrong = Vec::new();
    for case in cases {
        let (verdict, bytes) = host.verdict(link, &case.frame);
        if verdict != case.expect {
            wrong.push(format!("{}: {verdict:?} instead of {:?}", case.name, case.expect));
        } else if verdict != Expect::Pass && bytes != case.bytes {
            wrong.push(format!("{}: {bytes} bytes instead of {}", case.name, case.bytes));
        }
    }
    report(&wrong, cases.len());
}

/// The cases of the table whose frames every kernel takes, and those whose frames have several pages.
fn by_size(cases: Vec<Case>) -> (Vec<Case>, Vec<Case>) {
    let (small, large): (Vec<_>, Vec<_>) = cases.into_iter().partition(|case| case.frame.len() <= ONE_BUFFER);
    assert!(small.len() > 100, "the table has only {} cases", small.len());
    (small, large)
}

fn check_kernel(link: Link, allowlist: &str, cases: &[Case], first_len: Option<u32>, audit: bool) {
    check_kernel_with(link, allowlist, cases, first_len, if audit { &["--audit"] } else { &[] });
}

/// The same, of a guard that was attached with these options.
fn check_kernel_with(
    link: Link,
    allowlist: &str,
    cases: &[Case],
    first_len: Option<u32>,
    arguments: &[&str],
) {
    let kernel = Kernel::new(link, allowlist, arguments);
    let audit = arguments.contains(&"--audit");
    let fits = |case: &&Case| first_len.is_none_or(|first_len| case.frame.len() > first_len as usize);
    // Where the kernel runs programs on runts (Linux 5.10 does), they are judged like any frame. Programs for tcx it runs on no packet
    // without a whole IP header.
    let is_taken = |case: &&Case| {
        (case.frame.len() >= SHORTEST && !arguments.contains(&"tcx")) || kernel.takes(&case.frame)
    };
    let (judged, refused): (Vec<_>, Vec<_>) = cases.iter().filter(fits).partition(is_taken);
    let mut wrong = Vec::new();
    kernel.judge(
        &judged,
        |case| &case.frame,
        first_len,
        |case, outcome| {
            let expected = Outcome::expected(case.expect, case.bytes, audit);
            if outcome != expected {
                wrong.push(format!("{}: {outcome:?} instead of {expected:?}", case.name));
            }
        },
    );
    report(&wrong, judged.len());
    assert!(refused.len() * 2 < judged.len(), "the kernel refuses {} of the frames", refused.len());
}

#[test]
fn the_host_build_judges_ethernet_frames_as_the_table_says() {
    check_host(Link::Ethernet, ALLOWLIST, &ethernet_cases());
    let figures = Figures::of("table")
        .with("cases on Ethernet", ethernet_cases().len() as u64)
        .with("cases on raw IP", raw_ip_cases().len() as u64)
        .with("disagreements", 0);
    println!("\n{figures}");
}

#[test]
fn the_host_build_judges_raw_ip_frames_as_the_table_says() {
    check_host(Link::RawIp, ALLOWLIST, &raw_ip_cases());
}

#[test]
fn the_kernel_judges_and_counts_ethernet_frames_as_the_table_says() {
    check_kernel(Link::Ethernet, ALLOWLIST, &by_size(ethernet_cases()).0, None, false);
}

#[test]
fn the_kernel_judges_and_counts_frames_of_several_pages_as_the_table_says() {
    let large = by_size(ethernet_cases()).1;
    check_kernel(Link::Ethernet, ALLOWLIST, &large, None, false);
    check_kernel(Link::Ethernet, ALLOWLIST, &large, None, true);
}

#[test]
fn the_kernel_judges_and_counts_raw_ip_frames_as_the_table_says() {
    check_kernel(Link::RawIp, ALLOWLIST, &by_size(raw_ip_cases()).0, None, false);
}

#[test]
fn in_audit_mode_everything_passes_and_is_counted_the_same() {
    check_kernel(Link::Ethernet, ALLOWLIST, &by_size(ethernet_cases()).0, None, true);
}

/// The name of the option for the other hook.
const AT_TCX: [&str; 2] = ["--hook", "tcx"];

#[test]
fn at_tcx_frames_are_judged_and_counted_as_at_xdp() {
    let small = by_size(ethernet_cases()).0;
    check_kernel_with(Link::Ethernet, ALLOWLIST, &small, None, &AT_TCX);
    check_kernel_with(Link::Ethernet, ALLOWLIST, &small, None, &[&AT_TCX[..], &["--audit"]].concat());
}

/// Test frames for tcx begin with an Ethernet header on every device. As on tunnels, nobody tells the program of what is in front of the packet,
/// so the length that the packet declares is counted; what declares none, or a wrong one, counts with all.
#[test]
fn at_tcx_packets_without_an_ethernet_header_are_judged_from_their_ip_header_on() {
    const ETHERNET: [u8; 12] = [2; 12];
    let mut cases = by_size(raw_ip_cases()).0;
    for case in &mut cases {
        let version = case.frame.first().map(|first| first >> 4);
        let is_ipv6 = version == Some(6);
        let word =
            |at| case.frame.get(at..at + 2).map(|word| u64::from(u16::from_be_bytes([word[0], word[1]])));
        let declared =
            if is_ipv6 { word(4).filter(|length| *length > 0).map(|length| length + 40) } else { word(2) };
        let all = case.bytes + 14;
        case.bytes = match (case.expect, declared) {
            (Expect::Allowed | Expect::Denied(..), Some(declared)) if (1..=all).contains(&declared) => {
                declared
            }
            _ => all,
        };
        let ethertype: [u8; 2] = match version {
            None | Some(4) => [0x08, 0x00],
            Some(6) => [0x86, 0xdd],
            Some(_) => [0x12, 0x34],
        };
        case.frame.splice(..0, [&ETHERNET[..], &ethertype].concat());
    }
    check_kernel_with(Link::RawIp, ALLOWLIST, &cases, None, &AT_TCX);
}

/// Drivers with large buffers of several pages may leave the first one short, or empty (mlx5 does at MTU 9000).
#[test]
fn it_does_not_matter_how_much_of_a_frame_is_in_its_first_buffer() {
    let (mut liars, honest): (Vec<_>, Vec<_>) =
        ethernet_cases().into_iter().partition(|case| case.name == "total length too small");
    for first_len in [0, 14, 20, 34, 54] {
        check_kernel(Link::Ethernet, ALLOWLIST, &honest, Some(first_len), false);
    }
    // By its own account it ends in the first buffer, and so it is counted up to the end of that.
    const FIRST: u32 = 54;
    const ETHERNET: u32 = 14;
    assert_eq!(liars.len(), 1);
    liars[0].bytes = u64::from(FIRST - ETHERNET);
    check_kernel(Link::Ethernet, ALLOWLIST, &liars, Some(FIRST), false);
}
