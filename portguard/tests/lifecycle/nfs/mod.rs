//! A real NFS server (NFS-Ganesha) and a real client (libnfs, showmount, rpcinfo) with guards between them: what docs/nfs.md
//! says of NFS is so. The long form, with the kernel's server and client, is `cargo xtask nfs-test`.

mod broadcasts;
mod calls;
mod mounts;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{fs, iter, thread};

use anyhow::Result;
use portguard_testkit::documents::Source;
use portguard_testkit::net::{Capture, Count, Host, Outcome, RpcServices, rpc, run_within};
use tempfile::TempDir;

use crate::support::{ALLOWED, DENIED, IFACE, Output, PORTGUARD, Portguard, Role, SERVER, SILENCE, Testbed};

/// The modes that an administrator can ask for.
const MODES: [&str; 2] = ["native", "generic"];
/// Bytes of the file that is written and read: some requests of the largest size.
const FILE: usize = 3 << 20;
/// Bytes of the file that is written over NFSv4: libnfs 4.0 fails to write more at once, before it sends a packet.
const SHORT_FILE: usize = 2000;

/// Ganesha on the server of a testbed.
fn start_ganesha(testbed: &Testbed) -> RpcServices<'_> {
    let mut services = RpcServices::start(testbed.server.namespace()).expect("rpcbind");
    services.start_ganesha().expect("ganesha");
    services
}

/// The command line on a host.
fn on(testbed: &Testbed, role: Role) -> Portguard<'_> {
    testbed.machine.portguard(testbed.host(role).namespace())
}

/// Puts a guard on a host, with a list of the networks of these roles.
#[track_caller]
fn guard(testbed: &Testbed, host: Role, mode: &str, listed: &[Role]) {
    let list =
        testbed.lists.write(&format!("{}.yaml", host.name()), listed.iter().flat_map(|role| role.prefixes()));
    on(testbed, host).ok(&["attach", IFACE, "--allowlist", &list, "--mode", mode]);
}

/// Takes it off.
#[track_caller]
fn unguard(testbed: &Testbed, host: Role) {
    on(testbed, host).ok(&["detach", IFACE]);
}

/// A capture of all that the switch hands to a host, and of all that the host sends.
fn wire_of(testbed: &Testbed, role: Role) -> Capture {
    Capture::start(testbed.switch.namespace(), role.name()).expect("a capture")
}

/// Runs a command on a host that has to succeed; returns what it printed.
#[track_caller]
fn ok(host: &Host, line: &str) -> String {
    let mut words = line.split_whitespace();
    let mut command = host.command(words.next().expect("a program"));
    let Output { code, stdout, stderr } = Output::of(command.args(words));
    assert_eq!(code, 0, "{line}: {stdout}{stderr}");
    stdout
}

/// Asserts that these commands get no answer on a host, all at once, for as long as one is waited for.
#[track_caller]
fn assert_no_answer(host: &Host, lines: &[String]) {
    thread::scope(|scope| {
        let asking: Vec<_> = lines
            .iter()
            .map(|line| {
                scope.spawn(move || {
                    let mut words = line.split_whitespace();
                    let mut command = host.command(words.next().expect("a program"));
                    let outcome = run_within(SILENCE, command.args(words)).expect("a command that starts");
                    assert!(matches!(outcome, Outcome::TimedOut), "{line}: {outcome:?}");
                })
            })
            .collect();
        asking.into_iter().for_each(|thread| thread.join().expect("no answer"));
    });
}

/// What a client asks port 111 of a server for, over one family, and what the answer has in it.
fn questions(server: IpAddr) -> Vec<(String, String)> {
    let six = if server.is_ipv6() { "6" } else { "" };
    let mut questions = vec![
        (format!("showmount -e {server}"), RpcServices::EXPORT.to_owned()),
        (format!("rpcinfo -p {server}"), "nlockmgr".to_owned()),
        (format!("rpcinfo -s {server}"), "rquotad".to_owned()),
    ];
    for (program, version) in [(rpc::MOUNT, 3), (rpc::NLM, 4), (rpc::RQUOTA, 2)] {
        for transport in ["udp", "tcp"] {
            questions.push((
                format!("rpcinfo -T {transport}{six} {server} {program} {version}"),
                format!("program {program} version {version} ready and waiting"),
            ));
        }
    }
    questions
}

