//! Files that are broken, a disk that is full, and portguards that race.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use portguard_testkit::figures::Figures;

use super::{account, assert_guarded, testbed};
use crate::support::{IFACE, Output, Service, Testbed, Traffic, is_long};

/// What befalls the file of the list, each by its name.
fn spoil(testbed: &Testbed, fault: &str) {
    let path = testbed.lists.path("allowlist.yaml");
    let good = "allow:\n  - 192.0.2.0/24\n  - 2001:db8::/48\n";
    // Whatever it was before.
    let _ = fs::remove_dir(&path);
    let _ = fs::remove_file(&path);
    match fault {
        "gone" => {}
        "a directory" => fs::create_dir(&path).expect("a directory"),
        "a pipe" => mkfifo(&path, Mode::from_bits_truncate(0o644)).expect("a pipe"),
        "a link to nowhere" => symlink("nowhere", &path).expect("a link"),
        "a link to itself" => symlink("allowlist.yaml", &path).expect("a link"),
        "a device" => symlink("/dev/zero", &path).expect("a link"),
        "anyone's" => {
            testbed.lists.write_text("allowlist.yaml", good);
            fs::set_permissions(&path, Permissions::from_mode(0o666)).expect("chmod");
        }
        "unreadable" => {
            testbed.lists.write_text("allowlist.yaml", good);
            fs::set_permissions(&path, Permissions::from_mode(0o000)).expect("chmod");
        }
        "binary" => fs::write(&path, [0xff, 0xfe, 0, 1, 2, 3]).expect("writing"),
        "cut short" => drop(testbed.lists.write_text("allowlist.yaml", &good[..good.len() - 3])),
        "empty" => drop(testbed.lists.write_text("allowlist.yaml", "")),
        "of nonsense" => drop(testbed.lists.write_text("allowlist.yaml", "allow:\n  - 10.1.2.3/16\n")),
        other => panic!("{other}"),
    }
}

const FAULTS: [&str; 12] = [
    "gone",
    "a directory",
    "a pipe",
    "a link to nowhere",
    "a link to itself",
    "a device",
    "anyone's",
    "unreadable",
    "binary",
    "cut short",
    "empty",
    "of nonsense",
];

/// A command without the right to read what root may not: root of the systemd unit has none either.
fn as_in_the_unit(command: &Command) -> Command {
    let mut bounded = Command::new("setpriv");
    bounded
        .args(["--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"]);
    bounded.arg("--").arg(command.get_program()).args(command.get_args());
    bounded
}

#[test]
fn whatever_befalls_the_file_the_list_in_force_stays() {
    let rounds = if is_long() { 10 } else { 1 };
    let testbed = testbed();
    let portguard = testbed.portguard();
    let list = testbed.list();
    portguard.ok(&["attach", IFACE, "--allowlist", &list]);
    let before = portguard.status();
    let mut refusals = 0;
    let exchanged = thread::scope(|scope| {
        let traffic = Traffic::start(scope, &testbed);
        let mut service = Service::start(portguard, &[IFACE, "--allowlist", &list]);
        for _ in 0..rounds {
            for fault in FAULTS {
                spoil(&testbed, fault);
                // The service reloads, and it may read what nobody may; by hand the guard is not changed.
                let reloaded = if fault == "unreadable" { 0 } else { 3 };
                let attach = &["attach", IFACE, "--allowlist", &list][..];
                for (arguments, expected) in [(&["reload"][..], reloaded), (attach, 3)] {
                    let command = portguard.command(arguments);
                    let mut bounded = as_in_the_unit(&command);
                    for (name, value) in command.get_envs() {
                        bounded.env(name, value.unwrap_or_default());
                    }
                    testbed.server.namespace().enter(&mut bounded);
                    let output = Output::of(testbed.machine.mounts().enter(&mut bounded));
                    assert_eq!(output.code, expected, "{fault}: {arguments:?}: {output:?}");
                    refusals += u64::from(expected != 0);
                }
                let status = assert_guarded(&testbed, fault);
                assert_eq!(status.allowlist.sha256, before.allowlist.sha256, "{fault}");
                // Root itself may read what nobody may.
                if fault != "unreadable" {
                    assert_eq!(status.allowlist.file.state, "broken", "{fault}: {status:?}");
                }
            }
            testbed.list();
            service.signal(nix::sys::signal::Signal::SIGHUP);
            service.until("RELOADING=1");
            service.until("READY=1");
            let status = assert_guarded(&testbed, "mended");
            assert_eq!((&*status.allowlist.origin, &*status.allowlist.file.state), ("file", "unchanged"));
        }
        service.signal(nix::sys::signal::Signal::SIGTERM);
        service.ended();
        traffic.end()
    });
    let figures =
        Figures::of("files").with("broken files", rounds * FAULTS.len() as u64).with("refusals", refusals);
    println!("{}", account(&testbed, &exchanged, figures));
}

