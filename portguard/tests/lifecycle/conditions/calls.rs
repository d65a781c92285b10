//! `udp` of an entry overrides that of the list.

use std::net::IpAddr;
use std::thread;

use portguard_testkit::net::{Capture, Forger, Replies, RpcServices, run, wait_until};

use super::called_by;
use crate::explain::explained;
use crate::support::{ALLOWED, DENIED, IFACE, Machine, PATIENCE, PORTGUARD, Role, SERVER, SILENCE, Testbed};

/// Calls of each kind that are forged for a case: rpcbind's socket has room for some hundred.
const EACH: u64 = 20;

/// What rpcbind's answers bring to a host while calls are forged in its name: once that is so much, or all of it if that is nothing.
fn brought_to(testbed: &Testbed, role: Role, source: IpAddr, call: &str, payload: u64) -> Replies {
    let attacker = Forger::new(testbed.host(Role::Attacker), &testbed.server).expect("an attacker");
    let mut victim = Capture::start(testbed.switch.namespace(), role.name()).expect("a capture");
    let before = testbed.portguard().stats().packets();
    for _ in 0..EACH {
        attacker.send(&called_by(source, call)).expect("sending");
    }
    testbed.portguard().stats_of(before + EACH);
    let server = SERVER[usize::from(source.is_ipv6())];
    let mut replies = Replies::default();
    if payload == 0 {
        thread::sleep(SILENCE);
    }
    wait_until("answers", PATIENCE, || {
        replies = victim.replies(server)?;
        Ok(replies.payload >= payload)
    })
    .unwrap_or_else(|error| panic!("{error:#}: {replies:?}"));
    replies
}

/// Forged DUMPs in the names of two listed hosts: one has an entry with its own `udp`, the other one an entry without.
#[test]
fn the_udp_of_an_entry_overrides_that_of_the_list_in_both_directions() {
    let roles = [Role::Allowed, Role::Denied, Role::Attacker];
    let testbed = Testbed::with(Machine::new(PORTGUARD), &roles).expect("a testbed");
    let portguard = testbed.portguard();
    let _rpcbind = RpcServices::start_with(testbed.server.namespace(), &["-r"]).expect("rpcbind");
    for (of_list, of_entry) in
        [("lookups", "all"), ("all", "lookups"), ("none", "lookups"), ("all", "none"), ("none", "all")]
    {
        let own = super::entries(Role::Allowed, &[&format!("udp: {of_entry}")]);
        let plain = super::entries(Role::Denied, &[]);
        let text = format!("udp: {of_list}\nallow:\n{plain}{own}");
        let list = testbed.lists.write_text("udp.yaml", &text);
        portguard.ok(&["attach", IFACE, "--allowlist", &list]);
        for (role, source, permitted) in [
            (Role::Allowed, ALLOWED[0], of_entry),
            (Role::Allowed, ALLOWED[1], of_entry),
            (Role::Denied, DENIED[0], of_list),
            (Role::Denied, DENIED[1], of_list),
        ] {
            for call in ["dump", "null"] {
                let passes = match permitted {
                    "all" => true,
                    "lookups" => call == "null",
                    _ => false,
                };
                let case = format!("udp: {of_list}, of the entry: {of_entry}; {call} of {source}");
                portguard.ok(&["stats", "--reset"]);
                // A DUMP is a reflector, and a NULL is answered in 24 bytes.
                let payload = match (passes, call) {
                    (false, _) => 0,
                    (true, "dump") => 40 * EACH + 1,
                    (true, _) => 24 * EACH,
                };
                let replies = brought_to(&testbed, role, source, call, payload);
                assert_eq!(replies.datagrams > 0, passes, "{case}: {replies:?}");
                let stats = portguard.stats();
                let denied = if passes { 0 } else { EACH };
                assert_eq!(
                    stats.totals.by_reason.of("call_not_allowed").packets,
                    denied,
                    "{case}: {stats:?}"
                );
                assert_eq!(
                    (stats.denied().packets, stats.totals.allowed.packets),
                    (denied, EACH - denied),
                    "{case}"
                );
                assert_eq!(stats.by_source().len() as u64, denied / EACH, "{case}: {stats:?}");
                let told = explained(portguard, &[&source.to_string(), "--call", call, "--proto", "udp"]);
                assert_eq!(told[0].verdict == "allowed", passes, "{case}: {told:?}");
            }
        }
        // TCP is not concerned.
        for role in Role::CLIENTS {
            run(testbed.host(role).command("rpcinfo").args(["-p", &SERVER[0].to_string()]))
                .expect("over TCP");
        }
        portguard.ok(&["detach", IFACE]);
    }
}
