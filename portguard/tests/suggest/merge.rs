//! `suggest --merge`: whatever the layout of a list, each byte of it stays, and what is added are the new entries.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use ipnet::IpNet;
use portguard::allowlist::{Addition, Allowlist, Checked, Conditions, Entry, NewEntry};
use portguard::cli::suggest::merge::{additions, new_in};
use portguard::suggest::proposal::{Finding, Proposal};
use proptest::prelude::*;

use crate::layouts::{list, prefix};

/// The entries of a list, as `check` reads it.
#[track_caller]
fn entries(text: &str) -> Vec<(IpNet, Option<String>)> {
    let checked = Allowlist::parse(Path::new("list.yaml"), text.as_bytes())
        .unwrap_or_else(|invalid| panic!("{text}\n{}", invalid.render(portguard::allowlist::Style::Plain)));
    let entry =
        |entry: &Entry| (entry.prefix(), entry.comment().map(|it| it.trim_end_matches('\n').to_owned()));
    checked.allowlist.entries().iter().map(entry).collect()
}

fn with(text: &str, additions: &[Addition]) -> String {
    let list = Allowlist::parse(Path::new("list.yaml"), text.as_bytes()).expect("a list").allowlist;
    text_of(list.with(additions), text)
}

/// The text of a list that was changed.
#[track_caller]
fn text_of(changed: portguard::error::Result<Checked>, before: &str) -> String {
    let changed = changed.unwrap_or_else(|error| panic!("{before:?}: {error}"));
    str::from_utf8(changed.allowlist.text()).unwrap().to_owned()
}

/// Whether all bytes of a text, but for the brackets of an empty list, are in another one, in their order.
fn is_kept(old: &str, new: &str) -> bool {
    let mut rest = new.bytes();
    old.replace("[]", "").bytes().all(|byte| rest.any(|other| other == byte))
}

fn entry_of(prefix: IpNet, comment: String) -> NewEntry {
    NewEntry { prefix, comment: Some(comment), conditions: Conditions::default() }
}

fn entry(prefix: &str, comment: &str) -> NewEntry {
    entry_of(prefix.parse().unwrap(), comment.to_owned())
}

#[test]
fn entries_come_behind_the_last_one_in_the_form_of_the_list() {
    let additions =
        [Addition::Entry(entry("192.0.2.7/32", "nfs1")), Addition::Entry(entry("2001:db8::/32", "a \"b\""))];
    for (list, expected) in [
        (
            "# ours\nallow:\n  - 10.0.0.0/8  # all\n",
            "# ours\nallow:\n  - 10.0.0.0/8  # all\n  - prefix: 192.0.2.7\n    comment: \"nfs1\"\n  - prefix: 2001:db8::/32\n    \
             comment: \"a \\\"b\\\"\"\n",
        ),
        // Not indented, and without a line break at the end.
        (
            "allow:\n- 10.0.0.0/8",
            "allow:\n- 10.0.0.0/8\n- prefix: 192.0.2.7\n  comment: \"nfs1\"\n- prefix: 2001:db8::/32\n  comment: \"a \\\"b\\\"\"\n",
        ),
        // Line ends of Windows.
        (
            "allow:\r\n    - 10.0.0.0/8\r\n",
            "allow:\r\n    - 10.0.0.0/8\r\n    - prefix: 192.0.2.7\r\n      comment: \"nfs1\"\r\n    - prefix: 2001:db8::/32\r\n      \
             comment: \"a \\\"b\\\"\"\r\n",
        ),
        // Comments that are indented like the entries belong to them; others are of the file.
        (
            "allow:\n  - prefix: 10.0.0.0/8\n    comment: x\n    # until 2027\n\n  # - 10.1.0.0/16\n\n# the end\n",
            "allow:\n  - prefix: 10.0.0.0/8\n    comment: x\n    # until 2027\n\n  # - 10.1.0.0/16\n  - prefix: 192.0.2.7\n    \
             comment: \"nfs1\"\n  - prefix: 2001:db8::/32\n    comment: \"a \\\"b\\\"\"\n\n# the end\n",
        ),
        (
            "allow: []  # nobody yet\n# the end\n",
            "allow:  # nobody yet\n  - prefix: 192.0.2.7\n    comment: \"nfs1\"\n  - prefix: 2001:db8::/32\n    comment: \"a \
             \\\"b\\\"\"\n# the end\n",
        ),
        (
            "allow: [10.0.0.0/8, 10.9.9.9]\n",
            "allow: [10.0.0.0/8, 10.9.9.9,\n  {\"prefix\": \"192.0.2.7\", \"comment\": \"nfs1\"},\n  {\"prefix\": \"2001:db8::/32\", \
             \"comment\": \"a \\\"b\\\"\"}]\n",
        ),
        (
            "allow: [\n    10.0.0.0/8, # all\n    11.0.0.0/8 # more\n]\n",
            "allow: [\n    10.0.0.0/8, # all\n    11.0.0.0/8, # more\n    {\"prefix\": \"192.0.2.7\", \"comment\": \"nfs1\"},\n    \
             {\"prefix\": \"2001:db8::/32\", \"comment\": \"a \\\"b\\\"\"}\n]\n",
        ),
        (
            "{\"allow\": [\n  \"10.0.0.0/8\"\n]}\n",
            "{\"allow\": [\n  \"10.0.0.0/8\",\n  {\"prefix\": \"192.0.2.7\", \"comment\": \"nfs1\"},\n  {\"prefix\": \
             \"2001:db8::/32\", \"comment\": \"a \\\"b\\\"\"}\n]}\n",
        ),
        (
            "---\nallow:\n  - 10.0.0.0/8\n...\n",
            "---\nallow:\n  - 10.0.0.0/8\n  - prefix: 192.0.2.7\n    comment: \"nfs1\"\n  - prefix: 2001:db8::/32\n    comment: \"a \
             \\\"b\\\"\"\n...\n",
        ),
    ] {
        assert_eq!(with(list, &additions), expected);
    }
}

