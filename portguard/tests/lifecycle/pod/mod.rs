//! The DaemonSet of `deploy/kubernetes`, as a kubelet would run it: its manifest says with which arguments, mounts and
//! capabilities.

mod container;
mod manifest;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::thread;

use nix::sys::signal::Signal;

use self::container::Running;
use self::manifest::Pod;
use crate::support::{
    ConfigMap, IFACE, Machine, PORTGUARD, Portguard, SERVER, SingleHost, Testbed, Traffic, ask,
};

/// A list that covers what is allowed on the testbed, and so many networks beside.
fn list(more: u8) -> String {
    let more = (0..more).map(|number| format!("  - 10.{number}.0.0/16\n"));
    format!("allow:\n  - 192.0.2.0/24\n  - 2001:db8::/48\n{}", more.collect::<String>())
}

/// The ConfigMap of the pod, with the key that portguard looks for.
fn config_map(pod: &Pod) -> ConfigMap {
    let map = ConfigMap::new("allowlist.yaml", pod.config_map().default_mode, &list(0));
    // As the kubelet makes it; pods have it read-only.
    fs::set_permissions(map.folder(), Permissions::from_mode(0o777)).expect("chmod");
    map
}

/// Waits until a list with so many more networks is in force.
#[track_caller]
fn expect(portguard: Portguard<'_>, running: &Running, more: u8) {
    running.wait_until("the list is in force", || {
        let guards = portguard.all_status();
        guards.iter().any(|guard| {
            guard.interface == IFACE && guard.enforcing && guard.allowlist.prefixes_v4 == u32::from(more) + 1
        })
    });
}

/// A line of `/proc/PID/status`.
fn status_of(running: &Running, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{}/status", running.id())).expect("/proc");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).to_owned()
}

#[test]
fn the_manifests_parts_fit_together() {
    let pod = Pod::read();
    let (name, files, is_stable) = manifest::generated_config_map();
    assert_eq!(pod.config_map().name, name);
    assert!(is_stable, "with a hash in its name, a changed list would be a roll-out of pods, not a reload");
    let host = SingleHost::bare(PORTGUARD);
    assert_eq!(files.len(), 1);
    for list in files.into_iter().chain([manifest::example_list()]) {
        assert!(list.ends_with("allowlist.yaml"));
        // A copy: the working copy may belong to another user, and would be refused.
        let list = host.lists.write_text("example.yaml", &fs::read_to_string(list).expect("the list"));
        let checked = host.portguard().run(&["check", &list]);
        assert_eq!((checked.code, &*checked.stderr), (0, ""), "{checked:?}");
    }
    let container = pod.container();
    assert_eq!(container.port("metrics"), 9111);
    assert!(container.liveness_probe.is_none(), "a pod that is started again mends nothing");
    for probe in container.probes() {
        assert!(probe.timeout_seconds <= 5 && probe.period_seconds > 0, "{probe:?}");
        assert_eq!(Path::new(&probe.exec.command[0]), manifest::entry_point());
    }
}

#[test]
fn a_pod_guards_its_node_follows_its_list_and_is_replaced_without_a_gap() {
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    let pod = Pod::read();
    let mut map = config_map(&pod);

    let first = Running::start(&testbed, &pod, &map);
    expect(portguard, &first, 0);
    assert!(!first.said().contains("commands cannot hand requests"), "{}", first.said());
    // As the kubelet asks; and as Prometheus does, at the node's address.
    for probe in pod.container().probes() {
        let (code, said) = first.exec(&pod, &probe.exec.command);
        assert_eq!(code, 0, "{said}");
    }
    let server = (SERVER[0], pod.container().port("metrics")).into();
    let answer = ask(testbed.server.namespace(), server, "GET /healthz", "").expect("an answer");
    assert_eq!(answer.status, 200, "{answer:?}");
    // Just what the manifest grants.
    let granted = pod.container().security_context.capabilities();
    let mask = granted.iter().fold(0_u64, |mask, capability| mask | capability.bitmask());
    for set in ["CapEff", "CapPrm", "CapBnd"] {
        assert_eq!(u64::from_str_radix(&status_of(&first, set), 16), Ok(mask), "{set}");
    }
    assert_eq!((&*status_of(&first, "NoNewPrivs"), &*status_of(&first, "Uid")), ("1", "0\t0\t0\t0"));
    assert_eq!(status_of(&first, "NSpid"), format!("{}\t1", first.id()));

    let exchanged = thread::scope(|scope| {
        let traffic = Traffic::start(scope, &testbed);
        for more in 1..=3 {
            map.publish(&list(more));
            expect(portguard, &first, more);
        }
        // The node's kernel kills it: the guard stays, with the list.
        let before = portguard.status();
        assert_eq!(first.end(Signal::SIGKILL).0, 128 + Signal::SIGKILL as i32);
        assert_eq!(portguard.status(), before);
        // While there is no pod, the list changes; its successor takes it up.
        map.publish(&list(4));
        let second = Running::start(&testbed, &pod, &map);
        expect(portguard, &second, 4);
        // A roll-out: the old pod is told to go, then comes the new one.
        let (code, said) = second.end(Signal::SIGTERM);
        assert_eq!(code, 0, "{said}");
        assert_eq!(portguard.status().allowlist.prefixes_v4, 5);
        let third = Running::start(&testbed, &pod, &map);
        map.publish(&list(5));
        expect(portguard, &third, 5);
        assert_eq!(third.end(Signal::SIGTERM).0, 0);
        traffic.end()
    });
    exchanged.assert_sealed();
    portguard.assert_counted(&exchanged);
}

/// After a reboot of the node there is no guard, and the copy of the last good list is in a directory of the host's.
#[test]
fn a_pod_that_finds_a_broken_list_takes_the_last_good_one_of_its_node() {
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    let pod = Pod::read();
    let mut map = config_map(&pod);
    let first = Running::start(&testbed, &pod, &map);
    expect(portguard, &first, 0);
    assert_eq!(first.end(Signal::SIGTERM).0, 0);
    portguard.ok(&["detach", "--all"]);

    map.publish("allow:\n  - 192.0.2.0/33\n");
    let second = Running::start(&testbed, &pod, &map);
    expect(portguard, &second, 0);
    assert_eq!(portguard.status().allowlist.origin, "last_good");
    assert_eq!(second.end(Signal::SIGTERM).0, 0);
}

/// A node that has no BPF file system: guards would go with the pod that mounts one, so it must fail, and say why.
#[test]
fn a_pod_on_a_node_without_a_bpf_file_system_fails() {
    let testbed = Testbed::on(Machine::without_bpffs(PORTGUARD));
    let pod = Pod::read();
    let map = config_map(&pod);
    let (code, said) = container::run(&testbed, &pod, &map);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("mount -t bpf bpf /sys/fs/bpf"), "{said}");
}
