//! `run --metrics`: that it tells what `stats` and `status` tell, and that strangers cannot harm it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::thread;

use nix::sys::signal::Signal;
use portguard_common::rpc::Procedure;
use portguard_testkit::net::{Count, Host, Namespace, PacketSocket, rpc};

use crate::support::{
    DENIED, IFACE, PORTGUARD, Portguard, Role, SERVER, Service, SingleHost, Testbed, Traffic, ask, connect,
    flow, program_on, samples,
};

/// Where a service is that was given a port and no address.
const HERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9111);

fn page(namespace: &Namespace) -> String {
    let answer = ask(namespace, HERE, "GET /metrics", "").expect("an answer");
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}

fn scrape(namespace: &Namespace) -> BTreeMap<String, f64> {
    samples(&page(namespace))
}

fn health(namespace: &Namespace) -> (u16, String) {
    let answer = ask(namespace, HERE, "GET /healthz", "").expect("an answer");
    (answer.status, answer.body)
}

/// Compares every sample of the only guard with what `stats --json` and `status --json` tell of it.
#[track_caller]
fn assert_same(samples: &BTreeMap<String, f64>, portguard: Portguard<'_>) {
    let (stats, status) = (portguard.stats(), portguard.status());
    let totals = &stats.totals;
    let of = |name: &str, labels: &str| {
        let series = format!("portguard_{name}{{interface=\"{}\"{labels}}}", status.interface);
        *samples.get(&series).unwrap_or_else(|| panic!("no {series}: {samples:#?}"))
    };
    let counted = |name: &str, labels: &str| Count {
        packets: of(&format!("{name}_packets_total"), labels) as u64,
        bytes: of(&format!("{name}_bytes_total"), labels) as u64,
    };
    assert_eq!(counted("allowed", ""), totals.allowed);
    assert_eq!(counted("would_drop", ""), totals.would_drop);
    assert_eq!(counted("unattributed", ""), stats.unattributed);
    for (reason, count) in totals.by_reason.each() {
        assert_eq!(counted("denied", &format!(",reason=\"{reason}\"")), count, "{reason}");
    }
    assert_eq!(of("not_logged_packets_total", "") as u64, totals.not_logged);
    let requests = ["udp", "tcp"].into_iter().flat_map(|protocol| {
        Procedure::ALL.map(|procedure| format!(",protocol=\"{protocol}\",procedure=\"{}\"", procedure.key()))
    });
    let requests: Vec<String> =
        requests.map(|labels| (of("requests_total", &labels) as u64).to_string()).collect();
    assert_eq!(requests, totals.calls.cells());

    let truth = |name: &str| of(name, "") != 0.0;
    assert!(truth("guard_attached") && truth("interface_present"));
    assert_eq!(truth("guard_enforcing"), status.enforcing);
    assert_eq!(of("guard_info", &format!(",hook=\"{}\",mode=\"{}\"", status.hook, status.mode)), 1.0);
    let list = &status.allowlist;
    assert_eq!(of("allowlist_generation", "") as u64, status.generation);
    assert_eq!(of("allowlist_prefixes", ",family=\"ipv4\"") as u32, list.prefixes_v4);
    assert_eq!(of("allowlist_prefixes", ",family=\"ipv6\"") as u32, list.prefixes_v6);
    assert_eq!(of("allowlist_conditional_prefixes", "") as u32, list.conditional);
    assert_eq!(of("allowlist_deadline_drift_seconds", "") as u64, list.deadlines_off_by);
    assert_eq!(truth("allowlist_changed_on_disk"), list.changed_on_disk);
    assert_eq!(truth("allowlist_broken_on_disk"), list.file.state == "broken");
    let info = format!(",path=\"{}\",sha256=\"{}\",origin=\"{}\"", list.path, list.sha256, list.origin);
    assert_eq!(of("allowlist_info", &info), 1.0);
    let loaded = of("allowlist_loaded_timestamp_seconds", "") as i64;
    assert_eq!(utc(loaded), list.loaded_at);
    let taken: f64 = ["ipv4", "ipv6"]
        .map(|family| {
            let family = format!(",family=\"{family}\"");
            let (taken, places) = (of("source_table_taken", &family), of("source_table_places", &family));
            assert!(taken <= places && places > 0.0, "{taken} of {places}");
            taken
        })
        .iter()
        .sum();
    assert!(taken >= stats.sources.len() as f64, "{taken} places for {} sources", stats.sources.len());
}

