//! The verdict, frame by frame: the host build of the parser and the program in the kernel against one table.

mod frames;
mod host;
mod kernel;

use frames::{ALLOWLIST, Case, Link, ethernet_cases, raw_ip_cases};
use kernel::{Kernel, Outcome, SHORTEST};

/// Fails with all the cases that went wrong, not only the first.
fn report(wrong: &[String], of: usize) {
    assert!(of > 100, "the table has only {of} cases");
    assert!(wrong.is_empty(), "{} of {of} cases:\n{}", wrong.len(), wrong.join("\n"));
}

fn check_host(link: Link, cases: &[Case]) {
    let mut wrong = Vec::new();
    for case in cases {
        let (verdict, bytes) = host::verdict(ALLOWLIST, link, &case.frame);
        if verdict != case.expect {
            wrong.push(format!("{}: {verdict:?} instead of {:?}", case.name, case.expect));
        } else if verdict != frames::Expect::Pass && bytes != case.bytes {
            wrong.push(format!("{}: {bytes} bytes instead of {}", case.name, case.bytes));
        }
    }
    report(&wrong, cases.len());
}

fn check_kernel(link: Link, cases: &[Case], audit: bool) {
    let kernel = Kernel::new(link, ALLOWLIST, if audit { &["--audit"] } else { &[] });
    let (long, short): (Vec<_>, Vec<_>) = cases.iter().partition(|case| case.frame.len() >= SHORTEST);
    let mut wrong = Vec::new();
    kernel.judge(
        &long,
        |case| &case.frame,
        |case, outcome| {
            let expected = Outcome::expected(case.expect, case.bytes, audit);
            if outcome != expected {
                wrong.push(format!("{}: {outcome:?} instead of {expected:?}", case.name));
            }
        },
    );
    report(&wrong, long.len());
    for case in short {
        assert!(
            kernel.refuses(&case.frame),
            "{}: the kernel runs programs on runts now, so check it",
            case.name
        );
    }
}

#[test]
fn the_host_build_judges_ethernet_frames_as_the_table_says() {
    check_host(Link::Ethernet, &ethernet_cases());
}

#[test]
fn the_host_build_judges_raw_ip_frames_as_the_table_says() {
    check_host(Link::RawIp, &raw_ip_cases());
}

#[test]
fn the_kernel_judges_and_counts_ethernet_frames_as_the_table_says() {
    check_kernel(Link::Ethernet, &ethernet_cases(), false);
}

#[test]
fn the_kernel_judges_and_counts_raw_ip_frames_as_the_table_says() {
    check_kernel(Link::RawIp, &raw_ip_cases(), false);
}

#[test]
fn in_audit_mode_everything_passes_and_is_counted_the_same() {
    check_kernel(Link::Ethernet, &ethernet_cases(), true);
}
