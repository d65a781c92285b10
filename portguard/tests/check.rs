//! `portguard check`, as its user sees it: every list in `allowlists/`, and those that cannot be kept as text.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

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
    insta::assert_snapshot!(check(folder.path(), &["allowlist.yaml"]), @"");
}

#[test]
fn json_of_a_valid_list() {
    let list = "allow:\n  - 192.0.2.0/24\n  - ::ffff:192.0.2.1\n";
    let folder = folder_with("list.yaml", list);
    insta::assert_snapshot!(check(folder.path(), &["list.yaml", "--json"]), @"");
}

#[test]
fn json_of_an_invalid_list() {
    let list = "allow:\n  - 10.1.2.3/16\n  - \"\\e\"\n  - 0.0.0.0/0\n";
    let folder = folder_with("list.yaml", list);
    insta::assert_snapshot!(check(folder.path(), &["--json", "list.yaml"]), @"");
}

#[test]
fn json_of_a_missing_file() {
    let folder = TempDir::new().expect("a temporary folder");
    insta::assert_snapshot!(check(folder.path(), &["--json", "list.yaml"]), @"");
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
    insta::assert_snapshot!(check(folder.path(), &["list.yaml"]), @"");
}

#[test]
fn folder() {
    let folder = TempDir::new().expect("a temporary folder");
    insta::assert_snapshot!(check(folder.path(), &["."]), @"");
}

#[test]
fn device() {
    insta::assert_snapshot!(check(Path::new("/"), &["/dev/null"]), @"");
}

#[test]
fn fifo_is_not_waited_for() {
    let folder = TempDir::new().expect("a temporary folder");
    let path = folder.path().join("list.yaml");
    let made = Command::new("mkfifo").arg(&path).status().expect("mkfifo starts");
    assert!(made.success());
    insta::assert_snapshot!(check(folder.path(), &["list.yaml"]), @"");
}

#[test]
fn file_that_others_may_write() {
    let folder = folder_with("list.yaml", "allow:\n  - 10.1.2.3/16\n");
    for (mode, expected) in [(0o664, "(mode 0664)"), (0o646, "(mode 0646)"), (0o666, "(mode 0666)")] {
        fs::set_permissions(folder.path().join("list.yaml"), Permissions::from_mode(mode)).expect("chmod");
        let printed = check(folder.path(), &["list.yaml"]);
        assert!(printed.contains(expected), "{printed}");
    }
    insta::assert_snapshot!(check(folder.path(), &["list.yaml"]), @"");
}

#[test]
fn too_large_a_file() {
    let folder = folder_with("list.yaml", "allow: []\n");
    let file = fs::OpenOptions::new().write(true).open(folder.path().join("list.yaml")).expect("the list");
    file.set_len(portguard::allowlist::MAX_FILE_SIZE + 1).expect("a sparse file");
    insta::assert_snapshot!(check(folder.path(), &["list.yaml"]), @"");
}

#[test]
fn latin_1() {
    let list = b"allow:\n  - 10.0.0.0/8\n  - prefix: 192.0.2.0/24 # B\xfcro K\xf6ln\n  - ::1\n";
    insta::assert_snapshot!(check_content(list), @"");
}

#[test]
fn utf_16() {
    let list: Vec<u8> = "\u{feff}allow: []\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    insta::assert_snapshot!(check_content(list), @"");
}

#[test]
fn cut_off_in_a_character() {
    insta::assert_snapshot!(check_content(b"allow: [] # K\xc3"), @"");
}

#[test]
fn zero_bytes() {
    insta::assert_snapshot!(check_content(b"allow:\n  - 10.0.0.0/8\0\n"), @"");
}

#[test]
fn deep_nesting_fails_fast() {
    let started = Instant::now();
    let printed = check_content(format!("allow: {}", "[".repeat(30_000)));
    assert!(started.elapsed() < Duration::from_secs(1), "it took {:?}", started.elapsed());
    insta::assert_snapshot!(printed, @"");
}

#[test]
fn deep_nesting_of_mappings_fails_fast() {
    let started = Instant::now();
    let printed = check_content(format!("allow: {}", "{a: ".repeat(30_000)));
    assert!(started.elapsed() < Duration::from_secs(1), "it took {:?}", started.elapsed());
    insta::assert_snapshot!(printed, @"");
}

#[test]
fn more_prefixes_than_the_limit() {
    let limit = u32::try_from(portguard::allowlist::MAX_PREFIXES_PER_FAMILY).expect("a small number");
    let mut list = String::from("allow:\n");
    for number in 0..limit + 2 {
        let address = std::net::Ipv4Addr::from_bits(number << 8);
        list += &format!("  - {address}/24\n");
    }
    insta::assert_snapshot!(check_content(list), @"");
}

#[test]
fn as_many_prefixes_as_the_limit() {
    let limit = u32::try_from(portguard::allowlist::MAX_PREFIXES_PER_FAMILY).expect("a small number");
    let mut list = String::from("allow:\n");
    for number in 0..limit {
        let v4 = std::net::Ipv4Addr::from_bits(number << 8);
        let v6 = std::net::Ipv6Addr::from_bits(u128::from(number) << 80 | 0x2001 << 112);
        list += &format!("  - {v4}/24\n  - {{prefix: {v6}/48, comment: rack {number}}}\n");
    }
    insta::assert_snapshot!(check_content(list), @"");
}
