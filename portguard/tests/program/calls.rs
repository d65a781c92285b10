//! What becomes of calls over UDP where the list permits lookups only, or none: a table.

use std::net::IpAddr;

use portguard_common::reason::Denial;
use portguard_testkit::oracle::headers::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ipv4, Ipv6, UDP, extension as ext};
use portguard_testkit::oracle::source_over_udp;

use crate::frames::{
    ALLOWLIST, Case, DUMP, Expect, Link, Protocol, SERVICE_VLAN, SYN, VLAN, ethernet_cases, raw_ip_cases,
    tagged, v4, v6,
};
use crate::{check_host, check_kernel};

const RPCBIND: u32 = 100_000;
/// On the list.
const LISTED_V4: [u8; 4] = [192, 0, 2, 10];

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// A call without credentials.
fn call(version: u32, procedure: u32, arguments: &[u8]) -> Vec<u8> {
    [&words(&[7, 0, 2, RPCBIND, version, procedure, 0, 0, 0, 0]), arguments].concat()
}

fn null() -> Vec<u8> {
    call(2, 0, &[])
}

fn getport() -> Vec<u8> {
    call(2, 3, &words(&[100_003, 3, 17, 0]))
}

fn getaddr() -> Vec<u8> {
    let texts = [&words(&[3])[..], b"udp\0", &words(&[0, 4]), b"rpcb"].concat();
    call(4, 3, &[words(&[100_003, 3]), texts].concat())
}

/// GETPORT as Linux' client asks for it: with the credentials of a user in one group.
fn getport_of_linux() -> Vec<u8> {
    let body = [&words(&[1, 4])[..], b"host", &words(&[0, 0, 1, 0])].concat();
    let header = words(&[7, 0, 2, RPCBIND, 2, 3, 1, body.len() as u32]);
    [header, body, words(&[0, 0, 100_021, 4, 17, 0])].concat()
}

fn listed4() -> Ipv4 {
    Ipv4 { source: LISTED_V4, ..Ipv4::default() }
}

/// The first IPv6 source that the table of frames has as allowed.
fn listed6() -> Ipv6 {
    let source = ALLOWLIST.lines().find_map(|line| {
        let prefix = line.trim_start_matches([' ', '-']).trim();
        prefix.parse::<ipnet::Ipv6Net>().ok()
    });
    Ipv6 { source: source.expect("an IPv6 prefix").addr().octets(), ..Ipv6::default() }
}

fn refused4() -> Expect {
    Expect::Refused(IpAddr::from(LISTED_V4), Denial::CallNotAllowed)
}

fn refused6() -> Expect {
    Expect::Refused(IpAddr::from(listed6().source), Denial::CallNotAllowed)
}

/// Calls, and whether they are lookups.
fn calls() -> Vec<(&'static str, Vec<u8>, bool)> {
    vec![
        ("NULL", null(), true),
        ("GETPORT", getport(), true),
        ("GETADDR", getaddr(), true),
        ("GETTIME", call(3, 6, &[]), true),
        ("UADDR2TADDR", call(3, 7, &[&words(&[3])[..], b"1.1\0"].concat()), true),
        ("TADDR2UADDR", call(4, 8, &words(&[16, 4, 0x0002_006f])), true),
        ("GETVERSADDR", call(4, 9, &getaddr()[40..]), true),
        ("GETPORT of Linux", getport_of_linux(), true),
        ("DUMP", DUMP.to_vec(), false),
        ("DUMP of version 4", call(4, 4, &[]), false),
        ("GETADDRLIST", call(4, 11, &getaddr()[40..]), false),
        ("GETSTAT", call(4, 12, &[]), false),
        ("CALLIT", call(2, 5, &words(&[100_003, 3, 0, 0])), false),
        ("INDIRECT", call(4, 10, &words(&[100_003, 3, 0, 0])), false),
        ("SET", call(2, 1, &words(&[100_003, 3, 17, 2049])), false),
        ("UNSET", call(2, 2, &words(&[100_003, 3, 17, 2049])), false),
        ("version 5", call(5, 0, &[]), false),
        ("another program", words(&[7, 0, 2, 100_003, 3, 0, 0, 0, 0, 0]), false),
        ("a reply", words(&[7, 1, 0, 0, 0, 0, 0, 0, 0, 0]), false),
        ("nothing", vec![], false),
        ("a NULL that is cut short", null()[..36].to_vec(), false),
        ("a DUMP that is cut to its header", DUMP[..24].to_vec(), false),
        ("a NULL with trailing bytes", [null(), vec![0; 4]].concat(), false),
        ("a NULL and a DUMP that were merged", [null(), DUMP.to_vec()].concat(), false),
        ("a GETPORT whose end is a DUMP", call(2, 3, &words(&[2, RPCBIND, 3, 4])), false),
    ]
}

