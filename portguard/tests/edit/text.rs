//! The text of a list: what is added and what goes, to the byte.

use std::fs;
use std::path::Path;

use ipnet::IpNet;
use portguard::allowlist::{Addition, Allowlist, Checked, Conditions, Entry, NewEntry, Style};
use portguard::error::Result;
use portguard_common::calls::UdpCalls;
use proptest::prelude::*;

use crate::Host;
use crate::layouts::{list, prefix};

#[track_caller]
fn parse(text: &str) -> Checked {
    Allowlist::parse(Path::new("list.yaml"), text.as_bytes())
        .unwrap_or_else(|invalid| panic!("{text}\n{}", invalid.render(Style::Plain)))
}

/// What an entry says.
type Content = (IpNet, Option<String>, Option<Conditions>);

/// What a list says.
fn entries(list: &Allowlist) -> Vec<Content> {
    let entry = |entry: &Entry| {
        let comment = entry.comment().map(|it| it.trim_end_matches('\n').to_owned());
        (entry.prefix(), comment, entry.conditions().cloned())
    };
    list.entries().iter().map(entry).collect()
}

/// Conditions, from their texts in a list.
fn conditions() -> impl Strategy<Value = Conditions> {
    let name = prop_oneof![
        "eth[0-9]",
        "[a-zé*\"'#,&!{}-]{1,9}",
        Just("null".to_owned()),
        Just(r"a\xffb".to_owned())
    ];
    let until = (0..16_000_000_000_i64).prop_map(|seconds| jiff::Timestamp::from_second(seconds).unwrap());
    (
        prop::option::of(prop::collection::btree_set(name, 1..4)),
        prop::option::of(until),
        prop::option::of(prop::sample::select(&UdpCalls::ALL[..])),
        prop::option::of(1..=1_000_000_u32),
    )
        .prop_map(|(interfaces, until, udp, rate)| {
            let names = interfaces.map(|names| {
                let names: Vec<String> =
                    names.iter().map(|name| serde_json::json!(name).to_string()).collect();
                format!(", interfaces: [{}]", names.join(", "))
            });
            let list = format!("allow: [{{prefix: 10.0.0.0/8{}}}]", names.unwrap_or_default());
            let list = parse(&list).allowlist;
            let interfaces = list.entries()[0].conditions().and_then(|it| it.interfaces.clone());
            Conditions { interfaces, until, udp, rate: rate.and_then(std::num::NonZeroU32::new) }
        })
}

#[track_caller]
fn text_of(changed: Result<Checked>, before: &str) -> String {
    let changed = changed.unwrap_or_else(|error| panic!("{before:?}: {error}"));
    str::from_utf8(changed.allowlist.text()).expect("UTF-8").to_owned()
}

