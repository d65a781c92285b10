//! Steady flows of numbered datagrams to port 111, from an allowed and a denied host, over IPv4 and IPv6; and the
//! socket that they are for.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::Duration;

use crate::net::{Count, rpc, sum};
use nix::sys::socket::{setsockopt, sockopt};

use crate::testbed::{ALLOWED, DENIED, Role, SERVER, Testbed};
use crate::until::{Over, Until};

/// Each of the four flows sends a thousand datagrams a second: few at a time, for the ring of a veth holds 256.
const TICK: Duration = Duration::from_millis(2);
const A_TICK: usize = 2;
/// A number.
const PAYLOAD: u64 = 4;
/// How long nothing must come until nothing more will.
const QUIET: Duration = Duration::from_millis(100);

/// How long the flows run before what happens under them, and after it.
const MARGIN: Duration = Duration::from_millis(30);

/// The flows, while they run.
#[derive(Debug)]
pub struct Traffic<'scope> {
    sending: Until,
    receiving: Until,
    senders: Vec<ScopedJoinHandle<'scope, (IpAddr, u64)>>,
    receivers: Vec<ScopedJoinHandle<'scope, Vec<(IpAddr, u32)>>>,
}

/// What was sent and what was heard, when all is over.
#[derive(Debug)]
pub struct TrafficTotals {
    sent: BTreeMap<IpAddr, u64>,
    heard: BTreeMap<IpAddr, Vec<u32>>,
}

impl<'scope> Traffic<'scope> {
    /// Sends until [`Traffic::end`].
    pub fn start(scope: &'scope Scope<'scope, '_>, testbed: &'scope Testbed) -> Self {
        Self::of(&Role::CLIENTS, scope, testbed)
    }

    /// The same, from these hosts only.
    pub fn of(roles: &[Role], scope: &'scope Scope<'scope, '_>, testbed: &'scope Testbed) -> Self {
        let (sending, receiving) = (Until::default(), Until::default());
        let receivers = SERVER
            .into_iter()
            .map(|server| {
                let socket = testbed.server.run(|| UdpSocket::bind((server, rpc::PORT))).expect("port 111");
                setsockopt(&socket, sockopt::RcvBufForce, &(32 << 20)).expect("SO_RCVBUFFORCE");
                socket.set_read_timeout(Some(QUIET)).expect("SO_RCVTIMEO");
                let over = receiving.over();
                scope.spawn(move || receive(&socket, &over))
            })
            .collect();
        let senders = roles
            .iter()
            .flat_map(|&role| sockets(testbed, role))
            .map(|(from, socket)| {
                let over = sending.over();
                scope.spawn(move || (from, send(&socket, &over)))
            })
            .collect();
        Self { sending, receiving, senders, receivers }
    }

    /// Lets the flows run out, and hears the last of it.
    pub fn end(self) -> TrafficTotals {
        drop(self.sending);
        let sent = self.senders.into_iter().map(|sender| sender.join().expect("a sender")).collect();
        let mut heard: BTreeMap<IpAddr, Vec<u32>> = BTreeMap::new();
        drop(self.receiving);
        for receiver in self.receivers {
            for (source, number) in receiver.join().expect("a receiver") {
                heard.entry(source).or_default().push(number);
            }
        }
        TrafficTotals { sent, heard }
    }
}

/// Does something under traffic that begins before and ends after.
pub fn under_traffic<T>(testbed: &Testbed, work: impl FnOnce() -> T) -> (T, TrafficTotals) {
    thread::scope(|scope| {
        let traffic = Traffic::start(scope, testbed);
        thread::sleep(MARGIN);
        let value = work();
        thread::sleep(MARGIN);
        (value, traffic.end())
    })
}

/// A socket for each family of a host, which sends to port 111 of the server; and its address.
fn sockets(testbed: &Testbed, role: Role) -> [(IpAddr, UdpSocket); 2] {
    let [v4, v6] = role.addresses();
    [(v4, SERVER[0]), (v6, SERVER[1])].map(|(from, to)| {
        let socket = testbed.host(role).run(|| UdpSocket::bind((from, 0))).expect("a UDP socket");
        socket.connect((to, rpc::PORT)).expect("a route");
        (from, socket)
    })
}

/// Sends this many datagrams from each address of a host, at once. They may not be judged yet when this returns.
pub fn burst(testbed: &Testbed, role: Role, datagrams: u32) -> Count {
    let sockets = sockets(testbed, role);
    for (_, socket) in &sockets {
        for number in 0..datagrams {
            socket.send(&number.to_be_bytes()).expect("a datagram that is sent");
        }
    }
    sum(sockets.map(|(from, _)| count(from, datagrams.into())))
}

