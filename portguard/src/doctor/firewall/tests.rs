//! Rules, and what becomes of a stranger's packet. `portguard/tests/lifecycle/doctor/topologies` has more, with the real tools and the wire.

use super::*;
use crate::doctor::firewall::{ipset, iptables, nft};

/// What becomes of a stranger's packet over UDP.
fn outcome(rules: &Rules, ipv6: bool) -> &'static str {
    let address: IpAddr = if ipv6 { "2001:db8::1" } else { "192.0.2.1" }.parse().unwrap();
    let stranger = Stranger {
        interface: Some("eth0"),
        protocol: Protocol::Udp,
        ipv6,
        port: 111,
        destinations: &[address],
    };
    summary(&rules.outcome(&stranger, &[], false))
}

fn summary(outcomes: &[(String, Outcome)]) -> &'static str {
    if outcomes.iter().any(|(_, outcome)| outcome.is_dropped()) {
        return "dropped";
    }
    if outcomes.iter().all(|(_, outcome)| outcome.is_accepted()) { "accepted" } else { "unclear" }
}

/// Of the chain `input` of `table inet f`, with rules as JSON.
fn of_nft(rules: &[&str]) -> [&'static str; 2] {
    let rule = |rule: &&str| {
        format!(r#"{{"rule": {{"family": "inet", "table": "f", "chain": "input", "expr": [{rule}]}}}}"#)
    };
    let rules: Vec<String> = rules.iter().map(rule).collect();
    let text = format!(
        r#"{{"nftables": [{{"chain": {{"family": "inet", "table": "f", "name": "input", "type": "filter",
            "hook": "input", "prio": 0, "policy": "accept"}}}}, {}]}}"#,
        rules.join(", ")
    );
    let read = nft::parse(&text, &nft::Devices::new()).expect("a rule set");
    [outcome(&read.rules, false), outcome(&read.rules, true)]
}

fn of_iptables(lines: &str) -> &'static str {
    let text = format!("*filter\n:INPUT ACCEPT [0:0]\n:MORE - [0:0]\n{lines}\nCOMMIT\n");
    let sets = ipset::parse(
        "create friends hash:net family inet\nadd friends 10.0.0.0/8\nadd friends 10.1.0.0/16 nomatch\n\
         create world hash:net\nadd world 1.0.0.0-200.0.0.0\ncreate pairs hash:ip,port\nadd pairs 10.0.0.1,tcp:80\n",
    );
    outcome(&iptables::parse(&text, false, &sets).expect("rules"), false)
}