/// How libnfs mounts the export; `options` follow the version.
fn url(server: IpAddr, file: &str, options: &str) -> String {
    format!("nfs://{server}{}/{file}?version={options}", RpcServices::EXPORT)
}

/// Asserts that a host gets answers to all of its questions.
#[track_caller]
fn assert_answered(host: &Host, server: IpAddr) {
    for (question, answer) in questions(server) {
        let told = ok(host, &question);
        assert!(told.contains(&answer), "{question}: {told}");
    }
}

/// A file on the server.
#[derive(Debug)]
struct File {
    name: String,
    text: String,
}

impl File {
    /// Has a host write one over NFS.
    #[track_caller]
    fn written_by(host: &Host, server: IpAddr, options: &str, bytes: usize) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // libnfs writes no file that is there.
        let name = format!("file-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        // Letters and digits, for what a command prints is kept as text.
        let text: String = iter::repeat_with(fastrand::alphanumeric).take(bytes).collect();
        let folder = TempDir::new().expect("a temporary folder");
        let here = folder.path().join(&name);
        fs::write(&here, &text).expect("writing");
        ok(host, &format!("nfs-cp {} {}", here.display(), url(server, &name, options)));
        Self { name, text }
    }

    /// Asserts that a host finds it and reads what was written.
    #[track_caller]
    fn assert_read_by(&self, host: &Host, server: IpAddr, options: &str) {
        let Self { name, text } = self;
        let listed = ok(host, &format!("nfs-ls {}", url(server, "", options)));
        let size = text.len().to_string();
        let is_it = |line: &str| {
            let words: Vec<_> = line.split_whitespace().collect();
            words.contains(&name.as_str()) && words.contains(&size.as_str())
        };
        assert!(listed.lines().any(is_it), "{name} of {size} bytes is not in:\n{listed}");
        let read = ok(host, &format!("nfs-cat {}", url(server, name, options)));
        assert!(read == *text, "{name}: {} bytes were read of {size}, or others", read.len());
    }
}

/// Asserts that a host writes a file, finds it and reads it back. libnfs mounts the export for each of the three.
#[track_caller]
fn assert_writes_and_reads(host: &Host, server: IpAddr, options: &str) {
    File::written_by(host, server, options, FILE).assert_read_by(host, server, options);
}

/// The sources of what a capture has seen.
#[track_caller]
fn sources(packets: Result<BTreeMap<IpAddr, Count>>) -> Vec<IpAddr> {
    packets.expect("a capture without gaps").into_keys().collect()
}

#[test]
fn an_allowed_client_lists_writes_and_reads_behind_the_guard_of_the_server() {
    let testbed = Testbed::new(PORTGUARD);
    let _services = start_ganesha(&testbed);
    let client = testbed.host(Role::Allowed);
    for mode in MODES {
        guard(&testbed, Role::Server, mode, &[Role::Allowed]);
        let mut wire = wire_of(&testbed, Role::Server);
        for server in SERVER {
            assert_answered(client, server);
            assert_writes_and_reads(client, server, "3");
        }
        let stats = testbed.portguard().assert_counted_as_on(&mut wire, &[]);
        assert_eq!(stats.mode, mode);
        assert_eq!(sources(wire.requests()), ALLOWED, "over both families");
        unguard(&testbed, Role::Server);
    }
}

/// Whether a source has asked over both transports.
fn has_asked_both_ways(source: &Source) -> bool {
    source.udp_packets > 0 && source.tcp_packets > 0
}

