//! `portguard explain`: what it says of a source, and that asking changes nothing.

mod wire;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use aya::programs::Xdp;
use aya::programs::links::{FdLink, PinnedLink};
use aya_obj::programs::XdpAttachType;
use portguard_testkit::documents::explain::{Document, Entry, List, Verdict};
use portguard_testkit::net::frame::Packet;
use portguard_testkit::net::{Forger, run};

use crate::support::{
    ALLOWED, DENIED, IFACE, Machine, OTHER, PORTGUARD, Portguard, Role, SERVER, SingleHost, Testbed, flow,
};

/// `explain --json`, with the exit code that goes with what it says.
#[track_caller]
pub(crate) fn explained(portguard: Portguard<'_>, arguments: &[&str]) -> Vec<Verdict> {
    let output = portguard.run(&[&["explain", "--json"], arguments].concat());
    let document: Document =
        serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    assert_eq!(document.schema, 1);
    let refused = document.verdicts.iter().any(|verdict| verdict.verdict != "allowed");
    assert_eq!(output.code, i32::from(refused), "{output:?}");
    assert_eq!(document.unguarded, []);
    document.verdicts
}

/// The only verdict.
#[track_caller]
pub(crate) fn verdict(portguard: Portguard<'_>, arguments: &[&str]) -> Verdict {
    let [verdict] = explained(portguard, arguments).try_into().expect("one verdict");
    verdict
}

/// What it says to the eye, which must come with this exit code.
#[track_caller]
fn says(portguard: Portguard<'_>, code: i32, arguments: &[&str]) -> String {
    let output = portguard.run(&[&["explain"], arguments].concat());
    assert_eq!(output.code, code, "{output:?}");
    output.stdout
}

const LIST: &str = "# Who may ask.
allow:
  - prefix: 192.0.2.0/24
    comment: NFS clients, rack 4
  - 192.0.2.128/25
  - 203.0.113.0/29
  - prefix: 2001:db8::/48
    comment: \"a tab\\tand an escape \\e[31m\"
";

#[test]
fn it_names_the_entry_that_lets_a_source_in() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let list = host.lists.write_text("allowlist.yaml", LIST);
    portguard.ok(&["attach", IFACE, "--allowlist", &list]);
    assert_eq!(
        says(portguard, 0, &["192.0.2.7"]),
        format!("192.0.2.7 on eth0: allowed by 192.0.2.0/24 ({list}, line 3: NFS clients, rack 4)\n")
    );
    assert_eq!(
        says(portguard, 0, &["192.0.2.129", "2001:db8::7", "--iface", IFACE]),
        format!(
            "192.0.2.129 on eth0: allowed by 192.0.2.128/25 ({list}, line 5)\n\
             2001:db8::7 on eth0: allowed by 2001:db8::/48 ({list}, line 7: a tab\\tand an escape \\u{{1b}}[31m)\n"
        )
    );
    let allowed = verdict(portguard, &["192.0.2.7", "--proto", "tcp"]);
    assert_eq!(allowed.protocols, ["tcp"]);
    assert_eq!(
        says(portguard, 0, &["192.0.2.7", "--proto", "tcp"]).split(": ").next(),
        Some("192.0.2.7 on eth0 over TCP")
    );
    let allowed = verdict(portguard, &["192.0.2.7"]);
    let entry = Entry {
        prefix: "192.0.2.0/24".into(),
        line: Some(3),
        comment: Some("NFS clients, rack 4".into()),
        conditions: None,
    };
    let allowlist = List {
        path: list,
        sha256: portguard.status().allowlist.sha256,
        generation: Some(1),
        udp: "all".into(),
        changed_on_disk: false,
        lines_of: Some("file".into()),
    };
    assert_eq!(
        allowed,
        Verdict {
            source: "192.0.2.7".parse().unwrap(),
            interface: Some(IFACE.into()),
            verdict: "allowed".into(),
            reason: None,
            at: None,
            judged_by: "kernel".into(),
            protocols: vec!["udp".into(), "tcp".into()],
            call: Some("null".into()),
            allowlist,
            entry: Some(entry),
            nearest: None,
            same_program: Some(true),
            note: None,
            enforcing: Some(true),
            service: None,
        }
    );
}