/// In the order: the list, what is done, the list after it.
const BY_HAND: &[(&str, &[&str], &str)] = &[
    // At the end, in the form of the list; without a comment, the short one.
    (
        "# ours\nallow:\n  - 10.0.0.0/8  # all\n",
        &["allow", "192.0.2.7", "2001:db8::/32"],
        "# ours\nallow:\n  - 10.0.0.0/8  # all\n  - 192.0.2.7\n  - 2001:db8::/32\n",
    ),
    (
        "allow:\n- 10.0.0.0/8",
        &["allow", "192.0.2.7", "--comment", "it's \"x\" \\ #"],
        "allow:\n- 10.0.0.0/8\n- prefix: 192.0.2.7\n  comment: \"it's \\\"x\\\" \\\\ #\"\n",
    ),
    (
        "allow:\r\n    - 10.0.0.0/8\r\n",
        &["allow", "fe80::"],
        "allow:\r\n    - 10.0.0.0/8\r\n    - fe80::/128\r\n",
    ),
    ("\u{feff}allow:\n- 10.0.0.0/8\n", &["allow", "::1"], "\u{feff}allow:\n- 10.0.0.0/8\n- ::1\n"),
    (
        "allow: [10.0.0.0/8]\n",
        &["allow", "192.0.2.7", "::1"],
        "allow: [10.0.0.0/8, \"192.0.2.7\", \"::1\"]\n",
    ),
    ("{\"allow\": []}\n", &["allow", "192.0.2.7"], "{\"allow\": [\"192.0.2.7\"]}\n"),
    (
        "allow: [\n  10.0.0.0/8, # all\n]\n",
        &["allow", "192.0.2.7"],
        "allow: [\n  10.0.0.0/8, # all\n  \"192.0.2.7\",\n]\n",
    ),
    // Conditions of the whole list stay, in front of it and behind it.
    (
        "udp: lookups  # what they need\nallow:\n  - 10.0.0.0/8\n",
        &["allow", "192.0.2.7"],
        "udp: lookups  # what they need\nallow:\n  - 10.0.0.0/8\n  - 192.0.2.7\n",
    ),
    (
        "allow:\n  - 10.0.0.0/8\n  - ::1\nudp: none\n",
        &["revoke", "::1"],
        "allow:\n  - 10.0.0.0/8\nudp: none\n",
    ),
    // Conditions of an entry take the long form.
    (
        "allow:\n  - 10.0.0.0/8\n",
        &[
            "allow",
            "192.0.2.7",
            "--until",
            "2499-12-01",
            "--interfaces",
            "eth1,bond*,eth1",
            "--udp",
            "all",
            "--rate",
            "100/s",
        ],
        "allow:\n  - 10.0.0.0/8\n  - prefix: 192.0.2.7\n    interfaces: [eth1, \"bond*\"]\n    until: 2499-12-02T00:00:00Z\n    \
         udp: all\n    rate: 100/s\n",
    ),
    (
        "allow: []\n",
        &["allow", "::1", "--comment", "x", "--until", "2499-12-01T18:00:00+02:00"],
        "allow:\n  - prefix: ::1\n    comment: \"x\"\n    until: 2499-12-01T16:00:00Z\n",
    ),
    (
        "{\"allow\": []}\n",
        &["allow", "::1", "--interfaces", "eth1", "--udp", "none", "--rate", "5/s"],
        "{\"allow\": [\n  {\"prefix\": \"::1\", \"interfaces\": [\"eth1\"], \"udp\": \"none\", \"rate\": \"5/s\"}]}\n",
    ),
    (
        "allow:\n- prefix: 10.0.0.0/8\n  # why\n  interfaces:\n  - eth1\n  - \"eth*\"\n  until: 2499-12-01\n- 192.0.2.7\n",
        &["revoke", "10.0.0.0/8"],
        "allow:\n- 192.0.2.7\n",
    ),
    (
        "allow:\n- rate: 1/s  # few\n  prefix: 10.0.0.0/8\n  interfaces: [eth1,\n    eth2]  # there\n- 192.0.2.7\n",
        &["revoke", "192.0.2.7"],
        "allow:\n- rate: 1/s  # few\n  prefix: 10.0.0.0/8\n  interfaces: [eth1,\n    eth2]  # there\n",
    ),
    // The brackets of an empty list go.
    ("allow: []\n", &["allow", "192.0.2.7"], "allow:\n  - 192.0.2.7\n"),
    ("# a\nallow: []   # b\n# c\n", &["allow", "192.0.2.7"], "# a\nallow:   # b\n  - 192.0.2.7\n# c\n"),
    // What is there already stays, and so does the rest of the file.
    ("allow: [10.0.0.0/8]", &["allow", "10.0.0.0/8"], "allow: [10.0.0.0/8]"),
    ("allow: [10.0.0.0/8]", &["allow", "10.0.0.0/8", "::1"], "allow: [10.0.0.0/8, \"::1\"]"),
    // An entry goes with the comment at its end; a comment on a line of its own stays.
    (
        "allow:\n  # first\n  - 10.0.0.0/8  # all\n\n  # second\n  - 192.0.2.7\n",
        &["revoke", "10.0.0.0/8"],
        "allow:\n  # first\n\n  # second\n  - 192.0.2.7\n",
    ),
    (
        "allow:\n- prefix: 10.0.0.0/8\n  # why\n  comment: |\n    a\n    b\n- 192.0.2.7\n",
        &["revoke", "10.0.0.0/8"],
        "allow:\n- 192.0.2.7\n",
    ),
    ("allow:\n-\n  prefix: 10.0.0.0/8\n  comment:\n- ::1\n", &["revoke", "10.0.0.0/8"], "allow:\n- ::1\n"),
    ("allow:\n- {prefix: ::1,\n   comment: x}  # y\n- '::2'\n", &["revoke", "::1"], "allow:\n- '::2'\n"),
    ("allow:\r\n- ::1\r\n- ::2", &["revoke", "::2"], "allow:\r\n- ::1\r\n"),
    // A comment that is indented far would become a part of the text above.
    (
        "allow:\n- prefix: ::1\n  comment: |\n    a\n- ::2\n      # far\n",
        &["revoke", "::2"],
        "allow:\n- prefix: ::1\n  comment: |\n    a\n# far\n",
    ),
    // The last one.
    ("allow:  # who\n  # why\n  - ::1\n", &["revoke", "::1"], "allow: []  # who\n  # why\n"),
    ("\"allow\":\n- ::1\n...\n", &["revoke", "::1"], "\"allow\": []\n...\n"),
    ("allow: [::1]\n", &["revoke", "::1"], "allow: []\n"),
    ("allow: [::1, ]\n", &["revoke", "::1"], "allow: [ ]\n"),
    // Between brackets, with the commas.
    ("allow: [::1, ::2, ::3]\n", &["revoke", "::1"], "allow: [::2, ::3]\n"),
    ("allow: [::1, ::2, ::3]\n", &["revoke", "::2"], "allow: [::1, ::3]\n"),
    ("allow: [::1, ::2, ::3]\n", &["revoke", "::3"], "allow: [::1, ::2]\n"),
    ("allow: [::1, ::2, ::3]\n", &["revoke", "::3", "::2"], "allow: [::1]\n"),
    ("allow: [::1, ::2, # two\n  ::3]\n", &["revoke", "::2"], "allow: [::1, # two\n  ::3]\n"),
    ("allow: [::1, ::2,\n  ::3]\n", &["revoke", "::2"], "allow: [::1,\n  ::3]\n"),
    ("{\"allow\": [\n  \"::1\",\n  \"::2\"\n]}\n", &["revoke", "::2"], "{\"allow\": [\n  \"::1\"\n]}\n"),
    ("allow: [\n  ::1, # one\n  ::2, # two\n]\n", &["revoke", "::2"], "allow: [\n  ::1, # one\n]\n"),
    ("allow: [\n  ::1, # one\n  ::2 # two\n]\n", &["revoke", "::2"], "allow: [\n  ::1 # one\n]\n"),
    ("allow: [\n  {prefix: ::1,\n    comment: x}, ::2]\n", &["revoke", "::1"], "allow: [\n  ::2]\n"),
];

