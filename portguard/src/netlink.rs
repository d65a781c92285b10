//! Requests to the kernel over netlink, and replies as bytes.
//!
//! A reply that is lost, cut, interrupted or malformed is a [`Failure`], never a shorter list: a caller would take an
//! interface that is missing from a list for one that does not exist. Callers decode only the attributes that they need,
//! so another attribute that is malformed does not make an interface disappear.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::thread;
use std::time::Duration;

use nix::libc;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, connect, recv, send,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

/// The longest wait for each datagram of a reply. The kernel has the reply at once, unless it has lost it.
const TIMEOUT: TimeVal = TimeVal::new(10, 0);
/// The kernel's datagrams are not larger than 32 KiB (`netlink_dump`).
const MAX_DATAGRAM: usize = 64 * 1024;
/// The most attempts to get a dump without an interruption.
const ATTEMPTS: u32 = 20;
/// The pause before the next attempt.
const PAUSE: Duration = Duration::from_millis(10);
/// `struct nlmsghdr`.
const HEADER_LEN: usize = 16;
/// `struct nlattr`.
const ATTRIBUTE_HEADER_LEN: usize = 4;
/// The sequence number of the request: each socket is used for one request only.
const SEQUENCE: u32 = 1;

/// The message types that all netlink protocols have.
const NOOP: u16 = libc::NLMSG_NOOP as u16;
const ERROR: u16 = libc::NLMSG_ERROR as u16;
const DONE: u16 = libc::NLMSG_DONE as u16;
const OVERRUN: u16 = libc::NLMSG_OVERRUN as u16;

/// Why there is no complete reply.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The socket cannot be used.
    Socket(io::Error),
    /// The kernel refuses the request, or fails in the middle of the reply.
    Refused(io::Error),
    /// The objects changed in each attempt, while the kernel was listing them.
    Interrupted,
    /// The kernel had no room for all messages.
    Overrun,
    /// The end of the reply did not arrive in time.
    Unfinished,
    /// The reply does not conform to the protocol.
    Malformed(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(error) => write!(f, "netlink: {error}"),
            Self::Refused(error) => write!(f, "netlink: the kernel refuses: {error}"),
            Self::Interrupted => {
                write!(f, "netlink: the list changed {ATTEMPTS} times while the kernel was sending it")
            }
            Self::Overrun => f.write_str("netlink: the kernel dropped messages of its reply"),
            Self::Unfinished => f.write_str("netlink: the kernel's reply has no end"),
            Self::Malformed(what) => write!(f, "netlink: {what}"),
        }
    }
}

impl std::error::Error for Failure {}

/// The failure for a malformed reply.
pub(crate) fn malformed(what: impl Into<String>) -> Failure {
    Failure::Malformed(what.into())
}

/// Requests a list, and returns the bodies of its messages. `request` and `reply` are message types.
pub(crate) fn dump(
    protocol: SockProtocol,
    request: u16,
    body: &[u8],
    reply: u16,
) -> Result<Vec<Vec<u8>>, Failure> {
    for attempt in 1..=ATTEMPTS {
        match dump_once(protocol, request, body, reply) {
            Err(Failure::Interrupted) if attempt < ATTEMPTS => thread::sleep(PAUSE),
            result => return result,
        }
    }
    Err(Failure::Interrupted)
}

fn dump_once(protocol: SockProtocol, request: u16, body: &[u8], reply: u16) -> Result<Vec<Vec<u8>>, Failure> {
    let socket = ask(protocol, &dump_request(request, body))?;
    let mut dump = Dump::new(reply);
    let mut datagram = vec![0; MAX_DATAGRAM];
    while dump.take(receive(&socket, &mut datagram)?)? == Progress::Unfinished {}
    dump.finish()
}