#[test]
fn it_names_the_entry_that_comes_nearest_to_a_source_that_is_dropped() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let list = host.lists.write_text("allowlist.yaml", LIST);
    portguard.ok(&["attach", IFACE, "--allowlist", &list]);
    assert_eq!(
        says(portguard, 1, &["203.0.113.9", "192.0.2.7", "2001:db8:1::9"]),
        format!(
            "203.0.113.9 on eth0: dropped: no entry of {list} covers it (nearest: 203.0.113.0/29, line 6)\n\
             192.0.2.7 on eth0: allowed by 192.0.2.0/24 ({list}, line 3: NFS clients, rack 4)\n\
             2001:db8:1::9 on eth0: dropped: no entry of {list} covers it (nearest: 2001:db8::/48, line 7)\n"
        )
    );
    let dropped = verdict(portguard, &["203.0.113.9"]);
    assert_eq!((&*dropped.verdict, dropped.entry), ("dropped", None));
    assert_eq!(dropped.nearest.unwrap().line, Some(6));

    // Another list, in force at once; with nothing of one family.
    host.lists.write("allowlist.yaml", ["203.0.113.0/24"]);
    portguard.ok(&["reload", "--allow-empty"]);
    assert_eq!(
        says(portguard, 1, &["203.0.113.9", "2001:db8::7"]),
        format!(
            "203.0.113.9 on eth0: allowed by 203.0.113.0/24 ({list}, line 2)\n\
             2001:db8::7 on eth0: dropped: no entry of {list} covers it (it has no IPv6 prefixes)\n"
        )
    );
    assert_eq!(verdict(portguard, &["203.0.113.9"]).allowlist.generation, Some(2));
    let empty = host.lists.write_text("empty.yaml", "allow: []\n");
    portguard.ok(&["attach", IFACE, "--allow-empty", "--allowlist", &empty]);
    assert_eq!(verdict(portguard, &["203.0.113.9"]).nearest, None);
}

#[test]
fn in_audit_mode_it_says_what_would_be_dropped() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let list = host.list();
    portguard.ok(&["attach", IFACE, "--audit", "--allowlist", &list]);
    let told = says(portguard, 1, &["203.0.113.9"]);
    assert!(
        told.starts_with("203.0.113.9 on eth0: would be dropped, but passes in audit mode: no entry of"),
        "{told}"
    );
    assert_eq!(verdict(portguard, &["203.0.113.9"]).verdict, "would_drop");
    assert_eq!(verdict(portguard, &["192.0.2.7"]).verdict, "allowed");
    portguard.ok(&["attach", IFACE, "--enforce"]);
    assert_eq!(verdict(portguard, &["203.0.113.9"]).verdict, "dropped");
}

