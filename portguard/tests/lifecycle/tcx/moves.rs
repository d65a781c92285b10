//! Guards that move between the hooks, and to the front of the programs at tcx.

use std::thread;

use nix::sys::signal::Signal;
use portguard_testkit::net::{Namespace, run};

use super::{attach, server_interface};
use crate::support::{
    Foreign, IFACE, PORTGUARD, Service, SingleHost, Testbed, Traced, Until, chosen, pause, program_on,
    programs_at_tcx, run_to, run_to_rename, system_calls, under_traffic,
};

/// The new hook is on before the old one goes: nothing leaks and nothing is lost, and what comes meanwhile may be counted twice.
#[test]
fn a_guard_moves_from_one_hook_to_the_other_and_back() {
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    attach(&testbed, &[]);
    let ((), exchanged) = under_traffic(&testbed, || {
        for _ in 0..3 {
            for (hook, place, told) in [
                (&["--hook", "tcx"][..], ("tcx", ""), "  hook xdp -> tcx\n"),
                (&["--hook", "xdp"], ("xdp", "native"), "  hook tcx -> xdp\n"),
                (&["--hook", "tcx"], ("tcx", ""), "  hook xdp -> tcx\n"),
                (&["--mode", "generic"], ("xdp", "generic"), "  hook tcx -> xdp\n"),
                (&["--hook", "tcx"], ("tcx", ""), "  hook xdp -> tcx\n"),
                (&["--mode", "native"], ("xdp", "native"), "  hook tcx -> xdp\n"),
            ] {
                let output = portguard.ok(&[&["attach", IFACE], hook].concat());
                assert!(output.contains(told), "{output}");
                let status = portguard.status();
                assert_eq!((&*status.hook, &*status.mode), place);
                testbed.machine.assert_tidy(1);
            }
        }
    });
    exchanged.assert_sealed();
    let (stats, sent) = (portguard.stats_of(exchanged.sent().packets), exchanged.sent());
    let counted = stats.totals.allowed.packets + stats.totals.dropped.packets;
    assert!(counted >= sent.packets && counted < sent.packets + sent.packets / 2, "{counted} of {sent:?}");
    let told = portguard.fails(1, &["attach", IFACE, "--hook", "tcx", "--confirm=60"]);
    assert!(told.contains("a change of the hook cannot be on trial"), "{told}");
}

/// A fall-back is reported, also on a move.
#[test]
fn a_guard_that_moves_to_generic_mode_for_want_of_a_better_one_says_so() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    host.namespace.ip("link add br0 type bridge\nlink set br0 up").expect("a bridge");
    portguard.ok(&["attach", "br0", "--hook", "tcx", "--allowlist", &host.list()]);
    let told = portguard.run(&["attach", "br0", "--hook", "xdp"]);
    assert_eq!(told.code, 0, "{told:?}");
    assert!(told.stderr.contains("br0: native XDP refused"), "{told:?}");
    assert!(told.stderr.contains("br0: generic mode instead; it costs more per packet"), "{told:?}");
    assert!(told.stdout.contains("hook tcx -> xdp"), "{told:?}");
}

/// Nothing can keep a guard the first at tcx; a renewal makes it the first again.
#[test]
fn a_renewal_puts_the_guard_in_front_of_what_came_later() {
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    attach(&testbed, &["--hook", "tcx"]);
    let (namespace, ifindex) = server_interface(&testbed);
    let programs = || programs_at_tcx(namespace, ifindex);
    let _link = Foreign::passing().attach_first(namespace, ifindex);
    let guard = portguard.status().program.id;
    assert_eq!(programs()[1..], [guard], "what came later is in front");
    let foreign = programs()[0];
    let doctor = || portguard.run(&["doctor"]).stdout;
    let told = doctor();
    let (finding, remedy) =
        (format!("program {foreign} runs in front of it at tcx"), "-> portguard attach eth0\n");
    assert!(told.contains(&finding) && told.contains(remedy), "{told}");
    let ((), exchanged) = under_traffic(&testbed, || {
        portguard.ok(&["attach", IFACE]);
    });
    exchanged.assert_sealed();
    assert_eq!(programs(), [portguard.status().program.id, foreign], "the guard is the first again");
    assert!(!doctor().contains("in front of it at tcx"));
    portguard.ok(&["detach", IFACE]);
    assert_eq!(programs(), [foreign], "untouched");
}