/// Seconds of Unix time as RFC 3339, by date(1).
fn utc(seconds: i64) -> String {
    let output =
        Command::new("date").args(["-u", "-d", &format!("@{seconds}"), "+%Y-%m-%dT%H:%M:%SZ"]).output();
    String::from_utf8(output.expect("date").stdout).expect("UTF-8").trim().to_owned()
}

#[test]
fn they_are_what_stats_and_status_tell_and_only_ever_go_up() {
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    let list = testbed.list();
    let server = testbed.server.namespace();
    let arguments = [IFACE, "--allowlist", &list, "--metrics", ":9111"];
    let mut service = Service::start(portguard, &arguments);
    assert!(service.said().contains("metrics at http://127.0.0.1:9111/metrics"), "{}", service.said());

    let exchanged = thread::scope(|scope| {
        let traffic = Traffic::start(scope, &testbed);
        let mut before = scrape(server);
        for _ in 0..20 {
            let now = scrape(server);
            for (series, value) in now.iter().filter(|(series, _)| series.contains("_total{")) {
                assert!(value >= &before[series], "{series}: {} and then {value}", before[series]);
            }
            before = now;
        }
        traffic.end()
    });
    portguard.assert_counted(&exchanged);
    assert_same(&scrape(server), portguard);

    // In audit mode, and with a call that has a name.
    service.signal(Signal::SIGTERM);
    assert!(service.ended().success());
    let _service = Service::start(portguard, &[&arguments[..], &["--audit"]].concat());
    let from = PacketSocket::open(testbed.host(Role::Denied).namespace(), Host::INTERFACE).expect("a socket");
    let to = PacketSocket::open(server, Host::INTERFACE).expect("a socket").mac();
    let packet =
        portguard_testkit::net::frame::Packet::udp(flow(DENIED[0], SERVER[0], rpc::PORT), &rpc::dump_call());
    from.send(&packet.frame(from.mac(), to, &[])).expect("sending");
    let stats = portguard.stats_of(exchanged.sent().packets + 1);
    assert_eq!((stats.totals.would_drop.packets, stats.totals.calls.udp.of("dump")), (1, 1));
    assert_same(&scrape(server), portguard);

    // From zero again.
    portguard.all_stats(&["--reset"]);
    let samples = scrape(server);
    assert_eq!(samples["portguard_denied_packets_total{interface=\"eth0\",reason=\"not_allowed\"}"], 0.0);
    assert_same(&samples, portguard);

    // To this host alone.
    let refused = connect(testbed.host(Role::Allowed).namespace(), SocketAddr::new(SERVER[0], 9111));
    assert!(refused.is_err(), "{refused:?}");
}

/// What promtool has to say about the names of metrics.
fn promtool(page: &str) -> String {
    let mut process = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool: cargo xtask setup installs it");
    process.stdin.take().expect("a pipe").write_all(page.as_bytes()).expect("writing");
    let output = process.wait_with_output().expect("promtool");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!(output.status.success(), said.is_empty(), "{said}");
    said
}