#[test]
fn a_file_that_has_changed_is_not_taken_for_the_list_in_force() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let list = host.lists.write_text("allowlist.yaml", LIST);
    portguard.ok(&["attach", IFACE, "--allowlist", &list]);
    let copies = || fs::read_dir(host.machine.state()).unwrap().map(|file| file.unwrap().path());
    let copies: Vec<PathBuf> = copies().collect();
    let vanish = || fs::remove_file(&list).unwrap();
    let change = || drop(host.lists.write("allowlist.yaml", ["0.0.0.0/0", "203.0.113.9"]));
    let garble = || drop(host.lists.write_text("allowlist.yaml", "allow:\n  - nonsense\n"));
    let changes: [&dyn Fn(); 3] = [&change, &garble, &vanish];
    for change in changes {
        change();
        // From the copy of the list that was put in force.
        let told = says(portguard, 0, &["192.0.2.7"]);
        assert!(told.contains("line 3 of the copy of the last good list: NFS clients, rack 4)\n"), "{told}");
        assert!(
            told.contains(&format!("note: {list} has changed since it was loaded, or is gone")),
            "{told}"
        );
        let dropped = verdict(portguard, &["203.0.113.9"]);
        assert_eq!((&*dropped.verdict, dropped.allowlist.changed_on_disk), ("dropped", true));
        assert_eq!(dropped.allowlist.lines_of.as_deref(), Some("last_good"));
        assert_eq!(dropped.nearest.unwrap().line, Some(6));
    }
    // Without any text, the kernel still knows the prefixes.
    for copy in copies {
        fs::remove_file(copy).unwrap();
    }
    let allowed = verdict(portguard, &["192.0.2.200"]);
    let entry = Entry { prefix: "192.0.2.128/25".into(), line: None, comment: None, conditions: None };
    assert_eq!((allowed.entry, allowed.allowlist.lines_of), (Some(entry), None));
    assert_eq!(verdict(portguard, &["203.0.113.9"]).nearest.unwrap().prefix, "203.0.113.0/29");
    let told = says(portguard, 1, &["192.0.2.7", "203.0.113.9"]);
    assert!(told.contains(&format!("allowed by 192.0.2.0/24 ({list})\n")), "{told}");
    assert!(told.contains("(nearest: 203.0.113.0/29)\n"), "{told}");
}

/// Sends from two sources, so that the counters hold something.
fn send(testbed: &Testbed) {
    let forger = Forger::new(testbed.host(Role::Denied), &testbed.server).unwrap();
    for (source, to) in [(DENIED[0], SERVER[0]), (OTHER[1], SERVER[1]), (ALLOWED[0], SERVER[0])] {
        forger.send(&Packet::udp(flow(source, to, 111), &[0; 40])).unwrap();
    }
    testbed.portguard().stats_of(3);
}

/// All maps of the guard as bpftool shows them, and what it has pinned.
fn maps(machine: &Machine, testbed: &Testbed) -> Vec<(String, String)> {
    let status = testbed.portguard().status();
    let directory = status.pinned.strip_suffix("link").unwrap();
    let instance = machine.pins().into_iter().find(|pin| pin.ends_with("/CELLS")).unwrap();
    let instance = instance.rsplit('/').nth(1).unwrap().to_owned();
    ["POLICY", "CELLS", "REQUESTS_V4", "REQUESTS_V6", "EPOCH", "LOOKUP", "ENTRIES_V4", "ENTRIES_V6"]
        .map(|map| {
            let mut command = machine.command(testbed.server.namespace(), "bpftool");
            let path = format!("{directory}{instance}/{map}");
            command.args(["--json", "map", "dump", "pinned", &path]);
            (map.to_owned(), run(&mut command).unwrap().stdout)
        })
        .to_vec()
}

#[test]
fn asking_moves_no_counter_and_leaves_nothing_behind() {
    for audit in [&[][..], &["--audit"]] {
        let testbed = Testbed::new(PORTGUARD);
        let portguard = testbed.portguard();
        portguard
            .ok(&[&["attach", IFACE, "--sources", "256", "--allowlist", &testbed.list()], audit].concat());
        send(&testbed);
        let state = || {
            let mut stats = portguard.stats();
            // Times are read by two clocks, and may be told a second apart.
            for source in &mut stats.sources {
                (source.first_seen, source.last_seen) = (String::new(), String::new());
            }
            (portguard.status(), stats, maps(&testbed.machine, &testbed), testbed.machine.pins())
        };
        let before = state();
        // Sources that are known, that are new, and that are allowed.
        let sources = [ALLOWED, DENIED, OTHER].concat();
        let sources: Vec<String> = sources.iter().map(ToString::to_string).collect();
        let sources: Vec<&str> =
            sources.iter().map(String::as_str).chain(["10.9.8.7", "2001:db8:9::1"]).collect();
        for _ in 0..3 {
            assert_eq!(explained(portguard, &sources).len(), sources.len());
        }
        assert_eq!(state(), before);
        testbed.machine.assert_tidy(1);
    }
}

