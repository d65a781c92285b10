//! Guards at tcx, the hook behind XDP: they do what those at XDP do, beside the program of another, too.

mod moves;
mod packets;

use std::process::Command;

use portguard_testkit::net::{Namespace, run};

use crate::support::{ALLOWED, DENIED, IFACE, Machine, PORTGUARD, Role, Testbed, program_on, under_traffic};

/// Puts a guard on the server.
fn attach(testbed: &Testbed, more: &[&str]) -> String {
    testbed.portguard().ok(&[&["attach", IFACE, "--allowlist", &testbed.list()], more].concat())
}

#[test]
fn a_guard_is_attached_reloaded_renewed_and_detached_and_no_packet_leaks_and_none_is_lost() {
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    let told = attach(&testbed, &["--hook", "tcx"]);
    assert_eq!(told, "eth0: attached at tcx, enforcing, 2 entries\n");
    let status = portguard.status();
    assert_eq!((&*status.hook, &*status.mode, status.enforcing), ("tcx", "", true));
    assert_eq!((&*status.order.hook, &*status.order.mode), ("tcx", ""));
    assert_eq!(status.program.name, "portguard_tcx");
    assert_eq!(program_on(testbed.server.namespace(), IFACE), None, "no program of XDP");
    let told = portguard.ok(&["status"]);
    assert!(told.contains("eth0: enforcing, tcx, since"), "{told}");
    let ((), exchanged) = under_traffic(&testbed, || {
        for round in 0..5 {
            testbed.lists.write(
                "allowlist.yaml",
                [&Role::Allowed.prefixes()[..], &[format!("203.0.113.{round}")]].concat(),
            );
            portguard.ok(&["reload", IFACE]);
            portguard.ok(&["attach", IFACE]);
            portguard.ok(&["attach", IFACE, "--hook", "auto"]);
            portguard.ok(&["attach", IFACE, "--sources", if round % 2 == 0 { "512" } else { "1024" }]);
        }
    });
    exchanged.assert_sealed();
    portguard.assert_counted(&exchanged);
    for (source, decision) in
        [(ALLOWED[0], "allowed"), (ALLOWED[1], "allowed"), (DENIED[0], "dropped"), (DENIED[1], "dropped")]
    {
        let told = portguard.run(&["explain", &source.to_string()]).stdout;
        assert!(told.contains(decision), "{source}: {told}");
    }
    portguard.ok(&["detach", IFACE]);
    testbed.machine.assert_tidy(0);
    under_traffic(&testbed, || ()).1.assert_open();
}

#[test]
fn audit_mode_counts_and_lets_pass_and_enforcing_comes_without_a_gap() {
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    attach(&testbed, &["--hook", "tcx", "--audit"]);
    let ((), exchanged) = under_traffic(&testbed, || ());
    exchanged.assert_open();
    let stats = portguard.stats_of(exchanged.sent().packets);
    assert_eq!(
        (stats.totals.dropped.packets, stats.totals.would_drop),
        (0, exchanged.sent_denied()),
        "{stats:?}"
    );
    portguard.ok(&["attach", IFACE, "--enforce"]);
    portguard.ok(&["stats", "--reset"]);
    let ((), exchanged) = under_traffic(&testbed, || ());
    exchanged.assert_sealed();
    portguard.assert_counted(&exchanged);
}

/// xdp-filter, which lets pass what it has no rule for.
fn xdp_filter(testbed: &Testbed, arguments: &[&str]) {
    let mut command: Command = testbed.machine.command(testbed.server.namespace(), "xdp-filter");
    run(command.args(arguments)).expect("xdp-filter");
}

#[test]
fn beside_the_xdp_program_of_another_it_guards_by_tcx_and_says_so() {
    for mode in ["native", "skb"] {
        let testbed = Testbed::new(PORTGUARD);
        let portguard = testbed.portguard();
        xdp_filter(&testbed, &["load", "--mode", mode, "--features", "udp", IFACE]);
        let foreign = program_on(testbed.server.namespace(), IFACE).expect("the foreign program");
        let told = portguard.run(&["attach", IFACE, "--allowlist", &testbed.list()]);
        assert_eq!(
            (told.code, &*told.stdout),
            (0, "eth0: attached at tcx, enforcing, 2 entries\n"),
            "{told:?}"
        );
        assert!(told.stderr.contains("another XDP program is attached already"), "{told:?}");
        assert!(told.stderr.contains("eth0: tcx instead, behind XDP"), "{told:?}");
        let ((), exchanged) = under_traffic(&testbed, || ());
        exchanged.assert_sealed();
        portguard.assert_counted(&exchanged);
        assert_eq!(program_on(testbed.server.namespace(), IFACE), Some(foreign), "untouched");
        portguard.ok(&["detach", IFACE]);
        assert_eq!(program_on(testbed.server.namespace(), IFACE), Some(foreign), "untouched");
        testbed.machine.assert_tidy(0);
        // What is asked for by name is not replaced by something else.
        let told = portguard.fails(1, &["attach", IFACE, "--allowlist", &testbed.list(), "--hook", "xdp"]);
        assert!(told.contains("another XDP program is attached already"), "{told}");
        xdp_filter(&testbed, &["unload", IFACE]);
    }
}

/// The host of the server, and the index of its interface there.
fn server_interface(testbed: &Testbed) -> (&Namespace, u32) {
    let namespace = testbed.server.namespace();
    (namespace, namespace.ifindex(IFACE).expect("its index"))
}

/// A second guard beside one that this portguard cannot see would count everything twice, and neither would be all.
#[test]
fn no_guard_is_put_beside_that_of_another_portguard() {
    let testbed = Testbed::new(PORTGUARD);
    let other = Machine::new(PORTGUARD);
    let namespace = testbed.server.namespace();
    for (theirs, place) in [("xdp", "in native mode"), ("tcx", "at tcx")] {
        let foreign = other.portguard(namespace);
        foreign.ok(&["attach", IFACE, "--hook", theirs, "--allowlist", &testbed.list()]);
        for ours in ["auto", "xdp", "tcx"] {
            let told = testbed
                .portguard()
                .fails(1, &["attach", IFACE, "--hook", ours, "--allowlist", &testbed.list()]);
            assert!(told.contains("another portguard's guard is attached already"), "{told}");
            assert!(told.contains(place), "{told}");
        }
        foreign.ok(&["detach", IFACE]);
    }
}
