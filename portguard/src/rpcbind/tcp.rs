//! Asks over TCP: calls and replies are records of a stream.

use std::io::{self, Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    self, AddressFamily, SockFlag, SockType, SockaddrStorage, getpeername, getsockopt, socket, sockopt,
};

use super::calls::{Calls, Message};
use super::{NoReply, icmp, record, within};

/// Asks for all of it over one connection. Returns why the rest has no reply.
pub(super) fn ask(server: SocketAddr, calls: &mut Calls, limit: Duration) -> NoReply {
    converse(server, calls, limit).err().unwrap_or(NoReply::Stalled)
}

fn converse(server: SocketAddr, calls: &mut Calls, limit: Duration) -> Result<(), NoReply> {
    let deadline = Instant::now() + limit;
    let stream = connect(server, limit)?;
    let records: Vec<u8> = calls.open().flatten().copied().collect();
    // Less than any send buffer holds, so it does not wait.
    (&stream).write_all(&records).map_err(|_| NoReply::Closed)?;
    let mut incoming = Incoming { stream: &stream, deadline };
    while calls.is_waiting() {
        // There are as many replies as calls. Who sends more is not listened to.
        if calls.take(&record::read(&mut incoming)?, None) != Message::Expected {
            return Err(NoReply::Garbled("it is not a reply to an open call".to_owned()));
        }
    }
    Ok(())
}

/// Connects. A firewall that rejects is told from a host that cannot be reached.
fn connect(server: SocketAddr, limit: Duration) -> Result<TcpStream, NoReply> {
    let family = if server.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, SockType::Stream, flags, None).map_err(io::Error::from)?;
    icmp::keep(&socket, server)?;
    match socket::connect(socket.as_raw_fd(), &SockaddrStorage::from(server)) {
        Ok(()) | Err(Errno::EINPROGRESS) => {}
        Err(errno) => return Err(io::Error::from(errno).into()),
    }
    let deadline = Instant::now() + limit;
    // The queue of errors wakes as well, and sooner than the socket knows that it has failed.
    while getpeername::<SockaddrStorage>(socket.as_raw_fd()).is_err() {
        within(deadline, |left| {
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)], timeout)? {
                0 => Err(io::ErrorKind::TimedOut.into()),
                _ => Ok(()),
            }
        })?;
        if let Some(reported) = icmp::take(&socket) {
            return Err(reported);
        }
        match getsockopt(&socket, sockopt::SocketError).map_err(io::Error::from)? {
            0 => {}
            errno => return Err(io::Error::from_raw_os_error(errno).into()),
        }
    }
    let stream = TcpStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// What comes from a connection until a point in time.
struct Incoming<'a> {
    stream: &'a TcpStream,
    deadline: Instant,
}

impl Read for Incoming<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        within(self.deadline, |left| {
            self.stream.set_read_timeout(Some(left))?;
            self.stream.read(buffer)
        })
    }
}
