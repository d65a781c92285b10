//! Which procedure a datagram or segment asks for, found out with etherparse and onc-rpc: the second opinion on the
//! classification in `portguard-common`.

use etherparse::{TcpHeaderSlice, UdpHeaderSlice};
use onc_rpc::{CallBody, RpcMessage};

/// `msg_type`, versions, program and procedure: up to there a call has to be whole.
const FIXED_PART: usize = 24;

/// What is asked for, by the name of the procedure or of its kind.
pub fn procedure(transport: &[u8], is_tcp: bool) -> &'static str {
    let fixed_part = if is_tcp { of_segment(transport) } else { of_datagram(transport) };
    fixed_part.map_or("not RPC", message)
}

fn of_datagram(transport: &[u8]) -> Option<&[u8]> {
    let header = UdpHeaderSlice::from_slice(transport).ok()?;
    // With IPv6, 0 is the rest of the packet (RFC 2675).
    let length = if header.length() == 0 { transport.len() } else { header.length().into() };
    let datagram = &transport[..length.min(transport.len())];
    datagram.get(8..8 + FIXED_PART)
}

fn of_segment(transport: &[u8]) -> Option<&[u8]> {
    let header = TcpHeaderSlice::from_slice(transport).ok()?;
    transport[header.slice().len()..].get(4..4 + FIXED_PART)
}

/// What the message asks for that begins like this.
fn message(fixed_part: &[u8]) -> &'static str {
    // A record of a stream with empty credentials and an empty verifier: onc-rpc takes whole messages only.
    const LENGTH: u32 = FIXED_PART as u32 + 16;
    let record = [&(1 << 31 | LENGTH).to_be_bytes(), fixed_part, &[0; 16]].concat();
    match RpcMessage::try_from(record.as_slice()) {
        Ok(message) => message.call_body().map_or("not RPC", call),
        Err(_) => "not RPC",
    }
}

/// RFC 1833, sections 2.2.1, 3.2 and, for the numbers of each version, 3.1.
fn call(body: &CallBody<&[u8], &[u8]>) -> &'static str {
    const VERSION_4: [&str; 13] = [
        "NULL",
        "SET",
        "SET",
        "GETADDR",
        "DUMP",
        "CALLIT",
        "GETTIME",
        "UADDR2TADDR",
        "TADDR2UADDR",
        "GETVERSADDR",
        "CALLIT",
        "GETADDRLIST",
        "GETSTAT",
    ];
    let procedures = match (body.program(), body.program_version()) {
        // Version 2 ends with CALLIT, and version 3 with TADDR2UADDR.
        (100_000, 2) => &VERSION_4[..6],
        (100_000, 3) => &VERSION_4[..9],
        (100_000, 4) => &VERSION_4[..],
        (100_000, _) => &[],
        _ => return "other program",
    };
    procedures.get(body.procedure() as usize).copied().unwrap_or("other RPC")
}
