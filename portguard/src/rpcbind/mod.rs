//! Asks an rpcbind (RFC 5531, RFC 1833) over UDP and TCP: only what changes nothing, and calls nobody else.
//!
//! Whoever answers is not trusted: all that is read is bounded, in size and in time.

pub mod amplification;
mod calls;
mod icmp;
mod programs;
mod question;
mod record;
mod register;
mod reply;
mod tcp;
mod udp;
mod xdr;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use portguard_common::transport::Protocol;

use self::calls::Calls;
pub use self::programs::Programs;
pub use self::question::Question;
pub use self::register::{More, Registration, registrations};
pub use self::reply::Results;

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The length of the call: bytes of UDP payload, or of the record behind its mark.
    pub request_len: usize,
    /// That of the reply, in the same way.
    pub reply_len: usize,
    /// Where it came from, if that is not where the call went to: a host with several addresses may reply from another one.
    pub from: Option<SocketAddr>,
    /// What it says: the results, or why there are none.
    pub results: Results,
}

/// Why nothing came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoReply {
    /// Nobody listens there.
    Refused,
    /// A firewall or a router rejects the packets, and reports so (ICMP: administratively prohibited).
    Rejected,
    /// No reply in time.
    Silent,
    /// It takes connections, and no reply came over this one in time.
    Stalled,
    /// It takes connections, and has closed this one without a reply.
    Closed,
    /// Something came, but no reply; says why not.
    Garbled(String),
    /// It cannot be reached.
    Unreachable(String),
}

impl NoReply {
    /// What it is called in JSON and tables. None is renamed.
    pub const fn key(&self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Rejected => "rejected",
            Self::Silent => "silent",
            Self::Stalled => "stalled",
            Self::Closed => "closed",
            Self::Garbled(_) => "garbled",
            Self::Unreachable(_) => "unreachable",
        }
    }
}

impl fmt::Display for NoReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("no process listens there"),
            Self::Rejected => f.write_str("a firewall rejects the packets"),
            Self::Silent => f.write_str("no reply"),
            Self::Stalled => f.write_str("it accepts the connection, but does not reply in time"),
            Self::Closed => f.write_str("it closes the connection without a reply"),
            Self::Garbled(why) => write!(f, "the received data is not a reply: {why}"),
            Self::Unreachable(why) => f.write_str(why),
        }
    }
}

impl From<io::Error> for NoReply {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::TimedOut => Self::Silent,
            _ => Self::Unreachable(error.to_string()),
        }
    }
}

/// Asks all questions at once, from the network namespace of the process, and waits for the replies, but not longer than
/// the limit. They are in the order of the questions. Over UDP, what is not answered is asked for twice.
///
/// A server deals with them in their order, too. What is no reply to these very calls is none.
pub fn ask(
    server: SocketAddr,
    protocol: Protocol,
    questions: &[Question],
    limit: Duration,
) -> Vec<Result<Reply, NoReply>> {
    let mut calls = match Calls::new(questions, server.is_ipv6()) {
        Ok(calls) => calls,
        Err(error) => return vec![Err(error.into()); questions.len()],
    };
    let rest = match protocol {
        Protocol::Udp => udp::ask(server, &mut calls, limit),
        Protocol::Tcp => tcp::ask(server, &mut calls, limit),
    };
    calls.finish(&rest)
}

/// Does something that can be given a time to wait, until a point in time; [`io::ErrorKind::TimedOut`]: that is over.
fn within<T>(deadline: Instant, mut act: impl FnMut(Duration) -> io::Result<T>) -> io::Result<T> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match act(left) {
            // Both kinds are in use for a timeout; the clock tells whether it is over.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
                ) => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests;
