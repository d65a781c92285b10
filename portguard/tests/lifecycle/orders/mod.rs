//! The order of a guard: list, mode, audit, sources. It is kept with the guard, and `attach` on the guard changes what
//! the command line names, and nothing else.

mod families;
mod matrix;
mod service;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::thread;
use std::time::Duration;

use nix::mount::{MsFlags, mount};

use crate::support::{IFACE, Machine, Output, PORTGUARD, Portguard, SingleHost, Status, Testbed, Traffic};

/// The list of who names none.
pub(crate) const DEFAULT_LIST: &str = "/etc/portguard/allowlist.yaml";

/// Gives a machine a default list of its own: an `/etc` with nothing else in it.
pub(crate) fn write_default_list(machine: &Machine, text: &str) {
    let write = || {
        mount(Some("tmpfs"), "/etc", Some("tmpfs"), MsFlags::empty(), Some("mode=0755"))?;
        fs::create_dir("/etc/portguard")?;
        fs::write(DEFAULT_LIST, text)?;
        Ok(fs::set_permissions(DEFAULT_LIST, Permissions::from_mode(0o644))?)
    };
    machine.mounts().run(write).expect("a default list");
}

/// The lines that tell of changes of the order, sorted; those that list prefixes are left out.
fn changes(told: &str) -> Vec<&str> {
    let lines = told.lines().filter(|line| line.starts_with("  "));
    let mut lines: Vec<&str> =
        lines.filter(|line| !line.starts_with("  + ") && !line.starts_with("  - ")).collect();
    lines.sort_unstable();
    lines
}

/// What must not have changed when a command was refused. The file may be another one than before.
#[track_caller]
fn assert_unchanged(machine: &Machine, before: &Status, sources: u32, after: &Status, what: &str) {
    let order = |status: &Status| {
        let list = status.allowlist.clone();
        (list.path, list.sha256, list.loaded_at, status.generation, status.mode.clone(), status.enforcing)
    };
    assert_eq!(order(after), order(before), "{what}");
    assert_eq!(machine.sources_of(after), sources, "{what}");
}

/// Runs a command with `PORTGUARD_ALLOWLIST` in its environment.
fn run_with_list(portguard: Portguard<'_>, arguments: &[&str], list: &str) -> Output {
    Output::of(portguard.command(arguments).env("PORTGUARD_ALLOWLIST", list))
}

/// What README and doctor advise to do, on a guard with a list of its own.
#[test]
fn a_renewal_that_names_no_list_cuts_off_no_client() {
    let testbed = Testbed::new(PORTGUARD);
    write_default_list(&testbed.machine, "allow: []\n");
    testbed.attach();
    let portguard = testbed.portguard();
    let list = testbed.list();
    let exchanged = thread::scope(|scope| {
        let traffic = Traffic::start(scope, &testbed);
        for arguments in [&["attach", IFACE][..], &["attach", IFACE, "--mode", "native"], &["attach", IFACE]]
        {
            let told = portguard.ok(arguments);
            assert_eq!(changes(&told), [""; 0], "{told}");
            assert_eq!(portguard.status().allowlist.path, list, "{arguments:?}");
            thread::sleep(Duration::from_millis(20));
        }
        traffic.end()
    });
    exchanged.assert_sealed();
    portguard.assert_counted(&exchanged);
}

#[test]
fn the_environment_names_the_list_of_a_first_attachment_only() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let first = host.lists.write("first.yaml", ["192.0.2.0/24"]);
    let second = host.lists.write("second.yaml", ["192.0.2.0/24", "198.51.100.0/24"]);
    let told = run_with_list(portguard, &["attach", IFACE], &first);
    assert_eq!(told.code, 0, "{told:?}");
    assert_eq!(portguard.status().allowlist.path, first);
    let told = run_with_list(portguard, &["attach", IFACE], &second);
    assert_eq!((told.code, changes(&told.stdout)), (0, vec![]), "{told:?}");
    assert_eq!(portguard.status().allowlist.path, first, "it keeps its list");
    // A list that is named is named, whatever the environment holds.
    let told = run_with_list(portguard, &["attach", IFACE, "--allowlist", &second], &first);
    let expected = format!("  allowlist {first} -> {second}, +1 -0");
    assert_eq!((told.code, changes(&told.stdout)), (0, vec![&*expected]), "{told:?}");
    let nowhere = host.lists.path("nowhere.yaml").display().to_string();
    let told = run_with_list(portguard, &["attach", IFACE], &nowhere);
    assert_eq!((told.code, changes(&told.stdout)), (0, vec![]), "{told:?}");
    assert_eq!(portguard.status().allowlist.path, second);
}

#[test]
fn a_renewal_reads_the_list_again_and_says_what_has_changed() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let common = ["192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"];
    let write = |more: &[&str]| host.lists.write("list.yaml", common.iter().chain(more));
    let list = write(&["10.0.0.0/8", "172.16.0.0/12"]);
    portguard.ok(&["attach", IFACE, "--allowlist", &list]);
    for named in [&["attach", IFACE][..], &["attach", IFACE, "--allowlist", &list]] {
        write(&["10.0.0.0/9"]);
        let told = portguard.ok(named);
        assert_eq!(changes(&told), ["  allowlist +1 -2, 3 unchanged"], "{told}");
        write(&["10.0.0.0/8", "172.16.0.0/12"]);
        let told = portguard.ok(named);
        assert_eq!(changes(&told), ["  allowlist +2 -1, 3 unchanged"], "{told}");
        assert!(!portguard.status().allowlist.changed_on_disk);
        let told = portguard.ok(named);
        assert_eq!(changes(&told), [""; 0], "{told}");
    }
}

#[test]
fn audit_and_enforce_exclude_each_other() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let list = host.list();
    for verb in ["attach", "run"] {
        for flags in [["--audit", "--enforce"], ["--enforce", "--audit"]] {
            let told = portguard.fails(2, &[&[verb, IFACE, "--allowlist", &list], &flags[..]].concat());
            assert!(told.contains("cannot be used with"), "{told}");
        }
    }
    assert_eq!(portguard.all_status(), []);
    // By itself it is what a first attachment does anyway.
    portguard.ok(&["attach", IFACE, "--enforce", "--allowlist", &list]);
    assert!(portguard.status().enforcing);
}

#[test]
fn attach_with_a_broken_list_of_its_own_changes_nothing() {
    for fault in ["broken", "gone"] {
        let host = SingleHost::new(PORTGUARD);
        let portguard = host.portguard();
        let list = host.list();
        portguard.ok(&["attach", IFACE, "--allowlist", &list, "--sources", "1024"]);
        let before = portguard.status();
        match fault {
            "gone" => fs::remove_file(&list).expect("the list"),
            _ => drop(host.lists.write_text("allowlist.yaml", "allow:\n  - 192.0.2.0/33\n")),
        }
        for named in [&[][..], &["--audit"], &["--sources", "512"], &["--audit", "--sources", "512"]] {
            let output = portguard.run(&[&["attach", IFACE], named].concat());
            assert_eq!(output.code, 3, "{fault}, {named:?}: {output:?}");
            assert!(output.stderr.contains(&list), "{fault}, {named:?}: {output:?}");
            assert_eq!(changes(&output.stdout), [""; 0], "{fault}, {named:?}: {output:?}");
            let after = portguard.status();
            assert_unchanged(&host.machine, &before, 1024, &after, &format!("{fault}, {named:?}"));
            host.machine.assert_tidy(1);
        }
    }
}
