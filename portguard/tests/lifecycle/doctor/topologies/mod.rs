//! What doctor says of an interface, and what a host that is not on the list then gets from port 111: the two must agree, or
//! doctor must say that it cannot tell.

mod firewalls;
mod places;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use portguard_testkit::documents::doctor::Document;
use portguard_testkit::net::{End, Namespace, RpcServices, Veth, rpc, run};

use crate::support::{Machine, Output, PORTGUARD, SILENCE, SingleHost, port_111};

/// The host, with `eth0`; a stranger at the other end of its cable; and a guest, with nothing. None is on the list.
struct Site {
    host: SingleHost,
    stranger: Namespace,
    guest: Namespace,
    list: String,
}

/// What doctor says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Open,
    Closed,
    CannotTell,
}

/// Who asks, and where doctor runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Host,
    Stranger,
    Guest,
}

struct Topology {
    what: &'static str,
    /// Scripts for the host, one after the other. They have `$STRANGER` and `$GUEST`, which `ip -n` and `nsenter --net` understand, and the function
    /// `attach`, which takes interfaces and options.
    setup: [&'static str; 3],
    /// What asks for what: the guest or the stranger.
    asks: Who,
    at: &'static [&'static str],
    /// Where doctor runs, and of which interface it is asked.
    doctor: Who,
    subject: &'static str,
    told: Told,
}

impl Site {
    fn new() -> Self {
        let host = SingleHost::bare(PORTGUARD);
        let [stranger, guest] =
            ["stranger", "guest"].map(|label| Namespace::new(label).expect("a namespace"));
        let near = End::new(&host.namespace, "eth0").address("192.0.2.1/24").address("2001:db8::1/64");
        let far = End::new(&stranger, "eth0").address("192.0.2.66/24").address("2001:db8::66/64");
        Veth::new().connect(&near, &far).expect("a cable");
        // Who is on the list is nobody here.
        let list = host.lists.write("allowlist.yaml", ["203.0.113.0/24", "2001:db8:ff::/48"]);
        Self { host, stranger, guest, list }
    }

    fn namespace(&self, who: Who) -> &Namespace {
        match who {
            Who::Host => &self.host.namespace,
            Who::Stranger => &self.stranger,
            Who::Guest => &self.guest,
        }
    }

    fn set_up(&self, scripts: [&str; 3]) {
        let mut command = self.host.machine.command(&self.host.namespace, "sh");
        let prelude = "set -e; attach() { $PORTGUARD attach --allowlist $LIST \"$@\"; }\n";
        command.args(["-c", &format!("{prelude}{}", Machine::script(&scripts.join("\n")))]);
        command.env("PORTGUARD", PORTGUARD).env("LIST", &self.list);
        command.env("STRANGER", self.stranger.name()).env("GUEST", self.guest.name());
        run(&mut command).unwrap_or_else(|error| panic!("{error:#}"));
    }

    fn doctor(&self, who: Who) -> Document {
        let mut command = self.host.machine.command(self.namespace(who), PORTGUARD);
        Document::of(&Output::of(command.args(["doctor", "--json"])))
    }

    /// Whether port 111 answers, over UDP or TCP.
    fn answers(&self, who: Who, addresses: &[&str]) -> bool {
        let ways: Vec<(SocketAddr, bool)> = addresses
            .iter()
            .flat_map(|address| [false, true].map(|tcp| (port_111(address.parse().unwrap()), tcp)))
            .collect();
        let namespace = self.namespace(who);
        thread::scope(|scope| {
            let asked: Vec<_> = ways
                .iter()
                .map(|(server, tcp)| scope.spawn(|| namespace.run(|| answers(*server, *tcp))))
                .collect();
            // All are waited for.
            let answered: Vec<bool> = asked.into_iter().map(|it| it.join().expect("a question")).collect();
            answered.contains(&true)
        })
    }
}

fn answers(server: SocketAddr, tcp: bool) -> bool {
    match tcp {
        true => rpc::answers_over_tcp(server, SILENCE),
        false => matches!(rpc::dump(server, SILENCE), Ok(Some(_))),
    }
}

/// What doctor says of an interface. A guard that only siblings of the device get past leaves it open to these.
fn told(document: &Document, subject: &str) -> (Told, String) {
    let finding =
        document.findings.iter().find(|it| it.id == "coverage" && it.subject.as_deref() == Some(subject));
    let finding = finding.unwrap_or_else(|| panic!("doctor does not report on {subject}: {document:#?}"));
    let found = &finding.found;
    let told = match &*finding.status {
        "ok" => Told::Closed,
        "failure" => Told::Open,
        _ if found.contains("cannot tell") => Told::CannotTell,
        _ if found.contains("audit mode drops nothing; port 111 is open") => Told::Open,
        _ if found.contains("but not from other devices") => Told::Open,
        _ if found.contains("no process that listens on port 111 gets packets from it") => Told::Closed,
        other => panic!("{other}: {found}"),
    };
    (told, found.clone())
}

#[test]
fn doctor_says_what_the_wire_says() {
    let all: Vec<&Topology> = places::ALL.iter().chain(firewalls::ALL).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut wrong = Vec::new();
        while let Some(topology) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
            wrong.extend(tried(topology));
        }
        wrong
    };
    let wrong: Vec<String> = thread::scope(|scope| {
        let workers = [scope.spawn(work), scope.spawn(work)];
        workers.into_iter().flat_map(|worker| worker.join().expect("a worker")).collect()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let unclear = all.iter().filter(|it| it.told == Told::CannotTell).count();
    assert!(all.len() >= 30 && unclear <= 3, "{} topologies, {unclear} unclear", all.len());
}

/// Where the report on a topology is wrong.
fn tried(topology: &Topology) -> Option<String> {
    let Topology { what, setup, asks, at, doctor, subject, told: expected } = topology;
    let site = Site::new();
    // Before the rules: it asks itself whether it is ready.
    let _rpcbind = RpcServices::start(site.namespace(*doctor)).expect("rpcbind");
    site.set_up(*setup);
    let document = site.doctor(*doctor);
    let (told, found) = told(&document, subject);
    let answers = site.answers(*asks, at);
    let agrees = match told {
        Told::Open => answers,
        Told::Closed => !answers,
        Told::CannotTell => true,
    };
    eprintln!("{what}: {told:?}, {}: {found}", if answers { "answered" } else { "silent" });
    (told != *expected || !agrees)
        .then(|| format!("{what}: {told:?}, {expected:?} was expected, answered: {answers}: {found}"))
}
