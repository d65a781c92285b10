//! Guards that are taken off, and commands for several interfaces of which some fail.

use std::thread;
use std::time::Duration;

use crate::support::{ALLOWED, DENIED, IFACE, PORTGUARD, SingleHost, Testbed, Traffic, program_on};

#[test]
fn detach_opens_the_port_again_and_leaves_nothing_behind() {
    let testbed = Testbed::new(PORTGUARD);
    testbed.attach();
    let portguard = testbed.portguard();
    let run = || {
        thread::scope(|scope| {
            let traffic = Traffic::start(scope, &testbed);
            thread::sleep(Duration::from_millis(50));
            traffic.end()
        })
    };
    run().assert_sealed();

    assert_eq!(portguard.ok(&["detach", IFACE]), "eth0: detached, port 111 is open\n");
    let open = run();
    for source in ALLOWED.into_iter().chain(DENIED) {
        assert!(open.heard(source) > 0, "{source}");
    }
    assert_eq!(portguard.all_status(), []);
    assert_eq!(testbed.machine.pins(), [""; 0], "not even a directory");
    assert_eq!(program_on(testbed.server.namespace(), IFACE), None);

    let told = portguard.fails(4, &["detach", IFACE]);
    assert!(told.contains("eth0: no guard is attached"), "{told}");
    assert_eq!(portguard.ok(&["detach", "--all"]), "", "nothing to do is no failure");

    testbed.attach();
    assert_eq!(portguard.stats().packets(), 0, "a new guard counts from zero");
    assert_eq!(portguard.status().generation, 1);
    run().assert_sealed();
}

#[test]
fn several_interfaces_fail_one_by_one() {
    let host = SingleHost::bare(PORTGUARD);
    for (interface, peer) in [("eth0", "peer0"), ("eth1", "peer1"), ("eth2", "peer2")] {
        host.plug(interface, peer);
    }
    let portguard = host.portguard();
    let list = host.list();

    let output = portguard.run(&["attach", "eth0", "nope", "eth1", "eth0", "--allowlist", &list]);
    assert_eq!(output.code, 4, "{output:?}");
    assert_eq!(
        output.stdout,
        "eth0: attached in native mode, enforcing, 1 entry\neth1: attached in native mode, enforcing, 1 entry\n",
        "the others, each once"
    );
    let errors: Vec<&str> = output.stderr.lines().collect();
    let [error] = errors[..] else { panic!("one error: {errors:?}") };
    assert!(error.starts_with("error: nope: no such interface"), "{error}");
    for there in ["lo", "eth0", "eth1", "eth2"] {
        assert!(error.contains(there), "it names those that there are: {error}");
    }
    let names =
        || -> Vec<String> { portguard.all_status().into_iter().map(|status| status.interface).collect() };
    assert_eq!(names(), ["eth0", "eth1"]);

    // Each has its own list and counters.
    let other = host.lists.write("other.yaml", ["192.0.2.0/24", "198.51.100.0/24"]);
    portguard.ok(&["reload", "eth1", "--allowlist", &other]);
    let prefixes: Vec<u32> =
        portguard.all_status().iter().map(|status| status.allowlist.prefixes_v4).collect();
    assert_eq!(prefixes, [1, 2]);

    let output = portguard.run(&["detach", "nope", "eth0", "eth2", "eth1"]);
    assert_eq!(output.code, 4, "{output:?}");
    assert_eq!(output.stdout, "eth0: detached, port 111 is open\neth1: detached, port 111 is open\n");
    let errors: Vec<&str> = output.stderr.lines().collect();
    let [first, second] = errors[..] else { panic!("two errors: {errors:?}") };
    assert!(first.starts_with("error: nope: no such interface"), "{first}");
    assert!(second.starts_with("error: eth2: no guard is attached"), "{second}");
    assert_eq!(names(), [""; 0]);

    portguard.ok(&["attach", "eth0", "eth1", "eth2", "--allowlist", &list]);
    assert_eq!(names(), ["eth0", "eth1", "eth2"]);
    let told = portguard.ok(&["detach", "--all"]);
    assert_eq!(told.lines().count(), 3, "{told}");
    assert_eq!(names(), [""; 0]);
    assert_eq!(host.machine.pins(), [""; 0], "not even a directory");
}

#[test]
fn every_command_names_the_interface_that_is_not_there() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let list = host.list();
    for command in ["attach", "detach", "reload", "status", "stats"] {
        let list: &[&str] = if command == "attach" { &["--allowlist", &list] } else { &[] };
        let told = portguard.fails(4, &[&[command, "nope"], list].concat());
        assert!(told.contains("nope: no such interface") && told.contains("eth0"), "{command}: {told}");
        if command != "attach" {
            let told = portguard.fails(4, &[command, IFACE]);
            assert!(told.contains("eth0: no guard is attached"), "{command}: {told}");
        }
    }
    assert_eq!(portguard.all_stats(&[]), []);
    assert_eq!(portguard.ok(&["status"]), "");
}
