//! What interfaces are called, and what they are not.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use nix::sys::signal::Signal;
use portguard_testkit::net::run;

use crate::support::{BEFORE_THE_LOOK, IFACE, Output, PORTGUARD, Service, SingleHost, program_on};

#[test]
fn any_name_that_the_kernel_takes_will_do() {
    let host = SingleHost::bare(PORTGUARD);
    let portguard = host.portguard();
    let list = host.list();
    // A VLAN's, one of the greatest length, one of the shortest, one that a shell would choke on, and a German one.
    for name in ["eth0.100", "fifteen-letters", "x", "$(id)|*'\"", "größe0"] {
        host.plug(name, "peer0");
        let told = portguard.ok(&["attach", name, "--allowlist", &list]);
        assert_eq!(told, format!("{name}: attached in native mode, enforcing, 1 entry\n"));
        assert_eq!(portguard.status().interface, name);
        assert_eq!(portguard.stats().interface, name);
        assert!(portguard.ok(&["reload", name]).starts_with(&format!("{name}: +0 -0")));
        assert_eq!(portguard.ok(&["detach", name]), format!("{name}: detached, port 111 is open\n"));
        host.namespace.ip("link del peer0").expect("unplugging");
    }
}

#[test]
fn any_other_name_is_no_interface() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let list = host.list();
    let long = "x".repeat(300);
    for name in ["", " ", ".", "..", "../../lo", "a/b", "eth0 ", "ETH0", "☃", &long] {
        for command in [&["attach", name, "--allowlist", &list][..], &["detach", name], &["status", name]] {
            let told = portguard.fails(4, command);
            assert!(told.contains(&format!("{name}: no such interface")), "{told}");
            assert!(told.contains("There are: "), "{told}");
        }
    }
    host.machine.assert_tidy(0);
}

/// The kernel takes almost any bytes for a name.
#[test]
fn an_interface_whose_name_is_no_text_stands_in_nobodys_way() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let name = OsStr::from_bytes(b"\xff\xfe0");
    let mut ip = host.namespace.command("ip");
    run(ip.args(["link", "add", "name"]).arg(name).args(["type", "veth", "peer", "name", "peer1"]))
        .expect("a cable");

    portguard.ok(&["attach", IFACE, "--allowlist", &host.list()]);
    assert_eq!(portguard.status().interface, IFACE);
    portguard.ok(&["detach", IFACE]);

    let output = Output::of(&mut portguard.command([OsStr::new("status"), name]));
    assert_eq!(output.code, 2, "{output:?}");
    assert!(output.stderr.contains("invalid UTF-8"), "{output:?}");
}

/// Names and aliases as bytes: Latin-1, nothing but 0xff as long as an alias can be, and a single one.
const NO_TEXT: [&[u8]; 3] = [b"B\xfcro", &[0xff; 255], b"\xff"];

/// Runs `ip` with arguments that need not be text.
fn ip(host: &SingleHost, arguments: &[&[u8]]) {
    let mut ip = host.namespace.command("ip");
    run(ip.args(arguments.iter().map(|argument| OsStr::from_bytes(argument)))).expect("ip");
}

fn set_alias(host: &SingleHost, alias: &[u8]) {
    ip(host, &[b"link", b"set", IFACE.as_bytes(), b"alias", alias]);
}

#[test]
fn an_interface_is_seen_whatever_its_alias_is() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let list = host.list();
    for alias in NO_TEXT {
        set_alias(&host, b"");
        portguard.ok(&["attach", IFACE, "--allowlist", &list]);
        let program = program_on(&host.namespace, IFACE);
        assert!(program.is_some());

        set_alias(&host, alias);
        assert_eq!(portguard.status().interface, IFACE);
        assert_eq!(portguard.status_of(IFACE).program.id, program.expect("a program"));
        assert_eq!(portguard.stats().interface, IFACE);
        assert!(portguard.ok(&["reload"]).starts_with("eth0: +0 -0"));
        assert!(portguard.ok(&["attach", IFACE, "--allowlist", &list]).starts_with("eth0: renewed in place"));
        assert_eq!(portguard.ok(&["detach", "--all"]), "eth0: detached, port 111 is open\n");

        set_alias(&host, b"");
        assert_eq!(program_on(&host.namespace, IFACE), None, "{alias:?}");
        host.machine.assert_tidy(0);
        set_alias(&host, alias);
        portguard.ok(&["attach", IFACE, "--allowlist", &list]);
        portguard.ok(&["detach", IFACE]);
    }
}

#[test]
fn addresses_are_seen_whatever_the_alias_of_their_interface_is() {
    let host = SingleHost::new(PORTGUARD);
    host.namespace.add_address(IFACE, "192.0.2.1/24").expect("an address");
    for alias in NO_TEXT {
        set_alias(&host, alias);
        let proposed = host.portguard().ok(&["suggest"]);
        assert!(proposed.contains("192.0.2.0/24"), "{alias:?}: {proposed}");
    }
}

