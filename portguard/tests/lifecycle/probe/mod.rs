//! `portguard probe`: what it finds is what is there, and what `rpcinfo` finds, and more.

mod liars;

use std::fs;
use std::io::Write as _;
use std::net::UdpSocket;
use std::path::Path;
use std::process::Stdio;

use nix::mount::{MsFlags, mount};
use portguard_testkit::net::frame::Packet;
use portguard_testkit::net::{Capture, Forger, Host, Namespace, Outcome, RpcServices, rpc, run, run_within};

use crate::support::{
    DENIED, IFACE, Machine, OTHER, PATIENCE, PORTGUARD, Portguard, Role, SERVER, SILENCE, SingleHost,
    Testbed, flow, port_111,
};
use portguard_testkit::documents::probe::{Address, Short, one, parsed, probed};

/// The command line on another host than the server.
fn on(testbed: &Testbed, role: Role) -> Portguard<'_> {
    testbed.machine.portguard(testbed.host(role).namespace())
}

/// What `rpcinfo` prints below its heading, in words.
fn rpcinfo(testbed: &Testbed, arguments: &[&str]) -> Vec<Vec<String>> {
    let mut rpcinfo = testbed.host(Role::Denied).command("rpcinfo");
    let told = run(rpcinfo.args(arguments)).expect("rpcinfo").stdout;
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect();
    told.lines().skip(1).map(words).collect()
}

/// What is at the server, as the denied host sees it, must be what `rpcinfo` shows there.
fn assert_same_services(testbed: &Testbed) -> Address {
    let [v4, v6] = SERVER.map(|address| address.to_string());
    let found = one(on(testbed, Role::Denied), &[&v4]);
    assert_eq!(found.lines(), rpcinfo(testbed, &[&v4]), "rpcinfo");
    assert_eq!(found.ports(), rpcinfo(testbed, &["-p", &v4]).into_iter().collect(), "rpcinfo -p");
    let short: Short = rpcinfo(testbed, &["-s", &v4])
        .into_iter()
        .map(|line| {
            let [program, versions, netids, service, owner] = line.try_into().expect("five columns");
            let versions = versions.split(',').map(|version| version.parse().unwrap()).collect();
            let netids = netids.split(',').map(str::to_owned).collect();
            (program.parse().unwrap(), (versions, netids, service, owner))
        })
        .collect();
    assert_eq!(found.short(), short, "rpcinfo -s");
    let over_v6 = one(on(testbed, Role::Denied), &[&v6]);
    assert_eq!(over_v6.lines(), rpcinfo(testbed, &[&v6]), "rpcinfo over IPv6");
    assert_eq!(over_v6.states(), ("reflector", "answers", "answers"), "{over_v6:?}");
    found
}

/// Puts another file in place of one of the system, for one machine.
fn replace(file: &str, by: &Path, machine: &Machine) {
    let mount = || Ok(mount(Some(by), file, None::<&str>, MsFlags::MS_BIND, None::<&str>)?);
    machine.mounts().run(mount).unwrap();
}

