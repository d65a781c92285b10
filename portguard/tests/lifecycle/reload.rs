//! Lists that come and go while packets do.

use std::fs;
use std::iter::repeat_n;
use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use ipnet::IpNet;

use crate::support::{
    ALLOWED, DENIED, IFACE, PORTGUARD, Service, SingleHost, Testbed, Traffic, run_to, system_calls,
};

/// A thousand entries, of which one covers [`ALLOWED`] in each family; the networks around it are other ones in each
/// `variant`.
fn thousand_entries(variant: u32) -> Vec<String> {
    let mut entries = Vec::new();
    for n in 0..499_u32 {
        entries.push(format!("198.{}.{}.{}", 18 + variant, n / 256, n % 256));
        entries.push(format!("2001:db8:{:x}::{:x}/128", 0x1000 + variant, n + 1));
    }
    // The same sources by another entry, at another place in the file.
    let (v4, v6) =
        if variant == 0 { ("192.0.2.0/24", "2001:db8::/48") } else { ("192.0.2.10", "2001:db8::10/127") };
    entries.insert(variant as usize * 700, v4.to_owned());
    entries.push(v6.to_owned());
    assert_eq!(entries.len(), 1000);
    entries
}

#[test]
fn no_packet_leaks_and_none_is_lost_while_a_thousand_entries_are_replaced() {
    const RELOADS: u64 = 30;
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    let lists =
        [0, 1].map(|variant| testbed.lists.write(&format!("{variant}.yaml"), thousand_entries(variant)));
    portguard.ok(&["attach", IFACE, "--allowlist", &lists[0]]);

    let exchanged = thread::scope(|scope| {
        let traffic = Traffic::start(scope, &testbed);
        for reload in 1..=RELOADS {
            let list = &lists[reload as usize % 2];
            let told = portguard.ok(&["reload", IFACE, "--allowlist", list]);
            let expected = format!("eth0: +1000 -1000, 0 unchanged, generation {reload} -> {}\n", reload + 1);
            assert!(told.starts_with(&expected), "{told}");
        }
        traffic.end()
    });
    exchanged.assert_sealed();
    portguard.assert_counted(&exchanged);
    let status = portguard.status();
    assert_eq!(status.generation, RELOADS + 1);
    assert_eq!((status.allowlist.prefixes_v4, status.allowlist.prefixes_v6), (500, 500));
}

/// A guard has maps for a list of a certain length. A much longer one takes maps of its own, in one step, and a short one fits
/// into those.
#[test]
fn a_list_that_outgrows_the_maps_of_its_guard_takes_larger_ones_and_no_packet_is_lost() {
    let testbed = Testbed::new(PORTGUARD);
    testbed.attach();
    let portguard = testbed.portguard();
    let first = portguard.status();
    let short = testbed.list();
    let around = (0..20_000_u32).map(|n| format!("10.{}.{}.{}/32", n >> 14, n >> 6 & 255, n << 2 & 255));
    let entries = around.chain(["192.0.2.0/24".to_owned(), "2001:db8::/48".to_owned()]);
    let long = testbed.lists.write("long.yaml", entries);
    let exchanged = thread::scope(|scope| {
        let traffic = Traffic::start(scope, &testbed);
        for (list, entries) in
            [(&long, [20_001, 1]), (&short, [1, 1]), (&long, [20_001, 1]), (&short, [1, 1])]
        {
            portguard.ok(&["reload", IFACE, "--allowlist", list]);
            assert_eq!(testbed.machine.entries_of(&portguard.status()), entries);
        }
        traffic.end()
    });
    exchanged.assert_sealed();
    portguard.assert_counted(&exchanged);
    let last = portguard.status();
    assert_eq!(last.generation, 5);
    assert_eq!((last.pinned, last.attached_at), (first.pinned, first.attached_at));
    testbed.machine.assert_tidy(1);
}

