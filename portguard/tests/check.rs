//! `portguard check`, as its user sees it: every list in `allowlists/`, and those that cannot be kept as text.

use std::fs::{self, Permissions};
use std::io::Write as _;
use std::iter;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// Runs `portguard check ARGUMENTS` in `folder`; gives all that it did, `folder` shown as `[FOLDER]`.
fn check(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_portguard"))
        .arg("check")
        .args(arguments)
        .current_dir(folder)
        .env_remove("PORTGUARD_ALLOWLIST")
        .stdin(Stdio::null())
        .output()
        .expect("portguard starts");
    let text = |bytes: Vec<u8>| {
        let text = String::from_utf8(bytes).expect("what portguard prints is UTF-8");
        text.replace(folder.to_str().expect("the folder's name is UTF-8"), "[FOLDER]")
    };
    format!(
        "$ portguard check {}\n{}----- stderr -----\n{}----- exit code: {} -----\n",
        arguments.join(" "),
        text(output.stdout),
        text(output.stderr),
        output.status.code().expect("portguard was not killed")
    )
}

/// A folder with the file `name` in it, which only its owner can write, whatever the umask is.
fn folder_with(name: &str, content: impl AsRef<[u8]>) -> TempDir {
    let folder = TempDir::new().expect("a temporary folder");
    let path = folder.path().join(name);
    fs::write(&path, content).expect("writing the list");
    fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("chmod");
    folder
}

/// What `portguard check` says to a list of that content.
fn check_content(content: impl AsRef<[u8]>) -> String {
    check(folder_with("list.yaml", content).path(), &["list.yaml"])
}

#[test]
fn lists() {
    insta::glob!("allowlists/*.yaml", |path| {
        let name = path.file_name().and_then(|name| name.to_str()).expect("a UTF-8 name");
        let folder = folder_with(name, fs::read(path).expect("reading the list"));
        insta::assert_snapshot!(check(folder.path(), &[name]));
    });
}

