//! Firewalls in front of an rpcbind that no guard covers: the rules as administrators and tools write them.

use super::places::plain;
use super::{Told, Topology};

/// As firewalld makes them, in short.
const FIREWALLD: &str = "nft -f - <<'END'
table inet firewalld {
  chain filter_PREROUTING {
    type filter hook prerouting priority filter + 10; policy accept;
    icmpv6 type { nd-router-advert, nd-neighbor-solicit } accept
    meta nfproto ipv6 fib saddr . mark . iif oif missing drop
  }
  chain filter_INPUT {
    type filter hook input priority filter + 10; policy accept;
    ct state { established, related } accept
    ct status dnat accept
    iifname \"lo\" accept
    ct state invalid drop
    jump filter_INPUT_ZONES
    reject with icmpx admin-prohibited
  }
  chain filter_INPUT_ZONES {
    iifname \"eth0\" goto filter_IN_public
    goto filter_IN_public
  }
  chain filter_IN_public {
    jump filter_IN_public_allow
    meta l4proto { icmp, ipv6-icmp } accept
  }
  chain filter_IN_public_allow {
    tcp dport 22 accept
    ip6 daddr fe80::/64 udp dport 546 accept
    tcp dport 9090 accept
  }
}
END";

/// As ufw makes them, in short.
const UFW: &str = "for T in iptables-nft ip6tables-nft; do
    $T -P INPUT DROP; $T -N ufw-before; $T -N ufw-user; $T -N ufw-limit
    $T -A INPUT -j ufw-before
    $T -A ufw-before -i lo -j ACCEPT
    $T -A ufw-before -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
    $T -A ufw-before -m conntrack --ctstate INVALID -j DROP
    $T -A ufw-before -j ufw-user
    $T -A ufw-user -p tcp -m multiport --dports 22,80,443 -j ACCEPT
    $T -A ufw-limit -m limit --limit 3/min -j LOG --log-prefix '[UFW LIMIT BLOCK] '
    done
    ip6tables-nft -A INPUT -p ipv6-icmp -j ACCEPT";

/// As Red Hat's iptables service has them.
const LEGACY: &str = "for T in iptables-legacy ip6tables-legacy; do
    $T -A INPUT -m state --state RELATED,ESTABLISHED -j ACCEPT
    [ $T = iptables-legacy ] || $T -A INPUT -p ipv6-icmp -j ACCEPT
    $T -A INPUT -i lo -j ACCEPT
    $T -A INPUT -p tcp -m state --state NEW -m tcp --dport 22 -j ACCEPT
    done";

const REJECT: &str = "iptables-legacy -A INPUT -j REJECT --reject-with icmp-host-prohibited
    ip6tables-legacy -A INPUT -j REJECT --reject-with icmp6-adm-prohibited";

/// A table with a chain of the hook `input`, and these rules.
macro_rules! input {
    ($policy:literal, $rules:literal) => {
        concat!(
            "nft -f - <<'END'\ntable inet filter {\n set trusted { type ipv4_addr; flags interval; elements = { 10.0.0.0/8, 203.0.113.9 }\n }\n",
            " chain input {\n type filter hook input priority 0; policy ", $policy,
            ";\n ct state vmap { established : accept, related : accept, invalid : drop }\n",
            " icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept\n",
            $rules, "\n }\n}\nEND"
        )
    };
}

/// With a script that comes first.
const fn after(first: &'static str, topology: &Topology) -> Topology {
    let [_, second, third] = topology.setup;
    Topology { setup: [first, second, third], ..*topology }
}