/// The trie is changed in place, so prefixes of two lists are in it for a time: each list decides by its own.
#[test]
fn lists_whose_prefixes_lie_within_each_other_take_turns() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let lists = [
        &["192.0.2.0/24", "2001:db8::/32"][..],
        &["192.0.2.0/25", "192.0.2.10/32", "2001:db8::10/128", "2001:db8::/48"],
        &["192.0.2.128/25", "2001:db8:0:1::/64", "192.0.2.8/29"],
        &["0.0.0.0/0", "192.0.2.10/32", "::/0"],
        &["192.0.2.11/32", "2001:db8::11/128"],
    ];
    let sources =
        ["192.0.2.10", "192.0.2.11", "192.0.2.200", "203.0.113.9", "2001:db8::10", "2001:db8:0:1::1"];
    let path = host.lists.write("turns.yaml", lists[0]);
    portguard.ok(&["attach", IFACE, "--allowlist", &path]);
    for (from, to) in (0..lists.len()).flat_map(|from| (0..lists.len()).map(move |to| (from, to))) {
        for list in [from, to] {
            host.lists.write("turns.yaml", lists[list]);
            portguard.ok(&["reload", IFACE]);
        }
        let list: Vec<IpNet> = lists[to].iter().map(|prefix| prefix.parse().expect("a prefix")).collect();
        for source in sources {
            let address: IpAddr = source.parse().expect("an address");
            let covering = list.iter().filter(|prefix| prefix.contains(&address));
            let expected = match covering.max_by_key(|prefix| prefix.prefix_len()) {
                Some(entry) => format!("{source} on eth0: allowed by {entry} "),
                None => format!("{source} on eth0: dropped"),
            };
            let output = portguard.run(&["explain", source]);
            assert!(output.stdout.starts_with(&expected), "from {from} to {to}: {output:?}");
        }
        let v4 = list.iter().filter(|prefix| prefix.addr().is_ipv4()).count();
        assert_eq!(host.machine.entries_of(&portguard.status()), [v4, list.len() - v4]);
    }
}

/// A loader that is killed while it removes prefixes from the trie leaves it without some of them. A list that has these again
/// must put them back, although their places are there.
#[test]
fn prefixes_come_back_that_a_killed_loader_has_removed() {
    /// More than are removed by one system call.
    const HOSTS: usize = 5000;
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let hosts = (0..HOSTS).map(|n| format!("10.0.{}.{}", n / 256, n % 256));
    let long = host.lists.write("long.yaml", hosts);
    let short = host.lists.write("short.yaml", ["192.0.2.0/24"]);
    let to = |list| ["reload", IFACE, "--allow-empty", "--allowlist", list];
    let entries = || host.machine.entries_of(&portguard.status())[0];
    portguard.ok(&["attach", IFACE, "--allowlist", &long]);
    // From the end, because the trie is changed last, until a kill has left some of them: it does so before one call, some fifty from
    // the end. The numbers of calls differ from run to run by those that wait, so a pass may miss it.
    let calls = system_calls(&mut portguard.command(to(&short)));
    let mut calls = repeat_n(calls, 6).flat_map(|calls| calls.rev().take(150));
    loop {
        let call = calls.next().expect("a kill leaves some of the hosts in the trie");
        portguard.ok(&to(&long));
        run_to(&mut portguard.command(to(&short)), call);
        let left = entries();
        portguard.ok(&to(&long));
        assert_eq!(entries(), HOSTS, "killed at call {call}, with {left} entries in the trie");
        if (2..HOSTS).contains(&left) {
            break;
        }
    }
    let explained = portguard.run(&["explain", "10.0.0.0"]).stdout;
    assert!(explained.starts_with("10.0.0.0 on eth0: allowed by 10.0.0.0/32 "), "{explained}");
}

