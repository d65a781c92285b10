//! Several portguards at once, and some that are killed.

use std::fs::File;
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;
use portguard_testkit::net::{Process, wait_until};

use crate::support::{BPFFS, IFACE, Output, PATIENCE, PORTGUARD, SingleHost, Testbed, Traffic, program_on};

/// Runs commands on one guard, all at the same time.
fn at_once(host: &SingleHost, commands: &[&[&str]]) -> Vec<Output> {
    let portguard = host.portguard();
    thread::scope(|scope| {
        let running: Vec<_> =
            commands.iter().map(|arguments| scope.spawn(move || portguard.run(arguments))).collect();
        running.into_iter().map(|thread| thread.join().expect("running")).collect()
    })
}

#[test]
fn several_at_once_wait_for_one_another() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let list = host.list();
    let attach = &["attach", IFACE, "--allowlist", &list][..];
    let audit = &["attach", IFACE, "--audit", "--allowlist", &list][..];
    let reload = &["reload", IFACE, "--allowlist", &list][..];
    let reset = &["stats", "--reset", "--json"][..];

    let outputs = at_once(&host, &[attach; 8]);
    for output in &outputs {
        assert_eq!(output.code, 0, "{output:?}");
        for line in output.stderr.lines() {
            assert!(line.starts_with("note: waiting for another portguard to finish"), "{line}");
        }
    }
    let new = outputs.iter().filter(|output| output.stdout.contains("attached in native mode")).count();
    let renewed = outputs.iter().filter(|output| output.stdout.contains("renewed in place")).count();
    assert_eq!((new, renewed), (1, 7));
    assert_eq!(portguard.status().generation, 8);
    host.machine.assert_tidy(1);

    let outputs = at_once(&host, &[attach, reload, audit, reset, reload, attach, reset, reload]);
    for output in &outputs {
        assert_eq!(output.code, 0, "{output:?}");
    }
    let status = portguard.status();
    assert_eq!(status.generation, 8 + 6);
    assert_eq!(program_on(&host.namespace, IFACE), Some(status.program.id));
    assert_eq!(host.machine.link(&status.pinned).program, status.program.id);
    host.machine.assert_tidy(1);

    // With a detach among them, who comes after it finds no guard, or makes a new one.
    let detach = &["detach", IFACE][..];
    let outputs = at_once(&host, &[reload, detach, attach, reload, detach, attach, reset, reload]);
    for output in &outputs {
        assert!(matches!(output.code, 0 | 4), "{output:?}");
        if output.code == 4 {
            assert!(output.stderr.contains("eth0: no guard is attached"), "{output:?}");
        }
    }
    let there: Vec<u32> = portguard.all_status().iter().map(|status| status.program.id).collect();
    assert_eq!(there, Vec::from_iter(program_on(&host.namespace, IFACE)));
    host.machine.assert_tidy(there.len());
}

#[test]
fn who_has_waited_puts_in_force_what_the_file_holds_then() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let list = host.list();
    portguard.ok(&["attach", IFACE, "--allowlist", &list]);
    for verb in ["attach", "reload"] {
        host.list();
        let lock = host.machine.mounts().run(|| {
            let root = File::open(Path::new(BPFFS).join("portguard"))?;
            Ok(Flock::lock(root, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?)
        });
        let lock = lock.expect("the lock");
        let mut waiting =
            Process::spawn(&mut portguard.command([verb, IFACE, "--allowlist", &list])).expect("starting");
        wait_until("it waits", PATIENCE, || Ok(waiting.output().contains("waiting for another portguard")))
            .unwrap_or_else(|error| panic!("{error:#}: {}", waiting.output()));
        host.lists.write("allowlist.yaml", ["198.51.100.0/24", "203.0.113.0/24"]);
        drop(lock);
        let status = waiting.wait(PATIENCE).expect("waiting").expect("an end");
        assert!(status.success(), "{verb}: {}", waiting.output());
        let after = portguard.status();
        assert_eq!(
            (after.allowlist.file.state.as_str(), after.allowlist.prefixes_v4),
            ("unchanged", 2),
            "{verb}"
        );
    }
}

/// Killed at any moment, in a new attachment as in an upgrade or a reload.
#[test]
fn a_loader_that_is_killed_leaves_a_guard_or_none_but_nothing_in_between() {
    const KILLS: u64 = 30;
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let list = host.list();
    let mut left = [0, 0];
    for kill in 0..KILLS {
        let mut loader = Process::spawn(&mut portguard.command(["attach", IFACE, "--allowlist", &list]))
            .expect("starting");
        thread::sleep(Duration::from_millis(10 + kill * 210 / KILLS));
        loader.signal(Signal::SIGKILL).expect("killing");
        loader.wait(PATIENCE).expect("waiting").expect("it is dead");

        let there: Vec<u32> = portguard.all_status().iter().map(|status| status.program.id).collect();
        assert_eq!(there, Vec::from_iter(program_on(&host.namespace, IFACE)), "kill {kill}");
        left[there.len()] += 1;
        if kill % 3 == 2 {
            portguard.ok(&["attach", IFACE, "--allowlist", &list]);
            host.machine.assert_tidy(1);
        }
        if !portguard.all_status().is_empty() {
            portguard.ok(&["detach", IFACE]);
        }
    }
    assert!(left[0] > 0, "some kills came before the guard was on: {left:?}");
}

#[test]
fn a_killed_upgrade_or_reload_leaks_nothing_and_loses_nothing() {
    const KILLS: u64 = 36;
    let testbed = Testbed::new(PORTGUARD);
    testbed.attach();
    let portguard = testbed.portguard();
    let list = testbed.list();
    let exchanged = thread::scope(|scope| {
        let traffic = Traffic::start(scope, &testbed);
        for kill in 0..KILLS {
            let (arguments, duration) = match kill % 3 {
                0 => (&["reload"][..], 70),
                _ => (&["attach", IFACE, "--allowlist", &list][..], 230),
            };
            let mut loader = Process::spawn(&mut portguard.command(arguments)).expect("starting");
            thread::sleep(Duration::from_millis(5 + kill * duration / KILLS));
            loader.signal(Signal::SIGKILL).expect("killing");
            loader.wait(PATIENCE).expect("waiting").expect("it is dead");
            assert!(portguard.status().enforcing, "kill {kill}");
        }
        portguard.ok(&["reload"]);
        portguard.ok(&["attach", IFACE, "--allowlist", &list]);
        traffic.end()
    });
    exchanged.assert_sealed();
    portguard.assert_counted(&exchanged);
    testbed.machine.assert_tidy(1);
    let status = portguard.status();
    assert_eq!((status.allowlist.prefixes_v4, status.allowlist.prefixes_v6), (1, 1));
}
