use std::collections::BTreeSet;

use portguard_common::reason::Denial;
use portguard_common::rpc::REQUESTS;
use portguard_common::totals::Count;
use proptest::collection::vec;
use proptest::prelude::*;

use super::{NOON, line, snapshot, source, text};
use crate::guard::{SetId, Snapshot};
use crate::history::{HEAVIEST, Identity, Line, Packets, Reason};

fn line_of(snapshot: &Snapshot, heaviest: usize) -> Line {
    let identity = Identity {
        interface: Some("eth0"),
        ifindex: 2,
        namespace: 4_026_531_840,
        set: SetId(0x00c0_ffee),
        enforcing: true,
    };
    let boot_id = Some("3f0a5d6e-7c53-4f5f-9a27-0d5a4c1c9b11".to_owned());
    Line::new(snapshot, identity, Reason::Reset, NOON + 123_456_789, boot_id, heaviest)
}

/// What is on the disk of users, and in `docs/history.md`: it must not change.
#[test]
fn the_format_is_fixed() {
    let snapshot = snapshot(vec![source(9, 3), source(4, 60)], Count { packets: 30, bytes: 2_040 });
    let written = text(&line_of(&snapshot, 1));
    let expected = concat!(
        r#"{"schema":1,"written_at":"2026-11-26T12:00:00.123456Z","reason":"reset","#,
        r#""boot_id":"3f0a5d6e-7c53-4f5f-9a27-0d5a4c1c9b11","namespace":4026531840,"#,
        r#""interface":"eth0","ifindex":2,"set":"0000000000c0ffee","#,
        r#""since":"2026-11-26T11:00:00.000000Z","until":"2026-11-26T12:00:00.000000Z","enforcing":true,"#,
        r#""totals":{"allowed":{"packets":12,"bytes":1032},"dropped":{"packets":94,"bytes":6344},"#,
        r#""would_drop":{"packets":0,"bytes":0},"by_reason":{"not_allowed":{"packets":93,"bytes":6324},"#,
        r#""call_not_allowed":{"packets":0,"bytes":0},"wrong_interface":{"packets":0,"bytes":0},"#,
        r#""expired":{"packets":0,"bytes":0},"rate_exceeded":{"packets":0,"bytes":0},"#,
        r#""truncated":{"packets":1,"bytes":20},"malformed":{"packets":0,"bytes":0},"#,
        r#""too_many_headers":{"packets":0,"bytes":0}}},"requests":{"udp":{"dump":63}},"#,
        r#""sources":[{"source":"203.0.113.4","packets":60,"bytes":4080,"requests":{"udp":{"dump":60}},"#,
        r#""first_seen":"2026-11-26T11:10:00.000000Z","last_seen":"2026-11-26T11:59:59.000000Z"}],"#,
        r#""other_sources":{"sources":1,"packets":3,"bytes":204},"#,
        r#""unattributed":{"packets":30,"bytes":2040}}"#,
        "\n",
    );
    assert_eq!(written, expected);
    let documented = include_str!("../../../../docs/history.md");
    let (_, from) = documented.split_once("```json\n").expect("an example in docs/history.md");
    let (example, _) = from.split_once("```").expect("the end of the example");
    let parsed = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(parsed(example), parsed(expected), "the example in docs/history.md is this line");
}

#[test]
fn reasons_to_drop_packets_come_and_a_line_without_them_has_none() {
    let mut all = snapshot(vec![source(9, 60)], Count::default());
    let others = Denial::ALL.len() as u64 - 1;
    all.denied = Denial::ALL.map(|reason| match reason {
        Denial::NotAllowed => Count { packets: 60 - others, bytes: 68 * (60 - others) },
        _ => Count { packets: 1, bytes: 68 },
    });
    let line = line_of(&all, HEAVIEST);
    let parsed = Line::parse(text(&line).as_bytes()).unwrap();
    assert_eq!((&parsed, parsed.counted()), (&line, 12 + 60 + 1));

    // As an earlier version has written it, and a later one would.
    let mut value: serde_json::Value = serde_json::from_str(&text(&line)).unwrap();
    let reasons = value["totals"]["by_reason"].as_object_mut().unwrap();
    for reason in ["wrong_interface", "expired", "rate_exceeded"] {
        assert!(reasons.remove(reason).is_some(), "{reason}");
    }
    reasons.insert("of_a_later_version".to_owned(), serde_json::json!({"packets": 5, "bytes": 340}));
    let parsed = Line::parse(value.to_string().as_bytes()).unwrap();
    assert_eq!(parsed.counted(), 12 + 60 + 1 - 3);
    assert_eq!(parsed.totals.by_reason.denied[Denial::CallNotAllowed as usize].packets, 1);
    assert_eq!(parsed.totals.by_reason.denied[Denial::Expired as usize], Packets::default());
}

