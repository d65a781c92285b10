//! One of two hosts that are alike: the addresses that the generator sends to, sockets that listen, and a wire on which
//! everything it says is heard.

use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use portguard_testkit::lists::Lists;
use portguard_testkit::net::{End, Namespace, PacketSocket, Veth};
use portguard_testkit::oracle::headers::{ETHERTYPE_IPV4, Ipv4, ethernet};
use portguard_testkit::oracle::{ALLOWLIST, Answer, Datagram};
use portguard_testkit::portguard::Portguard;

use crate::arrival::Arrival;

const PORTS: [u16; 5] = [111, 112, 110, 53, 443];
/// Where the frame goes that comes after all others.
const FENCE: u16 = 9;
const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);
/// For the fence to come through on a busy machine; then it is sent again.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a host must be told so that it delivers, and answers, whatever it is sent, at any rate.
const SETTINGS: [(&str, &str); 22] = [
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    ("ipv4/conf/all/accept_redirects", "0"),
    ("ipv4/conf/default/accept_redirects", "0"),
    // SYN-ACKs without memory: each SYN gets one, and only one.
    ("ipv4/tcp_syncookies", "2"),
    ("ipv4/tcp_synack_retries", "0"),
    ("ipv4/icmp_ratelimit", "0"),
    ("ipv6/icmp/ratelimit", "0"),
    // Room for fragments that will never be whole, and a short memory for them.
    ("ipv4/ipfrag_high_thresh", "268435456"),
    ("ipv4/ipfrag_time", "3"),
    ("ipv4/ipfrag_max_dist", "0"),
    ("ipv6/ip6frag_high_thresh", "268435456"),
    ("ipv6/ip6frag_time", "3"),
    ("ipv6/bindv6only", "1"),
    ("ipv6/conf/all/accept_ra", "0"),
    ("ipv6/conf/default/accept_ra", "0"),
    ("ipv6/conf/all/accept_redirects", "0"),
    ("ipv6/conf/default/accept_redirects", "0"),
    ("ipv6/conf/all/router_solicitations", "0"),
    ("ipv6/conf/default/router_solicitations", "0"),
    ("ipv6/conf/all/forwarding", "0"),
    ("ipv4/ip_forward", "0"),
];

pub(crate) struct PairedHost {
    host: Namespace,
    _street: Namespace,
    wire: PacketSocket,
    sockets: Vec<(u16, UdpSocket)>,
    _listeners: Vec<TcpListener>,
    fence: UdpSocket,
    fences: u64,
    /// Of the guard, if there is one.
    lists: Option<Lists>,
}

impl PairedHost {
    /// Without a guard.
    pub(crate) fn open() -> Self {
        let (host, street) = (Namespace::new("host").unwrap(), Namespace::new("street").unwrap());
        street.run(|| set(&[("ipv6/conf/all/disable_ipv6", "1"), ("ipv6/conf/default/disable_ipv6", "1")]));
        host.run(|| set(&SETTINGS));
        let plug = End::new(&host, "eth0").address("192.0.2.1/32").address("2001:db8::1/128");
        Veth::new().mtu(9000).connect(&plug, &End::new(&street, "wire0")).unwrap();
        street.ip("link set wire0 address 02:00:00:00:00:02").unwrap();
        // The generator's frames go to the one, and everything that the host says goes to the other.
        host.ip("link set eth0 address 02:00:00:00:00:01
                 neigh add 192.0.2.254 lladdr 02:00:00:00:00:02 dev eth0 nud permanent
                 neigh add 2001:db8::fe lladdr 02:00:00:00:00:02 dev eth0 nud permanent
                 neigh add fe80::1 lladdr 02:00:00:00:00:02 dev eth0 nud permanent
                 route add default via 192.0.2.254 dev eth0 onlink
                 route add default via 2001:db8::fe dev eth0 onlink")
            .unwrap();
        let anywhere = [IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv6Addr::UNSPECIFIED)];
        let addresses: Vec<SocketAddr> =
            PORTS.iter().flat_map(|port| anywhere.map(|address| SocketAddr::new(address, *port))).collect();
        let (sockets, listeners, fence) = host.run(|| {
            let sockets = addresses.iter().map(|address| (address.port(), udp(*address))).collect();
            let listeners = addresses.iter().map(|address| TcpListener::bind(address).unwrap()).collect();
            (sockets, listeners, udp(SocketAddr::new(anywhere[0], FENCE)))
        });
        fence.set_nonblocking(false).unwrap();
        fence.set_read_timeout(Some(PATIENCE)).unwrap();
        let wire = PacketSocket::open(&street, "wire0").unwrap();
        Self { host, _street: street, wire, sockets, _listeners: listeners, fence, fences: 0, lists: None }
    }