#[test]
fn the_example_of_the_repository_is_valid() {
    let folder = folder_with("allowlist.yaml", include_bytes!("../../allowlist.yaml"));
    insta::assert_snapshot!(check(folder.path(), &["allowlist.yaml"]), @r#"
    $ portguard check allowlist.yaml
    allowlist.yaml: 3 entries (2 IPv4, 1 IPv6), 0 warnings
    ----- stderr -----
    ----- exit code: 0 -----
    "#);
}

#[test]
fn a_list_on_standard_input() {
    let run = |list: &str| {
        let mut portguard = Command::new(env!("CARGO_BIN_EXE_portguard"))
            .args(["check", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("portguard starts");
        portguard.stdin.take().expect("a pipe").write_all(list.as_bytes()).expect("writing");
        let output = portguard.wait_with_output().expect("an end");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, told, _) = run("allow:\n  - 192.0.2.0/24\n");
    assert_eq!((code, &*told), (Some(0), "-: 1 entry (1 IPv4, 0 IPv6), 0 warnings\n"));
    let (code, _, told) = run("allow:\n  - 192.0.2.0/33\n");
    assert!(code == Some(3) && told.contains(" --> -:2:5"), "{told}");
}

#[test]
fn json_of_a_valid_list() {
    let list = "allow:\n  - 192.0.2.0/24\n  - ::ffff:192.0.2.1\n";
    let folder = folder_with("list.yaml", list);
    insta::assert_snapshot!(check(folder.path(), &["list.yaml", "--json"]), @r#"
    $ portguard check list.yaml --json
    {"schema":1,"path":"[FOLDER]/list.yaml","valid":true,"sha256":"c38fd55c72a1efbf8567bbf66a49367430d1b8048008d692ad7ce6311add38df","prefixes_v4":1,"prefixes_v6":1,"udp":"all","conditions":{"entries":0,"interfaces":0,"until":0,"udp":0,"rate":0},"absent_interfaces":[],"errors":[],"errors_total":0,"warnings":[{"line":3,"column":5,"text":"::ffff:192.0.2.1","message":"::ffff:192.0.2.1/128 is an IPv4-mapped prefix, and no packet has such a source","help":"IPv4 clients send from IPv4 addresses; did you mean 192.0.2.1/32?"}],"warnings_total":1}
    ----- stderr -----
    ----- exit code: 0 -----
    "#);
}

#[test]
fn conditions_are_counted_and_interfaces_that_this_host_lacks_are_noted() {
    let list = "allow:\n  - prefix: 192.0.2.0/24\n    interfaces: [lo, no-such*, no-card]\n    rate: 1/s\n  - prefix: ::1\n    \
                interfaces: no-card\n    until: 2499-12-01\n    udp: all\n  - 10.0.0.0/8\n";
    let folder = folder_with("list.yaml", list);
    let told = check(folder.path(), &["list.yaml"]);
    assert!(told.contains("list.yaml: 3 entries (2 IPv4, 1 IPv6), 2 with conditions, "), "{told}");
    assert!(told.contains("note: no interface of this host matches no-card, no-such*\n"), "{told}");
    let told = check(folder.path(), &["list.yaml", "--json"]);
    assert!(
        told.contains(
            r#""conditions":{"entries":2,"interfaces":2,"until":1,"udp":1,"rate":1},"absent_interfaces":["no-card","no-such*"]"#
        ),
        "{told}"
    );
}

#[test]
fn what_has_ended_is_a_warning() {
    for (seconds, ago) in
        [(5 * 86_400 + 60, "5 days ago"), (3 * 3_600 + 60, "3 hours ago"), (5 * 60 + 10, "5 minutes ago")]
    {
        let until =
            jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() - seconds).expect("a time");
        let told =
            check_content(format!("allow:\n  - 10.0.0.0/8\n  - prefix: 192.0.2.7\n    until: {until}\n"));
        assert!(told.contains(&format!("warning: 192.0.2.7/32 ended {ago}, at {until}\n")), "{told}");
        assert!(told.contains("list.yaml:3:13") && told.contains("1 warning\n"), "{told}");
        assert!(told.contains("----- exit code: 0 -----"), "{told}");
    }
}

#[test]
fn json_of_an_invalid_list() {
    let list = "allow:\n  - 10.1.2.3/16\n  - \"\\e\"\n  - 0.0.0.0/0\n";
    let folder = folder_with("list.yaml", list);
    insta::assert_snapshot!(check(folder.path(), &["--json", "list.yaml"]), @r#"
    $ portguard check --json list.yaml
    {"schema":1,"path":"[FOLDER]/list.yaml","valid":false,"sha256":"6c3b71a7b7ea26dd438bcc26e76cc882543ae7a2fa0fde7183d18c090a67a131","prefixes_v4":null,"prefixes_v6":null,"udp":null,"conditions":null,"absent_interfaces":[],"errors":[{"line":2,"column":5,"text":"10.1.2.3/16","message":"10.1.2.3/16 has host bits set","help":"did you mean 10.1.0.0/16 or 10.1.2.3/32?"},{"line":3,"column":5,"text":"\"\\e\"","message":"\\u{1b} is not a prefix","help":"write an address, or an address and a prefix length, like 192.0.2.0/24 or 2001:db8::/32"}],"errors_total":2,"warnings":[{"line":4,"column":5,"text":"0.0.0.0/0","message":"0.0.0.0/0 allows everyone: nothing is guarded over IPv4","help":"write the networks of your clients instead"}],"warnings_total":1}
    ----- stderr -----
    ----- exit code: 3 -----
    "#);
}

#[test]
fn json_of_a_missing_file() {
    let folder = TempDir::new().expect("a temporary folder");
    insta::assert_snapshot!(check(folder.path(), &["--json", "list.yaml"]), @r#"
    $ portguard check --json list.yaml
    {"schema":1,"path":"[FOLDER]/list.yaml","valid":false,"sha256":null,"prefixes_v4":null,"prefixes_v6":null,"udp":null,"conditions":null,"absent_interfaces":[],"errors":[{"line":null,"column":null,"text":null,"message":"there is no allowlist: list.yaml does not exist","help":"to write one, run `portguard suggest > list.yaml`; to use another file, name it: `--allowlist PATH`, or `portguard check PATH`"}],"errors_total":1,"warnings":[],"warnings_total":0}
    ----- stderr -----
    ----- exit code: 3 -----
    "#);
}

#[test]
fn json_of_standard_input() {
    let folder = TempDir::new().expect("a temporary folder");
    // Of no bytes.
    insta::assert_snapshot!(check(folder.path(), &["-", "--json"]), @r#"
    $ portguard check - --json
    {"schema":1,"path":"-","valid":false,"sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","prefixes_v4":null,"prefixes_v6":null,"udp":null,"conditions":null,"absent_interfaces":[],"errors":[{"line":1,"column":1,"text":"","message":"there is no list in the file","help":"write `allow:`, and the prefixes of your clients below it (`portguard suggest` proposes a list), or `allow: []` to allow nobody"}],"errors_total":1,"warnings":[],"warnings_total":0}
    ----- stderr -----
    ----- exit code: 3 -----
    "#);
}

#[test]
fn the_hash_is_that_of_the_file() {
    let list = include_bytes!("../../allowlist.yaml");
    let folder = folder_with("list.yaml", list);
    let printed = check(folder.path(), &["--json", "list.yaml"]);
    let sum =
        Command::new("sha256sum").arg("list.yaml").current_dir(&folder).output().expect("sha256sum starts");
    let sum = String::from_utf8(sum.stdout).expect("UTF-8");
    let sum = sum.split_whitespace().next().expect("a hash");
    assert!(printed.contains(&format!("\"sha256\":\"{sum}\"")), "{sum} is not in {printed}");
}

#[test]
fn the_list_named_by_the_environment() {
    let folder = folder_with("list.yaml", "allow: [192.0.2.1]\n");
    let output = Command::new(env!("CARGO_BIN_EXE_portguard"))
        .arg("check")
        .env("PORTGUARD_ALLOWLIST", folder.path().join("list.yaml"))
        .output()
        .expect("portguard starts");
    let path = folder.path().join("list.yaml");
    let expected = format!("{}: 1 entry (1 IPv4, 0 IPv6), 0 warnings\n", path.display());
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    assert!(output.status.success());
}

#[test]
fn missing_file() {
    let folder = TempDir::new().expect("a temporary folder");
    insta::assert_snapshot!(check(folder.path(), &["list.yaml"]), @r#"
    $ portguard check list.yaml
    ----- stderr -----
    error: there is no allowlist: list.yaml does not exist. To write one, run `portguard suggest > list.yaml`; to use another file, name it: `--allowlist PATH`, or `portguard check PATH`.
    ----- exit code: 3 -----
    "#);
}

#[test]
fn name_with_control_characters() {
    let folder = folder_with("a\n\x1b[31mlist.yaml", "allow: [10.1.2.3/16]");
    let printed = check(folder.path(), &["a\n\x1b[31mlist.yaml"]);
    let (_command, printed) = printed.split_once("----- stderr -----").expect("a separator");
    insta::assert_snapshot!(printed, @r#"
    error: 10.1.2.3/16 has host bits set
     --> a\n\u{1b}[31mlist.yaml:1:9
      |
    1 | allow: [10.1.2.3/16]
      |         ^^^^^^^^^^^
      = help: did you mean 10.1.0.0/16 or 10.1.2.3/32?

    error: a\n\u{1b}[31mlist.yaml is not a valid allowlist: 1 error
    ----- exit code: 3 -----
    "#);
}

#[test]
fn folder() {
    let folder = TempDir::new().expect("a temporary folder");
    insta::assert_snapshot!(check(folder.path(), &["."]), @r#"
    $ portguard check .
    ----- stderr -----
    error: . is a directory. Name the file in it.
    ----- exit code: 3 -----
    "#);
}

#[test]
fn device() {
    insta::assert_snapshot!(check(Path::new("/dev"), &["null"]), @r#"
    $ portguard check null
    ----- stderr -----
    error: null is not a regular file. Write the list to a file, and name that.
    ----- exit code: 3 -----
    "#);
}

#[test]
fn fifo_is_not_waited_for() {
    let folder = TempDir::new().expect("a temporary folder");
    let path = folder.path().join("list.yaml");
    let made = Command::new("mkfifo").arg(&path).status().expect("mkfifo starts");
    assert!(made.success());
    insta::assert_snapshot!(check(folder.path(), &["list.yaml"]), @r#"
    $ portguard check list.yaml
    ----- stderr -----
    error: list.yaml is not a regular file. Write the list to a file, and name that.
    ----- exit code: 3 -----
    "#);
}

#[test]
fn file_that_others_may_write() {
    let folder = folder_with("list.yaml", "allow:\n  - 10.1.2.3/16\n");
    for (mode, expected) in [(0o664, "(mode 0664)"), (0o646, "(mode 0646)"), (0o666, "(mode 0666)")] {
        fs::set_permissions(folder.path().join("list.yaml"), Permissions::from_mode(mode)).expect("chmod");
        let printed = check(folder.path(), &["list.yaml"]);
        assert!(printed.contains(expected), "{printed}");
    }
    insta::assert_snapshot!(check(folder.path(), &["list.yaml"]), @r#"
    $ portguard check list.yaml
    ----- stderr -----
    error: list.yaml is writable by users other than its owner (mode 0666)
     --> list.yaml
      = help: a user who can write the list can open port 111: run `chmod go-w list.yaml`

    error: 10.1.2.3/16 has host bits set
     --> list.yaml:2:5
      |
    2 |   - 10.1.2.3/16
      |     ^^^^^^^^^^^
      = help: did you mean 10.1.0.0/16 or 10.1.2.3/32?

    error: list.yaml is not a valid allowlist: 2 errors
    ----- exit code: 3 -----
    "#);
}

#[test]
fn too_large_a_file() {
    let folder = folder_with("list.yaml", "allow: []\n");
    let file = fs::OpenOptions::new().write(true).open(folder.path().join("list.yaml")).expect("the list");
    file.set_len(portguard::allowlist::MAX_FILE_SIZE + 1).expect("a sparse file");
    insta::assert_snapshot!(check(folder.path(), &["list.yaml"]), @r#"
    $ portguard check list.yaml
    ----- stderr -----
    error: list.yaml is larger than 256 MiB. A list within the limits is smaller: is this the right file?
    ----- exit code: 3 -----
    "#);
}

#[test]
fn latin_1() {
    let list = b"allow:\n  - 10.0.0.0/8\n  - prefix: 192.0.2.0/24 # B\xfcro K\xf6ln\n  - ::1\n";
    insta::assert_snapshot!(check_content(list), @r#"
    $ portguard check list.yaml
    ----- stderr -----
    error: the byte 0xfc is not UTF-8
     --> list.yaml:3:29
      |
    3 |   - prefix: 192.0.2.0/24 # B�ro K�ln
      |                             ^
      = help: save the file as UTF-8, e.g. with `iconv -f LATIN1 -t UTF-8`

    error: list.yaml is not a valid allowlist: 1 error
    ----- exit code: 3 -----
    "#);
}

#[test]
fn utf_16() {
    let list: Vec<u8> = "\u{feff}allow: []\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    insta::assert_snapshot!(check_content(list), @r#"
    $ portguard check list.yaml
    ----- stderr -----
    error: the byte 0xff is not UTF-8
     --> list.yaml:1:1
      |
    1 | ��a\0l\0l\0o\0w\0:\0 \0[\0]\0
      | ^
      = help: the file is in UTF-16: save it as UTF-8, e.g. with `iconv -f UTF-16 -t UTF-8`

    error: list.yaml is not a valid allowlist: 1 error
    ----- exit code: 3 -----
    "#);
}

#[test]
fn cut_off_in_a_character() {
    insta::assert_snapshot!(check_content(b"allow: [] # K\xc3"), @r#"
    $ portguard check list.yaml
    ----- stderr -----
    error: the byte 0xc3 is not UTF-8
     --> list.yaml:1:14
      |
    1 | allow: [] # K�
      |              ^
      = help: save the file as UTF-8, e.g. with `iconv -f LATIN1 -t UTF-8`

    error: list.yaml is not a valid allowlist: 1 error
    ----- exit code: 3 -----
    "#);
}

#[test]
fn zero_bytes() {
    insta::assert_snapshot!(check_content(b"allow:\n  - 10.0.0.0/8\0\n"), @r#"
    $ portguard check list.yaml
    ----- stderr -----
    error: this is not YAML: unexpected character: `\u{0}'
     --> list.yaml:2:15
      |
    2 |   - 10.0.0.0/8\0
      |               ^^
      = help: indent all entries alike, each after `- `, and put texts with special characters in quotes

    error: list.yaml is not a valid allowlist: 1 error
    ----- exit code: 3 -----
    "#);
}

/// The column shows that it is not read to its end.
#[test]
fn deep_nesting_fails_fast() {
    let printed = check_content(format!("allow: {}", "[".repeat(30_000)));
    insta::assert_snapshot!(printed, @r#"
    $ portguard check list.yaml
    ----- stderr -----
    error: this is not YAML: recursion limit exceeded
     --> list.yaml:1:40
      |
    1 | allow: [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[…
      |                                        ^
      = help: an entry is one prefix: write each on a line of its own, after `- `

    error: list.yaml is not a valid allowlist: 1 error
    ----- exit code: 3 -----
    "#);
}

#[test]
fn deep_nesting_of_mappings_fails_fast() {
    let printed = check_content(format!("allow: {}", "{a: ".repeat(30_000)));
    insta::assert_snapshot!(printed, @r#"
    $ portguard check list.yaml
    ----- stderr -----
    error: `allow` is not a list
     --> list.yaml:1:8
      |
    1 | allow: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: …
      |        ^
      = help: write each prefix on a line of its own, after `- `

    error: this is not YAML: recursion limit exceeded
     --> list.yaml:1:136
      |
    1 | …{a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: {a: …
      |                                                                                  ^
      = help: an entry is one prefix: write each on a line of its own, after `- `

    error: list.yaml is not a valid allowlist: 2 errors
    ----- exit code: 3 -----
    "#);
}

#[test]
fn prefixes_at_the_limit_and_above() {
    let limit = u32::try_from(portguard::allowlist::MAX_PREFIXES_PER_FAMILY).expect("a small number");
    let v4 = (1..=limit).map(|number| format!("- {}\n", Ipv4Addr::from_bits(number)));
    let v6 = (2..=limit + 3).map(|number| format!("- {}\n", Ipv6Addr::from_bits(number.into())));
    let list: String = iter::once("allow:\n".to_owned()).chain(v4).chain(v6).collect();
    insta::assert_snapshot!(check_content(list), @r#"
    $ portguard check list.yaml
    ----- stderr -----
    error: the list has 1048578 IPv6 prefixes, and the limit is 1048576
           --> list.yaml:2097154:3
            |
    2097154 | - ::10:2
            |   ^^^^^^
            = help: this is the first one over the limit: replace neighbouring prefixes by larger ones

    error: list.yaml is not a valid allowlist: 1 error
    ----- exit code: 3 -----
    "#);
}