/// Frames with a list that permits lookups only.
fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, message, is_lookup) in calls() {
        let expect = |refused| if is_lookup { Expect::Allowed } else { refused };
        let packet4 = listed4().udp(40_000, 111, &message);
        let packet6 = listed6().udp(40_000, 111, &message);
        cases.push(v4(name, &packet4, expect(refused4())));
        cases.push(v6(format!("{name}, IPv6"), &packet6, expect(refused6())));
        for tags in [&[(VLAN, 5)][..], &[(SERVICE_VLAN, 5), (VLAN, 6)], &[(VLAN, 1); 4]] {
            let name = |family| format!("{name}, {family}, {} tags", tags.len());
            cases.push(tagged(name("IPv4"), tags, ETHERTYPE_IPV4, &packet4, expect(refused4())));
            cases.push(tagged(name("IPv6"), tags, ETHERTYPE_IPV6, &packet6, expect(refused6())));
        }
        let options = Ipv4 { options: vec![1; 40], ..listed4() };
        cases.push(v4(format!("{name}, options"), &options.udp(40_000, 111, &message), expect(refused4())));
        for extensions in [
            vec![ext::padding(ext::DESTINATION_OPTIONS, 3)],
            vec![
                ext::padding(ext::HOP_BY_HOP, 0),
                ext::routing(2),
                ext::padding(ext::DESTINATION_OPTIONS, 0),
            ],
            vec![ext::fragment(0, false, 0)],
        ] {
            let count = extensions.len();
            let packet = Ipv6 { extensions, ..listed6() }.udp(40_000, 111, &message);
            cases.push(v6(format!("{name}, {count} extension headers"), &packet, expect(refused6())));
        }
        let first = Ipv4 { flags: Ipv4::MORE_FRAGMENTS, ..listed4() };
        cases.push(v4(format!("{name}, first fragment"), &first.udp(40_000, 111, &message), refused4()));
        let first = Ipv6 { extensions: vec![ext::fragment(0, true, 0)], ..listed6() };
        cases.push(v6(
            format!("{name}, first fragment, IPv6"),
            &first.udp(40_000, 111, &message),
            refused6(),
        ));
        let mut behind = Ipv6 { extensions: vec![ext::fragment(0, true, 0)], ..listed6() };
        behind.extensions.push(ext::padding(ext::DESTINATION_OPTIONS, 0));
        let packet = behind.udp(40_000, 111, &message);
        cases.push(v6(format!("{name}, first fragment, options behind"), &packet, refused6()));
        // The length of UDP: 0 is the rest of a packet of IPv6.
        for length in [0, 8, 8 + message.len() as u16 + 1, u16::MAX] {
            let name = format!("{name}, length {length}");
            cases.push(v4(&name, &listed4().packet_of_udp(&message, length), refused4()));
            cases.push(v6(format!("{name}, IPv6"), &listed6().packet_of_udp(&message, length), refused6()));
        }
        let stranger = Ipv4::default().udp(40_000, 111, &message);
        let denied = Expect::Denied(IpAddr::from(Ipv4::default().source), Protocol::Udp);
        cases.push(v4(format!("{name} of a stranger"), &stranger, denied));
        cases.push(v4(format!("{name} for another port"), &listed4().udp(111, 112, &message), Expect::Pass));
    }
    cases.push(v4("a connection of a listed source", &listed4().tcp(40_000, 111, SYN), Expect::Allowed));
    let padded = [listed4().udp(40_000, 111, &null()), vec![0x5a; 30]].concat();
    cases.push(v4("a NULL with padding behind the packet", &padded, Expect::Allowed));
    cases
}

/// A datagram with any length in its header.
trait WithLength {
    fn packet_of_udp(&self, message: &[u8], length: u16) -> Vec<u8>;
}

fn datagram(message: &[u8], length: u16) -> Vec<u8> {
    [[40_000, 111, length, 0].map(u16::to_be_bytes).as_flattened(), message].concat()
}

impl WithLength for Ipv4 {
    fn packet_of_udp(&self, message: &[u8], length: u16) -> Vec<u8> {
        Self { protocol: UDP, ..self.clone() }.packet(&datagram(message, length))
    }
}

impl WithLength for Ipv6 {
    fn packet_of_udp(&self, message: &[u8], length: u16) -> Vec<u8> {
        self.packet(UDP, &datagram(message, length))
    }
}

fn lookups() -> String {
    format!("udp: lookups\n{ALLOWLIST}")
}

#[test]
fn the_host_build_permits_lookups_only() {
    check_host(Link::Ethernet, &lookups(), &cases());
}

#[test]
fn the_kernel_permits_lookups_only() {
    check_kernel(Link::Ethernet, &lookups(), &cases(), None, false);
    check_kernel(Link::Ethernet, &lookups(), &cases(), None, true);
}

#[test]
fn the_kernel_permits_lookups_only_however_little_is_in_the_first_buffer() {
    for first_len in [0, 34, 42, 66] {
        check_kernel(Link::Ethernet, &lookups(), &cases(), Some(first_len), false);
    }
}

/// Frames of the large table: what is not from a listed source over UDP is judged as ever.
#[test]
fn lists_that_permit_no_calls_over_udp_deny_them_and_nothing_else() {
    let none = format!("udp: none\n{ALLOWLIST}");
    let source = |case: &Case| source_over_udp(&case.frame);
    for (link, mut cases) in [(Link::Ethernet, ethernet_cases()), (Link::RawIp, raw_ip_cases())] {
        cases.retain(|case| {
            case.frame.len() <= crate::ONE_BUFFER
                && (link == Link::Ethernet || case.expect != Expect::Allowed)
        });
        for case in &mut cases {
            if case.expect == Expect::Allowed
                && let Some(source) = source(case)
            {
                case.expect = Expect::Refused(source, Denial::CallNotAllowed);
            }
        }
        check_host(link, &none, &cases);
        check_kernel(link, &none, &cases, None, false);
    }
}
