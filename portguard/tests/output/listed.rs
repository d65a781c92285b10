//! What `report` says of packets in the name of sources that are on the list.

use insta::assert_snapshot;
use portguard::cli::report::covered::Covered;
use portguard::cli::stats::SortKey;
use portguard::cli::{report, stats};
use portguard::guard::Snapshot;
use portguard::rpcbind::NoReply;
use portguard::rpcbind::amplification::Answers;
use portguard_common::reason::Denial;

use super::{NOW, answers, count, document, evidence, requests, snapshot};

/// A report of a guard whose list has these prefixes.
pub(super) fn evidence_about(
    list: &[&str],
    enforcing: bool,
    snapshot: Snapshot,
    answers: &Answers,
    top: Option<usize>,
) -> report::document::Document {
    let covered = Covered::by(&list.iter().map(|prefix| prefix.parse().unwrap()).collect::<Vec<_>>());
    let interface = report::document::Interface::new(
        "eth0".into(),
        super::NATIVE,
        enforcing,
        snapshot,
        &covered,
        answers,
        top,
    );
    report::document::Document::new(NOW, "nfs1.example".into(), answers, vec![interface])
}

/// Counters of a guard whose list covers 198.51.100.0/24: some of its sources are on the list.
fn of_listed() -> Snapshot {
    let denied = Denial::ALL.map(|reason| match reason {
        Denial::NotAllowed => count(100, 6800),
        Denial::CallNotAllowed => count(25, 1700),
        Denial::WrongInterface => count(0, 0),
        Denial::Expired => count(1, 68),
        Denial::RateExceeded => count(4, 272),
    });
    let none = count(0, 0);
    Snapshot { denied, unattributed: none, requests: requests(130, 47), not_logged: 0, ..snapshot() }
}

#[test]
fn evidence_in_the_name_of_listed_sources() {
    let list = ["198.51.100.0/24", "2001:db8:3::/64"];
    let document = evidence_about(&list[..1], true, of_listed(), &answers(), None);
    assert_snapshot!(report::text::text(&document));
    assert_snapshot!(
        "evidence_in_the_name_of_listed_sources_as_csv",
        report::document::csv(&document).unwrap()
    );
    let interface = serde_json::to_value(&document.interfaces[0]).unwrap();
    assert_snapshot!(
        "evidence_in_the_name_of_listed_sources_as_json",
        serde_json::to_string_pretty(&serde_json::json!({
            "totals": interface["totals"],
            "listed": interface["listed"],
            "on_the_list": interface["sources"].as_array().unwrap().iter().map(|row| &row["listed"]).collect::<Vec<_>>(),
        }))
        .unwrap()
    );

    let sentences = |list: &[&str], snapshot: Snapshot, answers: &Answers| -> Vec<String> {
        let text = report::text::text(&evidence_about(list, true, snapshot, answers, None));
        let is_one = |line: &&str| {
            line.contains("in the name of") || line.contains(" of this host ") || line.contains("An entry")
        };
        text.lines().filter(is_one).map(str::to_owned).collect()
    };
    // Several of them, while the guard was in audit mode for a part of the time.
    let told = sentences(&list, Snapshot { would_drop: count(30, 2040), ..of_listed() }, &answers());
    assert!(
        told[0].contains("70 of the packets came in the name of 2 sources that are on the list now"),
        "{told:?}"
    );
    assert!(
        told[1].contains("these clients of this host received, or would have received, them"),
        "{told:?}"
    );
    let forgetful = Snapshot { unattributed: count(1, 68), ..of_listed() };
    let told = sentences(&list[..1], forgetful, &answers());
    assert!(told[0].contains("At least 30 of the packets came in the name of 1 source that is"), "{told:?}");
    // They are on the list since then, or were on it at that time; and nobody knows the size of replies.
    let strangers = Snapshot {
        denied: Denial::ALL
            .map(|reason| if reason == Denial::NotAllowed { of_listed().all_denied() } else { count(0, 0) }),
        ..of_listed()
    };
    assert_eq!(sentences(&list, strangers.clone(), &answers()).len(), 2);
    let none = Answers::new(Err(NoReply::Refused), Err(NoReply::Silent));
    assert_eq!(sentences(&list, strangers.clone(), &none).len(), 1);
    let told = sentences(&[], of_listed(), &answers());
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains("An entry of the list covered the sources of 30 packets when they arrived,"),
        "{told:?}"
    );
    // The report on strangers alone is not about the list.
    assert_eq!(sentences(&[], strangers.clone(), &answers()), [""; 0]);
    let text = report::text::text(&evidence(true, strangers, &answers(), None));
    assert!(text.contains("3 sources that may not use this port: ") && !text.contains("the list"), "{text}");
}

#[test]
fn counters_of_several_reasons_as_text() {
    assert_snapshot!(stats::text::text(&document(of_listed(), SortKey::Packets, Some(0))));
    let shown = document(of_listed(), SortKey::Packets, None);
    let text = stats::text::text(&shown);
    let sum = "\"not allowed\", \"call not allowed\", \"expired\" and \"rate exceeded\" above, all dropped";
    assert!(text.contains(sum), "{text}");
}