/// Requests one object, and returns the body of its message. `kind` and `reply` are message types.
pub(crate) fn request(
    protocol: SockProtocol,
    kind: u16,
    body: &[u8],
    reply: u16,
) -> Result<Vec<u8>, Failure> {
    let socket = ask(protocol, &message(kind, libc::NLM_F_REQUEST as u16, body))?;
    let mut datagram = vec![0; MAX_DATAGRAM];
    let datagram = receive(&socket, &mut datagram)?;
    let (message, _) = Message::split(datagram).ok_or_else(|| malformed("a message is cut off"))?;
    match message.kind {
        ERROR => Err(refused(code(message.body)?)),
        kind if kind == reply => Ok(message.body.to_vec()),
        kind => Err(malformed(format!("a message of the unexpected type {kind}"))),
    }
}

/// Sends a request on a socket of its own.
fn ask(protocol: SockProtocol, request: &[u8]) -> Result<OwnedFd, Failure> {
    let failed = |errno: nix::Error| Failure::Socket(errno.into());
    let socket =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol).map_err(failed)?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TIMEOUT).map_err(failed)?;
    // After this call, the socket receives messages from the kernel only.
    connect(socket.as_raw_fd(), &NetlinkAddr::new(0, 0)).map_err(failed)?;
    send(socket.as_raw_fd(), request, MsgFlags::empty()).map_err(failed)?;
    Ok(socket)
}

/// The next datagram of a reply.
fn receive<'a>(socket: &OwnedFd, datagram: &'a mut [u8]) -> Result<&'a [u8], Failure> {
    loop {
        // With MSG_TRUNC, the length is that of the datagram, even if the datagram does not fit.
        match recv(socket.as_raw_fd(), datagram, MsgFlags::MSG_TRUNC) {
            Ok(length) => {
                return datagram
                    .get(..length)
                    .ok_or_else(|| malformed("a datagram is longer than any can be"));
            }
            Err(nix::Error::EINTR) => {}
            Err(nix::Error::EAGAIN) => return Err(Failure::Unfinished),
            Err(nix::Error::ENOBUFS) => return Err(Failure::Overrun),
            Err(errno) => return Err(Failure::Socket(errno.into())),
        }
    }
}

fn dump_request(kind: u16, body: &[u8]) -> Vec<u8> {
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    message(kind, flags, body)
}

fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let length = (HEADER_LEN + body.len()) as u32;
    let mut message = Vec::with_capacity(HEADER_LEN + body.len());
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend(SEQUENCE.to_ne_bytes());
    // The port number of the sender: the kernel knows it.
    message.extend(0_u32.to_ne_bytes());
    message.extend(body);
    message
}

/// The state of a reply to the request for a list.
#[derive(Debug)]
struct Dump {
    /// The type of the messages of the list.
    reply: u16,
    bodies: Vec<Vec<u8>>,
    interrupted: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// More datagrams follow.
    Unfinished,
    /// The last datagram was read.
    Complete,
}

impl Dump {
    fn new(reply: u16) -> Self {
        Self { reply, bodies: Vec::new(), interrupted: false }
    }

    /// Reads the next datagram. It does not use `NLM_F_MULTI` to see whether the reply continues, because some
    /// protocols do not set that flag. Each list ends with `NLMSG_DONE`.
    fn take(&mut self, datagram: &[u8]) -> Result<Progress, Failure> {
        let mut rest = datagram;
        if rest.is_empty() {
            return Err(malformed("an empty datagram"));
        }
        while !rest.is_empty() {
            let (message, behind) = Message::split(rest).ok_or_else(|| malformed("a message is cut off"))?;
            rest = behind;
            if message.sequence != SEQUENCE {
                return Err(malformed("a message is not a reply to the request"));
            }
            self.interrupted |= message.flags & libc::NLM_F_DUMP_INTR as u16 != 0;
            match message.kind {
                NOOP => {}
                OVERRUN => return Err(Failure::Overrun),
                // Both messages begin with the negative number of an error, or with 0.
                DONE => {
                    return match code(message.body)? {
                        0 => Ok(Progress::Complete),
                        code => Err(refused(code)),
                    };
                }
                ERROR => {
                    return Err(match code(message.body)? {
                        0 => malformed("an acknowledgement instead of a list"),
                        code => refused(code),
                    });
                }
                kind if kind == self.reply => self.bodies.push(message.body.to_vec()),
                kind => return Err(malformed(format!("a message of the unexpected type {kind}"))),
            }
        }
        Ok(Progress::Unfinished)
    }

