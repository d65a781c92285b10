//! `portguard suggest`: what it proposes is a valid list of those whom the host knows.

mod exportfs;
mod from;
mod merge;
mod systemd;

use std::fs::{self, Permissions};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use portguard_testkit::documents::suggest::Document;
use portguard_testkit::net::frame::Packet;
use portguard_testkit::net::{Forger, Outcome, RpcServices, rpc, run_within};

use crate::support::{
    ALLOWED, DENIED, IFACE, OTHER, Output, PATIENCE, PORTGUARD, Portguard, Role, SERVER, SILENCE, SingleHost,
    Testbed, flow, port_111,
};

#[track_caller]
fn suggested(portguard: Portguard<'_>, arguments: &[&str]) -> Document {
    let json = portguard.ok(&[&["suggest", "--json"], arguments].concat());
    let document: Document = serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {json}"));
    assert_eq!(document.schema, 1);
    document
}

fn prefixes(document: &Document) -> Vec<&str> {
    document.entries.iter().map(|entry| &*entry.prefix).collect()
}

/// Writes what is proposed to a file, which `check` must find valid; returns its path, and what `check` says.
#[track_caller]
fn checked(
    bench_lists: &crate::support::Lists,
    portguard: Portguard<'_>,
    arguments: &[&str],
) -> (String, String) {
    let yaml = portguard.ok(&[&["suggest"], arguments].concat());
    let path = bench_lists.write_text("suggested.yaml", &yaml);
    let told = portguard.ok(&["check", &path]);
    (path, told)
}

