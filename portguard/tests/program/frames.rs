//! What becomes of a frame: the verdicts that users can rely on, and every edge of them, as a table.
//!
//! Each case is one frame and what must happen to it. The host build of the parser and the loaded program are both
//! held against this table.

use std::net::IpAddr;

use portguard_common::reason::{Denial, Fault};
pub(crate) use portguard_testkit::oracle::ALLOWLIST;

use portguard_testkit::oracle::headers::{
    ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ipv4, Ipv6, TCP, UDP, ethernet, extension as ext,
};

/// What must happen to a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expect {
    /// It passes, and no counter moves.
    Pass,
    /// It passes, counted as allowed.
    Allowed,
    /// It is dropped, and attributed to its source.
    Denied(IpAddr, Protocol),
    /// It is of a listed source, and denied for what the list says of that: dropped, and attributed to its source.
    Refused(IpAddr, Denial),
    /// It is dropped whatever its source.
    Fault(Fault),
}

/// The protocol that a denied packet is attributed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Udp,
    Tcp,
}

/// What the frames of an interface begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    Ethernet,
    RawIp,
}

/// A frame, and what must happen to it.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub name: String,
    pub frame: Vec<u8>,
    pub expect: Expect,
    /// The bytes that are counted if a counter moves: those from the IP header on.
    pub bytes: u64,
}

pub(crate) const VLAN: u16 = 0x8100;
pub(crate) const SERVICE_VLAN: u16 = 0x88a8;
pub(crate) const SYN: u8 = 0x02;
/// A DUMP call, RFC 1833: what a reflection attack sends.
pub(crate) const DUMP: [u8; 40] = {
    let mut call = [0; 40];
    call[3] = 1; // transaction
    call[11] = 2; // RPC version
    call[13] = 1; // program 100000 = 0x186a0
    call[14] = 0x86;
    call[15] = 0xa0;
    call[19] = 2; // version
    call[23] = 4; // DUMP
    call
};

/// A case for an Ethernet interface: `packet` behind a header with `tags`.
pub(crate) fn tagged(
    name: impl Into<String>,
    tags: &[(u16, u16)],
    ethertype: u16,
    packet: &[u8],
    expect: Expect,
) -> Case {
    let mut frame = ethernet(tags, ethertype);
    frame.extend(packet);
    Case { name: name.into(), frame, expect, bytes: packet.len() as u64 }
}

pub(crate) fn v4(name: impl Into<String>, packet: &[u8], expect: Expect) -> Case {
    tagged(name, &[], ETHERTYPE_IPV4, packet, expect)
}

pub(crate) fn v6(name: impl Into<String>, packet: &[u8], expect: Expect) -> Case {
    tagged(name, &[], ETHERTYPE_IPV6, packet, expect)
}

/// The default sources of the builders, which no entry covers.
fn denied4(protocol: Protocol) -> Expect {
    Expect::Denied(IpAddr::from(Ipv4::default().source), protocol)
}

fn denied6(protocol: Protocol) -> Expect {
    Expect::Denied(IpAddr::from(Ipv6::default().source), protocol)
}

fn udp4(header: &Ipv4) -> Vec<u8> {
    header.udp(40_000, 111, &DUMP)
}

fn udp6(extensions: Vec<(u8, Vec<u8>)>) -> Vec<u8> {
    Ipv6 { extensions, ..Ipv6::default() }.udp(40_000, 111, &DUMP)
}

/// All cases for an Ethernet interface.
pub(crate) fn ethernet_cases() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(not_ip());
    cases.extend(other_traffic());
    cases.extend(sources());
    cases.extend(denied());
    cases.extend(vlan_tags());
    cases.extend(ipv4_headers());
    cases.extend(ipv4_fragments());
    cases.extend(extension_headers());
    cases.extend(ipv6_fragments());
    cases.extend(truncations());
    cases.extend(large());
    cases
}

fn not_ip() -> Vec<Case> {
    let inside = udp4(&Ipv4::default());
    let kinds = [
        ("ARP", 0x0806),
        ("LLDP", 0x88cc),
        ("PTP", 0x88f7),
        ("MPLS", 0x8847),
        ("PPPoE", 0x8864),
        ("wake on LAN", 0x0842),
        ("802.3 with LLC, its length in place of an ethertype", 0x0044),
        ("the VLAN ethertype that Linux does not know (0x9100)", 0x9100),
        ("ethertype of IPv4 with its bytes swapped", 0x0008),
        ("ethertype of IPv6 with its bytes swapped", 0xdd86),
    ];
    kinds
        .iter()
        .map(|(name, ethertype)| tagged(*name, &[], *ethertype, &inside, Expect::Pass))
        .chain([Case {
            name: "no payload at all".into(),
            frame: ethernet(&[], 0x0806),
            expect: Expect::Pass,
            bytes: 0,
        }])
        .collect()
}