#[test]
fn a_list_to_which_nothing_is_added_stays_as_it_is() {
    for list in ["allow: []", "allow:\r\n  - 10.0.0.0/8", "\u{feff}allow:\n- 10.0.0.0/8\n\n\n"] {
        assert_eq!(with(list, &[]), list);
    }
}

/// What is commented out is an entry as soon as the `#` is removed.
#[test]
fn what_is_commented_out_can_be_taken() {
    let additions = [
        Addition::Entry(entry("192.0.2.7/32", "nfs1")),
        Addition::Comment("# Seen.".to_owned()),
        Addition::CommentedOut(entry("198.51.100.9/32", "sent requests")),
    ];
    for list in ["allow:\n- 10.0.0.0/8\n", "allow:\n      - 10.0.0.0/8\n# end", "allow: [10.0.0.0/8]"] {
        let text = with(list, &additions);
        assert_eq!(entries(&text).len(), 2, "{text}");
        assert!(text.contains("# Seen.\n#"), "{text}");
        if list.contains("- ") {
            let taken =
                text.replace("# Seen.\n#", "").replace("\n#  ", "\n  ").replace("\n#       ", "\n       ");
            assert_eq!(entries(&taken).len(), 3, "{taken}");
        }
    }
}

/// All valid lists with which `check` is tested.
#[test]
fn every_list_that_check_accepts_can_be_added_to() {
    let additions = [Addition::Entry(entry("233.252.0.7/32", "new"))];
    let mut tried = 0;
    for file in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/allowlists")).unwrap() {
        let path = file.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        let Ok(checked) = Allowlist::parse(&path, &bytes) else { continue };
        let text = text_of(checked.allowlist.with(&additions), &path.to_string_lossy());
        assert!(is_kept(str::from_utf8(&bytes).unwrap(), &text), "{text}");
        tried += 1;
    }
    assert!(tried > 8, "{tried}");
}

/// What was found: beside the entries of a list, around them and in them.
fn findings() -> impl Strategy<Value = Vec<(prop::sample::Index, u8, IpNet)>> {
    prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), prefix()), 0..6)
}

