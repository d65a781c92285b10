//! The sockets of this network namespace: who listens where (proc_pid_net(5)).

use std::fs;
use std::net::{IpAddr, SocketAddr};

use portguard_common::PORT;
use portguard_common::transport::Protocol;

/// A socket that takes packets or connections of anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Socket {
    pub protocol: Protocol,
    pub local: SocketAddr,
    pub inode: u64,
}

/// The peers of connections to port 111, as this host's stack has set them up: whoever has completed the handshake has got
/// the replies to its address.
pub(crate) fn connected_peers() -> Vec<IpAddr> {
    let read = |table| fs::read_to_string(format!("/proc/thread-self/net/{table}")).unwrap_or_default();
    let mut peers: Vec<IpAddr> = ["tcp", "tcp6"].into_iter().flat_map(|table| peers(&read(table))).collect();
    peers.sort_unstable();
    peers.dedup();
    peers
}

fn peers(table: &str) -> Vec<IpAddr> {
    /// All states behind `TCP_SYN_RECV` (include/net/tcp_states.h).
    const CONNECTED: [&str; 7] = ["01", "04", "05", "06", "08", "09", "0B"];
    let peer = |line: &str| {
        let mut words = line.split_whitespace();
        let (local, peer, state) = (address(words.nth(1)?)?, address(words.next()?)?, words.next()?);
        (local.port() == PORT && CONNECTED.contains(&state)).then(|| peer.ip().to_canonical())
    };
    table.lines().skip(1).filter_map(peer).filter(|peer| !peer.is_loopback()).collect()
}

impl Socket {
    /// Whether others than this host can reach it.
    pub(crate) fn is_exposed(&self) -> bool {
        !self.local.ip().is_loopback()
    }

    /// `UDP 0.0.0.0:111`.
    pub(crate) fn words(&self) -> String {
        format!("{} {}", self.protocol.name(), self.local)
    }
}

/// All of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sockets(pub Vec<Socket>);

impl Sockets {
    /// Those that the kernel lists; none of a family that it does not have.
    pub(crate) fn read() -> Self {
        let tables = [
            ("udp", Protocol::Udp),
            ("udp6", Protocol::Udp),
            ("tcp", Protocol::Tcp),
            ("tcp6", Protocol::Tcp),
        ];
        let read = |(table, protocol)| {
            let text = fs::read_to_string(format!("/proc/thread-self/net/{table}")).unwrap_or_default();
            parse(&text, protocol)
        };
        Self(tables.into_iter().flat_map(read).collect())
    }

    /// Those of rpcbind's port.
    pub(crate) fn of_rpcbind(&self) -> impl Iterator<Item = &Socket> {
        self.0.iter().filter(|socket| socket.local.port() == PORT)
    }
}

fn parse(table: &str, protocol: Protocol) -> Vec<Socket> {
    /// `TCP_CLOSE`, which UDP has for sockets without a peer, and `TCP_LISTEN`.
    const OPEN: [(Protocol, &str); 2] = [(Protocol::Udp, "07"), (Protocol::Tcp, "0A")];
    let socket = |line: &str| {
        let mut words = line.split_whitespace();
        let local = address(words.nth(1)?)?;
        let state = words.nth(1)?;
        let inode = words.nth(5)?.parse().ok()?;
        OPEN.contains(&(protocol, state)).then_some(Socket { protocol, local, inode })
    };
    table.lines().skip(1).filter_map(socket).collect()
}

/// `0100007F:006F`: the words of the address are as the processor reads them from memory.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let word = |at: usize| u32::from_str_radix(address.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    let ip: IpAddr = match address.len() {
        8 => word(0)?.into(),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?].concat();
            <[u8; 16]>::try_from(words).ok()?.into()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(all(test, target_endian = "little"))]
mod tests {
    use super::*;

    #[test]
    fn only_peers_that_have_completed_the_handshake_are_connected() {
        let line = |local: &str, state: &str, peer: u8| {
            format!(" 1: {local} 0{peer}0200C0:9C40 {state} 0:0 00:0 00 0 0 1 1\n")
        };
        let table = [
            "head\n".to_owned(),
            line("010200C0:006F", "01", 7),
            line("010200C0:006F", "03", 8),
            line("010200C0:0801", "01", 9),
            line("010200C0:006F", "06", 6),
        ];
        let found: Vec<String> = peers(&table.concat()).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["192.0.2.7", "192.0.2.6"]);
    }

    #[test]
    fn tables_are_read() {
        const UDP: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
   12: 0100007F:006F 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0000000000000000 0
   13: 010200C0:9C40 020200C0:006F 01 00000000:00000000 00:00000000 00000000     0        0 4712 2 0000000000000000 0
  bad
";
        let [socket] = parse(UDP, Protocol::Udp).try_into().unwrap();
        assert_eq!((socket.words(), socket.inode), ("UDP 127.0.0.1:111".into(), 4711));
        assert!(!socket.is_exposed());
        const TCP6: &str =
            "head\n 0: B80D0120000000000000000001000000:006F 0:0 0A 0:0 00:0 00 0 0 12 1 0 0\n";
        let [socket] = parse(TCP6, Protocol::Tcp).try_into().unwrap();
        assert_eq!(socket.words(), "TCP [2001:db8::1]:111");
        assert!(socket.is_exposed());
    }
}