fn other_traffic() -> Vec<Case> {
    let header4 = Ipv4::default();
    let header6 = Ipv6::default();
    let mut cases = Vec::new();
    for port in [0, 1, 53, 110, 112, 443, 2049, 111 << 8, 0x6e6f, 0x6f6f, 65_535] {
        cases.push(v4(format!("IPv4 UDP to {port}"), &header4.udp(111, port, &DUMP), Expect::Pass));
        cases.push(v4(format!("IPv4 TCP to {port}"), &header4.tcp(111, port, SYN), Expect::Pass));
        cases.push(v6(format!("IPv6 UDP to {port}"), &header6.udp(111, port, &DUMP), Expect::Pass));
        cases.push(v6(format!("IPv6 TCP to {port}"), &header6.tcp(111, port, SYN), Expect::Pass));
    }
    // A payload that would be for port 111 if it were TCP or UDP.
    let ports = [0x9c, 0x40, 0, 111, 0, 0, 0, 0];
    for protocol in [0, 1, 2, 4, 33, 41, 43, 44, 47, 50, 58, 59, 60, 89, 103, 132, 135, 136, 139, 140, 255] {
        let packet = Ipv4 { protocol, ..Ipv4::default() }.packet(&ports);
        cases.push(v4(format!("IPv4 protocol {protocol}"), &packet, Expect::Pass));
    }
    for protocol in [1, 2, 4, 33, 41, 47, 50, 58, 59, 89, 103, 132, 136, 139, 140, 255] {
        let packet = header6.packet(protocol, &ports);
        cases.push(v6(format!("IPv6 next header {protocol}"), &packet, Expect::Pass));
    }
    cases.push(v4("IPv4 ICMP without payload", &Ipv4 { protocol: 1, ..header4 }.packet(&[]), Expect::Pass));
    cases.push(v6("IPv6 without next header or payload", &header6.packet(59, &[]), Expect::Pass));
    cases
}

fn sources() -> Vec<Case> {
    let on_list = [
        "192.0.2.0",
        "192.0.2.1",
        "192.0.2.255",
        "198.51.100.6",
        "198.51.100.7",
        "198.51.100.99",
        "100.64.0.0",
        "100.127.255.255",
        "2001:db8:40::",
        "2001:db8:40:ffff:ffff:ffff:ffff:ffff",
        "2001:db8:1::2",
        "2001:db8:1::3",
        "2001:db8:1::99",
    ];
    let not_on_list = [
        "192.0.1.255",
        "192.0.3.0",
        "198.51.100.5",
        "198.51.100.8",
        "198.51.100.98",
        "198.51.100.100",
        "100.63.255.255",
        "100.128.0.0",
        "0.0.0.0",
        "255.255.255.255",
        "127.0.0.1",
        "2.0.192.1",
        "2001:db8:3f:ffff:ffff:ffff:ffff:ffff",
        "2001:db8:41::",
        "2001:db8:1::1",
        "2001:db8:1::4",
        "2001:db8:1::98",
        "2001:db8:1::9a",
        "::",
        "::1",
        "::ffff:192.0.2.1",
        "::192.0.2.1",
        "fe80::1",
    ];
    let mut cases = Vec::new();
    for (addresses, listed) in [(&on_list[..], true), (&not_on_list[..], false)] {
        for address in addresses {
            let source: IpAddr = address.parse().unwrap();
            for protocol in [Protocol::Udp, Protocol::Tcp] {
                let expect = if listed { Expect::Allowed } else { Expect::Denied(source, protocol) };
                let name =
                    format!("{protocol:?} from {source}, {}", if listed { "listed" } else { "not listed" });
                cases.push(match source {
                    IpAddr::V4(source) => {
                        let header = Ipv4 { source: source.octets(), ..Ipv4::default() };
                        let packet = match protocol {
                            Protocol::Udp => header.udp(40_000, 111, &DUMP),
                            Protocol::Tcp => header.tcp(40_000, 111, SYN),
                        };
                        v4(name, &packet, expect)
                    }
                    IpAddr::V6(source) => {
                        let header = Ipv6 { source: source.octets(), ..Ipv6::default() };
                        let packet = match protocol {
                            Protocol::Udp => header.udp(40_000, 111, &DUMP),
                            Protocol::Tcp => header.tcp(40_000, 111, SYN),
                        };
                        v6(name, &packet, expect)
                    }
                });
            }
        }
    }
    cases
}