fn matches(left: &str, op: &str, right: &str) -> String {
    format!(r#"{{"match": {{"op": "{op}", "left": {left}, "right": {right}}}}}, {{"drop": null}}"#)
}

#[test]
fn expressions_of_nft_are_followed_as_the_kernel_does() {
    let payload =
        |protocol, field| format!(r#"{{"payload": {{"protocol": "{protocol}", "field": "{field}"}}}}"#);
    let prefix = |address, length| format!(r#"{{"prefix": {{"addr": "{address}", "len": {length}}}}}"#);
    let source = payload("ip", "saddr");
    let flags =
        r#"{"&": [{"payload": {"protocol": "tcp", "field": "flags"}}, ["fin", "syn", "rst", "ack"]]}"#;
    for (left, op, right, expected) in [
        // A header of one family is no condition that the other one could meet, whatever the operator.
        (&*source, "!=", &*prefix("10.0.0.0", 8), ["dropped", "accepted"]),
        (&source, "==", &prefix("10.0.0.0", 8), ["accepted", "accepted"]),
        (&source, "==", &prefix("0.0.0.0", 0), ["dropped", "accepted"]),
        // Half of all addresses: a stranger has one of them, or not.
        (&source, "==", &prefix("0.0.0.0", 1), ["unclear", "accepted"]),
        (&source, "!=", &prefix("0.0.0.0", 1), ["unclear", "accepted"]),
        (&source, "==", r#"{"range": ["1.0.0.0", "200.0.0.0"]}"#, ["unclear", "accepted"]),
        (&payload("ip6", "saddr"), "!=", &prefix("2001:db8:1::", 48), ["accepted", "dropped"]),
        (&payload("ip", "daddr"), "==", "\"192.0.2.1\"", ["dropped", "accepted"]),
        (&payload("ip", "daddr"), "==", "\"192.0.2.2\"", ["accepted", "accepted"]),
        (&payload("udp", "dport"), "==", "111", ["dropped"; 2]),
        (&payload("udp", "dport"), "!=", "111", ["accepted"; 2]),
        (&payload("udp", "dport"), "<", "111", ["accepted"; 2]),
        (&payload("udp", "dport"), "<=", "111", ["dropped"; 2]),
        (&payload("udp", "dport"), "==", r#"{"range": [100, 200]}"#, ["dropped"; 2]),
        (&payload("udp", "sport"), "==", "53", ["unclear"; 2]),
        (&payload("tcp", "dport"), "==", "111", ["accepted"; 2]),
        (&payload("ether", "saddr"), "==", "\"02:00:00:00:00:01\"", ["accepted"; 2]),
        (flags, "!=", "\"syn\"", ["accepted"; 2]),
        (r#"{"meta": {"key": "iifname"}}"#, "==", "\"eth*\"", ["dropped"; 2]),
        (r#"{"meta": {"key": "iifname"}}"#, "==", r#"{"set": ["lo", "eth1"]}"#, ["accepted"; 2]),
        (r#"{"meta": {"key": "mark"}}"#, "==", "7", ["accepted"; 2]),
        (r#"{"meta": {"key": "skuid"}}"#, "==", "0", ["unclear"; 2]),
        (r#"{"exthdr": {"name": "frag"}}"#, "==", "true", ["accepted"; 2]),
        (r#"{"exthdr": {"name": "frag"}}"#, "==", "false", ["dropped"; 2]),
        (r#"{"ct": {"key": "state"}}"#, "in", r#"["established", "related"]"#, ["accepted"; 2]),
        (r#"{"ct": {"key": "state"}}"#, "in", "\"new\"", ["dropped"; 2]),
        (r#"{"fib": {"result": "oif", "flags": ["saddr", "iif"]}}"#, "==", "false", ["accepted"; 2]),
        (
            r#"{"concat": [{"payload": {"protocol": "ip", "field": "saddr"}}, {"payload": {"protocol": "udp", "field": "dport"}}]}"#,
            "==",
            r#"{"set": [{"concat": ["10.0.0.1", 111]}]}"#,
            ["accepted"; 2],
        ),
    ] {
        assert_eq!(of_nft(&[&matches(left, op, right)]), expected, "{left} {op} {right}");
    }
    // A mark that some rule sets may be any.
    let marks = [
        r#"{"mangle": {"key": {"meta": {"key": "mark"}}, "value": 7}}"#,
        &matches(r#"{"meta": {"key": "mark"}}"#, "==", "7"),
    ];
    assert_eq!(of_nft(&marks), ["unclear"; 2]);
    for unclear in
        [r#"{"queue": null}"#, r#"{"xt": null}"#, r#"{"future": {}}"#, r#"{"jump": {"target": "nowhere"}}"#]
    {
        assert_eq!(of_nft(&[unclear]), ["unclear"; 2], "{unclear}");
    }
}

#[test]
fn options_of_iptables_are_followed_as_the_kernel_does() {
    for (line, expected) in [
        ("-A INPUT -s 10.0.0.0/8 -j DROP", "accepted"),
        ("-A INPUT ! -s 10.0.0.0/255.0.0.0 -p udp -m udp --dport 111 -j DROP", "dropped"),
        ("[3:120] -A INPUT -p 17 -j DROP", "dropped"),
        ("-A INPUT -p udp -m udp --dport 1:110 -j DROP", "accepted"),
        (
            "-A INPUT -p udp -m multiport --dports 53,100:120 -j REJECT --reject-with icmp-port-unreachable",
            "dropped",
        ),
        ("-A INPUT -p udp -m multiport --ports 53 -j DROP", "unclear"),
        ("-A INPUT -p udp -m multiport ! --dports 22,111 -j DROP", "accepted"),
        ("-A INPUT -i eth+ -j DROP", "dropped"),
        ("-A INPUT ! -i lo -j DROP", "dropped"),
        ("-A INPUT -m conntrack --ctstate NEW,UNTRACKED -j DROP", "dropped"),
        ("-A INPUT -m conntrack --ctstate DNAT -j DROP", "accepted"),
        ("-A INPUT -m conntrack --ctstate NEW,DNAT -j DROP", "dropped"),
        ("-A INPUT -m conntrack ! --ctstate DNAT -j DROP", "dropped"),
        ("-A INPUT -m rpfilter --invert -j DROP", "accepted"),
        ("-A INPUT -m addrtype --dst-type LOCAL -j DROP", "dropped"),
        ("-A INPUT -m addrtype ! --dst-type LOCAL -j DROP", "accepted"),
        ("-A INPUT -m limit --limit 3/min -j DROP", "unclear"),
        ("-A INPUT -m set --match-set friends src -j DROP", "accepted"),
        ("-A INPUT -m set ! --match-set friends src -j DROP", "dropped"),
        ("-A INPUT -m set --match-set friends dst -j DROP", "unclear"),
        ("-A INPUT -m set ! --match-set world src -j DROP", "unclear"),
        ("-A INPUT -m set --match-set pairs src,dst -j DROP", "accepted"),
        ("-A INPUT -m set ! --match-set pairs src,dst -j DROP", "unclear"),
        ("-A INPUT -m set --match-set nowhere src -j DROP", "unclear"),
        ("-A INPUT -m ipv6header --header frag --soft -j DROP", "unclear"),
        ("-A INPUT -m iprange --src-range 10.0.0.1-10.0.0.9 -j DROP", "accepted"),
        ("-A INPUT -m comment --comment \"a -j DROP \\\" b\" -j ACCEPT", "accepted"),
        ("-A INPUT -f -j DROP", "accepted"),
        ("-A INPUT -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j DROP", "accepted"),
        ("-A INPUT -j NFQUEUE --queue-num 1", "unclear"),
        (
            "-A INPUT -j MORE\n-A MORE -s 10.0.0.1/32 -j ACCEPT\n-A MORE -j RETURN\n-A MORE -j DROP",
            "accepted",
        ),
        ("-A INPUT -g MORE\n-A INPUT -j DROP\n-A MORE -s 10.0.0.1/32 -j DROP", "accepted"),
        ("-A INPUT -j MORE\n-A INPUT -j DROP\n-A MORE -s 10.0.0.1/32 -j ACCEPT", "dropped"),
        // Each calls the other.
        ("-A INPUT -j MORE\n-A MORE -j MORE", "unclear"),
        ("-A INPUT -j MARK --set-xmark 0x1/0xffffffff\n-A INPUT -m mark --mark 0x1 -j DROP", "unclear"),
        // As Kubernetes marks the packets of its services.
        (
            "-A MORE -j MARK --set-xmark 0x8000/0x8000\n-A INPUT -d 10.96.0.1/32 -j MORE\n\
             -A INPUT -m mark --mark 0x8000/0x8000 -j DROP",
            "accepted",
        ),
    ] {
        assert_eq!(of_iptables(line), expected, "{line}");
    }
    assert!(iptables::parse("no such thing", false, &ipset::Sets::new()).is_none());
}

/// Older versions of nft do not tell in JSON to which devices a chain belongs.
#[test]
fn a_chain_of_unknown_devices_may_be_on_any() {
    let ingress = |device: &str| {
        format!(
            r#"{{"nftables": [{{"chain": {{"family": "netdev", "table": "f", "name": "input", "type": "filter",
                "hook": "ingress", "prio": 0, "policy": "drop"{device}}}}}]}}"#
        )
    };
    for (device, interface, lowers, expected) in [
        (r#", "dev": "eth0""#, Some("eth0"), &[][..], "dropped"),
        (r#", "dev": ["eth1", "eth0"]"#, Some("eth0"), &[], "dropped"),
        (r#", "dev": "eth1""#, Some("eth0"), &[], "accepted"),
        // Below it, a chain sees more than what is for it.
        (r#", "dev": "eth1""#, Some("vlan5"), &["eth1"], "unclear"),
        // A port of a VRF.
        (r#", "dev": "eth1""#, None, &[], "unclear"),
        ("", Some("eth0"), &[], "unclear"),
    ] {
        let read = nft::parse(&ingress(device), &nft::Devices::new()).expect("a rule set");
        let stranger = Stranger {
            interface,
            protocol: Protocol::Udp,
            ipv6: false,
            port: 111,
            destinations: &["192.0.2.1".parse().unwrap()],
        };
        assert_eq!(
            summary(&read.rules.outcome(&stranger, lowers, false)),
            expected,
            "{device} {interface:?}"
        );
    }
}