#[test]
fn a_list_that_lets_a_denied_source_in_does_so_at_once_and_only_then() {
    let testbed = Testbed::new(PORTGUARD);
    testbed.attach();
    let portguard = testbed.portguard();
    let everyone = testbed
        .lists
        .write("both.yaml", ["192.0.2.0/24", "198.51.100.0/24", "2001:db8::/48", "2001:db8:51::/48"]);
    let before = thread::scope(|scope| {
        let traffic = Traffic::start(scope, &testbed);
        thread::sleep(Duration::from_millis(50));
        traffic.end()
    });
    before.assert_sealed();
    let told = portguard.ok(&["reload", "--allowlist", &everyone]);
    assert_eq!(
        told,
        "eth0: +2 -0, 2 unchanged, generation 1 -> 2\n  + 198.51.100.0/24\n  + 2001:db8:51::/48\n"
    );
    let after = thread::scope(|scope| {
        let traffic = Traffic::start(scope, &testbed);
        thread::sleep(Duration::from_millis(50));
        traffic.end()
    });
    for (source, sent) in after.denied() {
        assert_eq!(after.heard(source), sent.packets, "{source}");
    }
    let stats = portguard.stats_of(before.sent().packets + after.sent().packets);
    assert_eq!(stats.totals.allowed.packets, before.sent_allowed().packets + after.sent().packets);
    assert_eq!(stats.totals.dropped, before.sent_denied());
}

/// What a reload that fails, for whatever reason, must leave as it is.
fn assert_unharmed(testbed: &Testbed, reload: impl Fn() -> String) -> String {
    let portguard = testbed.portguard();
    let before = portguard.status();
    let earlier = portguard.stats();
    let (told, exchanged) = thread::scope(|scope| {
        let traffic = Traffic::start(scope, testbed);
        let told = reload();
        thread::sleep(Duration::from_millis(20));
        (told, traffic.end())
    });
    exchanged.assert_sealed();
    let stats = portguard.stats_of(earlier.packets() + exchanged.sent().packets);
    assert_eq!(stats.totals.allowed.since(earlier.totals.allowed), exchanged.sent_allowed());
    assert_eq!(stats.totals.dropped.since(earlier.totals.dropped), exchanged.sent_denied());
    let mut after = portguard.status();
    // The file is another one now, and status says so.
    after.allowlist.changed_on_disk = before.allowlist.changed_on_disk;
    after.allowlist.file = before.allowlist.file.clone();
    assert_eq!(after, before);
    told
}

#[test]
fn a_broken_list_leaves_the_old_one_in_force() {
    let testbed = Testbed::new(PORTGUARD);
    testbed.attach();
    let portguard = testbed.portguard();
    let list = testbed.list();
    assert!(!portguard.status().allowlist.changed_on_disk);

    let told = assert_unharmed(&testbed, || {
        testbed.lists.write_text("allowlist.yaml", "allow:\n  - 192.0.2.0/24\n  - 10.1.2.3/16\n");
        portguard.fails(3, &["reload"])
    });
    assert!(told.contains(&format!("{list}:3:5")), "{told}");
    assert!(told.contains("10.1.2.3/16") && told.contains("10.1.0.0/16"), "{told}");
    assert!(portguard.status().allowlist.changed_on_disk);

    let told = assert_unharmed(&testbed, || {
        fs::remove_file(&list).expect("removing the list");
        portguard.fails(3, &["reload", IFACE])
    });
    assert!(
        told.contains(&format!("{list} does not exist")) && told.contains("the list in force remains"),
        "{told}"
    );
    assert!(portguard.status().allowlist.changed_on_disk);

    // One that is given by name, and broken, while the guard's own is fine.
    testbed.list();
    let told = assert_unharmed(&testbed, || {
        let other = testbed.lists.write_text("other.yaml", "allow:\n  - nonsense\n");
        portguard.fails(3, &["reload", "--allowlist", &other])
    });
    assert!(told.contains("other.yaml:2:5"), "{told}");
    assert!(!portguard.status().allowlist.changed_on_disk);
}

