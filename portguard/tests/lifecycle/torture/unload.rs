//! Somebody else's tool detaches the link of a guard: `xdp-loader unload` of xdp-tools 1.5 does so with links of others. A
//! service puts the guard back. The kernel tells nobody of it, so the service looks once a second.

use std::env;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use portguard_testkit::figures::Figures;
use portguard_testkit::net::run;

use crate::support::{IFACE, PATIENCE, PORTGUARD, Service, Testbed, Traffic, is_long, program_on};

/// Names the program, in the long form.
const PROGRAM: &str = "PORTGUARD_XDP_LOADER";

/// Detaches the link of the guard. The short form makes the same system call by bpftool.
fn detach(testbed: &Testbed) {
    let pinned = testbed.portguard().status().pinned;
    let mut command = if is_long() {
        let program = env::var(PROGRAM).unwrap_or_else(|_| {
            panic!("{PROGRAM} is not set: cargo xtask torture unload fetches it and sets it")
        });
        let mut command = testbed.machine.command(testbed.server.namespace(), program);
        command.args(["unload", IFACE, "--all"]);
        command
    } else {
        let mut command = Command::new("bpftool");
        testbed.machine.mounts().enter(command.args(["link", "detach", "pinned", &pinned]));
        command
    };
    run(&mut command).expect("detaching");
}

#[test]
fn a_guard_whose_link_another_tool_detaches_is_put_back_by_its_service() {
    let rounds = if is_long() { 50 } else { 3 };
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    let service = Service::start(portguard, &[IFACE, "--allowlist", &testbed.list()]);
    let server = testbed.server.namespace();
    let mut longest = Duration::ZERO;
    for round in 1..=rounds {
        let before = program_on(server, IFACE).expect("a guard");
        detach(&testbed);
        let begun = Instant::now();
        while program_on(server, IFACE).is_none_or(|program| program == before) {
            assert!(begun.elapsed() < PATIENCE, "round {round}: {}", service.said());
            thread::sleep(Duration::from_millis(5));
        }
        longest = longest.max(begun.elapsed());
        service
            .wait_until("it is told", || service.said().matches("the guard was taken off").count() == round);
        thread::scope(|scope| Traffic::start(scope, &testbed).end()).assert_sealed();
        testbed.machine.assert_tidy(1);
    }
    let figures = Figures::of("unload")
        .with("links detached", rounds as u64)
        .with("guards put back", rounds as u64)
        .with("longest time without a guard, in ms", longest.as_millis() as u64);
    println!("{figures}");
}