fn denied() -> Vec<Case> {
    let mut cases = Vec::new();
    for flags in [0, SYN, 0x01, 0x04, 0x10, 0x12, 0x18, 0x29, 0x3f, 0xc2, 0xff] {
        let name = format!("TCP with flags {flags:#04x}");
        cases.push(v4(
            format!("IPv4 {name}"),
            &Ipv4::default().tcp(40_000, 111, flags),
            denied4(Protocol::Tcp),
        ));
        cases.push(v6(
            format!("IPv6 {name}"),
            &Ipv6::default().tcp(40_000, 111, flags),
            denied6(Protocol::Tcp),
        ));
    }
    for destination in [[192, 0, 2, 255], [255; 4], [224, 0, 0, 1], [239, 1, 2, 3]] {
        let header = Ipv4 { destination, ..Ipv4::default() };
        cases.push(v4(format!("IPv4 to {destination:?}"), &udp4(&header), denied4(Protocol::Udp)));
    }
    let all_nodes = "ff02::1".parse::<std::net::Ipv6Addr>().unwrap().octets();
    let multicast = Ipv6 { destination: all_nodes, ..Ipv6::default() }.udp(40_000, 111, &DUMP);
    cases.push(v6("IPv6 to all nodes", &multicast, denied6(Protocol::Udp)));
    for source_port in [0, 111, 2049, 65_535] {
        let packet = Ipv4::default().udp(source_port, 111, &DUMP);
        cases.push(v4(format!("from port {source_port}"), &packet, denied4(Protocol::Udp)));
    }
    // The ports are all that counts: Linux answers a call that is cut to 24 bytes in full.
    for payload in [&DUMP[..24], &[], &[0xff; 1400]] {
        let name = format!("a payload of {} bytes", payload.len());
        cases.push(v4(name, &Ipv4::default().udp(40_000, 111, payload), denied4(Protocol::Udp)));
    }
    let ports_only = Ipv4::default().packet(&[0x9c, 0x40, 0, 111]);
    cases.push(v4("a UDP header cut off behind the ports", &ports_only, denied4(Protocol::Udp)));
    let mut padded = udp4(&Ipv4::default());
    padded.extend([0; 18]);
    cases.push(v4("padding behind the packet, which counts", &padded, denied4(Protocol::Udp)));
    let v6_in_v4 = tagged(
        "IPv6 behind the ethertype of IPv4",
        &[],
        ETHERTYPE_IPV4,
        &udp6(vec![]),
        Expect::Fault(Fault::Malformed),
    );
    let v4_in_v6 = tagged(
        "IPv4 behind the ethertype of IPv6",
        &[],
        ETHERTYPE_IPV6,
        &udp4(&Ipv4::default()),
        Expect::Fault(Fault::Malformed),
    );
    cases.extend([v6_in_v4, v4_in_v6]);
    cases
}