#[test]
fn each_guard_speaks_for_itself() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    host.plug("eth1", "peer1");
    host.plug("eth2", "peer2");
    let other = host.lists.write("other.yaml", ["203.0.113.0/24"]);
    portguard.ok(&["attach", IFACE, "--allowlist", &host.list()]);
    portguard.ok(&["attach", "eth1", "--allowlist", &other, "--audit"]);
    let told = explained(portguard, &["203.0.113.9", "192.0.2.7"]);
    let told: Vec<_> =
        told.iter().map(|it| (it.source.to_string(), it.interface.clone().unwrap(), &*it.verdict)).collect();
    assert_eq!(
        told,
        [
            ("203.0.113.9".into(), IFACE.into(), "dropped"),
            ("203.0.113.9".into(), "eth1".into(), "allowed"),
            ("192.0.2.7".into(), IFACE.into(), "allowed"),
            ("192.0.2.7".into(), "eth1".into(), "would_drop"),
        ]
    );
    assert_eq!(verdict(portguard, &["203.0.113.9", "--iface", "eth1"]).allowlist.path, other);
    assert!(
        portguard
            .fails(4, &["explain", "192.0.2.7", "--iface", "eth2"])
            .contains("eth2: no guard is attached")
    );
    assert!(
        portguard.fails(4, &["explain", "192.0.2.7", "--iface", "eth7"]).contains("eth7: no such interface")
    );
}

#[test]
fn without_a_guard_it_judges_the_file_and_says_so() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let list = host.lists.write_text("allowlist.yaml", LIST);
    let mut command = portguard.command(["explain", "192.0.2.200", "203.0.113.9"]);
    let output = crate::support::Output::of(command.env("PORTGUARD_ALLOWLIST", &list));
    assert_eq!(output.code, 1, "{output:?}");
    assert_eq!(
        output.stdout,
        format!(
            "192.0.2.200, judged by the file: allowed by 192.0.2.128/25 ({list}, line 5)\n\
             203.0.113.9, judged by the file: dropped: no entry of {list} covers it (nearest: 203.0.113.0/29, line 6)\n"
        )
    );
    assert!(output.stderr.contains("no guard here: the file decides"), "{output:?}");

    // A file that is named is judged by, whatever is guarded: what would a reload do?
    portguard.ok(&["attach", IFACE, "--allowlist", &host.lists.write("other.yaml", ["10.0.0.0/8"])]);
    let by_file = verdict(portguard, &["192.0.2.7", "--allowlist", &list]);
    assert_eq!((&*by_file.verdict, &*by_file.judged_by), ("allowed", "file"));
    assert_eq!((by_file.interface, by_file.same_program, by_file.allowlist.generation), (None, None, None));
    assert_eq!(verdict(portguard, &["192.0.2.7"]).verdict, "dropped");
    host.lists.write_text("allowlist.yaml", "allow:\n  - nonsense\n");
    portguard.fails(3, &["explain", "192.0.2.7", "--allowlist", &list]);
}

#[test]
fn what_is_no_source_is_refused_before_anything_is_looked_at() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    for (text, remedy) in [
        ("192.0.2.0/24", "portguard explain 192.0.2.0"),
        ("fe80::1%eth0", "portguard explain fe80::1 --iface eth0"),
        ("::ffff:192.0.2.7", "portguard explain 192.0.2.7"),
        ("nfs1.example", "getent ahosts nfs1.example"),
    ] {
        let told = portguard.fails(2, &["explain", "192.0.2.7", text, "--iface", "eth7"]);
        assert!(told.contains(text) && told.contains(remedy), "{told}");
    }
}

#[test]
fn sources_that_linux_never_delivers_from_are_judged_with_a_note() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    portguard.ok(&["attach", IFACE, "--allowlist", &host.lists.write("all.yaml", ["0.0.0.0/0"])]);
    let told = says(portguard, 0, &["127.0.0.1"]);
    assert!(
        told.contains("allowed by 0.0.0.0/0") && told.contains("note: 127.0.0.1 is a loopback"),
        "{told}"
    );
    for source in ["224.0.0.1", "ff02::1", "::", "::1", "0.0.0.0", "255.255.255.255"] {
        let verdict = verdict(portguard, &[source]);
        assert!(verdict.note.is_some(), "{verdict:?}");
        assert_eq!(verdict.verdict, if source.contains(':') { "dropped" } else { "allowed" });
    }
}

