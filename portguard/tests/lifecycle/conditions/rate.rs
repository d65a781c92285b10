//! `rate`: how much an entry lets pass over UDP, over all CPUs.

use std::net::UdpSocket;
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use portguard_testkit::net::{Capture, Host, RpcServices, rpc};
use portguard_testkit::until::{Over, Until};

use super::message;
use crate::explain::{explained, verdict};
use crate::support::{
    ALLOWED, DENIED, IFACE, Machine, PATIENCE, PORTGUARD, Role, SERVER, Testbed, port_111, sum,
};

/// Packets a second of the entry.
const RATE: u64 = 50;
/// So many packets of one sender in one second are enough to use the budget up, even if as many as all queues hold are judged later.
const ENOUGH: u64 = 1500;
/// Packets that are sent between two looks at the clock.
const AT_ONCE: u64 = 50;
/// The sources of the entry: hosts of 198.0.0.0/8.
const SENDERS: [Role; 2] = [Role::Denied, Role::Attacker];

/// The second of the clock that windows are counted by.
fn second() -> i64 {
    clock_gettime(ClockId::CLOCK_BOOTTIME).expect("CLOCK_BOOTTIME").tv_sec()
}

fn testbed() -> Testbed {
    let testbed = Testbed::with(Machine::new(PORTGUARD), &[Role::Allowed, Role::Denied, Role::Attacker]);
    let testbed = testbed.expect("a testbed");
    testbed.lists.write_text(
        "rate.yaml",
        &format!(
            "allow:\n  - prefix: 198.0.0.0/8\n    rate: {RATE}/s\n  - prefix: 192.0.2.0/24\n    rate: 1000000/s\n  - 2001:db8::/48\n"
        ),
    );
    testbed
}

/// Sends calls on one CPU until it is over. Returns in how many seconds it has sent enough.
fn send(host: &Host, cpu: usize, over: &Over) -> u64 {
    let mut cpus = CpuSet::new();
    cpus.set(cpu).expect("a CPU");
    sched_setaffinity(Pid::from_raw(0), &cpus).expect("a CPU of this machine");
    let socket = host.run(|| UdpSocket::bind("0.0.0.0:0")).expect("a socket");
    socket.connect(port_111(SERVER[0])).expect("a route");
    let call = message("null");
    let (mut full, mut of_second) = (0, 0);
    let mut now = second();
    while !over.is_over() {
        for _ in 0..AT_ONCE {
            // Where there is no room, nothing is judged; that is no failure.
            let _ = socket.send(&call);
        }
        let after = second();
        if after == now {
            of_second += AT_ONCE;
            full += u64::from(of_second == ENOUGH);
        } else {
            of_second = 0;
        }
        now = after;
        thread::sleep(Duration::from_micros(500));
    }
    full
}

/// Something is done while both sources send as much as they can. Returns in how many seconds at least one of them has sent enough.
fn while_both_send(testbed: &Testbed, work: impl FnOnce()) -> u64 {
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let sending = Until::default();
        let senders = SENDERS.iter().enumerate().map(|(number, role)| {
            let (over, host) = (sending.over(), testbed.host(*role));
            scope.spawn(move || send(host, number % cpus, &over))
        });
        let senders: Vec<_> = senders.collect();
        work();
        drop(sending);
        senders.into_iter().map(|sender| sender.join().expect("a sender")).max().expect("senders")
    })
}

fn an_entry_is_limited_over_all_cpus(mode: &str) {
    let cpus = thread::available_parallelism().map_or(1, usize::from) as u64;
    let testbed = testbed();
    let portguard = testbed.portguard();
    let _rpcbind = RpcServices::start(testbed.server.namespace()).expect("rpcbind");
    let list = testbed.lists.path("rate.yaml").display().to_string();
    portguard.ok(&["attach", IFACE, "--allowlist", &list, "--mode", mode]);
    let mut behind = Capture::start(testbed.server.namespace(), IFACE).expect("a capture");
    let first = second();
    let full = while_both_send(&testbed, || thread::sleep(Duration::from_secs(4)));
    // Until all of it is judged.
    let mut judged = portguard.stats();
    loop {
        thread::sleep(Duration::from_millis(100));
        let again = portguard.stats();
        if again.packets() == judged.packets() {
            break;
        }
        judged = again;
    }
    let begun = (second() - first + 1) as u64;
    let passed = judged.totals.allowed.packets;
    let exceeded = judged.totals.by_reason.of("rate_exceeded");
    assert!(passed <= begun * (RATE + cpus), "{mode}: {passed} passed in {begun} seconds: {judged:?}");
    assert!(passed >= full * RATE, "{mode}: {passed} passed in {full} seconds with enough: {judged:?}");
    assert!(full > 0 && exceeded.packets > passed, "{mode}: {judged:?}");
    assert_eq!(judged.denied(), exceeded, "{mode}: for nothing else: {judged:?}");
    assert_eq!(
        judged.by_source().into_keys().collect::<Vec<_>>(),
        [Role::Attacker, Role::Denied].map(|role| role.addresses()[0]),
        "{mode}: both are told of"
    );
    let delivered = sum(behind.requests().expect("a capture without gaps").into_values());
    assert_eq!(delivered, judged.totals.allowed, "{mode}: what was counted is what was delivered");
}

