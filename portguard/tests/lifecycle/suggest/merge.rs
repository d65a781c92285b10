//! `suggest --merge`: which list is added to, and what there is to say if it is lost.

use std::fs;
use std::process::Stdio;

use portguard_testkit::documents::suggest::Document;

use crate::support::{IFACE, Output, PORTGUARD, SingleHost};

/// What is new in a list, and which list that is.
#[track_caller]
fn merged(host: &SingleHost, arguments: &[&str]) -> (String, Vec<String>) {
    let addresses = host.lists.write_text("addresses", "10.0.0.0/8\n198.51.100.7\n");
    let json =
        host.portguard().ok(&[&["suggest", "--merge", "--json", "--from", &addresses], arguments].concat());
    let document: Document = serde_json::from_str(&json).unwrap();
    let merge = document.merge.expect("what is new");
    (merge.allowlist, merge.new)
}

#[test]
fn the_list_of_the_guards_is_added_to() {
    let host = SingleHost::new(PORTGUARD);
    host.plug("eth1", "peer1");
    let list = host.lists.write_text("first.yaml", "# ours\nallow:\n- 10.0.0.0/8\n");
    let other = host.lists.write_text("second.yaml", "allow: [198.51.100.0/24]\n");
    host.portguard().ok(&["attach", IFACE, "eth1", "--allowlist", &list]);
    assert_eq!(merged(&host, &[]), (list.clone(), vec!["198.51.100.7/32".to_owned()]));
    assert_eq!(merged(&host, &["--allowlist", &other]), (other.clone(), vec!["10.0.0.0/8".to_owned()]));
    let addresses = host.lists.write_text("addresses", "198.51.100.7\n");
    let text = host.portguard().ok(&["suggest", "--merge", "--from", &addresses]);
    let expected = format!(
        "# ours\nallow:\n- 10.0.0.0/8\n- prefix: 198.51.100.7\n  comment: \"{addresses} (line 1)\"\n"
    );
    assert_eq!(text, expected);

    // The entries are added to the file, and a note reports that the list in force is another one.
    fs::write(&list, "allow:\n- 10.0.0.0/8\n- 192.0.2.0/24\n").unwrap();
    let output = host.portguard().run(&["suggest", "--merge", "--from", &addresses]);
    assert!(output.stderr.contains("is not the list in force"), "{output:?}");
    assert!(output.stdout.starts_with("allow:\n- 10.0.0.0/8\n- 192.0.2.0/24\n- prefix: "), "{output:?}");

    host.portguard().ok(&["attach", "eth1", "--allowlist", &other]);
    let told = host.portguard().fails(2, &["suggest", "--merge", "--from", &addresses]);
    assert!(told.contains(&list) && told.contains(&other) && told.contains("--allowlist PATH"), "{told}");
}

#[test]
fn without_guards_it_is_the_default_list() {
    let host = SingleHost::bare(PORTGUARD);
    let list = host.list();
    let addresses = host.lists.write_text("addresses", "192.0.2.7\n198.51.100.7\n");
    let mut command = host.portguard().command(["suggest", "--merge", "--from", &addresses]);
    let output = Output::of(command.env("PORTGUARD_ALLOWLIST", &list));
    let text = fs::read_to_string(&list).unwrap();
    assert!(
        output.stdout.starts_with(&text) && output.stdout.contains("- prefix: 198.51.100.7\n"),
        "{output:?}"
    );
}

/// The shell has emptied the list; the copy of it is whole.
#[test]
fn an_emptied_list_can_be_restored_as_is_said() {
    let host = SingleHost::new(PORTGUARD);
    let list = host.list();
    let text = fs::read(&list).unwrap();
    host.portguard().ok(&["attach", IFACE, "--allowlist", &list]);
    let mut command = host.portguard().command(["suggest", "--merge"]);
    let emptied = fs::File::create(&list).unwrap();
    let output = command.stdout(emptied).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let told = String::from_utf8(output.stderr).unwrap();
    let (_, restore) = told.split_once("restore it with: ").expect("a command");
    let (restore, _) = restore.split_once(". ").expect("its end");
    let mut shell = host.machine.command(&host.namespace, "sh");
    assert!(shell.args(["-c", restore]).status().unwrap().success(), "{told}");
    assert_eq!(fs::read(&list).unwrap(), text);
}