fn vlan_tags() -> Vec<Case> {
    let mut cases = Vec::new();
    let (packet4, packet6) = (udp4(&Ipv4::default()), udp6(vec![]));
    let allowed = udp4(&Ipv4 { source: [192, 0, 2, 10], ..Ipv4::default() });
    let other = Ipv4::default().udp(40_000, 112, &DUMP);
    for count in 1..=6_usize {
        // Every way to stack the two kinds of tags.
        for kinds in 0..1_u16 << count {
            let tags: Vec<(u16, u16)> = (0..count)
                .map(|tag| (if kinds >> tag & 1 == 0 { VLAN } else { SERVICE_VLAN }, 0xa000 + tag as u16))
                .collect();
            let name = format!("{count} tags, kinds {kinds:0count$b}");
            let limited = |expect| if count <= 4 { expect } else { Expect::Fault(Fault::TooManyHeaders) };
            let mut case = |name, ethertype, packet: &[u8], expect: Expect| {
                let mut case = tagged(name, &tags, ethertype, packet, limited(expect));
                // The IP header was not looked for behind the tags that were too many.
                case.bytes += 4 * count.saturating_sub(4) as u64;
                cases.push(case);
            };
            case(format!("{name}: IPv4"), ETHERTYPE_IPV4, &packet4, denied4(Protocol::Udp));
            case(format!("{name}: IPv6"), ETHERTYPE_IPV6, &packet6, denied6(Protocol::Udp));
            case(format!("{name}: listed source"), ETHERTYPE_IPV4, &allowed, Expect::Allowed);
            case(format!("{name}: other port"), ETHERTYPE_IPV4, &other, Expect::Pass);
            case(format!("{name}: ARP"), 0x0806, &packet4, Expect::Pass);
        }
    }
    let priority = [(VLAN, 0xe000)];
    cases.push(tagged("priority tag (VLAN 0)", &priority, ETHERTYPE_IPV4, &packet4, denied4(Protocol::Udp)));
    cases.push(tagged("VLAN 4095", &[(VLAN, 0xffff)], ETHERTYPE_IPV4, &packet4, denied4(Protocol::Udp)));
    cases
}

fn ipv4_headers() -> Vec<Case> {
    let mut cases = Vec::new();
    for words in 1..=10_usize {
        for (kind, fill) in [("no operation", 1), ("end of list", 0)] {
            let header = Ipv4 { options: vec![fill; 4 * words], ..Ipv4::default() };
            let name = format!("{} bytes of options ({kind})", 4 * words);
            cases.push(v4(format!("{name}, UDP"), &udp4(&header), denied4(Protocol::Udp)));
            cases.push(v4(format!("{name}, TCP"), &header.tcp(40_000, 111, SYN), denied4(Protocol::Tcp)));
            cases.push(v4(format!("{name}, other port"), &header.udp(40_000, 112, &DUMP), Expect::Pass));
        }
        // Options that look like ports: where a parser reads them that takes every header for 20 bytes long.
        let decoy = |port: u8| [0x9c, 0x40, 0, port].repeat(words);
        let hidden = Ipv4 { options: decoy(112), ..Ipv4::default() };
        cases.push(v4(
            format!("{words} words that look like port 112"),
            &udp4(&hidden),
            denied4(Protocol::Udp),
        ));
        let harmless = Ipv4 { options: decoy(111), ..Ipv4::default() }.udp(40_000, 112, &DUMP);
        cases.push(v4(format!("{words} words that look like port 111"), &harmless, Expect::Pass));
    }
    for ihl in 0..5 {
        let header = Ipv4 { ihl: Some(ihl), ..Ipv4::default() };
        cases.push(v4(
            format!("a header length of {ihl} words"),
            &udp4(&header),
            Expect::Fault(Fault::Malformed),
        ));
    }
    for version in (0..16).filter(|version| *version != 4) {
        let header = Ipv4 { version, ..Ipv4::default() };
        cases.push(v4(
            format!("IP version {version} in IPv4"),
            &udp4(&header),
            Expect::Fault(Fault::Malformed),
        ));
    }
    for version in (0..16).filter(|version| *version != 6) {
        let packet = Ipv6 { version, ..Ipv6::default() }.udp(40_000, 111, &DUMP);
        cases.push(v6(format!("IP version {version} in IPv6"), &packet, Expect::Fault(Fault::Malformed)));
    }
    let odd = [
        ("type of service", Ipv4 { tos: 0xff, ..Ipv4::default() }),
        ("reserved flag", Ipv4 { flags: 4, ..Ipv4::default() }),
        ("don't fragment", Ipv4 { flags: 2, ..Ipv4::default() }),
        ("no hops left", Ipv4 { time_to_live: 0, ..Ipv4::default() }),
        // Zero in the largest packets that Linux itself puts together (BIG TCP).
        ("total length zero", Ipv4 { total_length: Some(0), ..Ipv4::default() }),
        ("total length too small", Ipv4 { total_length: Some(19), ..Ipv4::default() }),
        ("total length too large", Ipv4 { total_length: Some(9000), ..Ipv4::default() }),
    ];
    for (name, header) in odd {
        cases.push(v4(name, &udp4(&header), denied4(Protocol::Udp)));
        cases.push(v4(format!("{name}, other port"), &header.udp(111, 112, &DUMP), Expect::Pass));
    }
    let mut wrong = udp4(&Ipv4::default());
    wrong[10] ^= 0xff;
    cases.push(v4("wrong header checksum", &wrong, denied4(Protocol::Udp)));
    let odd = [
        ("traffic class", Ipv6 { traffic_class: 0xff, ..Ipv6::default() }),
        ("flow label", Ipv6 { flow_label: 0xf_ffff, ..Ipv6::default() }),
        ("payload length zero", Ipv6 { payload_length: Some(0), ..Ipv6::default() }),
        ("payload length too large", Ipv6 { payload_length: Some(9000), ..Ipv6::default() }),
        ("hop limit zero", Ipv6 { hop_limit: 0, ..Ipv6::default() }),
    ];
    for (name, header) in odd {
        cases.push(v6(format!("IPv6 {name}"), &header.udp(40_000, 111, &DUMP), denied6(Protocol::Udp)));
    }
    cases
}

