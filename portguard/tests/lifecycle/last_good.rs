//! The last good list: kept whenever a list is put in force, and used when the file is broken at the start.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sys::signal::Signal;

use crate::support::{IFACE, PORTGUARD, Service, SingleHost, Testbed, Traffic};

/// The files in the state directory, sorted.
fn copies(host: &SingleHost) -> Vec<PathBuf> {
    let files = fs::read_dir(host.machine.state()).expect("the state directory");
    let mut files: Vec<PathBuf> = files.map(|file| file.expect("a file").path()).collect();
    files.sort_unstable();
    files
}

#[test]
fn every_list_that_is_put_in_force_is_kept_and_no_other() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let list = host.list();
    portguard.fails(4, &["attach", "eth7", "--allowlist", &list]);
    assert_eq!(copies(&host), Vec::<PathBuf>::new(), "it was never in force");
    let kept = |text: &str| {
        let [copy] = &copies(&host)[..] else { panic!("{:?}", copies(&host)) };
        assert_eq!(fs::read_to_string(copy).expect("the copy"), text);
        let metadata = fs::metadata(copy).expect("the copy");
        assert_eq!((metadata.mode() & 0o7777, metadata.uid()), (0o600, 0));
    };
    portguard.ok(&["attach", IFACE, "--allowlist", &list]);
    kept("allow:\n  - 192.0.2.0/24\n");
    let second = "allow:\n  - 198.51.100.0/24 # the second\n";
    host.lists.write_text("allowlist.yaml", second);
    portguard.ok(&["reload", "--dry-run"]);
    kept("allow:\n  - 192.0.2.0/24\n");
    portguard.ok(&["reload"]);
    kept(second);
    host.lists.write_text("allowlist.yaml", "allow:\n  - nonsense\n");
    portguard.fails(3, &["reload"]);
    portguard.fails(3, &["attach", IFACE, "--allowlist", &list]);
    kept(second);
    let other = host.lists.write("other.yaml", ["203.0.113.0/24"]);
    portguard.ok(&["reload", "--allowlist", &other]);
    assert_eq!(copies(&host).len(), 2, "one for each file");
}

#[test]
fn a_service_keeps_no_list_before_it_has_put_it_in_force() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let list = host.list();
    let mut service = Service::start(portguard, &["eth7", "--allowlist", &list]);
    assert_eq!(copies(&host), Vec::<PathBuf>::new(), "nothing is guarded");
    host.lists.write("allowlist.yaml", ["198.51.100.0/24"]);
    service.signal(Signal::SIGHUP);
    service.until("RELOADING=1");
    service.until("READY=1");
    assert_eq!(copies(&host), Vec::<PathBuf>::new(), "nothing is guarded still");
    host.plug("eth7", "peer7");
    service.wait_until("it is guarded", || portguard.all_status().len() == 1);
    service.wait_until("its list is kept", || copies(&host).len() == 1);
}

#[test]
fn a_service_that_finds_its_file_broken_guards_with_the_last_good_list() {
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    let list = testbed.list();
    let good = fs::read_to_string(&list).expect("the list");
    portguard.ok(&["attach", IFACE, "--allowlist", &list]);
    let sha256 = portguard.status().allowlist.sha256;
    // As after a reboot: the guard is gone, the copy is there.
    portguard.ok(&["detach", IFACE]);
    for broken in ["allow:\n  - 192.0.2.0/33\n", "", "\u{0}"] {
        testbed.lists.write_text("allowlist.yaml", broken);
        let mut service = Service::start(portguard, &[IFACE, "--allowlist", &list]);
        service.until_said("guarded with the last list that was in force");
        assert!(service.until("STATUS=").contains("is BROKEN"));
        let status = portguard.status();
        assert_eq!(status.allowlist.sha256, sha256);
        assert_eq!((&*status.allowlist.path, &*status.allowlist.origin), (&*list, "last_good"));
        assert_eq!(status.allowlist.file.state, "broken");
        let text = portguard.ok(&["status"]);
        assert!(text.contains("BROKEN on disk") && text.contains("last good list"), "{text}");
        let exchanged = thread::scope(|scope| {
            let traffic = Traffic::start(scope, &testbed);
            thread::sleep(Duration::from_millis(30));
            traffic.end()
        });
        exchanged.assert_sealed();
        service.signal(Signal::SIGTERM);
        assert!(service.ended().success());
        portguard.ok(&["detach", IFACE]);
    }
    // Gone altogether; and when it is back, it is read again, although it says the same.
    fs::remove_file(&list).expect("removing");
    let service = Service::start(portguard, &[IFACE, "--allowlist", &list]);
    assert_eq!(portguard.status().allowlist.origin, "last_good");
    testbed.lists.write_text("allowlist.yaml", &good);
    service.wait_until("the file is in force", || portguard.status().allowlist.origin == "file");
    assert_eq!(portguard.status().allowlist.file.state, "unchanged");
}

