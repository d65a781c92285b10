//! Asks over UDP: a datagram is a call or a reply.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::calls::Calls;
use super::record::MARK_LEN;
use super::{NoReply, within};

/// How often a call is sent.
const TRIES: u32 = 2;
/// More than a datagram can hold.
const LARGEST: usize = 1 << 16;

/// Asks for what is open, and again for what is still open after half of the time. Returns why the rest has no reply.
pub(super) fn ask(server: SocketAddr, calls: &mut Calls, limit: Duration) -> NoReply {
    match converse(server, calls, limit) {
        Ok(()) => NoReply::Silent,
        Err(error) => error.into(),
    }
}

fn converse(server: SocketAddr, calls: &mut Calls, limit: Duration) -> io::Result<()> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    // Only what this server sends is received, and that it refuses is told.
    socket.connect(server)?;
    let mut message = vec![0; LARGEST];
    for _ in 0..TRIES {
        let deadline = Instant::now() + limit / TRIES;
        for call in calls.open() {
            socket.send(&call[MARK_LEN..])?;
        }
        // What is garbled may be somebody else's; the reply may yet come.
        while calls.open().next().is_some() {
            let Some(length) = receive(&socket, &mut message, deadline)? else { break };
            calls.take(&message[..length]);
        }
    }
    Ok(())
}

/// The length of the next datagram; `None`: there was none in time.
fn receive(socket: &UdpSocket, buffer: &mut [u8], deadline: Instant) -> io::Result<Option<usize>> {
    let received = within(deadline, |left| {
        socket.set_read_timeout(Some(left))?;
        socket.recv(buffer)
    });
    match received {
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok(None),
        received => received.map(Some),
    }
}