    fn finish(self) -> Result<Vec<Vec<u8>>, Failure> {
        if self.interrupted { Err(Failure::Interrupted) } else { Ok(self.bodies) }
    }
}

fn code(body: &[u8]) -> Result<i32, Failure> {
    let code = body.first_chunk().ok_or_else(|| malformed("a result is cut off"))?;
    Ok(i32::from_ne_bytes(*code))
}

fn refused(code: i32) -> Failure {
    Failure::Refused(io::Error::from_raw_os_error(code.saturating_neg()))
}

#[derive(Debug)]
struct Message<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    body: &'a [u8],
}

impl<'a> Message<'a> {
    /// The first message, and the bytes after it; `None` if it is cut off.
    fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
        let message = bytes.get(..length)?;
        let body = message.get(HEADER_LEN..)?;
        let behind = bytes.get(aligned(length)..).unwrap_or_default();
        let (kind, flags, sequence) = (u16_at(message, 4)?, u16_at(message, 6)?, u32_at(message, 8)?);
        Some((Self { kind, flags, sequence, body }, behind))
    }
}

/// An iterator over the attributes in the body of a message, or in another attribute: type and value.
#[derive(Debug, Clone)]
pub(crate) struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Takes the first attribute; `None` if it is cut off.
    fn take(&mut self) -> Option<(u16, &'a [u8])> {
        let length = usize::from(u16_at(self.0, 0)?);
        let kind = u16_at(self.0, 2)? & libc::NLA_TYPE_MASK as u16;
        let value = self.0.get(..length)?.get(ATTRIBUTE_HEADER_LEN..)?;
        self.0 = self.0.get(aligned(length)..).unwrap_or_default();
        Some((kind, value))
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<(u16, &'a [u8]), Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let attribute = self.take();
        if attribute.is_none() {
            // The next attribute cannot be found.
            self.0 = &[];
        }
        Some(attribute.ok_or_else(|| malformed("an attribute is cut off")))
    }
}

/// An attribute as bytes.
#[cfg(test)]
pub(crate) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = ATTRIBUTE_HEADER_LEN + value.len();
    let mut attribute = Vec::with_capacity(aligned(length));
    attribute.extend((length as u16).to_ne_bytes());
    attribute.extend(kind.to_ne_bytes());
    attribute.extend(value);
    attribute.resize(aligned(length), 0);
    attribute
}

/// Both messages and attributes begin at multiples of four bytes.
fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