#[test]
fn a_full_disk_does_not_stop_the_guard() {
    let rounds: u64 = if is_long() { 100 } else { 3 };
    let testbed = testbed();
    testbed.attach();
    let portguard = testbed.portguard();
    let state = testbed.machine.state().to_owned();
    let small = || {
        mount(Some("tmpfs"), &state, Some("tmpfs"), MsFlags::empty(), Some("size=4k"))?;
        Ok(fs::write(state.join("filling"), [0; 4096])?)
    };
    testbed.machine.mounts().run(small).expect("a small disk, and full");
    let exchanged = thread::scope(|scope| {
        let traffic = Traffic::start(scope, &testbed);
        for round in 0..rounds {
            let list = testbed.lists.write("allowlist.yaml", ["192.0.2.0/24", "2001:db8::/48"]);
            for arguments in [&["reload"][..], &["attach", IFACE, "--allowlist", &list]] {
                let output = portguard.run(arguments);
                assert_eq!(output.code, 0, "{output:?}");
                assert!(output.stderr.contains("No space left on device"), "{output:?}");
            }
            assert_eq!(assert_guarded(&testbed, "full").generation, 1 + 2 * (round + 1));
        }
        traffic.end()
    });
    let figures = Figures::of("full disk").with("changes with a full disk", 2 * rounds);
    println!("{}", account(&testbed, &exchanged, figures));
}

#[test]
fn portguards_that_race_wait_for_one_another() {
    let rounds = if is_long() { 25 } else { 2 };
    let testbed = testbed();
    testbed.attach();
    let portguard = testbed.portguard();
    let list = testbed.list();
    let attach = &["attach", IFACE, "--allowlist", &list][..];
    let mut changes = 1;
    let exchanged = thread::scope(|scope| {
        let traffic = Traffic::start(scope, &testbed);
        for _ in 0..rounds {
            let mut service = Service::spawn(portguard, &[IFACE, "--allowlist", &list]);
            let outputs: Vec<Output> = thread::scope(|scope| {
                let racing = [attach, &["reload"], attach, &["reload"], attach, &["reload"]]
                    .map(|arguments| scope.spawn(move || portguard.run(arguments)));
                racing.into_iter().map(|thread| thread.join().expect("running")).collect()
            });
            for output in outputs {
                // Who comes after the service is told that it owns the order.
                let is_refused = output.stderr.contains("the guard cannot be changed by hand");
                assert_eq!(output.code, i32::from(is_refused), "{output:?}");
                for line in output.stderr.lines().filter(|line| !is_refused || !line.starts_with("error: ")) {
                    assert!(line.starts_with("note: waiting for another portguard to finish"), "{line}");
                }
                changes += u64::from(!is_refused);
            }
            service.until("READY=1");
            changes += 1;
            assert_eq!(assert_guarded(&testbed, "after a race").generation, changes);
            testbed.machine.assert_tidy(1);
            service.signal(nix::sys::signal::Signal::SIGTERM);
            service.ended();
        }
        traffic.end()
    });
    let figures = Figures::of("races").with("races of seven portguards", rounds).with("changes", changes);
    println!("{}", account(&testbed, &exchanged, figures));
}
