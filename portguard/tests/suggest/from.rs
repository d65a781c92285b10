//! `suggest --from`: files with addresses that an administrator has already.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use ipnet::IpNet;
use portguard::allowlist::{Allowlist, Entry};
use portguard::cli::suggest::document;
use portguard::cli::suggest::text::yaml;
use portguard::suggest::files::Files;
use portguard::suggest::from;
use portguard::suggest::names::Addresses;
use portguard::suggest::sources;
use portguard_common::calls::UdpCalls;
use portguard_testkit::documents::suggest::Document;
use proptest::prelude::*;

/// Runs `portguard suggest ARGUMENTS` with a text on standard input.
fn suggest(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portguard"));
    command
        .arg("suggest")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // It may have ended before.
    let _ = std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes());
    child.wait_with_output().unwrap()
}

#[track_caller]
fn document(input: &str) -> Document {
    let output = suggest(&["--from", "-", "--json"], input);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The prefixes, and what is left out.
#[track_caller]
fn found(input: &str) -> (Vec<String>, Vec<String>) {
    let Document { entries, left_out, .. } = document(input);
    (entries.into_iter().map(|it| it.prefix).collect(), left_out.into_iter().map(|it| it.what).collect())
}

#[test]
fn what_a_file_is_its_content_tells() {
    for (input, prefixes, left_out) in [
        (
            "\u{feff}# ours\n\n192.0.2.7\n10.0.0.0/255.0.0.0, fe80::/10\n",
            &["10.0.0.0/8", "192.0.2.7/32", "fe80::/10"][..],
            &[][..],
        ),
        ("; ours\n192.0.2.10-192.0.2.11\n0.0.0.0/0\n", &["192.0.2.10/31"], &["0.0.0.0/0"]),
        // The netmask is behind the network here, and in front of it there.
        ("10.0.0.0 255.0.0.0\n", &["10.0.0.0/8"], &[]),
        ("255.0.0.0 10.0.0.0\nhost 192.0.2.7\n", &["10.0.0.0/8", "192.0.2.7/32"], &[]),
        (
            "# access\nsshd: 203.0.113.1\nrpcbind, mountd: 192.0.2. .example.com\n",
            &["192.0.2.0/24"],
            &[".example.com"],
        ),
        ("---\nallow:\n  - prefix: 192.0.2.0/24\n    comment: rack 4\n", &["192.0.2.0/24"], &[]),
        ("{\"allow\": [\"192.0.2.0/24\"]}", &["192.0.2.0/24"], &[]),
        ("/srv/a 192.0.2.7(rw) @trusted\n", &["192.0.2.7/32"], &["@trusted"]),
        ("create a hash:ip family inet\nadd a 192.0.2.7\n", &["192.0.2.7/32"], &[]),
        (
            "{\"nftables\": [{\"set\": {\"family\": \"ip\", \"name\": \"a\", \"table\": \"t\", \"type\": \"ipv4_addr\", \
             \"elem\": [\"192.0.2.7\", {\"prefix\": {\"addr\": \"0.0.0.0\", \"len\": 1}}]}}]}",
            &["192.0.2.7/32"],
            &["0.0.0.0/1"],
        ),
        ("2001:db8::/32\n::1\n", &["2001:db8::/32"], &["::1/128"]),
    ] {
        let expected = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        assert_eq!(found(input), (expected(prefixes), expected(left_out)), "{input}");
    }
}

#[test]
fn comments_and_places_become_the_origin() {
    let Document { entries, .. } =
        document("allow:\n  - 10.1.2.0/24\n  - prefix: 192.0.2.0/24\n    comment: rack 4\n");
    let origin = |at: usize| (&*entries[at].origins[0].origin, entries[at].origins[0].detail.as_deref());
    assert_eq!(origin(0), ("standard input", Some("line 2")));
    assert_eq!(origin(1), ("standard input", Some("line 3; rack 4; public addresses: are they all yours?")));
    // Networks of the internet are asked about, as those of interfaces are.
    let Document { entries, .. } = document("198.51.100.0/24\n");
    assert_eq!(
        entries[0].origins[0].detail.as_deref(),
        Some("line 1; public addresses: are they all yours?")
    );
}

#[test]
fn a_file_that_is_nothing_known_is_an_error_that_names_the_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.txt");
    for (text, code, told) in [
        ("# ours\n\nhello world\n", 1, "line 3 is not understood: hello world"),
        ("\u{1b}[2J\n", 1, "line 1 is not understood: \\u{1b}[2J"),
        ("nfs1.example.com\n", 1, "line 1 is not understood: nfs1.example.com"),
        ("{\"a\": 1}\n", 1, "line 1 is not understood"),
        ("", 1, "it is empty"),
        ("# 192.0.2.7\n", 1, "it is empty"),
        ("sshd: 192.0.2.7\n", 1, "names no host"),
        ("{\"nftables\": [", 1, "is not valid JSON"),
        ("allow: [192.0.2.7/24]\n", 3, "notes.txt:1:9"),
    ] {
        fs::write(&path, text).unwrap();
        let output = suggest(&["--from", path.to_str().unwrap()], "");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(code), 0), "{text}: {stderr}");
        assert!(stderr.contains(told), "{text}: {stderr}");
    }
    let output = suggest(&["--from", "/nowhere"], "");
    assert!(String::from_utf8(output.stderr).unwrap().contains("cannot read /nowhere: No such file"));
}

