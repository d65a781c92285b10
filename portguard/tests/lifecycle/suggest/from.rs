//! `suggest --from` reads what the real nft and ipset print.

use std::io::Write as _;
use std::process::{Command, Stdio};

use portguard_testkit::documents::suggest::Document;

use crate::support::{PORTGUARD, SingleHost};

/// Rules and sets of every kind that is taken, and of those that are not.
const RULES: &str = "
table inet filter {
  set trusted {
    type ipv4_addr
    flags interval
    elements = { 10.0.0.0/8, 192.0.2.1-192.0.2.2, 198.51.100.7 comment \"the old server\" }
  }
  set trusted6 {
    type ipv6_addr
    flags interval
    elements = { 2001:db8::/48, 2001:db8:1::1-2001:db8:1::2 }
  }
  set guests {
    type ipv4_addr
    flags timeout
    elements = { 203.0.113.1 timeout 5m, 203.0.113.2 }
  }
  set services {
    type ipv4_addr . inet_service
    flags interval
    elements = { 192.0.3.0/24 . 111, 192.0.3.1 . 100-120, 192.0.4.1 . 2049 }
  }
  set blocked {
    type ipv4_addr
    elements = { 203.0.113.66 }
  }
  set unused {
    type ipv4_addr
    elements = { 203.0.113.77 }
  }
  set cards {
    type ifname . ipv4_addr
    elements = { \"eth0\" . 192.0.2.9 }
  }
  map verdicts {
    type ipv4_addr : verdict
    flags interval
    elements = { 10.201.0.0/16 : accept, 11.2.0.0/16 : drop }
  }
  chain others {
    ip saddr 10.77.0.0/16 accept
  }
  chain input {
    type filter hook input priority 0; policy drop;
    ct state established accept
    iif lo accept
    ip saddr @blocked drop
    ip saddr @trusted meta l4proto { tcp, udp } th dport 111 counter accept
    ip6 saddr @trusted6 udp dport 100-200 accept
    ip saddr { 172.16.0.0/12, 192.0.5.0/25 } tcp dport { 111, 2049 } ct state new log accept comment \"racks\"
    ip saddr @guests tcp dport sunrpc limit rate 5/second accept
    ip saddr . tcp dport @services accept
    ip saddr . udp dport { 192.0.6.33 . 111, 192.0.6.34 . 22 } accept
    tcp dport 111 ip saddr vmap { 11.5.0.0/16 : accept, 11.6.0.0/16 : drop }
    udp dport 111 ip saddr vmap @verdicts
    iifname \"eth0\" ip saddr 11.8.0.0/16 tcp dport 111 accept
    ip saddr 11.9.0.0/16 accept
    ip saddr 11.10.0.0/16 tcp dport 111 jump others
    ip saddr != 11.11.0.0/16 tcp dport 111 drop
    ip saddr & 255.255.0.255 == 11.12.0.4 tcp dport 111 accept
    ip saddr 11.13.0.1 tcp dport 22 accept
    ip saddr { 0.0.0.0/1, 128.0.0.0/1 } tcp dport 111 accept
    udp dport 111 accept
  }
  chain output {
    type filter hook output priority 0
    ip saddr 10.99.0.1 tcp dport 111 accept
  }
}
";

/// What `ipset restore` takes.
const SETS: &str = "\
create a hash:ip
add a 192.0.2.1
create n hash:net comment timeout 0
add n 10.0.0.0/8 comment \"all of us\"
add n 10.9.0.0/16 nomatch
add n 10.8.0.0/16 timeout 300
create everyone hash:net
add everyone 0.0.0.0/1
add everyone 128.0.0.0/1
create p hash:ip,port
add p 198.51.100.1,tcp:111
add p 198.51.100.1,udp:111
add p 198.51.100.2,udp:2049
create m hash:ip netmask 24
add m 203.0.113.7
create six hash:net family inet6
add six 2001:db8::/32
create i hash:net,iface
add i 172.16.0.0/12,eth0
create b bitmap:ip range 172.30.0.0/24
add b 172.30.0.4-172.30.0.5
create ports bitmap:port range 0-1024
add ports 111
create all list:set
add all a
";

/// Runs a command in the namespace of a host, with a text on its standard input; returns what it prints.
#[track_caller]
fn typed(host: &SingleHost, command: &[&str], input: &str) -> String {
    let mut child: Command = host.machine.command(&host.namespace, command[0]);
    let child = child.args(&command[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child =
        child.unwrap_or_else(|error| panic!("{command:?}: {error}; cargo xtask setup installs it"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{command:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What is proposed of a text: prefixes, and what is left out with the beginning of the reason.
#[track_caller]
fn found(host: &SingleHost, text: &str) -> (Vec<String>, Vec<(String, String)>) {
    let path = host.lists.write_text("from", text);
    let json = host.portguard().ok(&["suggest", "--json", "--from", &path]);
    let Document { entries, left_out, .. } = serde_json::from_str(&json).unwrap();
    let yaml = host.portguard().ok(&["suggest", "--from", &path]);
    let list = host.lists.write_text("suggested.yaml", &yaml);
    host.portguard().ok(&["check", &list]);
    let why = |why: &str| why.split([':', '(', ',']).next().unwrap_or_default().trim_end().to_owned();
    (
        entries.into_iter().map(|entry| entry.prefix).collect(),
        left_out.into_iter().map(|it| (it.what, why(&it.why))).collect(),
    )
}

fn texts(pairs: &[(String, String)]) -> Vec<(&str, &str)> {
    pairs.iter().map(|(what, why)| (&**what, &**why)).collect()
}

#[test]
fn the_rules_of_nft_say_who_is_meant() {
    let host = SingleHost::bare(PORTGUARD);
    typed(&host, &["nft", "-f", "-"], RULES);
    let (prefixes, left_out) = found(&host, &typed(&host, &["nft", "-j", "list", "ruleset"], ""));
    assert_eq!(
        prefixes,
        [
            "10.0.0.0/8",
            "11.5.0.0/16",
            "172.16.0.0/12",
            "192.0.2.1/32",
            "192.0.2.2/32",
            "192.0.3.0/24",
            "192.0.5.0/25",
            "192.0.6.33/32",
            "198.51.100.7/32",
            "203.0.113.2/32",
            "2001:db8::/48",
            "2001:db8:1::1/128",
            "2001:db8:1::2/128",
        ]
    );
    let mut left_out = texts(&left_out);
    left_out.sort_unstable();
    let mut expected = [
        ("10.77.0.0/16", "the rule accepts all ports"),
        ("@blocked", "it is dropped"),
        ("203.0.113.1", "it is there for a time only"),
        ("192.0.4.1 . 2049", "it is for port 2049"),
        ("192.0.6.34 . 22", "it is for port 22"),
        ("11.6.0.0/16", "it is dropped"),
        ("11.2.0.0/16", "it is dropped"),
        ("11.8.0.0/16", "only together with something else"),
        ("11.9.0.0/16", "the rule accepts all ports"),
        ("11.10.0.0/16", "it goes on in another chain"),
        ("11.11.0.0/16", "the rule says who is dropped"),
        ("port 111", "only together with something else"),
        // nft joins the two halves.
        ("0.0.0.0/0", "it is open to everyone"),
        ("port 111", "it is open to everyone"),
        ("@unused", "no rule accepts port 111 from it"),
        ("@cards", "no rule accepts port 111 from it"),
    ];
    expected.sort_unstable();
    assert_eq!(left_out, expected);
}

/// Without rules there is nothing else that could be meant.
#[test]
fn sets_of_nft_alone_are_taken_as_they_are() {
    let host = SingleHost::bare(PORTGUARD);
    typed(&host, &["nft", "-f", "-"], RULES);
    for (kind, name, prefixes, left_out) in [
        ("set", "trusted", &["10.0.0.0/8", "192.0.2.1/32", "192.0.2.2/32", "198.51.100.7/32"][..], &[][..]),
        ("set", "services", &["192.0.3.0/24"], &["192.0.4.1 . 2049"]),
        ("set", "guests", &["203.0.113.2/32"], &["203.0.113.1"]),
        ("set", "cards", &[], &["eth0 . 192.0.2.9"]),
        ("map", "verdicts", &["10.201.0.0/16"], &["11.2.0.0/16"]),
    ] {
        let text = typed(&host, &["nft", "-j", "list", kind, "inet", "filter", name], "");
        let found = found(&host, &text);
        let left: Vec<&str> = found.1.iter().map(|(what, _)| &**what).collect();
        assert_eq!((&found.0[..], &left[..]), (&prefixes.map_to_strings()[..], left_out), "{name}");
    }
}

trait Strings {
    fn map_to_strings(&self) -> Vec<String>;
}

impl Strings for [&str] {
    fn map_to_strings(&self) -> Vec<String> {
        self.iter().map(|text| (*text).to_owned()).collect()
    }
}

#[test]
fn what_ipset_saves_is_read() {
    let host = SingleHost::bare(PORTGUARD);
    typed(&host, &["ipset", "restore"], SETS);
    let (prefixes, left_out) = found(&host, &typed(&host, &["ipset", "save"], ""));
    assert_eq!(
        prefixes,
        [
            "10.0.0.0/8",
            "172.30.0.4/32",
            "172.30.0.5/32",
            "192.0.2.1/32",
            "198.51.100.1/32",
            "203.0.113.0/24",
            "2001:db8::/32",
        ]
    );
    let mut left_out = texts(&left_out);
    left_out.sort_unstable();
    let mut expected = [
        ("10.9.0.0/16", "an exception"),
        ("10.8.0.0/16", "it is there for a time only"),
        ("0.0.0.0/1", "it is open to everyone"),
        ("128.0.0.0/1", "it is open to everyone"),
        ("198.51.100.2,udp:2049", "it is for udp"),
        ("172.16.0.0/12,eth0", "only together with something else"),
        ("ports", "a set of the type bitmap"),
    ];
    expected.sort_unstable();
    assert_eq!(left_out, expected);
}