/// Packets that carry numbers from a source.
fn count(source: IpAddr, packets: u64) -> Count {
    let header = if source.is_ipv4() { 20 } else { 40 };
    Count { packets, bytes: packets * (header + 8 + PAYLOAD) }
}

/// Returns how many datagrams it has sent.
fn send(socket: &UdpSocket, over: &Over) -> u64 {
    let mut numbers = 0_u32..;
    loop {
        // At least once, however late this thread gets its turn: a flow that sends nothing proves nothing.
        for number in numbers.by_ref().take(A_TICK) {
            socket.send(&number.to_be_bytes()).expect("a datagram that is sent");
        }
        if over.is_over() {
            return numbers.start.into();
        }
        thread::sleep(TICK);
    }
}

fn receive(socket: &UdpSocket, over: &Over) -> Vec<(IpAddr, u32)> {
    let mut heard = Vec::new();
    let mut datagram = [0; 64];
    loop {
        // An order that loses nothing: first the flag, then the last look.
        let last = over.is_over();
        match socket.recv_from(&mut datagram) {
            Ok((length, source)) => {
                let number = datagram[..length].try_into().map(u32::from_be_bytes).expect("a number");
                heard.push((source.ip(), number));
            }
            Err(_) if last => return heard,
            Err(_) => {}
        }
    }
}

impl TrafficTotals {
    fn sent_by(&self, source: IpAddr) -> Count {
        count(source, self.sent.get(&source).copied().unwrap_or_default())
    }

    /// What the allowed host has sent.
    pub fn sent_allowed(&self) -> Count {
        sum(ALLOWED.map(|source| self.sent_by(source)))
    }

    /// What the denied host has sent.
    pub fn sent_denied(&self) -> Count {
        sum(DENIED.map(|source| self.sent_by(source)))
    }

    /// What both have sent.
    pub fn sent(&self) -> Count {
        sum([self.sent_allowed(), self.sent_denied()])
    }

    /// What was sent from each denied address.
    pub fn denied(&self) -> impl Iterator<Item = (IpAddr, Count)> {
        DENIED.into_iter().map(|source| (source, self.sent_by(source)))
    }

    /// Asserts that of the allowed datagrams each was delivered once, and of the denied ones none.
    #[track_caller]
    pub fn assert_sealed(&self) {
        for source in DENIED {
            assert!(self.sent_by(source).packets > 0, "{source} has sent nothing");
        }
        self.assert_only_allowed_delivered();
    }

    /// The same, whether the flows had denied ones or not.
    #[track_caller]
    pub fn assert_only_allowed_delivered(&self) {
        for source in ALLOWED {
            assert!(self.sent_by(source).packets > 0, "{source} has sent nothing");
            self.assert_all_delivered(source);
        }
        let heard = self.heard.iter().filter(|(source, _)| !ALLOWED.contains(source));
        let leaked: Vec<(IpAddr, usize)> = heard.map(|(source, numbers)| (*source, numbers.len())).collect();
        assert_eq!(leaked, [], "denied, and delivered");
    }

    /// Asserts that each of the allowed datagrams was delivered once, whatever became of the others.
    #[track_caller]
    pub fn assert_allowed_delivered(&self) {
        for source in ALLOWED {
            assert!(self.sent_by(source).packets > 0, "{source} has sent nothing");
            self.assert_all_delivered(source);
        }
    }

    /// Asserts that everything was delivered once, as in audit mode.
    #[track_caller]
    pub fn assert_open(&self) {
        for source in ALLOWED.into_iter().chain(DENIED) {
            assert!(self.sent_by(source).packets > 0, "{source} has sent nothing");
            self.assert_all_delivered(source);
        }
    }

    #[track_caller]
    fn assert_all_delivered(&self, source: IpAddr) {
        let sent = self.sent_by(source).packets;
        let mut numbers = self.heard.get(&source).cloned().unwrap_or_default();
        numbers.sort_unstable();
        let lost: Vec<u64> =
            (0..sent).filter(|&number| numbers.binary_search(&(number as u32)).is_err()).collect();
        assert!(lost.is_empty(), "lost of {sent} from {source}: {lost:?}");
        assert_eq!(numbers.len() as u64, sent, "delivered twice, from {source}");
    }

    /// How many datagrams of that source were delivered.
    pub fn heard(&self, source: IpAddr) -> u64 {
        self.heard.get(&source).map_or(0, |numbers| numbers.len() as u64)
    }
}

/// A socket address of port 111.
pub fn port_111(address: IpAddr) -> SocketAddr {
    SocketAddr::new(address, rpc::PORT)
}