#[test]
fn probe_and_rpcinfo_list_the_same_services() {
    let testbed = Testbed::new(PORTGUARD);
    let mut rpcbind = RpcServices::start(testbed.server.namespace()).expect("rpcbind");
    let bare = assert_same_services(&testbed);
    assert_eq!(bare.states(), ("reflector", "answers", "answers"), "{bare:?}");
    assert!(!bare.own, "{bare:?}");
    assert!(bare.services.iter().all(|it| it.service.as_deref() == Some("portmapper")), "{bare:?}");
    for transport in [&bare.udp, &bare.tcp] {
        assert_eq!(transport.replies.len(), 16);
        for reply in &transport.replies {
            assert!(reply.reply_bytes > Some(20) && reply.problem.is_none(), "{reply:?}");
        }
        // facts of the RFCs, and of an rpcbind without services
        let dump = transport.reply("DUMP", 2);
        assert_eq!(
            (dump.request_bytes, dump.reply_bytes, dump.amplification),
            (Some(40), Some(148), Some(3.7))
        );
        assert_eq!(transport.reply("NULL", 4).reply_bytes, Some(24));
    }
    rpcbind.start_statd().expect("rpc.statd");
    rpcbind.start_mountd("*").expect("rpc.mountd");
    let more = assert_same_services(&testbed);
    for service in ["status", "mountd"] {
        let has =
            |address: &Address| address.services.iter().any(|it| it.service.as_deref() == Some(service));
        assert!(has(&more) && !has(&bare), "{service}: {more:?}");
    }
    let grown = more.udp.reply("DUMP", 4).reply_bytes;
    assert!(grown > bare.udp.reply("DUMP", 4).reply_bytes, "{more:?}");

    // What a victim would get is what the probe has measured.
    let worst = more.amplification.as_ref().expect("it answers over UDP");
    assert_eq!((&*worst.call, worst.version), ("DUMP", 3), "{worst:?}");
    assert!((worst.factor * 40.0 - grown.unwrap() as f64).abs() < 0.5, "{worst:?}");
    let victim = testbed.switch.host("victim", &OTHER).expect("a host");
    let mut at_victim = Capture::start(victim.namespace(), Host::INTERFACE).expect("a witness");
    let forger = Forger::new(testbed.host(Role::Denied), &testbed.server).expect("a packet socket");
    forger.send(&Packet::udp(flow(OTHER[0], SERVER[0], 111), &rpc::dump_call())).expect("sending");
    // rpcbind serves a socket in the order of arrival: with this answer, it has dealt with the above.
    let last = testbed.host(Role::Denied).run(|| rpc::dump(port_111(SERVER[0]), PATIENCE));
    assert!(last.expect("an answer").is_some());
    assert_eq!(Some(at_victim.replies(SERVER[0]).expect("a witness without gaps").payload), grown);

    let text = on(&testbed, Role::Denied).ok(&["probe", &SERVER[0].to_string()]);
    for expected in
        ["192.0.2.1  answers   answers   exposed reflector: sends up to", "mountd", "/run/rpcbind.sock"]
    {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert!(!text.contains("own addresses"), "{text}");
}

#[test]
fn an_rpcbind_that_calls_others_is_shown_like_any_other() {
    let testbed = Testbed::new(PORTGUARD);
    let _rpcbind = RpcServices::start_with(testbed.server.namespace(), &["-r"]).expect("rpcbind");
    assert_same_services(&testbed);

    // An address that means nothing without an interface.
    let own = probed(testbed.portguard(), &[]).addresses;
    let link_local = own.iter().find(|own| own.address.ends_with("%eth0")).expect("one of the link");
    let over_the_link = one(on(&testbed, Role::Denied), &[&link_local.address]);
    assert_eq!(over_the_link.address, link_local.address);
    assert_eq!(over_the_link.states(), ("reflector", "answers", "answers"), "{over_the_link:?}");
    assert!(link_local.own && !over_the_link.own);
}

/// `-h` is for UDP only: TCP stands open on every address.
#[test]
fn each_address_of_a_name_has_a_verdict_of_its_own() {
    let testbed = Testbed::new(PORTGUARD);
    let [v4, v6] = SERVER.map(|address| address.to_string());
    let _rpcbind = RpcServices::start_with(testbed.server.namespace(), &["-h", &v4]).expect("rpcbind");
    let hosts = testbed.lists.path("hosts");
    fs::write(&hosts, format!("{v4} nfs1\n{v6} nfs1\n")).unwrap();
    replace("/etc/hosts", &hosts, &testbed.machine);
    let document = probed(on(&testbed, Role::Denied), &["nfs1"]);
    assert_eq!(document.verdict, "reflector");
    let mut states: Vec<_> = document.addresses.iter().map(|it| (&*it.address, it.states())).collect();
    states.sort_unstable();
    assert_eq!(
        states,
        [(&*v4, ("reflector", "answers", "answers")), (&*v6, ("tcp_only", "refused", "answers"))]
    );
    let services = document.addresses[0].lines();
    assert!(!services.is_empty() && services == document.addresses[1].lines(), "{document:?}");
}

/// Puts rules in front of the server's port 111.
fn filter(server: &Namespace, rules: &str) {
    let rules = format!(
        "add table inet f\nflush table inet f\n\
         add chain inet f c {{ type filter hook input priority 0; }}\nadd rule inet f c {rules}\n"
    );
    let mut nft = server.command("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().expect("nft");
    nft.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
    assert!(nft.wait().unwrap().success(), "{rules}");
}

#[test]
fn what_rpcinfo_misses_is_shown() {
    let testbed = Testbed::new(PORTGUARD);
    let _rpcbind = RpcServices::start(testbed.server.namespace()).expect("rpcbind");
    let server = testbed.server.namespace();
    let v4 = SERVER[0].to_string();
    // Linux reports once a second to a host, and several probes follow one another here.
    server.run(|| {
        for limit in ["ipv4/icmp_ratelimit", "ipv6/icmp/ratelimit"] {
            fs::write(format!("/proc/sys/net/{limit}"), "0").unwrap();
        }
    });
    let probe = |expected| {
        let found = one(on(&testbed, Role::Denied), &[&v4, "--timeout", "2"]);
        assert_eq!(found.states(), expected, "{found:?}");
        found
    };
    // What CERTs recommend as the check of an exposed rpcbind finds nothing here.
    filter(server, "tcp dport 111 drop");
    let mut rpcinfo = testbed.host(Role::Denied).command("rpcinfo");
    let outcome = run_within(SILENCE, rpcinfo.args(["-p", &v4])).expect("rpcinfo");
    assert!(matches!(outcome, Outcome::TimedOut), "{outcome:?}");
    let found = probe(("reflector", "answers", "silent"));
    assert!(!found.services.is_empty() && found.amplification.is_some(), "{found:?}");

    filter(server, "udp dport 111 drop");
    let found = probe(("tcp_only", "silent", "answers"));
    assert!(!found.services.is_empty() && found.amplification.is_none(), "{found:?}");

    filter(server, "reject with icmpx port-unreachable");
    probe(("refused", "refused", "refused"));

    // The default of firewalld. It is a result: the port is closed to this host.
    for how in ["admin-prohibited", "host-unreachable"] {
        filter(server, &format!("reject with icmpx {how}"));
        let output = on(&testbed, Role::Denied).run(&["probe", "--json", &v4]);
        let (code, state) = if how == "admin-prohibited" { (0, "rejected") } else { (1, "unreachable") };
        assert_eq!(output.code, code, "{output:?}");
        assert_eq!(parsed(&output.stdout).addresses[0].states(), (state, state, state));
    }
    // But for the messages that find neighbours over IPv6.
    filter(server, "meta l4proto { tcp, udp } reject with icmpx admin-prohibited");
    probe(("rejected", "rejected", "rejected"));
    let v6 = SERVER[1].to_string();
    assert_eq!(one(on(&testbed, Role::Denied), &[&v6]).states(), ("rejected", "rejected", "rejected"));
    let text = on(&testbed, Role::Denied).ok(&["probe", &v4]);
    assert!(text.contains("rejected by a firewall"), "{text}");
}

/// A host with several addresses whose rpcbind is bound to all of them replies from the one that its routes prefer.
#[test]
fn a_reflector_that_replies_from_another_address_is_one() {
    let testbed = Testbed::new(PORTGUARD);
    let server = testbed.server.namespace();
    let (asked, other) = ("192.0.2.77", SERVER[0]);
    server.ip(&format!("addr add {asked}/32 dev lo")).expect("an address");
    let denied = testbed.host(Role::Denied);
    denied.namespace().ip(&format!("route add {asked}/32 via {other}")).expect("a route");
    // It answers every datagram with an accepted reply, from another socket.
    let (listening, replying) = server
        .run(|| anyhow::Ok((UdpSocket::bind((asked, 111))?, UdpSocket::bind((other, 0))?)))
        .expect("sockets");
    listening.set_read_timeout(Some(PATIENCE)).unwrap();
    let server = std::thread::spawn(move || {
        let mut call = [0; 512];
        while let Ok((length, from)) = listening.recv_from(&mut call) {
            if length == 1 {
                return;
            }
            let reply = [&call[..4], &[0, 0, 0, 1], &[0; 16]].concat();
            replying.send_to(&reply, from).unwrap();
        }
    });
    let found = one(on(&testbed, Role::Denied), &[asked, "--timeout", "2"]);
    assert_eq!((found.states().0, found.states().1), ("reflector", "answers"), "{found:?}");
    for reply in &found.udp.replies {
        let from = reply.from.as_deref().unwrap_or_else(|| panic!("{reply:?}"));
        assert!(from.starts_with(&format!("{other}:")), "{from}");
    }
    let text = on(&testbed, Role::Denied).ok(&["probe", asked, "--timeout", "2"]);
    assert!(text.contains(&format!("192.0.2.77: its replies over UDP come from {other}:")), "{text}");
    denied.run(|| UdpSocket::bind("0.0.0.0:0")?.send_to(&[0], (asked, 111)).map(drop)).expect("the end");
    server.join().unwrap();
}

#[test]
fn an_allowed_host_is_told_that_it_may_be_on_the_list() {
    let testbed = Testbed::new(PORTGUARD);
    let _rpcbind = RpcServices::start(testbed.server.namespace()).expect("rpcbind");
    testbed.attach();
    let v4 = SERVER[0].to_string();
    let text = on(&testbed, Role::Allowed).ok(&["probe", &v4]);
    assert!(text.contains("This host may be on the allowlist of the host that it asked"), "{text}");
    let text = on(&testbed, Role::Denied).ok(&["probe", &v4, "--timeout", "1"]);
    assert!(!text.contains("may be on the allowlist"), "{text}");
}

#[test]
fn through_a_guard_the_denied_see_silence_and_the_allowed_see_the_services() {
    let testbed = Testbed::new(PORTGUARD);
    let _rpcbind = RpcServices::start(testbed.server.namespace()).expect("rpcbind");
    testbed.attach();
    for address in SERVER {
        let address = address.to_string();
        let allowed = one(on(&testbed, Role::Allowed), &[&address]);
        assert_eq!(allowed.states(), ("reflector", "answers", "answers"), "{allowed:?}");
        assert!(!allowed.services.is_empty());
        let denied = one(on(&testbed, Role::Denied), &[&address, "--timeout", "1"]);
        assert_eq!(denied.states(), ("silent", "silent", "silent"), "{denied:?}");
        assert!(denied.services.is_empty());
    }
    // Both hosts' questions were counted: no more, no less than their packets.
    let stats = testbed.portguard().stats();
    assert!(stats.totals.allowed.packets > 0);
    assert!(stats.sources.iter().all(|source| DENIED.contains(&source.source)), "{stats:?}");
    assert_eq!(stats.sources.len(), 2, "{stats:?}");
    // Nothing that changes anything, or calls anybody.
    assert!(
        stats.sources.iter().all(|it| it.calls.udp.of("set") + it.calls.udp.of("callit") == 0),
        "{stats:?}"
    );
    // Each question twice over UDP.
    assert!(stats.sources.iter().all(|source| source.udp_packets == 2 * 16), "{stats:?}");

    // The server itself does not see its guard, and says so.
    let own = probed(testbed.portguard(), &[]);
    assert_eq!((own.host, &*own.verdict), (None, "reflector"));
    for address in SERVER {
        let own = own.addresses.iter().find(|own| own.address == address.to_string()).expect("both");
        assert!(own.own && own.verdict == "reflector", "{own:?}");
    }
    let link_local: Vec<&Address> =
        own.addresses.iter().filter(|own| own.address.starts_with("fe80")).collect();
    assert!(!link_local.is_empty() && link_local.len() + 2 == own.addresses.len(), "{link_local:?}");
    for own in link_local {
        assert!(own.address.ends_with("%eth0") && own.verdict == "reflector", "{own:?}");
    }
    let text = testbed.portguard().ok(&["probe"]);
    assert!(text.contains("These are this host's own addresses: the calls went over the loopback"), "{text}");
    assert!(one(testbed.portguard(), &[&SERVER[0].to_string()]).own);
}

#[test]
fn errors_name_what_is_wrong() {
    let guarded = SingleHost::bare(PORTGUARD);
    let portguard = guarded.portguard();
    let told = portguard.fails(1, &["probe"]);
    assert!(told.contains("no addresses except those of the loopback interface"), "{told}");
    for odd in ["no-such-host.invalid", "192.0.2.1:111", "192.0.2.0/24", "", "\u{1b}[2J", "a b"] {
        let told = portguard.fails(1, &["probe", odd]);
        assert!(told.contains("cannot look up `") && !told.contains('\u{1b}'), "{odd}: {told}");
    }
    let told = portguard.fails(1, &["probe", "fe80::1"]);
    assert!(
        told.contains("it does not name its interface") && told.contains("portguard probe fe80::1%"),
        "{told}"
    );
    let output = portguard.run(&["probe", "192.0.2.1"]);
    assert_eq!(output.code, 1, "{output:?}");
    assert!(output.stderr.contains("cannot reach 192.0.2.1: Network is unreachable"), "{output:?}");
    let nobody = one(portguard, &["127.0.0.1"]);
    assert_eq!(nobody.states(), ("refused", "refused", "refused"));
    assert!(nobody.own && nobody.services.is_empty(), "{nobody:?}");
}

#[test]
fn a_resolver_that_hangs_is_not_waited_for() {
    let guarded = SingleHost::bare(PORTGUARD);
    let _deaf = guarded.namespace.run(|| UdpSocket::bind("127.0.0.1:53")).expect("a socket");
    let resolv = guarded.lists.path("resolv.conf");
    fs::write(&resolv, "nameserver 127.0.0.1\noptions timeout:30 attempts:5\n").unwrap();
    replace("/etc/resolv.conf", &resolv, &guarded.machine);
    let told = guarded.portguard().fails(1, &["probe", "nfs1.example.com", "--timeout", "1"]);
    assert!(
        told.contains("cannot look up `nfs1.example.com`: the resolver has not replied within 1s"),
        "{told}"
    );
}

#[test]
fn a_host_of_many_addresses_is_asked_at_the_first_ones() {
    let guarded = SingleHost::new(PORTGUARD);
    let lines: Vec<String> =
        (1..=70).map(|host| format!("addr add 198.51.100.{host}/32 dev {IFACE}")).collect();
    guarded.namespace.ip(&lines.join("\n")).expect("addresses");
    let output = guarded.portguard().run(&["probe", "--json"]);
    assert_eq!(output.code, 0, "{output:?}");
    assert!(output.stderr.contains("warning: only the first 64 addresses are probed"), "{output:?}");
    let document = parsed(&output.stdout);
    assert_eq!((document.addresses.len(), &*document.verdict), (64, "refused"));
}
