//! More sources than anybody can remember.

use std::net::IpAddr;

use portguard_testkit::net::frame::Packet;
use portguard_testkit::net::{Count, Host, PacketSocket};

use crate::support::{DENIED, IFACE, OTHER, PORTGUARD, Role, SERVER, Testbed, flow, lost_by, sum};

/// Where an IP header is in a frame.
const IP: usize = 14;
/// How many places there are for sources, by address family and CPU.
const PLACES: usize = 16_384;
/// One packet in so many is from the one source that is no forgery.
const HEAVY: u32 = 20;

/// Gives a packet another source. The checksum of UDP is wrong then, and nobody gets to see it.
fn forge(packet: &mut [u8], number: u32) {
    let [a, b, c, d] = number.to_be_bytes();
    if packet[0] >> 4 == 6 {
        // A network of its own within 2001:db8::/32, behind those of the others.
        packet[12..16].copy_from_slice(&[0x80 | a, b, c, d]);
        return;
    }
    // 240.0.0.0/4 is nobody's, and never will be. The bridge looks at the checksum of the header.
    packet[12..16].copy_from_slice(&[240 | a, b, c, d]);
    packet[10..12].fill(0);
    let words = packet[..20].chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    let checksum = !(sum as u16);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
}

fn lost_on_the_wire(testbed: &Testbed) -> u64 {
    lost_by(testbed.host(Role::Denied).namespace(), Host::INTERFACE)
        + lost_by(testbed.switch.namespace(), "server")
}

/// Sends a packet from each of `forged` sources, and some from one and the same.
/// Returns all that came through to the server, and what that one source has sent.
pub(crate) fn flood(testbed: &Testbed, family: usize, forged: u32) -> (Count, Count) {
    let attacker =
        PacketSocket::open(testbed.host(Role::Denied).namespace(), Host::INTERFACE).expect("a packet socket");
    let server =
        PacketSocket::open(testbed.server.namespace(), Host::INTERFACE).expect("a packet socket").mac();
    let frame = |source: IpAddr| {
        let packet = Packet::udp(flow(source, SERVER[family], 111), &[0; 40]);
        (packet.frame(attacker.mac(), server, &[]), packet.bytes().len() as u64)
    };
    let (mut forgery, length) = frame(DENIED[family]);
    let (heavy, _) = frame(OTHER[family]);
    let lost_before = lost_on_the_wire(testbed);
    let (mut all, mut of_heavy) = (0, 0);
    for number in 0..forged {
        forge(&mut forgery[IP..], number);
        attacker.send(&forgery).expect("sending");
        all += 1;
        if number % HEAVY == 0 {
            attacker.send(&heavy).expect("sending");
            all += 1;
            of_heavy += 1;
        }
    }
    // A veth has room for some hundred frames; on a busy machine it may lose some, and says so.
    all -= lost_on_the_wire(testbed) - lost_before;
    (Count { packets: all, bytes: all * length }, Count { packets: of_heavy, bytes: of_heavy * length })
}

#[test]
fn sums_are_exact_and_sources_bounded_however_many_there_are() {
    let testbed = Testbed::new(PORTGUARD);
    testbed.attach();
    let portguard = testbed.portguard();
    let (v4, heavy_v4) = flood(&testbed, 0, 200_000);
    let (v6, heavy_v6) = flood(&testbed, 1, 50_000);
    let sent = sum([v4, v6]);
    let stats = portguard.stats_of(sent.packets);
    assert_eq!(stats.totals.dropped, sent, "to the last packet and byte");
    assert_eq!(stats.totals.by_reason.of("not_allowed"), sent);
    assert_eq!(stats.totals.allowed, Count::default());

    let cpus = aya::util::nr_cpus().expect("the number of CPUs");
    assert!(stats.sources.len() <= 2 * PLACES * cpus, "{} sources on {cpus} CPUs", stats.sources.len());
    assert!(stats.sources.len() > PLACES, "{} sources", stats.sources.len());
    assert!(stats.unattributed.packets > 0);

    let top = portguard.all_stats(&["--top", "5"]);
    let [top] = top.try_into().expect("one guard");
    assert_eq!(top.sources.len(), 5);
    // Up to the moment when a second packet makes it known, a heavy source may have to make way like any other.
    for (row, source, sent) in [(0, OTHER[0], heavy_v4), (1, OTHER[1], heavy_v6)] {
        let shown = &top.sources[row];
        assert_eq!(shown.source, source, "{:?}", top.sources);
        assert!(
            shown.packets <= sent.packets && shown.packets * 100 >= sent.packets * 97,
            "{shown:?} of {sent:?}"
        );
    }

    // And once more, with the counters of an upgraded guard.
    portguard.ok(&["attach", IFACE, "--allowlist", &testbed.list()]);
    assert_eq!(portguard.stats().totals.dropped, sent);
    let [last] = portguard.all_stats(&["--reset", "--top", "1"]).try_into().expect("one guard");
    assert_eq!(last.totals.dropped, sent);
    assert_eq!(portguard.stats().packets(), 0);
}

#[test]
fn as_many_sources_are_remembered_as_were_asked_for() {
    let testbed = Testbed::new(PORTGUARD);
    let portguard = testbed.portguard();
    let list = testbed.list();
    portguard.ok(&["attach", IFACE, "--allowlist", &list, "--sources", "300"]);
    let cpus = aya::util::nr_cpus().expect("the number of CPUs");
    let check = |sent: Count| {
        let stats = portguard.stats_of(sent.packets);
        assert_eq!(stats.totals.dropped, sent, "to the last packet and byte");
        assert!((512..=2 * 512 * cpus).contains(&stats.sources.len()), "{} sources", stats.sources.len());
    };
    let sent = sum([flood(&testbed, 0, 20_000).0, flood(&testbed, 1, 20_000).0]);
    check(sent);

    // Counters that are there keep their size, and so do those that begin anew, unless another one is asked for.
    for same in [&["--sources", "500"][..], &[]] {
        portguard.ok(&[&["attach", IFACE, "--allowlist", &list], same].concat());
    }
    check(sent);
    portguard.all_stats(&["--reset"]);
    check(sum([flood(&testbed, 0, 20_000).0, flood(&testbed, 1, 20_000).0]));
    portguard.ok(&["attach", IFACE, "--sources", "4096"]);
    assert_eq!(testbed.machine.sources_of(&portguard.status()), 4096);
}
