//! Pins, their directory and their file system are taken away while the service runs.

use std::fs;
use std::path::Path;
use std::thread;

use nix::mount::{MntFlags, MsFlags, umount2};
use nix::sys::signal::Signal;

use crate::support::{
    BEFORE_THE_LOOK, BPFFS, IFACE, PORTGUARD, SILENCE, Service, SingleHost, Testbed, Traffic, pause,
    program_on,
};

/// Waits until another program than that is on the interface, and `status` knows it.
#[track_caller]
fn expect_another_guard(testbed: &Testbed, service: &Service, before: u32) {
    service.within("there is another guard", BEFORE_THE_LOOK, || {
        let guards = testbed.portguard().all_status();
        guards.len() == 1 && guards.iter().all(|guard| guard.program.id != before)
    });
    let guard = testbed.portguard().status();
    assert_eq!(program_on(testbed.server.namespace(), IFACE), Some(guard.program.id));
    thread::scope(|scope| Traffic::start(scope, testbed).end()).assert_sealed();
    assert!(guard.enforcing);
    testbed.machine.assert_tidy(1);
}

/// Does something to the BPF file system of a machine, with a guard on that a service keeps.
#[track_caller]
fn heals_after(harm: impl Fn(&Testbed)) {
    let testbed = Testbed::new(PORTGUARD);
    let mut service = Service::start(testbed.portguard(), &[IFACE, "--allowlist", &testbed.list()]);
    for _ in 0..3 {
        let before = testbed.portguard().status().program.id;
        harm(&testbed);
        expect_another_guard(&testbed, &service, before);
    }
    // It goes on as before.
    testbed.lists.write("allowlist.yaml", ["192.0.2.0/24", "2001:db8::/48", "203.0.113.0/24"]);
    service.within("the list is in force", BEFORE_THE_LOOK, || {
        testbed.portguard().status().allowlist.prefixes_v4 == 2
    });
    service.signal(Signal::SIGTERM);
    assert!(service.ended().success());
    assert!(service.said().contains("stopped; the guards remain on"), "{}", service.said());
}

fn in_mounts(testbed: &Testbed, harm: impl FnOnce() -> anyhow::Result<()> + Send) {
    testbed.machine.mounts().run(harm).expect("doing harm");
}

fn root() -> std::path::PathBuf {
    Path::new(BPFFS).join("portguard")
}

#[test]
fn a_removed_pin_is_noticed_at_once() {
    heals_after(|testbed| {
        let pinned = testbed.portguard().status().pinned;
        in_mounts(testbed, || Ok(fs::remove_file(pinned)?));
    });
}

#[test]
fn a_removed_directory_of_an_interface_is_noticed_at_once() {
    heals_after(|testbed| {
        let pinned = testbed.portguard().status().pinned;
        in_mounts(testbed, || Ok(fs::remove_dir_all(Path::new(&pinned).parent().expect("a directory"))?));
    });
}

#[test]
fn the_directory_of_all_guards_is_made_again() {
    heals_after(|testbed| in_mounts(testbed, || Ok(fs::remove_dir_all(root())?)));
}

#[test]
fn a_directory_of_all_guards_that_was_moved_away_is_made_again() {
    heals_after(|testbed| {
        in_mounts(testbed, || {
            fs::rename(root(), Path::new(BPFFS).join("elsewhere"))?;
            Ok(fs::remove_dir_all(Path::new(BPFFS).join("elsewhere"))?)
        });
    });
}

#[test]
fn a_bpf_file_system_that_is_mounted_anew_gets_the_guards() {
    heals_after(|testbed| {
        in_mounts(testbed, || Ok(umount2(BPFFS, MntFlags::MNT_DETACH)?));
        testbed.machine.mount_bpffs(MsFlags::empty());
    });
}

#[test]
fn a_bpf_file_system_that_is_gone_is_reported_once_and_used_when_it_comes_back() {
    let testbed = Testbed::new(PORTGUARD);
    let service = Service::start(testbed.portguard(), &[IFACE, "--allowlist", &testbed.list()]);
    let before = testbed.portguard().status().program.id;
    in_mounts(&testbed, || Ok(umount2(BPFFS, MntFlags::MNT_DETACH)?));
    service.until_said("warning: eth0: NOT GUARDED, port 111 is open");
    // Each event is a look, which fails.
    for mtu in [1400, 1350, 1300] {
        testbed.server.namespace().ip(&format!("link set {IFACE} mtu {mtu}")).expect("an event");
    }
    testbed.machine.mount_bpffs(MsFlags::empty());
    expect_another_guard(&testbed, &service, before);
    let said = service.said();
    assert_eq!(
        said.matches("the BPF file system of the host is not at /sys/fs/bpf here").count(),
        1,
        "{said}"
    );
    assert_eq!(said.matches("NOT GUARDED").count(), 1, "{said}");
}

#[test]
fn at_its_end_a_service_says_which_interfaces_are_open() {
    let host = SingleHost::new(PORTGUARD);
    host.plug("eth1", "peer1");
    let portguard = host.portguard();
    let list = host.list();
    for (lost, said) in [
        (&["eth1"][..], "stopped; NOT GUARDED, port 111 is open: eth1; the other guards remain on"),
        (&["eth0", "eth1"], "stopped; NOT GUARDED, port 111 is open: eth0, eth1\n"),
    ] {
        let mut service = Service::start(portguard, &["eth0", "eth1", "--allowlist", &list]);
        // Before the service is stopped: `status` asks it, and waits for its answer.
        let pins: Vec<String> = lost.iter().map(|name| portguard.status_of(name).pinned).collect();
        // So that it does not put them on again: once it has read all events of its start, it finds the signal first.
        thread::sleep(SILENCE);
        pause(&host.machine, &service);
        for pinned in &pins {
            host.machine.mounts().run(|| Ok(fs::remove_file(pinned)?)).expect("removing the pin");
        }
        service.signal(Signal::SIGTERM);
        service.signal(Signal::SIGCONT);
        assert!(service.ended().success());
        assert!(service.said().contains(said), "{}", service.said());
    }
}