/// Three times an hour, so that two who want to be the first do not go on for ever.
#[test]
fn a_service_puts_its_guard_in_front_again_and_stops_when_it_happens_again_and_again() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let mut service = Service::start(portguard, &[IFACE, "--hook", "tcx", "--allowlist", &host.list()]);
    let ifindex = host.namespace.ifindex(IFACE).expect("its index");
    let is_first = || programs_at_tcx(&host.namespace, ifindex)[0] == portguard.status().program.id;
    let mut links = Vec::new();
    for times in 1..=3 {
        links.push(Foreign::passing().attach_first(&host.namespace, ifindex));
        assert!(!is_first());
        host.namespace.ip("link set lo up").expect("an event");
        service.wait_until("it is the first again", || {
            is_first() && service.said().matches("renewed in place").count() == times
        });
    }
    let told =
        service.said().matches("not as ordered, and restored: 1 program in front of it at tcx").count();
    assert_eq!(told, 3, "{}", service.said());
    links.push(Foreign::passing().attach_first(&host.namespace, ifindex));
    host.namespace.ip("link set lo up").expect("an event");
    service.until_said("warning: eth0: programs are put in front of the guard again and again");
    assert!(!is_first());
    let told = portguard.run(&["doctor"]).stdout;
    assert!(told.contains("puts it in front at most three times an hour"), "{told}");
    // When the other has gone, all is well.
    links.clear();
    service.until("STATUS=eth0: generation");
}

/// A guard at tcx that is to be at XDP goes there as soon as the program of another has left it.
#[test]
fn a_service_moves_its_guard_to_the_hook_that_it_is_ordered_to_take() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let list = host.list();
    let mut service = Service::start(portguard, &["eth1", "--hook", "xdp", "--allowlist", &list]);
    let filter = |arguments: &[&str]| {
        run(host.machine.command(&host.namespace, "xdp-filter").args(arguments)).expect("xdp-filter");
    };
    pause(&host.machine, &service);
    host.plug("eth1", "peer1");
    filter(&["load", "--mode", "skb", "--features", "udp", "eth1"]);
    portguard.ok(&["attach", "eth1", "--allowlist", &list]);
    service.signal(Signal::SIGCONT);
    service.until("STATUS=eth1: NOT AS ORDERED: hook tcx -> xdp");
    service.until_said("warning: eth1: the existing guard remains as it is");
    assert_eq!(portguard.status_of("eth1").hook, "tcx");
    filter(&["unload", "eth1"]);
    host.namespace.ip("link set lo up").expect("an event");
    service.until_said("eth1: renewed in place");
    assert_eq!(portguard.status_of("eth1").hook, "xdp");
    host.machine.assert_tidy(1);
}