/// The integer at an offset of a structure, in host byte order.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The integer at an offset of a structure, in host byte order.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// A socket that receives a message for each interface of this network namespace that appears, disappears or changes. It
/// does not block.
pub(crate) fn link_events() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, libc::RTMGRP_LINK as u32))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLY: u16 = libc::RTM_NEWLINK;
    const MULTI: u16 = libc::NLM_F_MULTI as u16;
    const INTERRUPTED: u16 = libc::NLM_F_DUMP_INTR as u16;

    fn done(code: i32) -> Vec<u8> {
        message(DONE, MULTI, &code.to_ne_bytes())
    }

    fn read(datagrams: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, Failure> {
        let mut dump = Dump::new(REPLY);
        for datagram in datagrams {
            if dump.take(datagram)? == Progress::Complete {
                return dump.finish();
            }
        }
        Err(Failure::Unfinished)
    }

    #[test]
    fn a_list_is_complete_when_it_says_so() {
        let (one, two) = (message(REPLY, MULTI, b"one "), message(REPLY, MULTI, b"two "));
        let list = vec![b"one ".to_vec(), b"two ".to_vec()];
        assert_eq!(read(&[[&one[..], &two].concat(), done(0)]).unwrap(), list);
        assert_eq!(read(&[[&one[..], &two, &done(0)].concat()]).unwrap(), list);
        // Without NLM_F_MULTI, as the family netdev sends them.
        let (one, two) = (message(REPLY, 0, b"one "), message(REPLY, 0, b"two "));
        assert_eq!(read(&[one.clone(), two.clone(), done(0)]).unwrap(), list);
        assert!(matches!(read(&[one, two]), Err(Failure::Unfinished)), "no end, and no list");
    }

    #[test]
    fn whatever_is_no_whole_list_is_a_failure() {
        let one = message(REPLY, MULTI, b"one ");
        let with = |last: Vec<u8>| read(&[one.clone(), last]);
        assert!(matches!(with(message(OVERRUN, 0, &[])), Err(Failure::Overrun)));
        let refusal = |result| match result {
            Err(Failure::Refused(error)) => error.raw_os_error(),
            other => panic!("{other:?}"),
        };
        assert_eq!(refusal(with(message(ERROR, 0, &(-libc::EPERM).to_ne_bytes()))), Some(libc::EPERM));
        assert_eq!(refusal(with(done(-libc::EMSGSIZE))), Some(libc::EMSGSIZE), "at the end");
        for odd in [
            vec![],
            message(ERROR, 0, &0_i32.to_ne_bytes()),
            message(DONE, MULTI, &[]),
            message(REPLY + 1, MULTI, b"what"),
        ] {
            assert!(matches!(with(odd.clone()), Err(Failure::Malformed(_))), "{odd:?}");
        }
        let mut of_another_request = one.clone();
        of_another_request[8] ^= 1;
        assert!(matches!(with(of_another_request), Err(Failure::Malformed(_))));
    }

    #[test]
    fn an_interruption_is_seen_at_any_message() {
        let (calm, changed) = (message(REPLY, MULTI, b"one "), message(REPLY, MULTI | INTERRUPTED, b"one "));
        let end = message(DONE, MULTI | INTERRUPTED, &0_i32.to_ne_bytes());
        for datagrams in
            [[changed.clone(), done(0)], [[calm.clone(), changed].concat(), done(0)], [calm, end]]
        {
            assert!(matches!(read(&datagrams), Err(Failure::Interrupted)), "{datagrams:?}");
        }
    }

    #[test]
    fn a_datagram_that_is_cut_anywhere_is_a_failure() {
        let whole = [message(REPLY, MULTI, b"one "), message(REPLY, MULTI, b"two "), done(0)].concat();
        assert!(read(std::slice::from_ref(&whole)).is_ok());
        for length in 0..whole.len() {
            assert!(read(&[whole[..length].to_vec()]).is_err(), "cut to {length}");
        }
    }

    #[test]
    fn attributes_are_read_to_the_end_or_to_a_failure() {
        let bytes = [attribute(3, b"odd"), attribute(0x8000 | 4, b"even")].concat();
        let read: Vec<_> = Attributes::new(&bytes).map(Result::unwrap).collect();
        assert_eq!(read, [(3, &b"odd"[..]), (4, b"even")], "without flags and padding");
        for length in 0..bytes.len() {
            let read: Vec<_> = Attributes::new(&bytes[..length]).collect();
            let whole = [0, 7, 8].contains(&length);
            assert_eq!(read.iter().all(Result::is_ok), whole, "cut to {length}: {read:?}");
            assert!(read.len() <= 2, "cut to {length}");
        }
        // A length shorter than the header of the attribute must not make an endless loop.
        assert!(Attributes::new(&[0, 0, 3, 0, 0, 0, 0, 0]).all(|attribute| attribute.is_err()));
    }
}