fn ipv4_fragments() -> Vec<Case> {
    let mut cases = Vec::new();
    let ports = [0x9c, 0x40, 0, 111, 0, 48, 0, 0];
    for offset in [1, 2, 0xff, 0x100, 0x1000, 0x1f00, 0x1fff] {
        for flags in [0, Ipv4::MORE_FRAGMENTS, 4, 2] {
            let header = Ipv4 { fragment_offset: offset, flags, ..Ipv4::default() };
            let name = format!("later fragment at {offset}, flags {flags:03b}");
            cases.push(v4(&name, &header.packet(&ports), Expect::Pass));
            cases.push(v4(format!("{name}, empty"), &header.packet(&[]), Expect::Pass));
        }
    }
    let first = Ipv4 { flags: Ipv4::MORE_FRAGMENTS, ..Ipv4::default() };
    cases.push(v4(
        "first fragment with nothing but the UDP header",
        &first.packet(&ports),
        denied4(Protocol::Udp),
    ));
    cases.push(v4("first fragment", &udp4(&first), denied4(Protocol::Udp)));
    let listed = Ipv4 { source: [192, 0, 2, 10], ..first.clone() };
    cases.push(v4("first fragment from a listed source", &udp4(&listed), Expect::Allowed));
    cases.push(v4("first fragment to another port", &first.udp(111, 112, &DUMP), Expect::Pass));
    let tcp = Ipv4 { protocol: TCP, ..first.clone() };
    cases.push(v4("first fragment of TCP, 8 bytes", &tcp.packet(&ports), denied4(Protocol::Tcp)));
    for length in 0..4 {
        let name = format!("first fragment with {length} bytes of its ports");
        cases.push(v4(name, &first.packet(&ports[..length]), Expect::Fault(Fault::Truncated)));
    }
    let later = Ipv4 { fragment_offset: 1, options: vec![1; 8], ..Ipv4::default() };
    cases.push(v4("later fragment with options", &later.packet(&ports), Expect::Pass));
    cases
}

/// One extension header of each kind and of several sizes.
fn each_extension() -> Vec<(&'static str, (u8, Vec<u8>))> {
    vec![
        ("hop-by-hop of 8", ext::padding(ext::HOP_BY_HOP, 0)),
        ("hop-by-hop of 264", ext::padding(ext::HOP_BY_HOP, 32)),
        ("routing of 8", ext::routing(0)),
        ("routing of 24", ext::routing(2)),
        ("atomic fragment", ext::fragment(0, false, 0)),
        ("atomic fragment with reserved bits", ext::fragment(0, false, 3)),
        ("authentication of 12", ext::authentication(0)),
        ("authentication of 24", ext::authentication(3)),
        ("destination options of 8", ext::padding(ext::DESTINATION_OPTIONS, 0)),
        ("destination options of 2048", ext::padding(ext::DESTINATION_OPTIONS, 255)),
        ("mobility of 8", ext::mobility(0)),
        ("mobility of 16", ext::mobility(1)),
    ]
}

