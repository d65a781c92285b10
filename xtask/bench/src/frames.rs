//! The frames that are judged: a call of rpcbind's DUMP over UDP, and the first segment of a TCP connection elsewhere.

use std::net::IpAddr;

use portguard_testkit::net::frame::{Mac, Packet, Tag};
use portguard_testkit::net::rpc;
use portguard_testkit::testbed::{SERVER, flow};

const ELSEWHERE: u16 = 443;
const VLAN: u16 = 7;
const PLACEHOLDER: Mac = [2, 0, 0, 0, 0, 1];

/// What is asked of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    /// UDP port 111.
    Dump,
    /// TCP port 443.
    Https,
}

/// A frame from that source.
pub(super) fn frame(source: IpAddr, question: Question, tagged: bool) -> Vec<u8> {
    frame_to(source, question, tagged, PLACEHOLDER)
}

/// The same to one MAC address.
pub(super) fn frame_to(source: IpAddr, question: Question, tagged: bool, target: Mac) -> Vec<u8> {
    let port = match question {
        Question::Dump => rpc::PORT,
        Question::Https => ELSEWHERE,
    };
    let flow = flow(source, SERVER[usize::from(source.is_ipv6())], port);
    let packet = match question {
        Question::Dump => Packet::udp(flow, &rpc::dump_call()),
        Question::Https => Packet::tcp_syn(flow),
    };
    let tags = if tagged { vec![Tag::customer(VLAN)] } else { Vec::new() };
    packet.frame([2, 0, 0, 0, 0, 2], target, &tags)
}