#[test]
fn each_byte_beside_a_change_stays() {
    for (before, arguments, after) in BY_HAND {
        let host = Host::default();
        host.list(before);
        host.ok(arguments);
        assert_eq!(host.text(), *after, "{arguments:?} on {before:?}");
        host.assert_tidy();
    }
}

/// All valid lists with which `check` is tested.
#[test]
fn every_list_that_check_accepts_can_be_changed_and_changed_back() {
    let mut tried = 0;
    for file in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/allowlists")).unwrap() {
        let path = file.unwrap().path();
        let Ok(text) = fs::read_to_string(&path) else { continue };
        if Allowlist::parse(&path, text.as_bytes()).is_err() {
            continue;
        }
        let host = Host::default();
        host.list(&text);
        let old = parse(&text).allowlist;
        host.ok(&["allow", "233.252.0.7", "--comment", "new"]);
        assert_eq!(entries(&parse(&host.text()).allowlist).len(), old.entries().len() + 1, "{path:?}");
        host.ok(&["revoke", "233.252.0.7"]);
        assert_eq!(host.text(), text, "{path:?}");
        for entry in old.entries() {
            host.list(&text);
            host.ok(&["revoke", &entry.prefix().to_string()]);
            let mut others = entries(&old);
            others.retain(|(prefix, ..)| *prefix != entry.prefix());
            assert_eq!(entries(&parse(&host.text()).allowlist), others, "{path:?}");
        }
        tried += 1;
    }
    assert!(tried > 8, "{tried}");
}