/// Writes files below a directory.
fn write(root: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

#[test]
fn clients_of_every_kind_of_file_are_proposed_with_their_origins() {
    let host = SingleHost::bare(PORTGUARD);
    let portguard = host.portguard();
    let root = tempfile::tempdir().unwrap();
    // What the resolver knows here.
    let hosts = host.lists.path("hosts");
    fs::write(&hosts, "192.0.2.33 nfs1 nfs1.example.com\n2001:db8::33 nfs1\n127.0.0.1 localhost\n").unwrap();
    host.machine
        .mounts()
        .run(|| Ok(mount(Some(&hosts), "/etc/hosts", None::<&str>, MsFlags::MS_BIND, None::<&str>)?))
        .unwrap();
    write(
        root.path(),
        &[
            (
                "etc/exports",
                "# all kinds\n/srv/a 10.1.0.0/255.255.0.0(rw) 2001:db8:9:e54::/64(ro) \\\n  10.1.2.3(rw)\n\
                 \"/srv/my files\" -sync,rw nfs1 @trusted *.example.com(ro)\n/pub *(ro)\n/open 0.0.0.0/0(ro)\n\
                 /srv/b no-such-host.invalid(rw) localhost(rw)\n",
            ),
            ("etc/exports.d/more.exports", "/srv/c 198.51.100.7\n"),
            ("etc/exports.d/.hidden.exports", "/srv/c 203.0.113.1\n"),
            ("etc/exports.d/more.exports.rpmsave", "/srv/c 203.0.113.2\n"),
            (
                "proc/fs/nfsd/clients/3/info",
                "clientid: 0x1\naddress: \"[2001:db8:7::7]:890\"\nstatus: confirmed\n",
            ),
            ("proc/fs/nfsd/clients/4/info", "clientid: 0x2\naddress: \"192.0.2.44:801\"\n"),
            // Those of NFSv3, of rpcbind and of NIS; and this host's own servers.
            ("var/lib/nfs/rmtab", "198.51.100.11:/srv/a:0x00000001\n"),
            ("proc/net/rpc/auth.unix.ip/content", "#class IP domain\nnfsd 198.51.100.12 *\n"),
            ("proc/mounts", "nas:/v /mnt/v nfs rw,vers=3,mountaddr=198.51.100.13,addr=198.51.100.13 0 0\n"),
            ("etc/hosts.allow", "rpcbind: 198.51.100.14 .example.org\n"),
            ("var/yp/securenets", "255.255.255.255 198.51.100.15\n"),
            ("var/lib/nfs/sm/198.51.100.9", "7f000001 000186b5 00000003 00000010\n"),
            ("var/lib/nfs/sm/nfs1.example.com", ""),
            ("var/lib/nfs/sm/nfs9.new", ""),
        ],
    );
    let arguments = ["--root", root.path().to_str().unwrap()];
    let document = suggested(portguard, &arguments);
    assert_eq!(
        prefixes(&document),
        [
            "10.1.0.0/16",
            "192.0.2.33/32",
            "192.0.2.44/32",
            "198.51.100.7/32",
            "198.51.100.9/32",
            "198.51.100.11/32",
            "198.51.100.12/32",
            "198.51.100.13/32",
            "198.51.100.14/32",
            "198.51.100.15/32",
            "2001:db8::33/128",
            "2001:db8:7::7/128",
            "2001:db8:9:e54::/64",
        ]
    );
    // The one inside another is not lost.
    let exports = format!("{}/etc/exports", root.path().display());
    let [first, second] = &document.entries[0].origins[..] else { panic!("{document:?}") };
    assert_eq!(
        (&*first.origin, first.detail.as_deref()),
        (&*format!("{exports}, line 2"), Some("for /srv/a"))
    );
    assert_eq!(
        (&*second.origin, &second.covers[..]),
        (&*format!("{exports}, line 3"), &["10.1.2.3/32".to_owned()][..])
    );
    // A host that is in two places, by two names.
    let origins: Vec<&str> = document.entries[1].origins.iter().map(|origin| &*origin.origin).collect();
    assert!(
        origins[0].starts_with("nfs1, ") && origins[1].starts_with("nfs1.example.com, watched by statd"),
        "{origins:?}"
    );
    let left_out: Vec<&str> = document.left_out.iter().map(|it| &*it.what).collect();
    assert_eq!(
        left_out,
        [
            "@trusted",
            "*.example.com",
            "*",
            "0.0.0.0/0",
            "no-such-host.invalid",
            ".example.org",
            "127.0.0.1/32"
        ]
    );
    assert!(document.left_out.iter().all(|it| it.origin.contains(", line ") && !it.why.is_empty()));

    let (path, told) = checked(&host.lists, portguard, &arguments);
    assert_eq!(told, format!("{path}: 13 entries (10 IPv4, 3 IPv6), 0 warnings\n"));
    let told = portguard.run(&["explain", "10.1.2.3", "--allowlist", &path]);
    assert!(told.stdout.contains("allowed by 10.1.0.0/16") && told.stdout.contains(&exports), "{told:?}");
}

#[test]
fn a_host_that_knows_nobody_gets_an_empty_list_that_is_valid() {
    let host = SingleHost::bare(PORTGUARD);
    let root = tempfile::tempdir().unwrap();
    let arguments = ["--root", root.path().to_str().unwrap()];
    let output = host.portguard().run(&[&["suggest"], &arguments[..]].concat());
    assert_eq!((output.code, &*output.stderr), (0, ""), "{output:?}");
    assert!(output.stdout.ends_with("allow: []\n"), "{output:?}");
    let (path, told) = checked(&host.lists, host.portguard(), &arguments);
    assert_eq!(told, format!("{path}: 0 entries (0 IPv4, 0 IPv6), 1 warning\n"));
}

#[test]
fn the_networks_of_the_interfaces_are_proposed() {
    let host = SingleHost::new(PORTGUARD);
    host.namespace.ip("link set lo up").unwrap();
    host
        .namespace
        .ip("addr add 10.1.2.3/24 dev eth0\naddr add 169.254.3.4/16 dev eth0\naddr add 192.0.2.9/32 dev eth0\n\
             addr add 198.51.100.1 peer 198.51.100.2/32 dev eth0\naddr add 2001:db8:5::1/64 dev eth0 nodad")
        .unwrap();
    let root = tempfile::tempdir().unwrap();
    let root = root.path().to_str().unwrap();
    let document = suggested(host.portguard(), &["--root", root]);
    assert_eq!(prefixes(&document), ["10.1.2.0/24", "198.51.100.2/32", "2001:db8:5::/64"]);
    let [private, public, _] = &document.entries[..] else { panic!("three") };
    assert_eq!((&*private.origins[0].origin, &private.origins[0].detail), ("the network of eth0", &None));
    assert!(public.origins[0].detail.as_ref().unwrap().contains("public addresses"));
    let document = suggested(host.portguard(), &["--root", root, "--link-local"]);
    let found = prefixes(&document);
    assert!(found.contains(&"169.254.0.0/16") && found.contains(&"fe80::/64"), "{found:?}");
}

#[test]
fn who_asks_over_tcp_in_audit_mode_is_named_and_then_let_in() {
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    let empty = testbed.lists.write("empty.yaml", [""; 0]);
    portguard.ok(&["attach", IFACE, "--audit", "--allowlist", &empty]);
    let forger = Forger::new(testbed.host(Role::Denied), &testbed.server).unwrap();
    let stranger: IpAddr = "203.0.113.200".parse().unwrap();
    for packet in [
        Packet::tcp_syn(flow(OTHER[0], SERVER[0], 111)),
        Packet::tcp_syn(flow(OTHER[0], SERVER[0], 111)),
        Packet::udp(flow(OTHER[0], SERVER[0], 111), &[0; 40]),
        Packet::tcp_syn(flow(OTHER[1], SERVER[1], 111)),
        // Over UDP anyone can be forged.
        Packet::udp(flow(stranger, SERVER[0], 111), &[0; 40]),
    ] {
        forger.send(&packet).unwrap();
    }
    portguard.stats_of(5);
    let root = tempfile::tempdir().unwrap();
    let arguments = ["--root", root.path().to_str().unwrap()];
    let document = suggested(portguard, &arguments);
    // The source of a packet proves nothing: not even of one with a whole request.
    let of_peers = |document: &Document| -> Vec<(String, Option<String>)> {
        assert!(document.entries.iter().all(|entry| !entry.origins[0].origin.contains("audit mode")));
        let peers = document.unproven.iter();
        peers.map(|entry| (entry.prefix.clone(), entry.origins[0].detail.clone())).collect()
    };
    assert_eq!(
        of_peers(&document),
        [
            (format!("{}/32", OTHER[0]), Some("2 packets".into())),
            (format!("{}/128", OTHER[1]), Some("1 packet".into())),
        ]
    );
    let (path, _) = checked(&testbed.lists, portguard, &arguments);
    let told = portguard.run(&["explain", "--allowlist", &path, &OTHER[0].to_string()]);
    assert_eq!(told.code, 1, "{told:?}");
    take_unproven(Path::new(&path));
    portguard.ok(&["attach", IFACE, "--enforce", "--allowlist", &path]);
    for peer in OTHER {
        let told = portguard.ok(&["explain", &peer.to_string()]);
        assert!(told.contains(": sent requests over TCP on eth0, which is in audit mode"), "{told}");
    }
    let told = portguard.run(&["explain", &stranger.to_string()]);
    assert_eq!(told.code, 1, "{told:?}");
    // Who is dropped now is no client.
    forger.send(&Packet::tcp_syn(flow(DENIED[0], SERVER[0], 111))).unwrap();
    assert_eq!(of_peers(&suggested(portguard, &arguments)), []);
}

/// Takes the entries that are commented out, as an administrator does who knows the hosts.
fn take_unproven(list: &Path) {
    let text = fs::read_to_string(list).unwrap();
    let text = text.replace("#  - ", "  - ").replace("#    comment", "    comment");
    fs::write(list, text.replace("allow: []  # remove the []", "allow:  # removed the []")).unwrap();
}

/// 20,000 forged SYNs made a list of 29,002 lines.
#[test]
fn a_flood_of_forged_segments_proposes_nothing_and_is_summed_up() {
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    let empty = testbed.lists.write("empty.yaml", [""; 0]);
    portguard.ok(&["attach", IFACE, "--audit", "--allowlist", &empty]);
    let forger = Forger::new(testbed.host(Role::Denied), &testbed.server).unwrap();
    for host in 0..200_u8 {
        let source = IpAddr::from([198, 18, 0, host]);
        forger.send(&Packet::tcp_syn(flow(source, SERVER[0], 111))).unwrap();
    }
    portguard.stats_of(200);
    let root = tempfile::tempdir().unwrap();
    let arguments = ["--root", root.path().to_str().unwrap()];
    let document = suggested(portguard, &arguments);
    assert!(document.entries.iter().all(|entry| !entry.prefix.starts_with("198.18.")), "{document:?}");
    assert_eq!((document.unproven.len(), document.unproven_more), (20, 180));
    let yaml = portguard.ok(&["suggest", "--root", arguments[1]]);
    assert!(yaml.lines().count() < 60 && yaml.ends_with("# and 180 more (portguard stats)\n"), "{yaml}");
}

/// Whoever has completed the handshake has got packets at its address.
#[test]
fn the_peer_of_a_connection_is_proposed() {
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    let _rpcbind = RpcServices::start(testbed.server.namespace()).unwrap();
    let root = tempfile::tempdir().unwrap();
    let arguments = ["--root", root.path().to_str().unwrap()];
    let stream = testbed.host(Role::Denied).run(|| std::net::TcpStream::connect((SERVER[0], 111))).unwrap();
    let document = suggested(portguard, &arguments);
    let entry = document.entries.iter().find(|entry| entry.prefix == format!("{}/32", DENIED[0]));
    assert_eq!(entry.expect("the peer").origins[0].origin, "connected to port 111");
    drop(stream);
}

/// In audit mode the guard remembers who has asked over a connection, and the connection may be over: a client closes it as
/// soon as it has its answer. A forged segment with a whole call in it proves nothing, also while others are connected.
#[test]
fn who_has_asked_over_a_connection_is_proposed_and_a_forged_call_is_not() {
    for mode in ["native", "generic"] {
        let testbed = Testbed::new(PORTGUARD);
        let portguard = testbed.portguard();
        let empty = testbed.lists.write("empty.yaml", [""; 0]);
        portguard.ok(&["attach", IFACE, "--audit", "--mode", mode, "--allowlist", &empty]);
        let root = tempfile::tempdir().unwrap();
        let arguments = ["--root", root.path().to_str().unwrap()];
        let proposed = || -> Vec<String> {
            let document = suggested(portguard, &arguments);
            let asked = document.entries.into_iter().filter(|entry| {
                entry.origins.iter().any(|it| it.origin.starts_with("asked over a TCP connection on eth0"))
            });
            asked.map(|entry| entry.prefix).collect()
        };
        // A call in a segment of no connection: there is no socket, or only the one that listens.
        let forger = Forger::new(testbed.host(Role::Denied), &testbed.server).unwrap();
        let forge = || {
            for (source, server) in DENIED.into_iter().zip(SERVER) {
                forger.send(&Packet::tcp_data(flow(source, server, 111), &rpc::dump_record())).unwrap();
            }
        };
        forge();
        let _rpcbind = RpcServices::start(testbed.server.namespace()).unwrap();
        forge();
        // And a scan that connects and asks nothing.
        let denied = testbed.host(Role::Denied);
        drop(denied.run(|| std::net::TcpStream::connect((SERVER[0], 111))).unwrap());
        // Four calls, and the segments of a handshake.
        portguard.stats_of(4 + 3);
        assert_eq!(proposed(), [""; 0], "{mode}");
        // One that asks.
        for (host, server) in [(Role::Denied, SERVER[0]), (Role::Allowed, SERVER[1])] {
            let asked = || rpc::answers_over_tcp(port_111(server), PATIENCE);
            assert!(testbed.host(host).run(asked), "{mode}");
        }
        let expected = [format!("{}/32", DENIED[0]), format!("{}/128", ALLOWED[1])];
        assert_eq!(proposed(), expected, "{mode}");
        // Who is known stays known, in a new program, and when the guard enforces.
        portguard.ok(&["attach", IFACE, "--audit"]);
        assert_eq!(proposed(), expected, "{mode}");
        portguard.ok(&["attach", IFACE, "--enforce", "--allow-empty"]);
        assert_eq!(proposed(), expected, "{mode}");
        portguard.ok(&["detach", IFACE]);
        assert_eq!(proposed(), [""; 0], "{mode}");
    }
}

#[test]
fn what_may_not_be_read_is_named_and_the_rest_is_proposed() {
    let host = SingleHost::new(PORTGUARD);
    host.namespace.ip("addr add 10.1.2.3/24 dev eth0").unwrap();
    host.portguard().ok(&["attach", IFACE, "--audit", "--allowlist", &host.list()]);
    let binary = host.lists.path("portguard");
    fs::copy(PORTGUARD, &binary).unwrap();
    fs::set_permissions(&binary, Permissions::from_mode(0o755)).unwrap();
    let root = host.lists.path("root");
    write(&root, &[("etc/exports", "/srv 198.51.100.0/24\n"), ("var/lib/nfs/sm/192.0.2.1", "")]);
    for secret in ["etc/exports", "var/lib/nfs/sm"] {
        fs::set_permissions(root.join(secret), Permissions::from_mode(0o000)).unwrap();
    }
    let mut command = host.machine.command(&host.namespace, "setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(&binary);
    let output = Output::of(command.arg("suggest").arg("--root").arg(&root));
    assert_eq!(output.code, 0, "{output:?}");
    assert!(
        output.stdout.ends_with("allow:\n  - prefix: 10.1.2.0/24\n    comment: \"the network of eth0\"\n"),
        "{output:?}"
    );
    let warnings: Vec<&str> = output.stderr.lines().collect();
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    for (warning, what) in warnings.iter().zip(["/etc/exports: ", "/var/lib/nfs/sm: ", "CAP_BPF"]) {
        assert!(warning.starts_with("warning: ") && warning.contains(what), "{warning}");
    }
}

/// What the clients do, over IPv4 and IPv6; returns what of it failed.
fn exchange(testbed: &Testbed) -> Vec<String> {
    let [v4, v6] = SERVER.map(|server| server.to_string());
    let ask = |role, command: &[&str]| match run_within(
        PATIENCE,
        testbed.host(role).command(command[0]).args(&command[1..]),
    ) {
        Ok(Outcome::Completed(done)) if done.status.success() => None,
        other => Some(format!("{role:?}: {command:?}: {other:?}")),
    };
    let failed = [
        // Nobody has written this one down.
        ask(Role::Denied, &["rpcinfo", "-p", &v4]),
        ask(Role::Denied, &["rpcinfo", "-T", "tcp6", &v6, "100000", "3"]),
        ask(Role::Denied, &["showmount", "-e", &v4]),
        // This one uses UDP only, and statd watches it.
        ask(Role::Allowed, &["rpcinfo", "-T", "udp", &v4, "100024", "1"]),
        notify(testbed, &v4, PATIENCE),
    ];
    failed.into_iter().flatten().collect()
}

/// What a client does after a reboot: `sm-notify` asks for statd over UDP, tells it, and forgets whom it has told.
fn notify(testbed: &Testbed, server: &str, patience: Duration) -> Option<String> {
    let state = tempfile::tempdir().unwrap();
    for directory in ["sm", "sm.bak"] {
        fs::create_dir(state.path().join(directory)).unwrap();
    }
    let monitored = state.path().join("sm.bak").join(server);
    fs::write(&monitored, "7f000001 000186b5 00000003 00000010 00000000000000000000000000000000 a b\n")
        .unwrap();
    let mut command = testbed.machine.command(testbed.host(Role::Allowed).namespace(), "sm-notify");
    command.args(["-d", "-f", "-n", "-m", "1", "-P"]).arg(state.path());
    let outcome = run_within(patience, &mut command);
    monitored.exists().then(|| format!("sm-notify: {outcome:?}"))
}

#[test]
fn an_audit_a_suggestion_and_enforcement_lose_no_client() {
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    testbed
        .machine
        .mounts()
        .run(|| Ok(mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), None::<&str>)?))
        .unwrap();
    let mut services = RpcServices::start(testbed.server.namespace()).unwrap();
    services.start_statd().unwrap();
    services.start_mountd("192.0.2.0/24").unwrap();
    let empty = testbed.lists.write("empty.yaml", [""; 0]);
    portguard.ok(&["attach", IFACE, "--allowlist", &empty]);
    let lost = notify(&testbed, &SERVER[0].to_string(), SILENCE);
    assert!(lost.is_some(), "a client that is dropped is not heard");
    portguard.ok(&["attach", IFACE, "--audit", "--allowlist", &empty]);
    assert_eq!(exchange(&testbed), [""; 0], "in audit mode");

    let root = tempfile::tempdir().unwrap();
    write(root.path(), &[(&format!("var/lib/nfs/sm/{}", ALLOWED[0]), "")]);
    let (path, _) = checked(&testbed.lists, portguard, &["--root", root.path().to_str().unwrap()]);
    take_unproven(Path::new(&path));
    portguard.ok(&["attach", IFACE, "--enforce", "--allowlist", &path]);
    let before = portguard.stats();
    assert_eq!(exchange(&testbed), [""; 0], "enforced: {}", fs::read_to_string(&path).unwrap());
    let after = portguard.stats();
    assert_eq!(after.totals.dropped, before.totals.dropped, "none of theirs is dropped");
    let stranger = portguard.run(&["explain", &OTHER[0].to_string(), &OTHER[1].to_string()]);
    assert_eq!((stranger.code, stranger.stdout.matches(": dropped: ").count()), (1, 2), "{stranger:?}");
}