pub(super) const ALL: &[Topology] = &[
    plain(
        "ten lines of nft",
        Told::Closed,
        input!(
            "accept",
            "ip saddr != 10.0.0.0/8 udp dport 111 drop
        ip saddr != 10.0.0.0/8 tcp dport 111 drop
        meta nfproto ipv6 meta l4proto { tcp, udp } th dport 111 drop"
        ),
    ),
    plain("nft, for UDP only", Told::Open, input!("accept", "udp dport 111 drop")),
    plain(
        "nft, for IPv4 only",
        Told::Open,
        input!(
            "accept",
            "ip saddr != @trusted udp dport 111 drop
        ip saddr != @trusted tcp dport 111 drop"
        ),
    ),
    plain("nft, for other ports", Told::Open, input!("accept", "tcp dport { 22, 80, 112-200 } drop")),
    plain("nft, for one source", Told::Open, input!("accept", "ip saddr 203.0.113.7 drop")),
    plain(
        "nft that drops what it does not know",
        Told::Closed,
        input!(
            "drop",
            "tcp dport 22 accept
        ip saddr @trusted meta l4proto { tcp, udp } th dport { 111, 2049 } accept"
        ),
    ),
    plain(
        "nft that lets port 111 in",
        Told::Open,
        input!("drop", "tcp dport { 22, 111 } accept\nudp dport 111 accept"),
    ),
    plain(
        "nft with a map of ports",
        Told::Closed,
        input!(
            "accept",
            "tcp dport vmap { 22 : accept, 111 : drop }
        udp dport vmap { 111 : drop }"
        ),
    ),
    plain(
        "nft that names the interface",
        Told::Closed,
        input!("accept", "iifname != \"eth1\" th dport 111 drop"),
    ),
    plain(
        "nft that names another interface",
        Told::Open,
        input!("accept", "iifname \"eth1*\" th dport 111 drop"),
    ),
    Topology {
        at: &["203.0.113.77"],
        ..after(
            "ip addr add 203.0.113.77/32 dev lo; ip -n $STRANGER route add 203.0.113.77 via 192.0.2.1",
            &plain(
                "nft for one address of the host, which has another one on lo",
                Told::Open,
                input!(
                    "accept",
                    "ip daddr 192.0.2.1 th dport 111 drop
        meta nfproto ipv6 th dport 111 drop"
                ),
            ),
        )
    },
    plain(
        "nft with a limit of rate",
        Told::CannotTell,
        input!("accept", "th dport 111 limit rate over 1/day drop"),
    ),
    plain(
        "nft before routing",
        Told::Closed,
        "nft -f - <<'END'
table netdev early {
  chain ingress {
    type filter hook ingress device \"eth0\" priority 0; policy accept;
    udp dport 111 drop
    tcp dport 111 drop
  }
}
END",
    ),
    plain(
        "nft before routing, on another interface",
        Told::Open,
        "ip link add eth5 type veth peer name eth6
nft -f - <<'END'
table netdev early {
  chain ingress {
    type filter hook ingress device \"eth5\" priority 0; policy accept;
    udp dport 111 drop
    tcp dport 111 drop
  }
}
END",
    ),
    plain("firewalld", Told::Closed, FIREWALLD),
    plain("ufw", Told::Closed, UFW),
    after(
        UFW,
        &plain(
            "ufw that lets port 111 in",
            Told::Open,
            "iptables-nft -A ufw-user -p udp --dport 111 -j ACCEPT",
        ),
    ),
    after(LEGACY, &plain("iptables of Red Hat", Told::Closed, REJECT)),
    after(
        LEGACY,
        &plain(
            "iptables that rejects after a rule for port 111",
            Told::Open,
            "iptables-legacy -A INPUT -p udp -m udp --dport 111 -j ACCEPT
        iptables-legacy -A INPUT -j REJECT --reject-with icmp-host-prohibited",
        ),
    ),
    plain(
        "a redirection of port 111",
        Told::CannotTell,
        "nft -f - <<'END'
table ip nat {
  chain prerouting {
    type nat hook prerouting priority -100; policy accept;
    udp dport 111 redirect to :1111
    tcp dport 111 redirect to :1111
  }
}
table ip6 f {
  chain input {
    type filter hook input priority 0; policy accept;
    th dport 111 drop
  }
}
END",
    ),
];
