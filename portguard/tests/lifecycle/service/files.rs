//! What happens to the file of the list while the service runs.

use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::{ConfigMap, IFACE, PORTGUARD, Service, SingleHost, Testbed, Traffic};

/// A list of that many prefixes.
fn list_of(prefixes: u8) -> String {
    let lines = (0..prefixes).map(|number| format!("  - 192.0.{number}.0/24\n"));
    format!("allow:\n{}", lines.collect::<String>())
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("writing");
    fs::set_permissions(path, Permissions::from_mode(0o644)).expect("chmod");
}

/// Waits until a list of that many prefixes is in force.
#[track_caller]
fn expect(host: &SingleHost, service: &Service, prefixes: u8) {
    let portguard = host.portguard();
    let what = format!("a list of {prefixes} is in force");
    service.wait_until(&what, || portguard.status().allowlist.prefixes_v4 == u32::from(prefixes));
    let status = portguard.status();
    assert_eq!(
        (&*status.allowlist.origin, &*status.allowlist.file.state),
        ("file", "unchanged"),
        "{status:?}"
    );
}

#[test]
fn however_the_file_is_replaced_it_is_noticed() {
    let host = SingleHost::new(PORTGUARD);
    let path = host.lists.path("allowlist.yaml");
    let service = Service::start(host.portguard(), &[IFACE, "--allowlist", &host.list()]);
    expect(&host, &service, 1);

    // In place.
    write(&path, &list_of(2));
    expect(&host, &service, 2);
    // By an editor: a new file, renamed over.
    let new = host.lists.path("allowlist.yaml~");
    write(&new, &list_of(3));
    fs::rename(&new, &path).expect("renaming");
    expect(&host, &service, 3);
    // Away, and back.
    fs::rename(&path, &new).expect("renaming");
    service.until_said("is broken: the lists in force remain");
    write(&path, &list_of(4));
    expect(&host, &service, 4);
    // By its rights alone.
    write(&path, &list_of(5));
    fs::set_permissions(&path, Permissions::from_mode(0o666)).expect("chmod");
    service.until_said("is writable by users other than its owner");
    fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("chmod");
    expect(&host, &service, 5);
    // A hard link in its place.
    write(&new, &list_of(6));
    fs::remove_file(&path).expect("removing");
    fs::hard_link(&new, &path).expect("linking");
    expect(&host, &service, 6);
    // A link that leads to another directory, and what it leads to.
    let elsewhere = host.lists.path("elsewhere");
    fs::create_dir(&elsewhere).expect("a directory");
    write(&elsewhere.join("list"), &list_of(7));
    fs::remove_file(&path).expect("removing");
    symlink("elsewhere/list", &path).expect("a link");
    expect(&host, &service, 7);
    write(&elsewhere.join("list"), &list_of(8));
    expect(&host, &service, 8);
    // The directory itself.
    fs::rename(&elsewhere, host.lists.path("away")).expect("renaming");
    fs::create_dir(&elsewhere).expect("a directory");
    write(&elsewhere.join("list"), &list_of(9));
    expect(&host, &service, 9);
}

#[test]
fn a_configmap_is_followed_from_one_version_to_the_next() {
    let host = SingleHost::new(PORTGUARD);
    let mut map = ConfigMap::new("allowlist.yaml", 0o644, &list_of(1));
    let path = map.path();
    let path = path.to_str().expect("UTF-8");
    let service = Service::start(host.portguard(), &[IFACE, "--allowlist", path]);
    for number in 2..=6 {
        map.publish(&list_of(number));
        expect(&host, &service, number);
    }
}

#[test]
fn the_same_content_is_no_change_and_many_changes_in_a_row_are_few() {
    let host = SingleHost::new(PORTGUARD);
    let path = host.lists.path("allowlist.yaml");
    let mut service = Service::start(host.portguard(), &[IFACE, "--allowlist", &host.list()]);
    let text = fs::read_to_string(&path).expect("reading");
    for _ in 0..5 {
        write(&path, &text);
        thread::sleep(Duration::from_millis(150));
    }
    assert_eq!(host.portguard().status().generation, 1);
    // A writer that takes its time: what it has not closed is not looked at.
    let mut file = File::create(&path).expect("opening");
    file.write_all(b"allow:\n  - 192.0.2.0/24\n").expect("writing");
    thread::sleep(Duration::from_millis(300));
    file.write_all(b"  - 198.51.100.0/24\n").expect("writing");
    drop(file);
    expect(&host, &service, 2);
    for prefixes in 1..=200 {
        write(&path, &list_of(prefixes));
    }
    expect(&host, &service, 200);
    let generation = host.portguard().status().generation;
    assert!(generation < 100, "{generation} lists, for 200 writings as fast as can be");
    service.signal(Signal::SIGTERM);
    assert!(service.ended().success());
}

#[test]
fn a_broken_file_leaves_the_list_in_force_and_is_told_of_once() {
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    let list = testbed.list();
    let mut service = Service::start(portguard, &[IFACE, "--allowlist", &list]);
    let before = portguard.status();
    let exchanged = thread::scope(|scope| {
        let traffic = Traffic::start(scope, &testbed);
        testbed.lists.write_text("allowlist.yaml", "allow:\n  - 192.0.2.0/33\n");
        service.until_said("allowlist.yaml:2:5");
        // Touched, and still as broken.
        testbed.lists.write_text("allowlist.yaml", "allow:\n  - 192.0.2.0/33\n");
        thread::sleep(Duration::from_millis(400));
        let status = portguard.status();
        assert_eq!(status.generation, before.generation);
        assert_eq!(status.allowlist.file.state, "broken");
        assert!(status.allowlist.file.problem.expect("why").contains("line 2: "));
        assert!(portguard.ok(&["status"]).contains("BROKEN on disk"));

        service.signal(Signal::SIGHUP);
        service.until("RELOADING=1");
        service.until("READY=1");
        assert!(service.until("STATUS=").ends_with("is BROKEN, the lists in force remain"));
        assert_eq!(service.said().matches("allowlist.yaml:2:5").count(), 2, "{}", service.said());

        testbed.list();
        service.until_said("is valid again");
        traffic.end()
    });
    exchanged.assert_sealed();
    portguard.assert_counted(&exchanged);
    assert_eq!(portguard.status(), before, "the same list as before: nothing to do");
}
