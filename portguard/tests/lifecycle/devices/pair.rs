//! Two hosts that are connected by one kind of device.

use std::fs;
use std::io;
use std::net::{IpAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use portguard_testkit::net::{End, Namespace, Veth, run};

use crate::support::{
    ALLOWED, DENIED, PATIENCE, PORTGUARD, Portguard, SERVER, SILENCE, SingleHost, Stats, Until, has_tcx,
    port_111, program_on,
};

/// The device that is tried, on either host.
pub(super) const DEVICE: &str = "dev0";
/// How often somebody asks who gets no answer.
const ATTEMPTS: u64 = 4;
/// How long a question may take that is answered: machines are emulated, and addresses are resolved.
const ANSWER: Duration = Duration::from_millis(500);

/// A host with a server at port 111, and one that asks it; between them cables, `eth0` and so on, with addresses of their own.
pub(super) struct Pair {
    pub(super) near: SingleHost,
    pub(super) far: Namespace,
}

/// How many datagrams were sent.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Sent {
    pub(super) allowed: u64,
    pub(super) denied: u64,
}

impl Pair {
    /// Two hosts with so many cables.
    pub(super) fn new(cables: u8) -> Self {
        let pair =
            Self { near: SingleHost::bare(PORTGUARD), far: Namespace::new("far").expect("a namespace") };
        // Each address is found on the interface that has it.
        let setting = "/proc/sys/net/ipv4/conf/all/arp_ignore";
        pair.near.namespace.run(|| fs::write(setting, "1")).expect("a setting");
        for cable in 0..cables {
            let name = format!("eth{cable}");
            let ends = [&pair.near.namespace, &pair.far].map(|namespace| End::new(namespace, &name));
            Veth::new().connect(&ends[0], &ends[1]).expect("a cable");
            for (side, host) in (1..).zip([&pair.near.namespace, &pair.far]) {
                let mac = format!("02:00:00:00:0{cable}:0{side}");
                host.ip(&format!("link set {name} down\nlink set {name} address {mac}\nlink set {name} up"))
                    .expect("an address of the link");
                host.add_address(&name, &format!("10.9.{cable}.{side}/24")).expect("an address");
                host.add_address(&name, &format!("fd09:{cable}::{side}/64")).expect("an address");
            }
        }
        pair
    }

    /// Two hosts with one cable, whose end on either host is made into [`DEVICE`] by lines of `ip`; `NEAR` and `FAR` in those
    /// are the last parts of the addresses of this host and the other one.
    pub(super) fn with(near: &str, far: &str) -> Self {
        let pair = Self::new(1);
        pair.make(near, far);
        pair
    }

    /// Makes [`DEVICE`] on both hosts the same way.
    pub(super) fn both(lines: &str) -> Self {
        Self::with(lines, lines)
    }

    /// Makes [`DEVICE`] on each host, as [`Self::with`] does.
    pub(super) fn make(&self, near: &str, far: &str) {
        let lines = |lines: &str, own: &str, other: &str| lines.replace("NEAR", own).replace("FAR", other);
        self.near.namespace.ip(&lines(near, "1", "2")).unwrap_or_else(|error| unsupported(&error));
        self.far.ip(&lines(far, "2", "1")).unwrap_or_else(|error| unsupported(&error));
    }

    /// Gives [`DEVICE`] its addresses on both hosts, and brings it up.
    pub(super) fn address(&self) {
        Self::address_server(&self.near.namespace);
        self.address_client();
    }

    /// Gives [`DEVICE`] the addresses of the server on a host.
    pub(super) fn address_server(host: &Namespace) {
        address(host, ["192.0.2.1/24", "198.51.100.1/24", "2001:db8::1/64", "2001:db8:51::1/64"]);
    }

    /// Gives [`DEVICE`] the addresses of the clients on the far host.
    pub(super) fn address_client(&self) {
        address(&self.far, ["192.0.2.10/24", "198.51.100.20/24", "2001:db8::10/64", "2001:db8:51::20/64"]);
    }