#[test]
fn a_guard_that_is_there_keeps_its_list_when_the_file_is_broken() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let list = host.list();
    portguard.ok(&["attach", IFACE, "--allowlist", &list]);
    // Not even a copy is needed: the list is in the kernel.
    for copy in copies(&host) {
        fs::remove_file(copy).expect("removing");
    }
    let before = portguard.status();
    host.lists.write_text("allowlist.yaml", "allow:\n  - nonsense\n");
    let service = Service::start(portguard, &[IFACE, "--allowlist", &list]);
    service.until_said("eth0: THE ALLOWLIST IS BROKEN; the list in force remains");
    let after = portguard.status();
    assert_ne!(after.program.id, before.program.id, "but the program is new");
    assert_eq!((after.generation, &after.attached_at), (before.generation, &before.attached_at));
    assert_eq!(after.allowlist.sha256, before.allowlist.sha256);
    host.machine.assert_tidy(1);
}

#[test]
fn a_copy_that_anyone_could_have_written_is_not_used() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let list = host.list();
    portguard.ok(&["attach", IFACE, "--allowlist", &list]);
    portguard.ok(&["detach", IFACE]);
    fs::remove_file(&list).expect("removing");
    let [copy] = &copies(&host)[..] else { panic!("one copy") };
    let refused = |why: &str| {
        let told = portguard.fails(3, &["run", IFACE, "--allowlist", &list]);
        assert!(told.contains(why) && told.contains("eth0: there is no list to guard with"), "{told}");
        assert_eq!(portguard.all_status(), []);
    };
    fs::set_permissions(copy, Permissions::from_mode(0o666)).expect("chmod");
    refused("is writable by users other than its owner");
    fs::set_permissions(copy, Permissions::from_mode(0o600)).expect("chmod");
    std::os::unix::fs::chown(copy, Some(65534), None).expect("chown");
    refused("cannot be trusted");
    std::os::unix::fs::chown(copy, Some(0), None).expect("chown");
    let text = fs::read(copy).expect("the copy");
    fs::write(copy, &text[..text.len() / 2]).expect("truncating");
    refused("is not a valid allowlist");
}

#[test]
fn a_full_disk_keeps_no_copy_and_takes_no_guard_off() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let list = host.list();
    portguard.ok(&["attach", IFACE, "--allowlist", &list]);
    let state = host.machine.state().to_owned();
    let small = |options: &str| {
        let mounted = || Ok(mount(Some("tmpfs"), &state, Some("tmpfs"), MsFlags::empty(), Some(options))?);
        host.machine.mounts().run(mounted).expect("a small disk");
    };
    let long = host.lists.write("allowlist.yaml", (0..200).map(|number| format!("192.0.{number}.0/24")));
    small("size=4k,nr_inodes=9");
    host.machine.mounts().run(|| Ok(fs::write(state.join("filling"), [0; 4096])?)).expect("filling it");
    for (generation, arguments) in [(2, &["reload"][..]), (3, &["attach", IFACE, "--allowlist", &long])] {
        let output = portguard.run(arguments);
        assert_eq!(output.code, 0, "{output:?}");
        assert!(output.stderr.contains("warning: cannot keep a copy of the list"), "{output:?}");
        assert!(output.stderr.contains("No space left on device"), "{output:?}");
        let status = portguard.status();
        assert_eq!((status.generation, status.allowlist.prefixes_v4), (generation, 200));
    }
    let mut service = Service::start(portguard, &[IFACE, "--allowlist", &long]);
    service.until_said("cannot keep a copy of the list");
    service.signal(Signal::SIGTERM);
    assert!(service.ended().success());
    let left = || Ok(fs::read_dir(&state)?.map(|file| file.expect("a file").file_name()).collect::<Vec<_>>());
    assert_eq!(host.machine.mounts().run(left).expect("the disk"), ["filling"], "no leftovers");
}