#[test]
fn frames_without_an_ethernet_header_are_judged_as_such() {
    let host = SingleHost::bare(PORTGUARD);
    let portguard = host.portguard();
    host.namespace.ip("tuntap add dev tun0 mode tun").unwrap();
    let list = host.lists.write("allowlist.yaml", ["192.0.2.0/24", "2001:db8::/48"]);
    portguard.ok(&["attach", "tun0", "--allowlist", &list]);
    for (source, expected) in [
        ("192.0.2.7", "allowed"),
        ("203.0.113.9", "dropped"),
        ("2001:db8::7", "allowed"),
        ("2001:db8:3::9", "dropped"),
    ] {
        assert_eq!(verdict(portguard, &[source]).verdict, expected, "{source}");
    }
}

#[test]
fn program_and_entry_are_those_of_one_list_while_lists_change() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let open = host.lists.write("open.yaml", ["192.0.2.0/24", "2001:db8::/48"]);
    let closed = host.lists.write("closed.yaml", ["198.51.100.0/24"]);
    portguard.ok(&["attach", IFACE, "--allowlist", &open]);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for list in [&closed, &open].into_iter().cycle().take_while(|_| !over.load(Ordering::Relaxed)) {
                // Renewals remove the pins that a shadow is made from.
                portguard.ok(&["reload", "--allow-empty", "--allowlist", list]);
                portguard.ok(&["attach", IFACE, "--allowlist", list]);
            }
        });
        for _ in 0..20 {
            let told = portguard.run(&["explain", "--json", "192.0.2.7", "2001:db8::7"]);
            let document: Document =
                serde_json::from_str(&told.stdout).unwrap_or_else(|_| panic!("{told:?}"));
            for verdict in document.verdicts {
                let expected = if verdict.allowlist.path == open { "allowed" } else { "dropped" };
                assert_eq!(verdict.verdict, expected, "{verdict:?}");
                assert_eq!(verdict.entry.is_some(), verdict.allowlist.path == open, "{verdict:?}");
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    host.machine.assert_tidy(1);
}

/// Puts another program in the place of the guard's, under its pins; as if another build had attached it.
fn exchange_program(machine: &Machine, pin: &str) {
    let link = Path::new(pin);
    let exchange = || -> anyhow::Result<()> {
        let instance = fs::read_dir(link.parent().unwrap())?
            .map(|entry| entry.unwrap().path())
            .find(|path| path.is_dir())
            .expect("an instance");
        let mut other = Xdp::from_pin(instance.join("portguard_clock"), XdpAttachType::Interface)?;
        let fd_link = FdLink::from(PinnedLink::from_pin(link)?);
        other.attach_to_link(fd_link.try_into()?)?;
        fs::remove_file(instance.join("program"))?;
        other.pin(instance.join("program"))?;
        Ok(())
    };
    machine.mounts().run(exchange).expect("another program");
}

#[test]
fn a_guard_of_another_build_is_judged_by_its_lists_and_that_is_said() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    portguard.ok(&["attach", IFACE, "--allowlist", &host.list()]);
    let before = portguard.status();
    exchange_program(&host.machine, &before.pinned);
    assert_ne!(portguard.status().program.tag, before.program.tag);
    let told = says(portguard, 1, &["192.0.2.7", "203.0.113.9"]);
    assert!(told.contains("192.0.2.7 on eth0: allowed by 192.0.2.0/24"), "{told}");
    assert!(told.contains("203.0.113.9 on eth0: dropped: "), "{told}");
    assert_eq!(told.matches("note: another build of portguard attached the guard").count(), 2, "{told}");
    assert_eq!(verdict(portguard, &["192.0.2.7"]).same_program, Some(false));
}
