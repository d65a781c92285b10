//! Entries with conditions: what they let through and what they do not, on the wire; and what becomes of them when a guard changes.

mod calls;
mod changes;
mod clock_steps;
mod ends;
mod interfaces;
mod kills;
mod rate;
mod renewals;
mod set_clocks;
mod trials;
mod wire;

use jiff::Timestamp;
use portguard_testkit::net::frame::Packet;
use portguard_testkit::net::rpc;

use crate::support::{Role, SERVER, Testbed, flow};

/// A time that many seconds from now, as lists state it.
fn in_seconds(seconds: i64) -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second() + seconds).expect("a time of this century")
}

/// Entries for both networks of a host, with these conditions: the lines of a list.
fn entries(role: Role, conditions: &[&str]) -> String {
    let lines = conditions.iter().map(|condition| format!("    {condition}\n")).collect::<String>();
    role.prefixes().map(|prefix| format!("  - prefix: {prefix}\n{lines}")).concat()
}

/// Writes a list of these entries. Returns its path.
fn write(testbed: &Testbed, name: &str, entries: &[String]) -> String {
    testbed.lists.write_text(name, &format!("allow:\n{}", entries.concat()))
}

/// A call without credentials, of version 2 if there is one.
fn message(call: &str) -> Vec<u8> {
    let (version, procedure, arguments): (u32, u32, &[u32]) = match call {
        "null" => (2, 0, &[]),
        "dump" => (3, 4, &[]),
        "callit" => (2, 5, &[rpc::PROGRAM, 2, 0, 0]),
        "getstat" => (4, 12, &[]),
        _ => panic!("no {call}"),
    };
    let words = [&[7, 0, 2, rpc::PROGRAM, version, procedure, 0, 0, 0, 0][..], arguments].concat();
    words.into_iter().flat_map(u32::to_be_bytes).collect()
}

/// A call in the name of a source, over UDP.
fn called_by(source: std::net::IpAddr, call: &str) -> Packet {
    Packet::udp(flow(source, SERVER[usize::from(source.is_ipv6())], rpc::PORT), &message(call))
}