/// Each guard has a list of its own; one of them is broken.
#[test]
fn a_reload_that_one_list_stops_says_that_nothing_was_reloaded() {
    const INTERFACES: [&str; 2] = [IFACE, "eth1"];
    for broken in [0, 1] {
        let host = SingleHost::new(PORTGUARD);
        host.plug(INTERFACES[1], "peer1");
        let portguard = host.portguard();
        let write = |interface: &str, prefix: &str| host.lists.write(&format!("{interface}.yaml"), [prefix]);
        for interface in INTERFACES {
            portguard.ok(&["attach", interface, "--allowlist", &write(interface, "192.0.2.0/24")]);
        }
        let generations = || INTERFACES.map(|interface| portguard.status_of(interface).generation);
        let good = write(INTERFACES[1 - broken], "198.51.100.0/24");
        write(INTERFACES[broken], "198.51.100.0/33");
        for arguments in [&["reload"][..], &["reload", IFACE, "eth1"], &["reload", "eth1", IFACE]] {
            let told = portguard.fails(3, arguments);
            assert!(told.contains(&format!("{}.yaml:2:5", INTERFACES[broken])), "{told}");
            assert!(told.contains("nothing was reloaded"), "{told}");
            assert_eq!(generations(), [1, 1]);
        }
        // By itself the good one is reloaded.
        portguard.ok(&["reload", INTERFACES[1 - broken]]);
        assert_eq!(portguard.status_of(INTERFACES[1 - broken]).allowlist.path, good);
        assert_eq!(generations()[1 - broken], 2);
        assert_eq!(generations()[broken], 1);
    }
}

/// A service keeps one of the guards, and its list is in order; that of the other guard is broken.
#[test]
fn a_reload_that_one_list_stops_asks_no_service_either() {
    let host = SingleHost::new(PORTGUARD);
    host.plug("eth1", "peer1");
    let portguard = host.portguard();
    let (kept, other) = (host.list(), host.lists.write("other.yaml", ["192.0.2.0/24"]));
    let _service = Service::start(portguard, &[IFACE, "--allowlist", &kept]);
    portguard.ok(&["attach", "eth1", "--allowlist", &other]);
    let generations = || [IFACE, "eth1"].map(|interface| portguard.status_of(interface).generation);
    host.lists.write("other.yaml", ["192.0.2.0/33"]);
    for arguments in [&["reload"][..], &["reload", IFACE, "eth1"], &["reload", "eth1", IFACE]] {
        let told = portguard.fails(3, arguments);
        assert!(told.contains("nothing was reloaded"), "{told}");
        assert_eq!(generations(), [1, 1]);
    }
    // By itself the service reloads.
    portguard.ok(&["reload", IFACE]);
    assert_eq!(generations(), [2, 1]);
}

#[test]
fn a_dry_run_tells_the_difference_and_makes_none() {
    let testbed = Testbed::new(PORTGUARD);
    testbed.attach();
    let portguard = testbed.portguard();
    let list = testbed.lists.write("next.yaml", ["192.0.2.0/24", "198.51.100.0/24", "203.0.113.7"]);
    let told = assert_unharmed(&testbed, || portguard.ok(&["reload", "--dry-run", "--allowlist", &list]));
    assert_eq!(
        told,
        "eth0: +2 -1, 1 unchanged, generation 1 -> 2 (dry run)\n  \
         + 198.51.100.0/24\n  + 203.0.113.7/32\n  - 2001:db8::/48\n"
    );
    let broken = testbed.lists.write_text("broken.yaml", "allow:\n  - x\n");
    portguard.fails(3, &["reload", "--dry-run", "--allowlist", &broken]);

    // A list of nobody is a list, too.
    let nobody = testbed.lists.write("nobody.yaml", [""; 0]);
    portguard.ok(&["reload", "--allow-empty", "--allowlist", &nobody]);
    let exchanged = thread::scope(|scope| {
        let traffic = Traffic::start(scope, &testbed);
        thread::sleep(Duration::from_millis(20));
        traffic.end()
    });
    for source in ALLOWED.into_iter().chain(DENIED) {
        assert_eq!(exchanged.heard(source), 0, "{source}");
    }
}

#[test]
fn without_a_guard_there_is_nothing_to_reload() {
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    let list = testbed.list();
    for dry_run in [&[][..], &["--dry-run"]] {
        let told = portguard.fails(4, &[&["reload", "--allowlist", &list], dry_run].concat());
        assert!(told.contains("no interface of this network namespace is guarded"), "{told}");
        let told = portguard.fails(4, &[&["reload", IFACE, "--allowlist", &list], dry_run].concat());
        assert!(
            told.contains("eth0: no guard is attached") && told.contains("portguard attach eth0"),
            "{told}"
        );
    }
    assert_eq!(portguard.all_status(), []);
}