#[test]
fn each_reason_has_a_key_of_its_own_and_comes_back() {
    let keys: BTreeSet<&str> = Reason::ALL.into_iter().map(Reason::key).collect();
    assert_eq!(keys.len(), Reason::ALL.len());
    for reason in Reason::ALL {
        let line = Line { reason: Some(reason), ..line(1, 10) };
        assert!(text(&line).contains(&format!("\"reason\":\"{}\"", reason.key())));
        assert_eq!(Line::parse(text(&line).as_bytes()), Some(line));
    }
}

#[test]
fn an_interface_without_a_name_and_a_boot_without_an_id_are_null() {
    let line = Line { interface: None, boot_id: None, ..line(1, 10) };
    assert!(text(&line).contains("\"boot_id\":null,"));
    assert!(text(&line).contains("\"interface\":null,"));
    assert_eq!(Line::parse(text(&line).as_bytes()), Some(line));
}

#[test]
fn a_set_is_sixteen_digits() {
    for (id, shown) in [(0, "0000000000000000"), (0xabc, "0000000000000abc"), (u64::MAX, "ffffffffffffffff")]
    {
        assert_eq!(SetId(id).to_string(), shown);
        assert_eq!(shown.parse(), Ok(SetId(id)));
    }
    for wrong in ["", "abc", "+000000000000abc", "0000000000000ABC", "00000000000000abc", "000000000000000g"]
    {
        assert!(wrong.parse::<SetId>().is_err(), "{wrong}");
    }
}

#[test]
fn the_longest_line_is_far_below_the_limit_of_readers() {
    let mut requests = [u64::MAX; REQUESTS];
    requests[0] = u64::MAX - 1;
    let sources = (0..1_000).map(|host| {
        let mut source = source(host, 1);
        source.address = std::net::Ipv6Addr::from_bits(u128::MAX - u128::from(host)).into();
        source.count = Count { packets: u64::MAX >> 10, bytes: u64::MAX >> 10 };
        source.asked = (&requests).into();
        source
    });
    let mut all = snapshot(Vec::new(), Count::default());
    all.sources = sources.collect();
    let line = line_of(&all, HEAVIEST);
    assert_eq!(line.sources.len(), 256);
    let length = text(&line).len();
    assert!(length < 512 * 1024, "{length}");
}

proptest! {
    #[test]
    fn the_sources_of_a_line_add_up_and_come_back(
        counts in vec((1_u64..5, 0_u64..1 << 40), 0..40),
        unattributed in (0_u64..1 << 40, 0_u64..1 << 40),
        heaviest in 0_usize..45,
    ) {
        let sources = counts.iter().enumerate().map(|(host, &(packets, bytes))| {
            let mut source = source(host as u32, packets);
            source.count.bytes = bytes;
            source
        });
        let unattributed = Count { packets: unattributed.0, bytes: unattributed.1 };
        let mut snapshot = snapshot(sources.collect(), unattributed);
        // The reasons share what was denied.
        let [all, others @ ..] = &mut snapshot.denied;
        for other in others {
            *other = Count { packets: all.packets / 2, bytes: all.bytes / 2 };
            *all = Count { packets: all.packets - other.packets, bytes: all.bytes - other.bytes };
        }
        let line = line_of(&snapshot, heaviest);

        prop_assert_eq!(line.sources.len(), heaviest.min(counts.len()));
        prop_assert_eq!(line.sources.len() as u64 + line.other_sources.sources, counts.len() as u64);
        let mut sum = Packets {
            packets: line.other_sources.packets + line.unattributed.packets,
            bytes: line.other_sources.bytes + line.unattributed.bytes,
        };
        for source in &line.sources {
            sum.packets += source.packets;
            sum.bytes += source.bytes;
        }
        let mut attributed = Packets::default();
        for Packets { packets, bytes } in line.totals.by_reason.denied {
            attributed.packets += packets;
            attributed.bytes += bytes;
        }
        prop_assert_eq!(sum, attributed);
        prop_assert_eq!(sum, Packets::from(snapshot.all_denied()));

        // The listed sources are the heaviest, in order.
        let mut packets: Vec<_> = counts.iter().map(|&(packets, bytes)| (packets, bytes)).collect();
        packets.sort_unstable_by(|a, b| b.cmp(a));
        packets.truncate(heaviest);
        let listed: Vec<_> = line.sources.iter().map(|source| (source.packets, source.bytes)).collect();
        prop_assert_eq!(listed, packets);

        prop_assert_eq!(Line::parse(text(&line).as_bytes()), Some(line));
    }
}