#[test]
fn an_entry_lets_pass_its_rate_over_all_cpus_in_native_mode() {
    an_entry_is_limited_over_all_cpus("native");
}

/// In generic mode, each CPU runs the program for what it has sent.
#[test]
fn an_entry_lets_pass_its_rate_over_all_cpus_in_generic_mode() {
    an_entry_is_limited_over_all_cpus("generic");
}

/// Across one edge between two seconds: twice what a second may have, and never the sum of what each CPU may.
#[test]
fn across_an_edge_an_entry_lets_pass_twice_its_rate() {
    let cpus = thread::available_parallelism().map_or(1, usize::from) as u64;
    let testbed = testbed();
    let portguard = testbed.portguard();
    let list = testbed.lists.path("rate.yaml").display().to_string();
    portguard.ok(&["attach", IFACE, "--allowlist", &list, "--mode", "generic"]);
    // A machine that is busy may need several attempts until only one edge is within.
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < 4 * PATIENCE, "this machine takes too long for this test");
        portguard.ok(&["stats", "--reset"]);
        let start = second();
        while_both_send(&testbed, || {
            while second() == start {
                thread::sleep(Duration::from_millis(10));
            }
            thread::sleep(Duration::from_millis(100));
        });
        let stats = portguard.stats();
        if second() > start + 1 {
            continue;
        }
        let passed = stats.totals.allowed.packets;
        assert!(passed <= 2 * (RATE + cpus - 1), "{passed} passed: {stats:?}");
        if passed >= 2 * RATE {
            return;
        }
    }
}

/// Each test frame finds the budget as the guard has it, so the answer for one source does not depend on the others.
#[test]
fn explain_spends_no_budget() {
    let testbed = testbed();
    let portguard = testbed.portguard();
    let list = "allow:\n  - prefix: 198.0.0.0/8\n    rate: 1/s\n  - prefix: 2001:db8::/32\n    rate: 2/s\n";
    let list = testbed.lists.write_text("one.yaml", list);
    portguard.ok(&["attach", IFACE, "--allowlist", &list]);
    let sources: Vec<String> =
        (1..=20).flat_map(|host| [format!("198.51.100.{host}"), format!("2001:db8::{host}")]).collect();
    let sources: Vec<&str> = sources.iter().map(String::as_str).collect();
    for at in [&[][..], &["--at", "2100-01-01"]] {
        let told = explained(portguard, &[&sources[..], at].concat());
        assert!(told.len() >= sources.len(), "{told:?}");
        assert!(told.iter().all(|verdict| verdict.verdict == "allowed"), "{at:?}: {told:?}");
    }
}

#[test]
fn a_budget_that_is_used_up_concerns_neither_tcp_nor_other_entries() {
    let testbed = testbed();
    let portguard = testbed.portguard();
    let _rpcbind = RpcServices::start(testbed.server.namespace()).expect("rpcbind");
    let list = testbed.lists.path("rate.yaml").display().to_string();
    portguard.ok(&["attach", IFACE, "--allowlist", &list]);
    let is_used_up = || portguard.stats().totals.by_reason.of("rate_exceeded").packets;
    let mut before = 0;
    while_both_send(&testbed, || {
        for _ in 0..5 {
            let reached = portguard_testkit::net::wait_until("the budget is used up", PATIENCE, || {
                Ok(is_used_up() > before)
            });
            reached.expect("the budget is used up");
            before = is_used_up();
            for role in SENDERS {
                let ask = || rpc::answers_over_tcp(port_111(SERVER[0]), PATIENCE);
                assert!(testbed.host(role).run(ask), "{role:?}, over TCP");
            }
            for server in SERVER {
                let ask = || rpc::answers_null(port_111(server), PATIENCE).expect("asking");
                assert!(testbed.host(Role::Allowed).run(ask), "{server}, another entry");
            }
        }
    });
    let stats = portguard.stats();
    assert!(stats.sources.iter().all(|source| source.tcp_packets == 0), "{stats:?}");
    assert!(ALLOWED.iter().all(|client| !stats.by_source().contains_key(client)), "{stats:?}");
    let told = verdict(portguard, &[&DENIED[0].to_string(), "--proto", "udp", "--at", "2100-01-01"]);
    assert_eq!(told.verdict, "allowed", "as of another time, the budget is whole: {told:?}");
    assert_eq!(told.entry.and_then(|it| it.conditions?.rate), Some(RATE as u32));
}