/// What is killed between two calls of a move leaves a guard, at one hook or at both, and the next command leaves one.
#[test]
fn a_loader_that_is_killed_at_any_call_of_a_move_leaves_the_guard_whole() {
    const SAMPLE: u64 = 12;
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    attach(&testbed, &[]);
    let (namespace, ifindex) = server_interface(&testbed);
    let places = || (program_on(namespace, IFACE).is_some(), programs_at_tcx(namespace, ifindex).len());
    let ((), exchanged) = under_traffic(&testbed, || {
        for (from, to) in [("xdp", "tcx"), ("tcx", "xdp")] {
            let [back, there] = [from, to].map(|hook| ["attach", IFACE, "--hook", hook]);
            portguard.ok(&back);
            let calls = system_calls(&mut portguard.command(there));
            for call in chosen(calls, SAMPLE).into_iter().map(Some).chain([None]) {
                portguard.ok(&back);
                let mut command = portguard.command(there);
                let traced = match call {
                    Some(call) => run_to(&mut command, call),
                    // By it, the pin of the new link takes the place of the old one's: both are on.
                    None => run_to_rename(&mut command),
                };
                let hook = portguard.status().hook;
                match traced {
                    Traced::Killed => assert!(hook == from || hook == to, "{hook}"),
                    Traced::Ended(code) => assert_eq!((code, &*hook), (0, to)),
                }
                if call.is_none() {
                    assert_eq!((traced, &*hook, places()), (Traced::Killed, from, (true, 1)));
                }
                // Also one that changes nothing of the guard takes the lock, and so ends what was begun.
                portguard.ok(&["reload", IFACE]);
                let expected = (hook == "xdp", usize::from(hook == "tcx"));
                assert_eq!(places(), expected, "killed at call {call:?}");
            }
            portguard.ok(&there);
            testbed.machine.assert_tidy(1);
        }
    });
    exchanged.assert_sealed();
    let (stats, sent) = (portguard.stats_of(exchanged.sent().packets), exchanged.sent());
    assert!(stats.totals.allowed.packets + stats.totals.dropped.packets >= sent.packets, "{sent:?}");
}

/// The kernel moves the program along, and the guard is found there.
#[test]
fn a_guard_goes_with_its_interface_into_another_namespace() {
    for before in [&[][..], &["--hook", "tcx"]] {
        let host = SingleHost::new(PORTGUARD);
        let portguard = host.portguard();
        let list = host.list();
        portguard.ok(&[&["attach", IFACE, "--allowlist", &list], before].concat());
        let program = portguard.status().program.id;
        let elsewhere = Namespace::new("elsewhere").expect("a namespace");
        host.namespace.ip(&format!("link set {IFACE} netns {}", elsewhere.name())).expect("moving");
        let there = host.machine.portguard(&elsewhere);
        assert_eq!(portguard.all_status(), []);
        assert_eq!(there.status().program.id, program);
        // Also if it gets another link there.
        there.ok(&["attach", IFACE, "--hook", "tcx"]);
        there.ok(&["reload", IFACE]);
        assert_eq!(there.status().hook, "tcx");
        there.ok(&["attach", IFACE, "--hook", "xdp"]);
        there.ok(&["attach", IFACE, "--hook", "tcx"]);
        there.ok(&["detach", IFACE]);
        let ifindex = elsewhere.ifindex(IFACE).expect("its index");
        assert_eq!((program_on(&elsewhere, IFACE), programs_at_tcx(&elsewhere, ifindex)), (None, vec![]));
        assert_eq!(there.all_status(), []);
        host.machine.assert_tidy(0);
    }
}

/// Readers take no lock, and a guard that moves is there all the time.
#[test]
fn whoever_looks_while_a_guard_moves_sees_it_in_its_place() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let ifindex = host.namespace.ifindex(IFACE).expect("its index");
    portguard.ok(&["attach", IFACE, "--hook", "tcx", "--allowlist", &host.list()]);
    let over = Until::default();
    thread::scope(|scope| {
        let looking = over.over();
        scope.spawn(move || {
            let mut looks = 0;
            while !looking.is_over() {
                assert_eq!(portguard.all_status().len(), 1, "after {looks} looks");
                let told = portguard.run(&["doctor"]).stdout;
                assert!(!told.contains("guard.gone") && !told.contains("in front of it"), "{told}");
                looks += 1;
            }
            assert!(looks > 3, "{looks}");
        });
        let _over = over;
        for _ in 0..6 {
            portguard.ok(&["attach", IFACE]);
            portguard.ok(&["attach", IFACE, "--hook", "xdp"]);
            portguard.ok(&["attach", IFACE, "--hook", "tcx"]);
        }
        assert_eq!(programs_at_tcx(&host.namespace, ifindex).len(), 1);
    });
}