/// Whether all bytes of a text are in another one, in their order.
fn is_left_of(new: &str, old: &str) -> bool {
    let mut rest = old.bytes();
    new.bytes().all(|byte| rest.any(|other| other == byte))
}

/// What is not the same after an entry was added and taken out: the end of a last line that had none, and the blanks in front of
/// the brackets of an empty list.
fn changed_back(list: &str) -> Vec<String> {
    let newline = if list.contains("\r\n") { "\r\n" } else { "\n" };
    vec![
        list.to_owned(),
        format!("{list}{newline}"),
        list.replace(":\r\n  []", ": []").replace(":\n  []", ": []"),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_allowed_and_revoked_has_left_no_trace(
        list in list(),
        new in prop::collection::btree_map(
            prefix(),
            (prop::option::of("[a-zA-Z0-9 \"'\\\\#:(),-]{1,20}"), conditions()),
            1..4,
        ),
    ) {
        let Ok(checked) = Allowlist::parse(Path::new("list.yaml"), list.as_bytes()) else {
            return Err(TestCaseError::reject("no list"));
        };
        let old = entries(&checked.allowlist);
        let mut new = new;
        new.retain(|prefix, _| old.iter().all(|(known, ..)| known != prefix));
        let entry = |(prefix, (comment, conditions)): (&IpNet, &(Option<String>, Conditions))| {
            Addition::Entry(NewEntry { prefix: *prefix, comment: comment.clone(), conditions: conditions.clone() })
        };
        let additions: Vec<Addition> = new.iter().map(entry).collect();
        let prefixes: Vec<IpNet> = new.keys().copied().collect();
        let more = text_of(checked.allowlist.with(&additions), &list);
        let added = entries(&parse(&more).allowlist).split_off(old.len());
        let expected = new.iter().map(|(prefix, (comment, conditions))| {
            (*prefix, comment.clone(), Some(conditions.clone()).filter(|it| !it.is_empty()))
        });
        prop_assert_eq!(added, expected.collect::<Vec<_>>(), "{:?}", more);
        let again = text_of(parse(&more).allowlist.without(&prefixes), &more);
        prop_assert!(changed_back(&list).contains(&again), "{list:?}\n{more:?}\n{again:?}");
        prop_assert!(again == list || !list.ends_with('\n'), "{list:?}\n{more:?}\n{again:?}");
    }

    #[test]
    fn what_was_not_revoked_is_still_there(list in list(), which in any::<u64>()) {
        let Ok(checked) = Allowlist::parse(Path::new("list.yaml"), list.as_bytes()) else {
            return Err(TestCaseError::reject("no list"));
        };
        let old = entries(&checked.allowlist);
        let goes = |number: usize| which >> (number % 64) & 1 == 1;
        let mut chances: Vec<Vec<usize>> = (0..old.len()).map(|number| vec![number]).collect();
        chances.push((0..old.len()).filter(|number| goes(*number)).collect());
        chances.push((0..old.len()).collect());
        for going in chances {
            let prefixes: Vec<IpNet> = going.iter().map(|number| old[*number].0).collect();
            let text = text_of(checked.allowlist.without(&prefixes), &list);
            let mut others = old.clone();
            others.retain(|(prefix, ..)| !prefixes.contains(prefix));
            prop_assert_eq!(entries(&parse(&text).allowlist), others, "{:?}\n{:?}", list, text);
            prop_assert!(is_left_of(&text.replacen(" []", "", 1), &list), "{list:?}\n{text:?}");
        }
    }
}

#[test]
fn a_prefix_is_read_as_in_a_list() {
    let host = Host::default();
    host.list("allow: []\n");
    for (prefix, why) in [
        ("10.1.2.3/16", "10.1.2.3/16 has host bits set: did you mean 10.1.0.0/16 or 10.1.2.3/32?"),
        ("nfs1.example", "nfs1.example is a name, not a prefix: names are not resolved"),
        ("10.0.0.0/33", "is out of range"),
    ] {
        for verb in ["allow", "revoke"] {
            let told = host.fails(2, &[verb, prefix]);
            assert!(told.contains(why), "{told}");
        }
    }
    for comment in ["", "  ", "a\nb", "a\u{1b}[2Jb"] {
        let told = host.fails(2, &["allow", "::1", "--comment", comment]);
        assert!(told.contains("comment"), "{told}");
    }
}

#[test]
fn what_is_on_the_list_is_named_with_its_line() {
    let host = Host::default();
    host.list("allow:\n  - 10.0.0.0/8\n  - 192.0.2.7\n");
    let told = host.ok(&["allow", "192.0.2.7/32", "10.0.0.0/8", "192.0.2.7"]);
    assert_eq!(
        told.stdout,
        "192.0.2.7/32 is already on the list, line 3\n10.0.0.0/8 is already on the list, line 2\n"
    );
    // Inside another one: added, with the warning of check.
    let told = host.ok(&["allow", "10.1.0.0/16"]);
    assert_eq!(told.stdout, format!("10.1.0.0/16 added to {}, line 4\n", host.path().display()));
    assert!(told.stderr.contains("warning: 10.1.0.0/16 is inside 10.0.0.0/8, on line 2"), "{}", told.stderr);
}

#[test]
fn what_has_no_entry_of_its_own_is_not_revoked_and_neither_is_the_rest() {
    let host = Host::default();
    host.list("allow:\n  - 10.0.0.0/8\n  - 10.1.0.0/16\n  - ::1\n");
    let told = host.fails(1, &["revoke", "::1", "10.1.2.3"]);
    assert!(told.contains(
        "10.1.2.3/32 is no entry of its own, and is covered by 10.0.0.0/8 (line 2), 10.1.0.0/16 (line 3)"
    ));
    assert!(told.contains("A part of a larger prefix cannot be taken out"), "{told}");
    let told = host.fails(1, &["revoke", "0.0.0.0/0", "192.0.2.7"]);
    assert!(told.contains("0.0.0.0/0 is no entry, and has entries inside it: 10.0.0.0/8 (line 2)"), "{told}");
    assert!(told.contains("no entry covers 192.0.2.7/32. Nothing was changed."), "{told}");
}

#[test]
fn the_document_says_what_has_changed() {
    let host = Host::default();
    host.list("allow: [10.0.0.0/8]\n");
    let document = |arguments: &[&str]| {
        let told = host.ok(&[arguments, &["--json"]].concat());
        serde_json::from_str::<portguard_testkit::documents::change::Document>(&told.stdout).expect("JSON")
    };
    let allowed = document(&["allow", "10.0.0.0/8", "::1"]);
    assert!(allowed.written && allowed.removed.is_empty());
    assert_eq!((&*allowed.added[0].prefix, allowed.added[0].line), ("::1/128", 1));
    assert_eq!((&*allowed.present[0].prefix, allowed.present.len()), ("10.0.0.0/8", 1));
    assert_eq!(allowed.allowlist, host.path().to_str().expect("UTF-8"));
    let before = host.text();
    let revoked = document(&["revoke", "::1", "--dry-run"]);
    assert!(!revoked.written && revoked.guards.is_some_and(|guards| guards.is_empty()));
    assert_eq!((&*revoked.removed[0].prefix, host.text()), ("::1/128", before));
    assert_ne!(revoked.sha256, allowed.sha256);
}
