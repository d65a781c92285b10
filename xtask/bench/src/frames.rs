//! The frames that are judged: a call of rpcbind's DUMP over UDP, and the first segment of a TCP connection elsewhere.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use portguard_testkit::net::frame::{Flow, Mac, Packet, Tag};
use portguard_testkit::net::rpc;

const SERVER_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const SERVER_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
const SOURCE_PORT: u16 = 40_000;
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
    let server = if source.is_ipv4() { SERVER_V4 } else { SERVER_V6 };
    let port = match question {
        Question::Dump => rpc::PORT,
        Question::Https => ELSEWHERE,
    };
    let flow = match (SocketAddr::new(source, SOURCE_PORT), SocketAddr::new(server, port)) {
        (SocketAddr::V4(source), SocketAddr::V4(server)) => Flow::V4(source, server),
        (SocketAddr::V6(source), SocketAddr::V6(server)) => Flow::V6(source, server),
        _ => unreachable!("the server has an address of each family"),
    };
    let packet = match question {
        Question::Dump => Packet::udp(flow, &rpc::dump_call()),
        Question::Https => Packet::tcp_syn(flow),
    };
    let tags = if tagged { vec![Tag::customer(VLAN)] } else { Vec::new() };
    packet.frame([2, 0, 0, 0, 0, 2], target, &tags)
}
