//! Asks an rpcbind over UDP (RFC 5531, RFC 1833): only what changes nothing, and calls nobody else.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher as _, Hasher as _};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use onc_rpc::auth::AuthFlavor;
use onc_rpc::{CallBody, MessageType, RpcMessage};
use portguard_common::rpc::{PROGRAM, Procedure};

/// How long an answer may take before the call is sent again.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often a call is sent.
const TRIES: u32 = 2;
/// More than a datagram can hold.
const LARGEST_REPLY: usize = 1 << 16;
/// In front of each message of a stream (RFC 5531, section 11); datagrams have none.
const RECORD_MARK_LEN: usize = 4;
/// A mark says that no more fragments of the record follow.
const LAST_FRAGMENT: u32 = 1 << 31;

/// A call that only reads. There are no others: `SET` and `UNSET` change the register, `CALLIT` calls somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    name: &'static str,
    version: u32,
    number: u32,
}

impl Question {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::new("NULL", 2, 0),
        Self::new("NULL", 3, 0),
        Self::new("NULL", 4, 0),
        Self::new("GETPORT", 2, 3),
        Self::new("GETADDR", 3, 3),
        Self::new("GETADDR", 4, 3),
        Self::new("DUMP", 2, 4),
        Self::new("DUMP", 3, 4),
        Self::new("DUMP", 4, 4),
        Self::new("GETSTAT", 4, 12),
    ];

    const fn new(name: &'static str, version: u32, number: u32) -> Self {
        Self { name, version, number }
    }

    /// The name of its procedure, in its version.
    pub fn name(self) -> &'static str {
        self.name
    }

    /// The version of rpcbind's program.
    pub fn version(self) -> u32 {
        self.version
    }

    /// As what it is counted.
    pub fn procedure(self) -> Procedure {
        Procedure::of_call(PROGRAM, self.version, self.number)
    }

    /// Its arguments: the questions for an address are for that of rpcbind itself, over UDP.
    fn arguments(self, is_v6: bool) -> Vec<u8> {
        const UDP: u32 = 17;
        let words = |words: &[u32]| words.iter().flat_map(|word| word.to_be_bytes()).collect();
        match (self.procedure(), self.version) {
            // struct mapping
            (Procedure::GetAddress, 2) => words(&[PROGRAM, self.version, UDP, 0]),
            // struct rpcb
            (Procedure::GetAddress, _) => {
                let mut rpcb: Vec<u8> = words(&[PROGRAM, self.version]);
                for text in [if is_v6 { "udp6" } else { "udp" }, "", ""] {
                    rpcb.extend(words(&[text.len() as u32]));
                    rpcb.extend(text.bytes());
                    rpcb.resize(rpcb.len().next_multiple_of(4), 0);
                }
                rpcb
            }
            _ => Vec::new(),
        }
    }

    /// The datagram.
    fn message(self, xid: u32, is_v6: bool) -> io::Result<Vec<u8>> {
        let nobody = || AuthFlavor::<&[u8]>::AuthNone(None);
        let arguments = self.arguments(is_v6);
        let call = CallBody::new(PROGRAM, self.version, self.number, nobody(), nobody(), arguments);
        let mut record = RpcMessage::new(xid, MessageType::Call(call)).serialise()?;
        Ok(record.split_off(RECORD_MARK_LEN))
    }
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The length of the call, in bytes of UDP payload.
    pub request_len: usize,
    /// The message: UDP payload. It may tell of an error.
    pub message: Vec<u8>,
}

/// Why nothing came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoReply {
    /// Nobody listens there.
    Refused,
    /// No reply in time.
    Silent,
    /// It cannot be reached.
    Unreachable(String),
}

impl fmt::Display for NoReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("nobody listens there"),
            Self::Silent => f.write_str("no answer"),
            Self::Unreachable(why) => f.write_str(why),
        }
    }
}

impl From<io::Error> for NoReply {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            _ => Self::Unreachable(error.to_string()),
        }
    }
}

/// An rpcbind that is asked over UDP, from the network namespace of the process.
#[derive(Debug)]
pub struct Rpcbind {
    socket: UdpSocket,
    server: SocketAddr,
    patience: Duration,
}

impl Rpcbind {
    /// The one at an address. It need not be there.
    ///
    /// # Errors
    /// There is no way there.
    pub fn at(server: SocketAddr) -> Result<Self, NoReply> {
        let any: IpAddr = match server {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0))?;
        // Only what this server sends is received, and that it refuses is told.
        socket.connect(server)?;
        Ok(Self { socket, server, patience: PATIENCE })
    }

    /// Asks, twice if need be, and waits for the reply until `deadline` at most.
    ///
    /// # Errors
    /// No reply came. What is no reply to this very call is none.
    pub fn ask(&self, question: Question, deadline: Instant) -> Result<Reply, NoReply> {
        let xid = random();
        let call = question.message(xid, self.server.is_ipv6())?;
        let mut message = vec![0; LARGEST_REPLY];
        for _ in 0..TRIES {
            self.socket.send(&call)?;
            let until = deadline.min(Instant::now() + self.patience);
            while let Some(length) = self.receive(&mut message, until)? {
                if is_reply(&message[..length], xid) {
                    message.truncate(length);
                    return Ok(Reply { request_len: call.len(), message });
                }
            }
        }
        Err(NoReply::Silent)
    }

    /// The length of the next datagram; `None`: there was none in time.
    fn receive(&self, buffer: &mut [u8], until: Instant) -> io::Result<Option<usize>> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.socket.set_read_timeout(Some(left))?;
            match self.socket.recv(buffer) {
                Ok(length) => return Ok(Some(length)),
                // Both kinds are in use for a timeout; the clock tells whether it is over.
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted => {}
                    _ => return Err(error),
                },
            }
        }
    }
}