fn extension_headers() -> Vec<Case> {
    let mut cases = Vec::new();
    let listed: [u8; 16] = "2001:db8:40::7".parse::<std::net::Ipv6Addr>().unwrap().octets();
    for (name, extension) in each_extension() {
        let header = Ipv6 { extensions: vec![extension.clone()], ..Ipv6::default() };
        cases.push(v6(format!("{name}, UDP"), &header.udp(40_000, 111, &DUMP), denied6(Protocol::Udp)));
        cases.push(v6(format!("{name}, TCP"), &header.tcp(40_000, 111, SYN), denied6(Protocol::Tcp)));
        cases.push(v6(format!("{name}, other port"), &header.udp(111, 112, &DUMP), Expect::Pass));
        cases.push(v6(format!("{name}, ICMPv6"), &header.packet(58, &[0, 0, 0, 111]), Expect::Pass));
        cases.push(v6(format!("{name}, nothing"), &header.packet(59, &[]), Expect::Pass));
        let from_listed = Ipv6 { source: listed, ..header }.udp(40_000, 111, &DUMP);
        cases.push(v6(format!("{name}, listed source"), &from_listed, Expect::Allowed));
    }
    for (first_name, first) in each_extension() {
        for (second_name, second) in each_extension() {
            let name = format!("{first_name}, then {second_name}");
            cases.push(v6(name, &udp6(vec![first.clone(), second]), denied6(Protocol::Udp)));
        }
    }
    for (name, extension) in each_extension() {
        for count in [8, 15, 16, 17, 18, 24] {
            let expect =
                if count <= 16 { denied6(Protocol::Udp) } else { Expect::Fault(Fault::TooManyHeaders) };
            let packet = udp6(vec![extension.clone(); count]);
            // What does not fit into a packet cannot be sent.
            if packet.len() <= 65_535 {
                cases.push(v6(format!("{count} times {name}"), &packet, expect));
            }
        }
    }
    let esp = Ipv6 { extensions: vec![ext::padding(ext::DESTINATION_OPTIONS, 0)], ..Ipv6::default() };
    cases.push(v6(
        "ESP behind destination options",
        &esp.packet(50, &[0, 0, 0, 111, 0, 0, 0, 1]),
        Expect::Pass,
    ));
    // The authentication header is all that IPv4 has of these.
    let ipv4 = |number: u8, chain: Vec<u8>| Ipv4 { protocol: number, ..Ipv4::default() }.packet(&chain);
    let ports = [0x9c, 0x40, 0, 111, 0, 8, 0, 0];
    for count in [1, 2, 16, 17] {
        let (number, mut chain) =
            portguard_testkit::oracle::headers::chain(&vec![ext::authentication(3); count], UDP);
        chain.extend(ports);
        let expect = if count <= 16 { denied4(Protocol::Udp) } else { Expect::Fault(Fault::TooManyHeaders) };
        cases.push(v4(format!("{count} authentication headers in IPv4"), &ipv4(number, chain), expect));
    }
    let options = [ext::authentication(3), ext::padding(ext::DESTINATION_OPTIONS, 0)];
    let (number, mut chain) = portguard_testkit::oracle::headers::chain(&options, UDP);
    chain.extend(ports);
    cases.push(v4("destination options in IPv4, which has none", &ipv4(number, chain), Expect::Pass));
    cases
}

fn ipv6_fragments() -> Vec<Case> {
    let mut cases = Vec::new();
    let ports = [0x9c, 0x40, 0, 111, 0, 48, 0, 0];
    let fragment = |offset, more, reserved| Ipv6 {
        extensions: vec![ext::fragment(offset, more, reserved)],
        ..Ipv6::default()
    };
    for offset in [1, 2, 0x1f, 0x20, 0x100, 0x1fff] {
        for (more, reserved) in [(false, 0), (true, 0), (false, 3), (true, 3)] {
            let packet = fragment(offset, more, reserved).packet(UDP, &ports);
            cases.push(v6(format!("later fragment at {offset}, {more}, {reserved}"), &packet, Expect::Pass));
        }
    }
    for reserved in 0..4 {
        let packet = fragment(0, true, reserved).packet(UDP, &ports);
        cases.push(v6(format!("first fragment, reserved {reserved}"), &packet, denied6(Protocol::Udp)));
    }
    for length in 0..4 {
        let packet = fragment(0, true, 0).packet(UDP, &ports[..length]);
        cases.push(v6(
            format!("first fragment with {length} bytes of its ports"),
            &packet,
            Expect::Fault(Fault::Truncated),
        ));
    }
    let mut behind = fragment(0, true, 0);
    behind.extensions.push(ext::padding(ext::DESTINATION_OPTIONS, 1));
    cases.push(v6("first fragment, options behind", &behind.packet(UDP, &ports), denied6(Protocol::Udp)));
    let cut = {
        let mut packet = behind.packet(UDP, &ports);
        packet.truncate(packet.len() - 16);
        packet
    };
    cases.push(v6("first fragment that ends within its options", &cut, Expect::Fault(Fault::Truncated)));
    let mut twice = fragment(0, false, 0);
    twice.extensions.push(ext::fragment(3, true, 0));
    cases.push(v6("later fragment in an atomic one", &twice.packet(UDP, &ports), Expect::Pass));
    cases
}

