//! Asks over TCP: calls and replies are records of a stream.

use std::io::{self, Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::calls::{Calls, Message};
use super::{NoReply, record, within};

/// Asks for all of it over one connection. Returns why the rest has no reply.
pub(super) fn ask(server: SocketAddr, calls: &mut Calls, limit: Duration) -> NoReply {
    converse(server, calls, limit).err().unwrap_or(NoReply::Stalled)
}

fn converse(server: SocketAddr, calls: &mut Calls, limit: Duration) -> Result<(), NoReply> {
    let deadline = Instant::now() + limit;
    let stream = TcpStream::connect_timeout(&server, limit)?;
    let records: Vec<u8> = calls.open().flatten().copied().collect();
    // Less than any send buffer holds, so it does not wait.
    (&stream).write_all(&records).map_err(|_| NoReply::Closed)?;
    let mut incoming = Incoming { stream: &stream, deadline };
    while calls.is_waiting() {
        // There are as many replies as calls. Who sends more is not listened to.
        if calls.take(&record::read(&mut incoming)?) != Message::Expected {
            return Err(NoReply::Garbled("it is not a reply to an open call".to_owned()));
        }
    }
    Ok(())
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