    /// A list that covers [`ALLOWED`]. Returns its path.
    pub(super) fn list(&self) -> String {
        self.near.lists.write("allowlist.yaml", ["192.0.2.0/24", "2001:db8::/64"])
    }

    pub(super) fn portguard(&self) -> Portguard<'_> {
        self.near.portguard()
    }

    /// Runs a program of this machine on a host.
    pub(super) fn tool(host: &Namespace, program: &str, arguments: &[&str]) {
        run(host.command(program).args(arguments)).unwrap_or_else(|error| panic!("{program}: {error:#}"));
    }

    /// Runs `work` while a server on the near host answers everybody at port 111.
    pub(super) fn serve<T>(&self, work: impl FnOnce() -> T) -> T {
        Self::serve_at(&self.near.namespace, None, work)
    }

    /// Runs `work` while a server on a host answers at port 111: everybody, or those of a VRF.
    pub(super) fn serve_at<T>(host: &Namespace, vrf: Option<&str>, work: impl FnOnce() -> T) -> T {
        let socket = host.run(server).expect("port 111");
        if let Some(vrf) = vrf {
            host.run(|| setsockopt(&socket, sockopt::BindToDevice, &vrf.into())).expect("SO_BINDTODEVICE");
        }
        Self::serve_on(&socket, work)
    }

    /// Runs `work` while a server answers everybody at a socket.
    pub(super) fn serve_on<T>(socket: &UdpSocket, work: impl FnOnce() -> T) -> T {
        // It goes also if a test fails: or nobody would end the server.
        let serving = Until::default();
        let over = serving.over();
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("SO_RCVTIMEO");
        thread::scope(|scope| {
            scope.spawn(move || {
                while !over.is_over() {
                    if let Ok((length, asker)) = socket.recv_from(&mut [0; 64]) {
                        // One who is not there any more.
                        let _ = socket.send_to(&[7; 64][..length], asker);
                    }
                }
            });
            let _serving = serving;
            work()
        })
    }

    /// Whether the far host gets an answer from port 111, of either family, when it asks with these addresses; and how often it
    /// has asked. It asks until it gets one, and for so long only if it should.
    pub(super) fn ask(&self, sources: [IpAddr; 2], servers: [IpAddr; 2], expected: bool) -> (bool, u64) {
        let mut sent = 0;
        let mut answered = Vec::new();
        for (source, server) in sources.into_iter().zip(servers) {
            let socket = self.far.run(|| UdpSocket::bind((source, 0))).expect("a socket");
            let limit = if expected { ANSWER } else { SILENCE / 4 };
            socket.set_read_timeout(Some(limit)).expect("SO_RCVTIMEO");
            let begun = Instant::now();
            let mut attempts = 0;
            answered.push(loop {
                socket.send_to(b"anybody there?", port_111(server)).expect("sending");
                (sent, attempts) = (sent + 1, attempts + 1);
                if socket.recv(&mut [0; 64]).is_ok() {
                    break true;
                }
                if if expected { begun.elapsed() > PATIENCE } else { attempts >= ATTEMPTS } {
                    break false;
                }
            });
        }
        assert!(answered[0] == answered[1], "IPv4, IPv6: {answered:?}");
        (answered[0], sent)
    }

    /// Asserts that an allowed and a denied asker are both answered, or only the allowed one.
    #[track_caller]
    pub(super) fn assert_answers(&self, to_denied: bool, when: &str) -> Sent {
        let denied_server =
            ["198.51.100.1", "2001:db8:51::1"].map(|address| address.parse().expect("an address"));
        let (allowed, sent_allowed) = self.ask(ALLOWED, SERVER, true);
        assert!(allowed, "{when}: an allowed source is answered");
        let (denied, sent_denied) = self.ask(DENIED, denied_server, to_denied);
        assert_eq!(denied, to_denied, "{when}: a denied source is answered");
        Sent { allowed: sent_allowed, denied: sent_denied }
    }

    /// Asserts that [`DEVICE`] is covered by a guard on `guarded`: what is denied is not answered any more, and everything is
    /// counted.
    #[track_caller]
    pub(super) fn assert_covered_by(&self, guarded: &str, more: &[&str]) -> Stats {
        self.serve(|| {
            self.assert_answers(true, "without a guard");
            self.assert_diagnosis(true);
            self.portguard().ok(&[&["attach", guarded, "--allowlist", &self.list()], more].concat());
            self.assert_diagnosis(false);
            let sent = self.assert_answers(false, "guarded");
            self.assert_counted(sent)
        })
    }

    /// Asserts that what was sent was counted, once.
    #[track_caller]
    pub(super) fn assert_counted(&self, sent: Sent) -> Stats {
        let stats = self.portguard().stats_of(sent.allowed + sent.denied);
        assert_eq!(stats.totals.allowed.packets, sent.allowed, "{:?}", stats.totals);
        assert_eq!(stats.totals.dropped.packets, sent.denied, "{:?}", stats.totals);
        stats
    }

    /// Asserts that a guard on [`DEVICE`] covers it, and tells so for docs/attach-points.md.
    #[track_caller]
    pub(super) fn assert_covered(&self, kind: &str) {
        self.address();
        let stats = self.assert_covered_by(DEVICE, &[]);
        let at_tcx_too = has_tcx() && stats.hook == "xdp";
        if at_tcx_too {
            self.portguard().ok(&["attach", DEVICE, "--hook", "tcx"]);
            self.portguard().ok(&["stats", DEVICE, "--reset"]);
            let sent = self.serve(|| self.assert_answers(false, "guarded at tcx"));
            self.assert_counted(sent);
        }
        println!("fact: device {kind} = {}{}", where_it_is(&stats), if at_tcx_too { " and tcx" } else { "" });
    }

    /// Asserts the same of a kind that takes tcx, or that a guard is refused where the kernel has none.
    #[track_caller]
    pub(super) fn assert_covered_at_tcx(&self, kind: &str) {
        if !has_tcx() {
            return self.assert_refused(kind, DEVICE, "is not known to portguard");
        }
        let at_xdp = ["attach", DEVICE, "--hook", "xdp", "--allowlist", &self.list()];
        let told = self.portguard().fails(1, &at_xdp);
        assert!(told.contains("is not known to portguard"), "{kind}: {told}");
        self.assert_covered(kind);
        assert_eq!(self.portguard().status_of(DEVICE).hook, "tcx");
    }

    /// Asserts that a guard on an interface is refused by name, and tells so for docs/attach-points.md.
    #[track_caller]
    pub(super) fn assert_refused(&self, kind: &str, interface: &str, reason: &str) {
        for more in
            [&[][..], &["--hook", "xdp"], &["--hook", "tcx"], &["--mode", "native"], &["--mode", "generic"]]
        {
            let list = self.list();
            let arguments = [&["attach", interface, "--allowlist", &list], more].concat();
            let told = self.portguard().fails(1, &arguments);
            assert!(told.contains(interface) && told.contains(reason), "{kind}: {told}");
        }
        assert_eq!(program_on(&self.near.namespace, interface), None, "{kind}");
        println!("fact: device {kind} = refused");
    }
}

/// The mode of XDP, or the other hook.
fn where_it_is(stats: &Stats) -> &str {
    if stats.mode.is_empty() { &stats.hook } else { &stats.mode }
}

/// A socket at port 111, of both families.
pub(super) fn server() -> io::Result<UdpSocket> {
    UdpSocket::bind("[::]:111")
}

fn address(host: &Namespace, addresses: [&str; 4]) {
    host.ip(&format!("link set {DEVICE} up")).expect("a device");
    for address in addresses {
        host.add_address(DEVICE, address).expect("an address");
    }
}

/// What a kernel does not have, it has no name for.
fn unsupported(error: &anyhow::Error) -> ! {
    let error = format!("{error:#}");
    let lacking = ["Unknown device type", "Operation not supported", "Protocol not supported"];
    if lacking.iter().any(|lacking| error.contains(lacking)) {
        panic!("not supported by this kernel: {}", error.lines().next().unwrap_or_default());
    }
    panic!("{error}");
}
