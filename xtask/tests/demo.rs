//! `cargo xtask demo` without portguard: it has to fail, by name, and to leave nothing behind in any case.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use portguard_testkit::net::{Process, run, wait_until};

const PATIENCE: Duration = Duration::from_secs(30);

/// A portguard that says yes to everything and guards nothing.
fn pretender(directory: &Path) -> PathBuf {
    const SCRIPT: &str = r#"#!/bin/sh
case "$*" in
  *--json*)
    none='{"packets":0,"bytes":0}'
    procedures='{"null":0,"getaddr":0,"dump":0,"callit":0,"getstat":0,"set":0,"other_rpc":0,"not_rpc":0,
      "getaddrlist":0,"gettime":0,"uaddr2taddr":0,"taddr2uaddr":0,"getversaddr":0,"other_program":0}'
    reasons="{\"not_allowed\":$none,\"call_not_allowed\":$none,\"wrong_interface\":$none,\"expired\":$none,
      \"rate_exceeded\":$none,\"truncated\":$none,\"malformed\":$none,\"too_many_headers\":$none}"
    calls="{\"udp\":$procedures,\"tcp_best_effort\":$procedures}"
    echo "{\"schema\":1,\"taken_at\":\"2026-11-23T05:12:31Z\",\"interfaces\":[{\"interface\":\"eth0\",\"hook\":\"xdp\",\"mode\":\"native\",
      \"enforcing\":true,\"since\":\"2026-11-23T04:00:00Z\",
      \"totals\":{\"allowed\":$none,\"dropped\":$none,\"would_drop\":$none,\"by_reason\":$reasons,\"calls\":$calls,
        \"not_logged\":0},
      \"sources\":[],\"not_shown\":{\"sources\":0,\"packets\":0,\"bytes\":0},\"unattributed\":$none}]}" ;;
esac
"#;
    let path = directory.join("portguard");
    std::fs::write(&path, SCRIPT).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn demo(portguard: &Path) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    Process::spawn(command.arg("demo").arg("--portguard").arg(portguard)).unwrap()
}

/// Every process of the demo runs in one of its namespaces: no namespace, no process.
fn assert_nothing_left(pid: u32) {
    let namespaces = run(Command::new("ip").args(["netns", "list"])).unwrap().stdout;
    assert!(!namespaces.contains(&format!("pg-{pid}-")), "{namespaces}");
}

#[test]
fn a_guard_that_does_nothing_is_found_out() {
    let directory = tempfile::tempdir().unwrap();
    let mut demo = demo(&pretender(directory.path()));
    let status = demo.wait(PATIENCE).unwrap().expect("the demo ends");
    let output = demo.output();
    assert_eq!(status.code(), Some(1), "{output}");
    for unmet in [
        "with portguard: `rpcinfo -p 192.0.2.1` of the denied client: expected silence, got: answers in",
        "with portguard: `rpcinfo -T udp 192.0.2.1 100000 2` of the denied client: expected silence",
        "with portguard: `showmount -e 192.0.2.1` of the denied client: expected silence",
        "with portguard: of 100 forged DUMPs over IPv4, 100 hit the victim, not 0",
        "with portguard: of 100 forged DUMPs over IPv6, 100 hit the victim, not 0",
        "dropped from 203.0.113.9: the wire saw 100 packets (6800 bytes), portguard counted 0 packets (0 bytes)",
        "dropped from 2001:db8:113::9: the wire saw 100 packets (8800 bytes), portguard counted 0 packets",
    ] {
        assert!(output.contains(unmet), "no `{unmet}` in:\n{output}");
    }
    assert!(!output.contains("without portguard: `"), "without a guard, all is as expected:\n{output}");
    assert_nothing_left(demo.id());
}

#[test]
fn an_interrupted_demo_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let portguard = pretender(directory.path());
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut demo = demo(&portguard);
        wait_until("the testbed is set", PATIENCE, || Ok(demo.output().contains("2. No guard"))).unwrap();
        demo.signal(signal).unwrap();
        let status = demo.wait(PATIENCE).unwrap().expect("the demo ends");
        assert_eq!(status.code(), Some(1), "{}", demo.output());
        assert!(demo.output().ends_with("error: interrupted\n"), "{}", demo.output());
        assert_nothing_left(demo.id());
    }
}
