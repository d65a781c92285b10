//! Asks over UDP: a datagram is a call or a reply.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::calls::Calls;
use super::record::MARK_LEN;
use super::{NoReply, icmp, within};

/// How often a call is sent.
const TRIES: u32 = 2;
/// More than a datagram can hold.
const LARGEST: usize = 1 << 16;

/// Asks for what is open, and again for what is still open after half of the time. Returns why the rest has no reply.
pub(super) fn ask(server: SocketAddr, calls: &mut Calls, limit: Duration) -> NoReply {
    converse(server, calls, limit).unwrap_or_else(NoReply::from)
}

/// The socket is not connected: a host with several addresses may reply from another one than the call went to, and a victim
/// gets such replies as well. The transaction IDs, which nobody guesses, tell the replies from other datagrams.
fn converse(server: SocketAddr, calls: &mut Calls, limit: Duration) -> io::Result<NoReply> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    icmp::keep(&socket, server)?;
    let mut message = vec![0; LARGEST];
    let mut reported = None;
    for _ in 0..TRIES {
        let deadline = Instant::now() + limit / TRIES;
        for call in calls.open() {
            // What was reported about an earlier call is an error of this one, which is not sent then.
            if let Err(error) = socket.send_to(&call[MARK_LEN..], server) {
                reported = Some(icmp::take(&socket).unwrap_or_else(|| error.into()));
                break;
            }
        }
        // What is garbled may be somebody else's; the reply may yet come.
        while calls.open().next().is_some() && reported.is_none() {
            match receive(&socket, &mut message, deadline) {
                Ok(None) => break,
                Ok(Some((length, from))) => {
                    let message = &message[..length];
                    let other = Some(from).filter(|from| !is_same(*from, server));
                    // Anybody can send to the socket, and what others send says nothing about the server.
                    if other.is_none() || calls.has_sent(message) {
                        calls.take(message, other);
                    }
                }
                Err(error) => reported = Some(icmp::take(&socket).unwrap_or_else(|| error.into())),
            }
        }
        if reported.is_some() {
            break;
        }
    }
    Ok(reported.unwrap_or(NoReply::Silent))
}

/// Whether a datagram comes from where the calls went to. The flow label of an address and its zone are not told alike.
fn is_same(from: SocketAddr, server: SocketAddr) -> bool {
    (from.ip(), from.port()) == (server.ip(), server.port())
}

/// The length of the next datagram, and where it comes from; `None`: there was none in time.
fn receive(
    socket: &UdpSocket,
    buffer: &mut [u8],
    deadline: Instant,
) -> io::Result<Option<(usize, SocketAddr)>> {
    let received = within(deadline, |left| {
        socket.set_read_timeout(Some(left))?;
        socket.recv_from(buffer)
    });
    match received {
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok(None),
        received => received.map(Some),
    }
}