/// Nothing that this host knows is in it.
#[test]
fn several_files_are_one_list_and_it_is_valid() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let plain = write("plain.txt", "10.0.0.0/8\n10.1.2.3/16\n");
    let allow = write("hosts.allow", "portmap: 10.1.2.3 ALL\n");
    let output = suggest(&["--from", &plain, "--from", &allow, "--from", "-"], "192.0.2.7\n");
    let text = String::from_utf8(output.stdout).unwrap();
    let expected = format!(
        "# Made by `portguard suggest --from`. Read it before you use it: it contains only the hosts of these files. Names were looked \
         up\n# when it was made.\n#\n# Not in the list:\n\
         # - 10.1.2.3/16 ({plain} line 2): 10.1.2.3/16 has host bits set: did you mean 10.1.0.0/16 or 10.1.2.3/32?\n\
         # - ALL ({allow} line 1): it is open to everyone, and an allowlist must not be: write the networks of its clients\n\
         #\n# Remove the # in front of the next line, unless your clients broadcast (ypbind -broadcast, rpcinfo -b): then nobody \
         can use these\n# addresses to forge calls with large replies.\n#udp: lookups\n\
         allow:\n  - prefix: 10.0.0.0/8\n    comment: \"{plain} (line 1); {allow} (10.1.2.3)\"\n  - prefix: 192.0.2.7\n    \
         comment: \"standard input (line 1)\"\n"
    );
    assert_eq!(text, expected);
    Allowlist::parse(Path::new("-"), text.as_bytes()).expect("a list");
    let with_condition = text.replace("#udp: lookups", "udp: lookups");
    let checked = Allowlist::parse(Path::new("-"), with_condition.as_bytes()).expect("a list");
    assert_eq!(checked.allowlist.udp_calls(), UdpCalls::Lookups);
}

/// The comment of a prefix that covers many lines is short.
#[test]
fn many_addresses_within_a_prefix_are_summed_up() {
    let lines: Vec<String> =
        (0..60_000_u32).map(|host| std::net::Ipv4Addr::from(0x0a00_0000 + host).to_string()).collect();
    let output = suggest(&["--from", "-"], &format!("10.0.0.0/8\n{}\n", lines.join("\n")));
    let text = String::from_utf8(output.stdout).unwrap();
    let end = "comment: \"standard input (line 1) (10.0.0.0, 10.0.0.1, 10.0.0.2 and 59997 more)\"\n";
    assert!(text.ends_with(end), "{text}");
}

/// A line of some form, which may be cut or joined with another one.
fn line() -> impl Strategy<Value = String> {
    let address = prop_oneof![
        any::<u32>().prop_map(|bits| std::net::Ipv4Addr::from(bits).to_string()),
        any::<u128>().prop_map(|bits| std::net::Ipv6Addr::from(bits).to_string()),
        Just("0.0.0.0".to_owned()),
        Just("*".to_owned()),
    ];
    let length = prop_oneof![
        Just(String::new()),
        (0..140_u8).prop_map(|length| format!("/{length}")),
        any::<u32>().prop_map(|bits| format!(" {}", std::net::Ipv4Addr::from(bits))),
        any::<u32>().prop_map(|bits| format!("-{}", std::net::Ipv4Addr::from(bits))),
    ];
    let frame = prop_oneof![
        Just(("", "")),
        Just(("add a ", "")),
        Just(("add b ", ",tcp:111 nomatch")),
        Just(("create a hash:ip,port netmask 24\nadd a ", " timeout 5 comment \"")),
        Just(("rpcbind: ", " EXCEPT ALL")),
        Just(("/srv ", "(rw)")),
        Just(("255.0.0.0 ", " # x")),
        Just(("allow:\n  - \"", "\"")),
        Just((
            "{\"nftables\": [{\"set\": {\"family\": \"ip\", \"name\": \"a\", \"table\": \"t\", \"type\": \"ipv4_addr\", \
               \"elem\": [\"",
            "\", {\"range\": [1]}, {\"prefix\": 1}, [], [1, {\"drop\": null}]]}}]}"
        )),
        Just((
            "{\"nftables\": [{\"rule\": {\"family\": \"ip\", \"chain\": \"a\", \"table\": \"t\", \"expr\": [{\"match\": {\"op\": \"==\", \
               \"left\": {\"payload\": {\"protocol\": \"ip\", \"field\": \"saddr\"}}, \"right\": \"",
            "\"}}, {\"accept\": null}]}}]}"
        )),
    ];
    prop_oneof![
        8 => (frame, address, length).prop_map(|((before, behind), address, length)| format!("{before}{address}{length}{behind}\n")),
        1 => "[ -~\\n]{0,12}",
        1 => any::<String>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_in_a_file_the_list_is_valid_and_nobody_is_lost(lines in prop::collection::vec(line(), 0..6)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, lines.concat()).unwrap();
        let Ok(named) = from::read(&path) else { return Ok(()) };
        let files = Files { named, ..Files::default() };
        let proposal = sources::proposal(&files, &[], &[], &[], &Addresses::default());
        prop_assert!(!proposal.entries.is_empty() || !proposal.left_out.is_empty());
        let text = yaml(&document::Document::new(proposal.clone()));
        let list = Allowlist::parse(Path::new("list"), text.as_bytes()).expect("a list").allowlist;
        let prefixes: Vec<IpNet> = list.entries().iter().map(Entry::prefix).collect();
        prop_assert_eq!(prefixes, proposal.entries.iter().map(|it| it.prefix).collect::<Vec<_>>());
        prop_assert!(proposal.entries.iter().all(|it| it.prefix.prefix_len() > 1));
    }
}