#[test]
fn a_service_follows_an_interface_whatever_its_alias_is() {
    let host = SingleHost::bare(PORTGUARD);
    let portguard = host.portguard();
    let service = Service::start(portguard, &[IFACE, "--allowlist", &host.list()]);
    for alias in NO_TEXT {
        // All events of it but the first have the alias.
        host.plug("other", "peer0");
        ip(&host, &[b"link", b"set", b"other", b"alias", alias]);
        host.namespace.ip(&format!("link set other name {IFACE}")).expect("renaming");
        service.within("the guard is on", BEFORE_THE_LOOK, || portguard.all_status().len() == 1);
        let list = host.lists.write("allowlist.yaml", ["192.0.2.0/24", "198.51.100.0/24"]);
        service.within("the list is in force", BEFORE_THE_LOOK, || {
            portguard.status().allowlist.prefixes_v4 == 2
        });
        assert_eq!(portguard.status().allowlist.path, list);
        host.list();
        service.within("the list is in force", BEFORE_THE_LOOK, || {
            portguard.status().allowlist.prefixes_v4 == 1
        });
        host.namespace.ip("link del peer0").expect("unplugging");
        service.within("the guard is gone", BEFORE_THE_LOOK, || portguard.all_status().is_empty());
    }
    let warnings = service.said().lines().filter(|line| line.starts_with("warning: ")).count();
    assert_eq!(warnings, 1, "that it waits for the interface at first: {}", service.said());
}

/// What `status` shows of a name is what the command line takes.
#[test]
fn a_name_that_is_no_text_is_written_with_escapes() {
    let host = SingleHost::bare(PORTGUARD);
    let portguard = host.portguard();
    let list = host.list();
    // As long as a name can be, one with a sequence that clears a terminal, and one that looks like an escape.
    for (name, text) in [
        (&b"B\xfcro"[..], r"B\xfcro"),
        (&[0xff; 15], &r"\xff".repeat(15)),
        (b"\x1b[2J", r"\x1b[2J"),
        (br"\xff", r"\x5cxff"),
        (br"a\b", r"a\b"),
    ] {
        ip(&host, &[b"link", b"add", b"name", name, b"type", b"veth", b"peer", b"name", b"peer0"]);
        let told = portguard.ok(&["attach", text, "--allowlist", &list]);
        assert_eq!(told, format!("{text}: attached in native mode, enforcing, 1 entry\n"));
        assert_eq!(portguard.status().interface, text);
        assert_eq!(portguard.status_of(text).interface, text);
        assert_eq!(portguard.stats().interface, text);
        assert!(portguard.ok(&["status"]).contains(text));
        assert!(portguard.ok(&["reload", text]).starts_with(&format!("{text}: +0 -0")));
        assert_eq!(portguard.ok(&["detach", "--all"]), format!("{text}: detached, port 111 is open\n"));
        host.machine.assert_tidy(0);
        let mut service = Service::start(portguard, &[text, "--allowlist", &list]);
        assert_eq!(portguard.status().interface, text);
        service.signal(Signal::SIGTERM);
        assert!(service.ended().success());
        portguard.ok(&["detach", text]);
        host.namespace.ip("link del peer0").expect("unplugging");
    }
}

#[test]
fn names_that_differ_in_bytes_that_are_no_text_are_not_confused() {
    let host = SingleHost::bare(PORTGUARD);
    let portguard = host.portguard();
    let list = host.list();
    let names: [(&[u8], &str); 3] = [(b"\xfe", r"\xfe"), (b"\xff", r"\xff"), (br"\xff", r"\x5cxff")];
    for (number, (name, _)) in names.iter().enumerate() {
        let peer = format!("peer{number}");
        ip(&host, &[b"link", b"add", b"name", name, b"type", b"veth", b"peer", b"name", peer.as_bytes()]);
    }
    for (_, text) in names {
        portguard.ok(&["attach", text, "--allowlist", &list]);
        assert_eq!(portguard.status().interface, text);
        for (_, other) in names.iter().filter(|(_, other)| *other != text) {
            let told = portguard.fails(4, &["detach", other]);
            assert!(told.contains(&format!("error: {other}: no guard is attached")), "{told}");
        }
        portguard.ok(&["detach", text]);
    }
}

#[test]
fn an_alternative_name_need_not_be_text() {
    let host = SingleHost::new(PORTGUARD);
    let portguard = host.portguard();
    let list = host.list();
    // The longest one that there can be.
    for (name, text) in [(&b"B\xfcro"[..], r"B\xfcro"), (&[0xff; 127], &r"\xff".repeat(127))] {
        let service = Service::start(portguard, &[text, "--allowlist", &list]);
        assert!(service.said().contains("no such interface yet"), "{}", service.said());
        ip(&host, &[b"link", b"property", b"add", b"dev", IFACE.as_bytes(), b"altname", name]);
        service.within("the guard is on", BEFORE_THE_LOOK, || portguard.all_status().len() == 1);
        assert_eq!(portguard.status_of(text).interface, IFACE);
        drop(service);
        assert!(portguard.ok(&["reload", text]).contains("+0 -0"));
        assert_eq!(portguard.ok(&["detach", text]), format!("{text}: detached, port 111 is open\n"));
        host.machine.assert_tidy(0);
        ip(&host, &[b"link", b"property", b"del", b"dev", IFACE.as_bytes(), b"altname", name]);
    }
}