    /// With a guard, in native mode.
    pub(crate) fn guarded() -> Self {
        let mut host = Self::open();
        let lists = Lists::new();
        let list = lists.write_text("allowlist.yaml", ALLOWLIST);
        host.portguard().ok(&["attach", "eth0", "--mode", "native", "--allowlist", &list]);
        host.lists = Some(lists);
        host
    }

    fn portguard(&self) -> Portguard<'_> {
        Portguard::new(Path::new(env!("CARGO_BIN_EXE_portguard")), &self.host)
    }

    /// Sends these datagrams to the host; returns what has arrived.
    pub(crate) fn hear(&mut self, datagrams: &[Datagram]) -> Vec<Arrival> {
        for frame in datagrams.iter().flatten() {
            self.wire.send(frame).unwrap();
        }
        let mut arrivals = self.fence();
        for (port, socket) in &self.sockets {
            let mut payload = [0; 9000];
            loop {
                match socket.recv_from(&mut payload) {
                    Ok((length, source)) => arrivals.push(Arrival::Datagram {
                        port: *port,
                        source: (source.ip(), source.port()),
                        payload: payload[..length].to_vec(),
                    }),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => panic!("port {port}: {error}"),
                }
            }
        }
        arrivals
    }

    /// Waits until the host has dealt with all that was sent, and all of its answers are heard.
    fn fence(&mut self) -> Vec<Arrival> {
        self.fences += 1;
        let number = self.fences.to_be_bytes();
        let mut mark = ethernet(&[], ETHERTYPE_IPV4);
        let header = Ipv4 { source: [192, 0, 2, 10], ..Ipv4::default() };
        mark.extend(header.udp(FENCE, FENCE, &number));
        self.wire.send(&mark).unwrap();
        let mut buffer = [0; 9000];
        loop {
            match self.fence.recv_from(&mut buffer) {
                Ok((length, _)) if buffer[..length] == number => break,
                // Somebody else's frame, whose port was damaged just so.
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.wire.send(&mark).unwrap(),
                Err(error) => panic!("{error}"),
            }
        }
        self.fence.send_to(&number, (GATEWAY, FENCE)).unwrap();
        let mut arrivals = Vec::new();
        let deadline = Instant::now() + 5 * PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "the host says nothing any more");
            let Some(frame) = self.wire.receive(PATIENCE).unwrap() else { continue };
            match Answer::parse(&frame) {
                Some(Answer::Udp { port: FENCE, payload }) if payload == number => break,
                Some(Answer::Udp { .. }) | None => {}
                Some(answer) => arrivals.push(Arrival::Answer(answer)),
            }
        }
        self.wire.ensure_lossless().unwrap();
        arrivals
    }
}

impl Drop for PairedHost {
    fn drop(&mut self) {
        if self.lists.is_some() {
            // The namespace is about to go, and the guard with it; a failed test has its own story to tell.
            let _ = self.portguard().detach_all();
        }
    }
}

fn udp(address: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(address).unwrap();
    setsockopt(&socket, sockopt::RcvBufForce, &(16 << 20)).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

/// Writes settings of the network namespace.
fn set(settings: &[(&str, &str)]) {
    for (name, value) in settings {
        fs::write(format!("/proc/sys/net/{name}"), value).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}