/// Every frame cut at every byte: not IP before its IP header begins, cut short until its ports are whole.
fn truncations() -> Vec<Case> {
    let options = Ipv4 { options: vec![1; 40], ..Ipv4::default() };
    let chain = vec![
        ext::padding(ext::HOP_BY_HOP, 1),
        ext::routing(2),
        ext::fragment(0, false, 0),
        ext::authentication(3),
        ext::padding(ext::DESTINATION_OPTIONS, 0),
        ext::mobility(1),
    ];
    let tags = [(SERVICE_VLAN, 7), (VLAN, 8), (VLAN, 9), (SERVICE_VLAN, 10)];
    let whole = [
        ("IPv4", 14, 34, v4("", &udp4(&Ipv4::default()), denied4(Protocol::Udp))),
        ("IPv4 with options", 14, 74, v4("", &udp4(&options), denied4(Protocol::Udp))),
        ("IPv6", 14, 54, v6("", &udp6(vec![]), denied6(Protocol::Udp))),
        (
            "IPv6 with extensions",
            14,
            54 + 16 + 24 + 8 + 24 + 8 + 16,
            v6("", &udp6(chain), denied6(Protocol::Udp)),
        ),
        (
            "IPv4 behind four tags",
            30,
            50,
            tagged("", &tags, ETHERTYPE_IPV4, &udp4(&Ipv4::default()), denied4(Protocol::Udp)),
        ),
    ];
    let mut cases = Vec::new();
    for (name, ip, ports, case) in whole {
        for length in 0..case.frame.len() {
            let expect = match length {
                // The ethertype, and with it the tags, must be whole for the frame to be IP.
                _ if length < ip => Expect::Pass,
                _ if length < ports + 4 => Expect::Fault(Fault::Truncated),
                _ => case.expect,
            };
            cases.push(Case {
                name: format!("{name}, cut at {length}"),
                frame: case.frame[..length].to_vec(),
                expect,
                bytes: length.saturating_sub(ip) as u64,
            });
        }
    }
    cases
}

fn large() -> Vec<Case> {
    let payload = [0x5a; 8972];
    vec![
        v4("MTU 1500", &Ipv4::default().udp(40_000, 111, &payload[..1472]), denied4(Protocol::Udp)),
        v4("MTU 3498", &Ipv4::default().udp(40_000, 111, &payload[..3470]), denied4(Protocol::Udp)),
        v4("MTU 9000", &Ipv4::default().udp(40_000, 111, &payload), denied4(Protocol::Udp)),
        v4("MTU 9000, other port", &Ipv4::default().udp(40_000, 112, &payload), Expect::Pass),
        v6("IPv6, MTU 9000", &Ipv6::default().udp(40_000, 111, &payload[..8952]), denied6(Protocol::Udp)),
    ]
}

/// All cases for an interface whose frames begin with the IP header: those of Ethernet that are untagged IP, without
/// their Ethernet header; and what only such an interface has.
pub(crate) fn raw_ip_cases() -> Vec<Case> {
    let is_untagged_ip = |case: &Case| {
        let version = case.frame.get(14).map(|byte| byte >> 4);
        let ethertype = case.frame.get(12..14);
        (ethertype == Some(&[0x08, 0x00]) && version == Some(4))
            || (ethertype == Some(&[0x86, 0xdd]) && version == Some(6))
    };
    let mut cases: Vec<Case> = ethernet_cases()
        .into_iter()
        .filter(is_untagged_ip)
        .map(|case| Case { frame: case.frame[14..].to_vec(), ..case })
        .collect();
    for version in (0..16_u8).filter(|version| ![4, 6].contains(version)) {
        let mut frame = udp4(&Ipv4::default());
        frame[0] = version << 4 | 5;
        let name = format!("IP version {version}, which is not IP");
        cases.push(Case { name, bytes: frame.len() as u64, frame, expect: Expect::Pass });
    }
    cases.push(Case { name: "nothing".into(), frame: vec![], expect: Expect::Pass, bytes: 0 });
    cases
}
