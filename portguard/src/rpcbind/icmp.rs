//! What routers and firewalls report about our packets: the error queue of a socket (ip(7), `IP_RECVERR`).
//!
//! The number of a system call's error does not tell a firewall that rejects from a host without a route: both are
//! `EHOSTUNREACH`. The ICMP message that caused it does.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd as _};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};

use super::NoReply;

/// Codes of ICMP type 3, destination unreachable (RFC 792, RFC 1122 section 3.2.2.1, RFC 1812 section 5.2.7.1).
const V4_UNREACHABLE: u8 = 3;
const V4_PORT: u8 = 3;
/// Communication is administratively prohibited: with the network, with the host, or by filtering.
const V4_PROHIBITED: [u8; 3] = [9, 10, 13];
/// Codes of ICMPv6 type 1, destination unreachable (RFC 4443 section 3.1).
const V6_UNREACHABLE: u8 = 1;
const V6_PORT: u8 = 4;
/// Administratively prohibited; the source address failed a policy; a route rejects.
const V6_PROHIBITED: [u8; 3] = [1, 5, 6];

/// Lets the kernel keep the ICMP messages about packets of this socket.
pub(super) fn keep(socket: impl AsFd, server: SocketAddr) -> io::Result<()> {
    match server {
        SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?,
        SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?,
    }
    Ok(())
}

/// Takes what was reported first; `None`: nothing was.
pub(super) fn take(socket: impl AsFd) -> Option<NoReply> {
    // The packet that it is about comes along; nothing of it is needed.
    let mut packet = [0; 64];
    let mut packet = [IoSliceMut::new(&mut packet)];
    let mut control = nix::cmsg_space!(libc::sock_extended_err, libc::sockaddr_in6);
    let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
    let socket = socket.as_fd().as_raw_fd();
    let message = recvmsg::<SockaddrStorage>(socket, &mut packet, Some(&mut control), flags).ok()?;
    message.cmsgs().ok()?.find_map(|control| match control {
        ControlMessageOwned::Ipv4RecvErr(error, _) | ControlMessageOwned::Ipv6RecvErr(error, _) => {
            Some(reported(&error))
        }
        _ => None,
    })
}

/// What an entry of the queue means.
fn reported(error: &libc::sock_extended_err) -> NoReply {
    let (v4, v6) = (libc::SO_EE_ORIGIN_ICMP, libc::SO_EE_ORIGIN_ICMP6);
    let (origin, message) = (error.ee_origin, (error.ee_type, error.ee_code));
    let is =
        |from: u8, kind: u8, codes: &[u8]| origin == from && message.0 == kind && codes.contains(&message.1);
    if is(v4, V4_UNREACHABLE, &[V4_PORT]) || is(v6, V6_UNREACHABLE, &[V6_PORT]) {
        return NoReply::Refused;
    }
    if is(v4, V4_UNREACHABLE, &V4_PROHIBITED) || is(v6, V6_UNREACHABLE, &V6_PROHIBITED) {
        return NoReply::Rejected;
    }
    io::Error::from_raw_os_error(error.ee_errno.cast_signed()).into()
}
