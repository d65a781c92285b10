//! As much of ONC RPC (RFC 5531) and of rpcbind's program (RFC 1833) as asking port 111 takes.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

/// rpcbind's port.
pub const PORT: u16 = 111;
/// rpcbind's program number.
pub const PROGRAM: u32 = 100_000;
/// The program number of rpc.statd.
pub const STATUS: u32 = 100_024;
/// The program number of rpc.mountd.
pub const MOUNT: u32 = 100_005;
/// The program number of the quota server.
pub const RQUOTA: u32 = 100_011;
/// The program number of the lock manager.
pub const NLM: u32 = 100_021;

/// The transaction id of our calls.
const XID: u32 = 0x7067_6c61;

/// The call that an attacker would send: list everything, in version 3's long form. 40 bytes.
pub fn dump_call() -> [u8; 40] {
    const DUMP: u32 = 4;
    call_of(DUMP)
}

/// A call of version 3 without credentials and arguments.
fn call_of(procedure: u32) -> [u8; 40] {
    const CALL: u32 = 0;
    const RPC_VERSION: u32 = 2;
    const VERSION: u32 = 3;
    const NO_CREDENTIALS: [u32; 4] = [0; 4];
    let words = [&[XID, CALL, RPC_VERSION, PROGRAM, VERSION, procedure][..], &NO_CREDENTIALS].concat();
    let mut call = [0; 40];
    for (bytes, word) in call.chunks_exact_mut(4).zip(words) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    call
}

/// A line of the answer to a DUMP: a service and where it listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// The program number.
    pub program: u32,
    /// Its version.
    pub version: u32,
    /// The transport: `udp`, `tcp`, `udp6`, `tcp6` or `local`.
    pub netid: String,
    /// The universal address (RFC 5665): `0.0.0.0.0.111`.
    pub address: String,
}

/// Asks for everything that is registered at `server`, over UDP from the calling thread's network namespace.
/// `None`: no answer within `patience`.
pub fn dump(server: SocketAddr, patience: Duration) -> Result<Option<Vec<Registration>>> {
    reply_to(&dump_call(), server, patience)?.map(|reply| parse_dump(&reply)).transpose()
}

/// Whether rpcbind answers `NULL`, over UDP from the calling thread's network namespace.
pub fn answers_null(server: SocketAddr, patience: Duration) -> Result<bool> {
    const NULL: u32 = 0;
    Ok(reply_to(&call_of(NULL), server, patience)?.is_some())
}

/// `None`: no answer within `patience`.
fn reply_to(call: &[u8], server: SocketAddr, patience: Duration) -> Result<Option<Vec<u8>>> {
    let any = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).context("cannot open a UDP socket")?;
    socket.set_read_timeout(Some(patience))?;
    socket.connect(server).with_context(|| format!("cannot reach {server}"))?;
    socket.send(call).with_context(|| format!("cannot send to {server}"))?;
    let mut reply = vec![0; usize::from(u16::MAX)];
    match socket.recv(&mut reply) {
        Ok(length) => {
            reply.truncate(length);
            Ok(Some(reply))
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("no answer from {server}")),
    }
}

/// The same call behind its record mark, as TCP carries it (RFC 5531, section 11).
pub fn dump_record() -> Vec<u8> {
    const LAST_FRAGMENT: u32 = 0x8000_0000;
    let call = dump_call();
    [&(LAST_FRAGMENT | call.len() as u32).to_be_bytes()[..], &call].concat()
}

/// Whether `server` answers the same call over TCP within `patience`.
pub fn answers_over_tcp(server: SocketAddr, patience: Duration) -> bool {
    let ask = || -> io::Result<()> {
        let mut stream = TcpStream::connect_timeout(&server, patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.write_all(&dump_record())?;
        // The record mark, and the transaction id.
        stream.read_exact(&mut [0; 8])
    };
    ask().is_ok()
}

fn parse_dump(reply: &[u8]) -> Result<Vec<Registration>> {
    const REPLY_ACCEPTED_SUCCESS: [u32; 5] = [1, 0, 0, 0, 0];
    let mut reader = Reader(reply);
    ensure!(reader.word()? == XID, "the reply is to another call");
    for expected in REPLY_ACCEPTED_SUCCESS {
        ensure!(reader.word()? == expected, "rpcbind refused the call: {reply:02x?}");
    }
    let mut registrations = Vec::new();
    while reader.word()? == 1 {
        let (program, version) = (reader.word()?, reader.word()?);
        let (netid, address, _owner) = (reader.string()?, reader.string()?, reader.string()?);
        registrations.push(Registration { program, version, netid, address });
    }
    Ok(registrations)
}

/// Reads XDR (RFC 4506).
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn bytes(&mut self, length: usize) -> Result<&[u8]> {
        let (bytes, rest) = self.0.split_at_checked(length).context("the reply is cut short")?;
        self.0 = rest;
        Ok(bytes)
    }

    fn word(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(self.bytes(4)?.try_into()?))
    }

    fn string(&mut self) -> Result<String> {
        let length = usize::try_from(self.word()?)?;
        let text = String::from_utf8_lossy(self.bytes(length)?).into_owned();
        self.bytes(length.next_multiple_of(4) - length)?;
        Ok(text)
    }
}