#[test]
fn a_denied_client_gets_no_answer_and_each_of_its_packets_is_counted() {
    let testbed = Testbed::new(PORTGUARD);
    let _services = start_ganesha(&testbed);
    let denied = testbed.host(Role::Denied);
    for mode in MODES {
        guard(&testbed, Role::Server, mode, &[Role::Allowed]);
        let mut wire = wire_of(&testbed, Role::Server);
        let mut to_denied = wire_of(&testbed, Role::Denied);
        // On the server, what is dropped is not seen.
        let mut inside = Capture::start(testbed.server.namespace(), IFACE).expect("a capture");
        let mut lines = Vec::new();
        for server in SERVER {
            lines.extend(questions(server).into_iter().map(|(question, _)| question));
            lines.push(format!("nfs-ls {}", url(server, "", "3")));
        }
        thread::scope(|scope| {
            scope.spawn(|| {
                assert_no_answer(denied, &lines);
                // On a machine that is slow, none of so many at once gets to ask in that time.
                let have_asked = |sources: &[Source]| {
                    sources.len() == DENIED.len() && sources.iter().all(has_asked_both_ways)
                };
                for few in lines.chunks(2) {
                    if !have_asked(&testbed.portguard().stats().sources) {
                        assert_no_answer(denied, few);
                    }
                }
            });
            // All else goes on: what others ask, and other ports for the same host.
            for server in SERVER {
                assert_answered(testbed.host(Role::Allowed), server);
                let [high, low] = RpcServices::MOUNTD_PORT.to_be_bytes();
                let transport = if server.is_ipv6() { "udp6" } else { "udp" };
                ok(denied, &format!("rpcinfo -a {server}.{high}.{low} -T {transport} {} 3", rpc::MOUNT));
            }
        });
        let stats = testbed.portguard().assert_counted_as_on(&mut wire, &DENIED);
        assert_eq!(stats.mode, mode);
        assert_eq!(stats.sources.len(), DENIED.len(), "both families have asked");
        for source in &stats.sources {
            assert!(has_asked_both_ways(source), "over both transports: {source:?}");
        }
        assert_eq!(sources(to_denied.from_port(rpc::PORT)), [] as [IpAddr; 0]);
        assert_eq!(sources(inside.requests()), ALLOWED, "nothing else came in");
        unguard(&testbed, Role::Server);
    }
}

#[test]
fn a_denied_client_that_names_the_ports_mounts_without_a_packet_to_port_111() {
    let testbed = Testbed::new(PORTGUARD);
    let _services = start_ganesha(&testbed);
    let ports = format!("3&nfsport={}&mountport={}", RpcServices::NFS_PORT, RpcServices::MOUNTD_PORT);
    for mode in MODES {
        guard(&testbed, Role::Server, mode, &[Role::Allowed]);
        let mut wire = wire_of(&testbed, Role::Server);
        for server in SERVER {
            assert_writes_and_reads(testbed.host(Role::Denied), server, &ports);
        }
        assert_none_to_port_111(&testbed, &mut wire);
        assert_eq!(sources(wire.to_port(RpcServices::MOUNTD_PORT)), DENIED, "it has asked mountd itself");
        unguard(&testbed, Role::Server);
    }
}

#[test]
fn a_denied_client_mounts_by_nfs_version_4_without_a_packet_to_port_111() {
    let testbed = Testbed::new(PORTGUARD);
    let _services = start_ganesha(&testbed);
    let denied = testbed.host(Role::Denied);
    let long = File::written_by(testbed.host(Role::Allowed), SERVER[0], "3", FILE);
    for mode in MODES {
        guard(&testbed, Role::Server, mode, &[Role::Allowed]);
        let mut wire = wire_of(&testbed, Role::Server);
        for server in SERVER {
            File::written_by(denied, server, "4", SHORT_FILE).assert_read_by(denied, server, "4");
            long.assert_read_by(denied, server, "4");
        }
        assert_none_to_port_111(&testbed, &mut wire);
        let to_mountd = sources(wire.to_port(RpcServices::MOUNTD_PORT));
        assert_eq!(to_mountd, [] as [IpAddr; 0], "one port is all it needs");
        unguard(&testbed, Role::Server);
    }
}

/// Asserts that the denied host has used NFS over both families, and that the guard had nothing to judge.
#[track_caller]
fn assert_none_to_port_111(testbed: &Testbed, wire: &mut Capture) {
    assert_eq!(sources(wire.to_port(RpcServices::NFS_PORT)), DENIED);
    assert_eq!(sources(wire.requests()), [] as [IpAddr; 0]);
    assert_eq!(testbed.portguard().stats().packets(), 0);
}