#[test]
fn the_formats_are_those_that_prometheus_reads_and_other_questions_have_answers() {
    let host = SingleHost::new(PORTGUARD);
    let namespace = &host.namespace;
    let list = host.list();
    let _service =
        Service::start(host.portguard(), &[IFACE, "--allowlist", &list, "--metrics", "[::1]:80", "--audit"]);
    let server = "[::1]:80".parse().expect("an address");
    let ask = |request: &str, more: &str| ask(namespace, server, request, more).expect("an answer");

    let plain = ask("GET /metrics", "");
    assert!(plain.head.contains("content-type: text/plain; version=0.0.4"), "{}", plain.head);
    assert_eq!(promtool(&plain.body), "");
    // It would not keep quiet about what is wrong.
    let wrong = plain.body.replace("portguard_allowed_packets_total", "portguard_allowed_packets");
    assert!(
        promtool(&wrong).contains("counter metrics should have \"_total\" suffix"),
        "{}",
        promtool(&wrong)
    );

    let accept = "Accept: application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5\r\n";
    let open = ask("GET /metrics", accept);
    assert!(open.head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{}", open.head);
    assert!(open.body.ends_with("\n# EOF\n") && !plain.body.contains("# EOF"), "{}", open.body);
    assert_eq!(samples(&open.body), samples(&plain.body));

    let head = ask("HEAD /metrics", "");
    assert_eq!((head.status, &*head.body), (200, ""));
    let healthy = ask("GET /healthz?verbose", "");
    assert_eq!((healthy.status, &*healthy.body), (200, "eth0: audit mode, as ordered: nothing is dropped\n"));
    assert_eq!(ask("GET /", "").status, 404);
    assert_eq!(ask("GET /metrics/", "").status, 404);
    let refused = ask("POST /metrics", "Content-Length: 1000000000000\r\n");
    assert!(refused.status == 405 && refused.head.contains("allow: GET, HEAD"), "{refused:?}");
    assert_eq!(ask("NONSENSE", "").status, 400);
}

#[test]
fn reloads_are_counted_and_a_guard_that_is_gone_is_told() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let namespace = &host.namespace;
    let mut service = Service::start(portguard, &[IFACE, "--allowlist", &host.list(), "--metrics", "9111"]);
    let reloads = || {
        let samples = scrape(namespace);
        let of = |series: &str| samples[series] as u64;
        (
            of("portguard_reloads_total{result=\"ok\"}"),
            of("portguard_reloads_total{result=\"failed\"}"),
            of("portguard_last_reload_successful"),
        )
    };
    assert_eq!(reloads(), (0, 0, 1));
    service.signal(Signal::SIGHUP);
    service.wait_until("it is counted", || reloads() == (1, 0, 1));
    assert_same(&scrape(namespace), portguard);
    host.lists.write_text("allowlist.yaml", "allow:\n  - 192.0.2.0/33\n");
    service.wait_until("it is counted", || reloads() == (1, 1, 0));
    assert_eq!(portguard.status().allowlist.file.state, "broken");
    assert_same(&scrape(namespace), portguard);
    // As it was: in order, and nothing to do.
    host.list();
    service.wait_until("it is in order", || reloads() == (1, 1, 1));
    host.lists.write("allowlist.yaml", ["192.0.2.0/24", "198.51.100.0/24"]);
    service.wait_until("it is counted", || reloads() == (2, 1, 1));
    assert_same(&scrape(namespace), portguard);
    // By hand, which the service does: from its own file only.
    let other = host.lists.write("other.yaml", ["203.0.113.0/24"]);
    portguard.fails(1, &["reload", "--allowlist", &other]);
    portguard.ok(&["reload"]);
    assert_eq!(reloads(), (3, 1, 1));
    assert_same(&scrape(namespace), portguard);

    assert_eq!(health(namespace).0, 200);
    host.namespace.ip(&format!("link del {IFACE}")).expect("unplugging");
    let samples = scrape(namespace);
    assert_eq!(samples["portguard_interface_present{interface=\"eth0\"}"], 0.0);
    assert_eq!(samples["portguard_guard_attached{interface=\"eth0\"}"], 0.0);
    assert!(!samples.keys().any(|series| series.starts_with("portguard_allowed")), "{samples:#?}");
    assert_eq!(health(namespace), (503, "eth0: not guarded: there is no such interface\n".to_owned()));
    host.plug(IFACE, "peer0");
    service.wait_until("it is back", || health(namespace).0 == 200);
    assert_eq!(scrape(namespace)["portguard_guard_attached{interface=\"eth0\"}"], 1.0);
    service.signal(Signal::SIGTERM);
    assert!(service.ended().success(), "with the port open");
}

