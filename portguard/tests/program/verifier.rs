//! How much work the verifier of this kernel has with each program.

use aya::programs::{Program, ProgramError};
use aya::{EbpfLoader, include_bytes_aligned};
use portguard_common::calls::UdpCalls;
use portguard_common::names;

use crate::kernel::has_tcx;

/// What portguard embeds.
static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/portguard.bpf.o"));
/// Half of what kernels since 5.2 take (`BPF_COMPLEXITY_LIMIT_INSNS`).
const ENOUGH: u32 = 500_000;
/// What it has been, by release of Linux: `portguard_frags`, `portguard`. More than a tenth above is a change that needs a
/// reason, and then new numbers here.
const KNOWN: [(&str, [u32; 2]); 4] = [
    ("6.1", [52_964, 40_671]),
    ("6.12", [32_298, 29_865]),
    ("6.18", [32_727, 30_620]),
    ("7.3", [31_529, 29_017]),
];

/// What the program has taken on this kernel, if that is known.
fn known(name: &str) -> Option<u32> {
    let kernel = nix::sys::utsname::uname().expect("uname");
    let release = kernel.release().to_str().expect("UTF-8");
    let (_, [frags, plain]) = KNOWN.into_iter().find(|(known, _)| {
        release.strip_prefix(known).is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_digit()))
    })?;
    match name {
        names::PROGRAM_FRAGS => Some(frags),
        names::PROGRAM => Some(plain),
        _ => None,
    }
}

/// The instructions that the verifier went through; 0 if the kernel does not say (before 5.16).
fn verified(name: &str, [audit, conditions]: [bool; 2], udp_calls: UdpCalls) -> Result<u32, ProgramError> {
    let ([audit, conditions], udp_calls) = ([audit, conditions].map(u32::from), udp_calls as u32);
    let mut loader = EbpfLoader::new();
    loader
        .override_global("AUDIT", &audit, true)
        .override_global("HAS_CONDITIONS", &conditions, true)
        .override_global("UDP_CALLS", &udp_calls, true);
    let mut object = loader.load(OBJECT).expect("maps");
    let info = match object.program_mut(name).expect("a program") {
        Program::Xdp(program) => program.load().and_then(|()| program.info()),
        Program::SchedClassifier(program) => program.load().and_then(|()| program.info()),
        _ => unreachable!("an XDP program, or one for tcx"),
    };
    Ok(info?.verified_instruction_count().unwrap_or(0))
}

/// What it tells is for the matrix of `cargo xtask vm-test`.
#[test]
fn every_program_is_verified_with_room_to_spare() {
    let mut grown = Vec::new();
    for name in [names::PROGRAM_FRAGS, names::PROGRAM, names::PROGRAM_TCX, names::CLOCK] {
        if name == names::PROGRAM_TCX && !has_tcx() {
            println!("fact: {name} = not supported");
            continue;
        }
        match verified(name, [false; 2], UdpCalls::All) {
            Ok(0) => println!("fact: {name} = taken, this kernel does not count"),
            Ok(count) => {
                println!("fact: {name} = {count}");
                assert!(count < ENOUGH, "{name}: {count} instructions");
                if let Some(known) = known(name)
                    && count > known + known / 10
                {
                    grown.push(format!("{name}: {count} instructions, and it was {known}"));
                }
            }
            Err(ProgramError::LoadError { io_error, verifier_log })
                if name == names::PROGRAM_FRAGS
                    && io_error.raw_os_error() == Some(libc::EINVAL)
                    && verifier_log.to_string().trim().is_empty() =>
            {
                println!("fact: {name} = not supported");
            }
            Err(error) => panic!("{name}: {error}"),
        }
    }
    assert!(grown.is_empty(), "{}", grown.join("; "));
}

/// In audit mode, and with conditions, they have code that is removed otherwise.
#[test]
fn every_program_is_verified_in_audit_mode_and_with_conditions_too() {
    for number in 0..4 * UdpCalls::ALL.len() {
        let (constants, calls) = ([number & 1 != 0, number & 2 != 0], UdpCalls::ALL[number / 4]);
        let frags = verified(names::PROGRAM_FRAGS, constants, calls).unwrap_or(0);
        let plain = verified(names::PROGRAM, constants, calls).unwrap_or_else(|error| panic!("{error}"));
        let [audit, conditions] = constants;
        let what = format!("audit mode {audit}, conditions {conditions}, udp {}", calls.key());
        let at_tcx =
            || verified(names::PROGRAM_TCX, constants, calls).unwrap_or_else(|error| panic!("{error}"));
        let tcx = if has_tcx() { at_tcx() } else { 0 };
        println!("{what}: {frags}, {plain} and {tcx} instructions");
        assert!(frags < ENOUGH && plain < ENOUGH && tcx < ENOUGH, "{what}: {frags}, {plain}, {tcx}");
    }
}