/// Whether a datagram is a whole reply to the call with that id.
fn is_reply(datagram: &[u8], xid: u32) -> bool {
    let Ok(length) = u32::try_from(datagram.len()) else { return false };
    let record = [&(LAST_FRAGMENT | length).to_be_bytes(), datagram].concat();
    RpcMessage::try_from(record.as_slice())
        .is_ok_and(|message| message.xid() == xid && message.reply_body().is_some())
}

/// A number that nobody guesses: the standard library's hash tables begin with such numbers.
fn random() -> u32 {
    RandomState::new().build_hasher().finish() as u32
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// The reply of a procedure without results.
    fn reply(xid: [u8; 4]) -> Vec<u8> {
        [&xid[..], &[0, 0, 0, 1], &[0; 16]].concat()
    }

    fn other(xid: [u8; 4]) -> [u8; 4] {
        xid.map(|byte| !byte)
    }

    /// For replies that come: a busy machine may take its time.
    const LONG: Duration = Duration::from_secs(60);
    /// For those that never do.
    const SHORT: Duration = Duration::from_millis(200);

    /// Asks a server that sends `answers` to each call it gets.
    fn ask(patience: Duration, answers: impl Fn([u8; 4]) -> Vec<Vec<u8>> + Send) -> Result<Reply, NoReply> {
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = server.local_addr().unwrap();
        thread::scope(|scope| {
            scope.spawn(move || {
                let mut call = [0; 512];
                // A datagram too short for a call ends it.
                while let Ok((24.., from)) = server.recv_from(&mut call) {
                    for answer in answers(call[..4].try_into().unwrap()) {
                        server.send_to(&answer, from).unwrap();
                    }
                }
            });
            let rpcbind = Rpcbind { patience, ..Rpcbind::at(address).unwrap() };
            let answer = rpcbind.ask(Question::ALL[0], Instant::now() + LONG);
            rpcbind.socket.send(&[]).unwrap();
            answer
        })
    }

    #[test]
    fn a_reply_is_taken_and_all_else_before_it_is_not() {
        let answer = ask(LONG, |xid| {
            let whole = reply(xid);
            let call = [&xid[..], &[0; 36]].concat();
            let too_long = [&whole[..12], &[0xff; 500]].concat();
            vec![
                vec![],
                vec![0xff; 1400],
                xid.to_vec(),
                whole[..20].to_vec(),
                call,
                too_long,
                reply(other(xid)),
                whole,
            ]
        });
        let Reply { request_len, message } = answer.unwrap();
        assert_eq!((request_len, message.len()), (40, 24));
    }

    #[test]
    fn what_never_is_the_reply_is_none() {
        assert_eq!(ask(SHORT, |_| vec![]), Err(NoReply::Silent));
        assert_eq!(ask(SHORT, |xid| vec![reply(other(xid)), vec![7; 24]]), Err(NoReply::Silent));
    }

    #[test]
    fn the_largest_datagram_is_received_whole() {
        let answer = ask(LONG, |xid| vec![[reply(xid), vec![1; 65_507 - 24]].concat()]);
        assert_eq!(answer.unwrap().message.len(), 65_507);
    }

    #[test]
    fn a_server_that_chatters_on_does_not_hold_anybody_up() {
        // More than can be read before the deadline is not needed: what ends it is the clock.
        let begin = Instant::now();
        let answer = ask(SHORT, |xid| (0..100).map(|_| reply(other(xid))).collect());
        assert_eq!(answer, Err(NoReply::Silent));
        assert!(begin.elapsed() >= TRIES * SHORT);
    }

    #[test]
    fn where_nobody_listens_is_told() {
        // The port is taken, lest another test gets it, by a socket that hears nobody but one that never speaks.
        let deaf = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        deaf.connect((Ipv4Addr::LOCALHOST, 9)).unwrap();
        let rpcbind = Rpcbind::at(deaf.local_addr().unwrap()).unwrap();
        let answer = rpcbind.ask(Question::ALL[0], Instant::now() + LONG);
        assert_eq!(answer, Err(NoReply::Refused));
    }

    #[test]
    fn questions_are_what_the_rfc_says() {
        for question in Question::ALL {
            let call = question.message(0x0102_0304, true).unwrap();
            let head = [0x0102_0304, 0, 2, PROGRAM, question.version, question.number, 0, 0, 0, 0];
            let head: Vec<u8> = head.iter().flat_map(|word: &u32| word.to_be_bytes()).collect();
            assert_eq!(call[..40], head);
            let harmless = [Procedure::Null, Procedure::GetAddress, Procedure::Dump, Procedure::GetStat];
            assert!(harmless.contains(&question.procedure()), "{question:?}");
        }
        let arguments = |index: usize| Question::ALL[index].arguments(true);
        assert_eq!(arguments(3), [0, 1, 0x86, 0xa0, 0, 0, 0, 2, 0, 0, 0, 17, 0, 0, 0, 0]);
        assert_eq!(
            arguments(4),
            [&[0, 1, 0x86, 0xa0, 0, 0, 0, 3, 0, 0, 0, 4][..], b"udp6", &[0; 8]].concat()
        );
    }
}