fn finding(prefix: IpNet) -> Finding {
    Finding { prefix, origin: "a \"file\"\n".to_owned(), detail: Some(format!("of {prefix}")) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_merged_list_has_whoever_was_on_it_and_whoever_was_found(list in list(), findings in findings()) {
        let Ok(checked) = Allowlist::parse(Path::new("list.yaml"), list.as_bytes()) else {
            return Err(TestCaseError::reject("no list"));
        };
        let old = entries(&list);
        let found = findings.iter().map(|(index, form, prefix)| match (old.is_empty(), form % 4) {
            (true, _) | (_, 0) => *prefix,
            (_, 1) => index.get(&old).0,
            (_, 2) => index.get(&old).0.supernet().unwrap_or(*prefix),
            _ => index.get(&old).0.addr().into(),
        });
        let proposal = Proposal::of(found.map(finding), Vec::new());
        let (new, unproven) = new_in(&proposal, &checked.allowlist);
        let text = text_of(checked.allowlist.with(&additions(&new, &unproven, 0)), &list);
        prop_assert!(is_kept(&list, &text), "{list:?}\n{text:?}");
        let merged = entries(&text);
        prop_assert_eq!(&merged[..old.len()], &old[..]);
        let is_covered = |by: &[(IpNet, Option<String>)], prefix: &IpNet| by.iter().any(|(it, _)| it.contains(prefix));
        for entry in &proposal.entries {
            prop_assert!(is_covered(&merged, &entry.prefix), "{entry:?}\n{text:?}");
        }
        for (prefix, comment) in &merged[old.len()..] {
            prop_assert!(!is_covered(&old, prefix) && comment.is_some(), "{prefix}\n{text:?}");
        }
    }

    #[test]
    fn any_list_keeps_its_bytes_and_gets_the_new_entries(
        list in list(),
        new in prop::collection::btree_map(prefix(), "[a-zA-Z0-9 \"'\\\\#:(),-]{0,20}", 0..5),
        open in prop::collection::btree_map(prefix(), "[a-z]{0,5}", 0..3),
    ) {
        let Ok(checked) = Allowlist::parse(Path::new("list.yaml"), list.as_bytes()) else {
            // Not every layout is one that YAML has, but most are.
            return Err(TestCaseError::reject("no list"));
        };
        let old = entries(&list);
        let new: Vec<(IpNet, String)> =
            new.into_iter().filter(|(prefix, _)| old.iter().all(|(known, _)| known != prefix)).collect();
        let mut additions: Vec<Addition> = new
            .iter()
            .map(|(prefix, comment)| Addition::Entry(entry_of(*prefix, comment.clone())))
            .collect();
        if !open.is_empty() {
            additions.push(Addition::Comment("# Seen.".to_owned()));
        }
        additions.extend(open.into_iter().map(|(prefix, comment)| Addition::CommentedOut(entry_of(prefix, comment))));
        let text = text_of(checked.allowlist.with(&additions), &list);
        prop_assert!(is_kept(&list, &text), "{list:?}\n{text:?}");
        let union: Vec<_> = old.into_iter().chain(new.into_iter().map(|(prefix, comment)| (prefix, Some(comment)))).collect();
        prop_assert_eq!(entries(&text), union);
        // Lines end as they did.
        prop_assert!(!list.contains("\r\n") || !text.replace("\r\n", "").contains('\n'), "{text:?}");
    }
}

/// Runs `portguard suggest --from - --merge` on a list, with addresses on standard input.
fn merge(list: &Path, addresses: &str, arguments: &[&str], output: Stdio) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portguard"));
    command.args(["suggest", "--merge", "--from", "-", "--allowlist"]).arg(list).args(arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(output).stderr(Stdio::piped()).spawn().unwrap();
    // It may have ended before.
    let _ = std::io::Write::write_all(&mut child.stdin.take().unwrap(), addresses.as_bytes());
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap()
}

#[test]
fn what_is_covered_is_not_added_and_merging_twice_is_merging_once() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list.yaml");
    fs::write(&list, "# ours\nallow:\n  - 10.0.0.0/8   # all\n").unwrap();
    let addresses = "10.1.0.0/16\n192.0.2.7 # nfs1\n10.0.0.0/7\nnfs.example\n";
    let output = merge(&list, addresses, &[], Stdio::piped());
    assert_eq!(
        text(&output.stdout),
        "# ours\nallow:\n  - 10.0.0.0/8   # all\n  - prefix: 10.0.0.0/7\n    comment: \"standard input (line 3) (10.1.0.0/16)\"\n  - prefix: 192.0.2.7\n    comment: \"standard input (line 2)\"\n"
    );
    assert!(
        text(&output.stderr).contains("note: not in the list: nfs.example (standard input line 4)"),
        "{output:?}"
    );
    assert!(output.status.success());
    fs::write(&list, &output.stdout).unwrap();
    let again = merge(&list, addresses, &[], Stdio::piped());
    assert_eq!(text(&again.stdout), text(&output.stdout));
    assert!(text(&again.stderr).contains("note: nothing is new"), "{again:?}");
}

#[test]
fn the_document_says_which_entries_are_new() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list.yaml");
    fs::write(&list, "allow: [10.0.0.0/8]").unwrap();
    let output = merge(&list, "10.1.0.0/16\n192.0.2.7\n", &["--json"], Stdio::piped());
    let document: portguard_testkit::documents::suggest::Document =
        serde_json::from_slice(&output.stdout).unwrap();
    let merged = document.merge.expect("what is new");
    assert_eq!(
        (&*merged.allowlist, &merged.new[..]),
        (list.to_str().unwrap(), &["192.0.2.7/32".to_owned()][..])
    );
    assert_eq!((document.entries.len(), merged.sha256.len()), (2, 64));
}

#[test]
fn an_invalid_list_is_not_added_to() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list.yaml");
    fs::write(&list, "allow:\n  - 10.1.2.3/16\n").unwrap();
    let output = merge(&list, "192.0.2.7\n", &[], Stdio::piped());
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(3), ""));
    assert!(text(&output.stderr).contains("list.yaml:2:5"), "{output:?}");
}

/// The shell empties a file before portguard can read it.
#[test]
fn output_into_the_list_itself_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list.yaml");
    let other_name = folder.path().join("other.yaml");
    fs::write(&list, "allow: [10.0.0.0/8]\n").unwrap();
    std::os::unix::fs::symlink(&list, &other_name).unwrap();
    let append = fs::OpenOptions::new().append(true).open(&other_name).unwrap();
    let output = merge(&list, "192.0.2.7\n", &[], append.into());
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("nothing was written"), "{output:?}");
    assert_eq!(fs::read_to_string(&list).unwrap(), "allow: [10.0.0.0/8]\n");

    let output = merge(&other_name, "192.0.2.7\n", &[], fs::File::create(&list).unwrap().into());
    assert_eq!(output.status.code(), Some(2));
    let told = text(&output.stderr);
    assert!(told.contains("the shell has emptied it") && told.contains("--merge > NEW"), "{told}");
    assert_eq!(fs::read_to_string(&list).unwrap(), "");
}
