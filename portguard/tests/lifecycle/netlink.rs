//! Lists and events of interfaces while many others come and go.

use std::thread;

use nix::sys::signal::Signal;

use crate::support::{BEFORE_THE_LOOK, IFACE, PORTGUARD, Service, SingleHost, Until, pause};

/// So many that the kernel needs several messages to list them.
const INTERFACES: u32 = 100;

/// The kernel marks a list as interrupted when an interface comes or goes meanwhile. Such a list is asked for again: it is
/// neither believed nor, at once, a failure.
#[test]
fn a_list_is_whole_while_interfaces_come_and_go() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let lines = |verb: &str, name: &str, rest: &str, count: u32| -> String {
        (0..count).map(|number| format!("link {verb} {name}{number} {rest}\n")).collect()
    };
    host.namespace.ip(&lines("add", "stays", "type veth", INTERFACES)).expect("interfaces");
    portguard.ok(&["attach", IFACE, "--allowlist", &host.list()]);
    thread::scope(|scope| {
        let until = Until::default();
        let over = until.over();
        let churn = lines("add", "comes", "type veth", 10) + &lines("del", "comes", "", 10);
        let namespace = &host.namespace;
        scope.spawn(move || {
            while !over.is_over() {
                namespace.ip(&churn).expect("interfaces");
            }
        });
        let names: Vec<String> = (0..INTERFACES).map(|number| format!("stays{number}")).collect();
        let arguments: Vec<&str> = ["status"].into_iter().chain(names.iter().map(String::as_str)).collect();
        for _ in 0..30 {
            assert_eq!(portguard.status().interface, IFACE);
            // Each is there, and has no guard.
            let told = portguard.fails(4, &arguments);
            assert!(!told.contains("no such interface"), "{told}");
            assert_eq!(told.matches("error: ").count(), names.len(), "{told}");
        }
    });
}

/// The kernel keeps some two hundred kilobytes of events for a service that does not read them.
#[test]
fn events_that_the_kernel_dropped_do_not_end_the_watch() {
    let host = SingleHost::bare(PORTGUARD);
    let portguard = host.portguard();
    let service = Service::start(portguard, &[IFACE, "--allowlist", &host.list()]);
    host.plug("other", "peer1");
    pause(&host.machine, &service);
    let lines: Vec<String> =
        (0..1000).map(|number| format!("link set other mtu {}", 1300 + number % 2)).collect();
    host.namespace.ip(&lines.join("\n")).expect("events");
    service.signal(Signal::SIGCONT);
    host.plug(IFACE, "peer0");
    service.within("the guard is on", BEFORE_THE_LOOK, || portguard.all_status().len() == 1);
}