#[test]
fn a_port_that_is_taken_is_told_and_leaves_no_interface_open() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let list = host.list();
    let arguments = [IFACE, "--allowlist", &list, "--metrics", "9111"];
    let first = Service::start(portguard, &arguments);
    host.plug("eth1", "peer1");
    let told = portguard.fails(1, &["run", "eth1", "--allowlist", &list, "--metrics", "9111"]);
    assert!(told.contains("cannot serve metrics on 127.0.0.1:9111: Address already in use"), "{told}");
    assert!(told.contains("Each service needs a port of its own"), "{told}");
    assert!(program_on(&host.namespace, "eth1").is_some());
    for wrong in ["", "localhost:9111", "eth1", "70000"] {
        portguard.fails(2, &["run", "eth1", "--allowlist", &list, "--metrics", wrong]);
    }
    drop(first);
    // The next one gets it at once; and an address may come later than the service, as at boot.
    let _second = Service::start(portguard, &arguments);
    assert_eq!(health(&host.namespace).0, 200);
    let late = Service::start(portguard, &["eth1", "--allowlist", &list, "--metrics", "192.0.2.1"]);
    assert!(late.said().contains("metrics at http://192.0.2.1:9111/metrics"), "{}", late.said());
    host.namespace.ip("address add 192.0.2.1/32 dev lo").expect("an address");
    let server = "192.0.2.1:9111".parse().expect("an address");
    assert_eq!(ask(&host.namespace, server, "GET /healthz", "").expect("an answer").status, 200);
}

/// What a process has in memory, in kilobytes.
fn resident(service: &Service) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", service.id())).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn strangers_cannot_hold_it_up_or_make_it_grow() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let namespace = &host.namespace;
    let mut service = Service::start(portguard, &[IFACE, "--allowlist", &host.list(), "--metrics", "9111"]);
    scrape(namespace);
    let before = resident(&service);

    // A head without end.
    let mut endless = connect(namespace, HERE).expect("a connection");
    endless.write_all(b"GET /metrics HTTP/1.1\r\n").expect("writing");
    let line = format!("X: {}\r\n", "x".repeat(1000));
    let refused = (0..100_000).find_map(|_| endless.write_all(line.as_bytes()).err());
    assert!(refused.is_some(), "100 MB of head were taken");
    drop(endless);

    // More connections than it takes at once: most say nothing, some ask and do not listen.
    let mut held = Vec::new();
    for number in 0..40 {
        let mut stream = connect(namespace, HERE).expect("a connection");
        if number % 4 == 0 {
            stream.write_all(b"GET /metrics HTTP/1.1\r\n").expect("writing");
        }
        held.push(stream);
    }
    // What it is there for goes on,
    service.signal(Signal::SIGHUP);
    service.until("RELOADING=1");
    service.wait_until("it has reloaded", || portguard.status().generation == 2);
    let descriptors = fs::read_dir(format!("/proc/{}/fd", service.id())).expect("a process").count();
    assert!(descriptors < 80, "{descriptors} file descriptors");
    // Prometheus gets its turn at once, at the cost of the oldest,
    scrape(namespace);
    // and in the end it is rid of them all, though they hold on.
    for stream in &mut held {
        let mut rest = Vec::new();
        let ended = stream.read_to_end(&mut rest);
        // One that is closed before its request was read is reset.
        let is_closed =
            ended.as_ref().map_or_else(|error| error.kind() == ErrorKind::ConnectionReset, |_| true);
        assert!(is_closed && rest.is_empty(), "{ended:?}: {}", String::from_utf8_lossy(&rest));
    }
    let after = resident(&service);
    assert!(after < before + 10_000, "{before} kB, and then {after} kB");
}
