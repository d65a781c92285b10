//! `edit`: a copy in an editor, which takes the place of the list if it is valid.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use portguard_testkit::net::{Size, Terminal};
use portguard_testkit::portguard::PATIENCE;

use crate::{Host, Told, set_mode, told};

const LIST: &str = "# ours\nallow:\n  - 10.0.0.0/8\n";

/// Lets a shell script edit the list; `$1` is the copy. The copies are made in a folder of the test.
fn edit(host: &Host, script: &str) -> Told {
    told(&editing(host, script).output().expect("portguard"))
}

fn editing(host: &Host, script: &str) -> Command {
    let editor = host.0.path("editor");
    fs::write(&editor, format!("#!/bin/sh\n{script}\n")).expect("a script");
    set_mode(&editor, 0o755);
    fs::create_dir_all(host.0.path("tmp")).expect("a directory");
    let mut command = host.command(&["edit"]);
    command.env("EDITOR", &editor).env("TMPDIR", host.0.path("tmp"));
    command
}

/// The copies that are left.
fn copies(host: &Host) -> Vec<PathBuf> {
    let folders = fs::read_dir(host.0.path("tmp")).expect("the directory").flatten();
    folders
        .flat_map(|folder| fs::read_dir(folder.path()).expect("a folder").flatten())
        .map(|it| it.path())
        .collect()
}

#[test]
fn a_valid_copy_takes_the_place_of_the_list() {
    let host = Host::default();
    host.list(LIST);
    // It has the name of the list, and nobody else can read it.
    let script =
        "test $(stat -c %a $(dirname $1)) = 700 && test $(basename $1) = list.yaml && sed -i s/10/11/ $1";
    let told = edit(&host, script);
    assert_eq!((told.code, host.text()), (0, LIST.replace("10", "11")), "{}", told.stderr);
    assert!(copies(&host).is_empty());
    host.assert_tidy();
}

#[test]
fn a_copy_that_was_not_changed_changes_nothing() {
    let host = Host::default();
    host.list(LIST);
    let before = fs::metadata(host.path()).expect("metadata").modified().expect("a time");
    let told = edit(&host, "touch $1");
    assert!(told.code == 0 && told.stderr.contains("is unchanged"), "{}", told.stderr);
    assert_eq!(fs::metadata(host.path()).expect("metadata").modified().expect("a time"), before);
    assert!(copies(&host).is_empty());
}

#[test]
fn an_invalid_copy_is_kept_and_the_list_stays() {
    let host = Host::default();
    host.list(LIST);
    let told = edit(&host, "echo '  - 10.1.2.3/16' >> $1");
    assert_eq!((told.code, host.text().as_str()), (3, LIST), "{}", told.stderr);
    assert!(told.stderr.contains("list.yaml:4:5") && told.stderr.contains("did you mean"), "{}", told.stderr);
    let [copy] = &copies(&host)[..] else { panic!("one copy") };
    assert!(told.stderr.contains(&format!("your edited copy is in {}", copy.display())), "{}", told.stderr);
    assert!(fs::read_to_string(copy).expect("the copy").ends_with("10.1.2.3/16\n"));
    host.assert_tidy();
}

#[test]
fn on_a_terminal_it_asks_until_the_list_is_valid_or_given_up() {
    const QUESTION: &str = "What now? (e)dit again, (d)iscard the changes, (s)how the errors again: ";
    let host = Host::default();
    host.list(LIST);
    // The second time, it mends what it has done the first time.
    let script = "if grep -q /16 $1; then sed -i 's/2.3/0.0/' $1; else echo '  - 11.1.2.3/16' >> $1; fi";
    let size = Size { columns: 120, rows: 50 };
    let asked = |terminal: &Terminal, times: usize| {
        let asked =
            terminal.until("a question", PATIENCE, |text| text.matches(QUESTION.trim_end()).count() == times);
        asked.unwrap_or_else(|error| panic!("{error:#}: {}", terminal.text()));
    };
    let mut terminal = Terminal::spawn(&mut editing(&host, script), size).expect("a terminal");
    asked(&terminal, 1);
    terminal.type_in("what?\n").expect("typing");
    asked(&terminal, 2);
    terminal.type_in("s\n").expect("typing");
    asked(&terminal, 3);
    assert_eq!(terminal.text().matches("has host bits set").count(), 2, "{}", terminal.text());
    terminal.type_in("e\n").expect("typing");
    assert!(terminal.ended(PATIENCE).expect("its end").success(), "{}", terminal.text());
    assert_eq!(host.text(), format!("{LIST}  - 11.1.0.0/16\n"));

    host.list(LIST);
    for (reply, code, left) in [("d\n", 1, 0), ("\u{4}", 3, 1)] {
        let mut terminal = Terminal::spawn(&mut editing(&host, script), size).expect("a terminal");
        asked(&terminal, 1);
        terminal.type_in(reply).expect("typing");
        assert_eq!(terminal.ended(PATIENCE).expect("its end").code(), Some(code), "{}", terminal.text());
        assert_eq!((host.text().as_str(), copies(&host).len()), (LIST, left), "{}", terminal.text());
    }
    host.assert_tidy();
}

#[test]
fn a_broken_list_can_be_mended() {
    let host = Host::default();
    host.list("allow:\n  - 10.1.2.3/16\n");
    let told = edit(&host, "sed -i s/2.3/0.0/ $1");
    assert_eq!((told.code, &*host.text()), (0, "allow:\n  - 10.1.0.0/16\n"), "{}", told.stderr);
}

#[test]
fn an_editor_that_fails_has_changed_nothing() {
    let host = Host::default();
    host.list(LIST);
    let told = edit(&host, "exit 1");
    assert_eq!((told.code, host.text().as_str()), (1, LIST), "{}", told.stderr);
    assert!(told.stderr.contains("the editor") && copies(&host).is_empty(), "{}", told.stderr);
    // What was typed before is not lost.
    let told = edit(&host, "echo '# more' >> $1; exit 1");
    assert_eq!((told.code, host.text().as_str(), copies(&host).len()), (1, LIST, 1), "{}", told.stderr);
    let mut command = host.command(&["edit"]);
    let told = crate::told(&command.env("VISUAL", "no-such-editor --wait").output().expect("portguard"));
    assert!(told.code == 1 && told.stderr.contains("it was not found"), "{}", told.stderr);
}

#[test]
fn what_somebody_else_has_written_meanwhile_stays() {
    let host = Host::default();
    let list = host.list(LIST);
    let script = format!("echo '  - ::1' >> $1; echo '  - ::2' >> {}", list.display());
    let told = edit(&host, &script);
    assert_eq!((told.code, host.text()), (1, format!("{LIST}  - ::2\n")), "{}", told.stderr);
    assert!(told.stderr.contains("somebody else has changed it meanwhile"), "{}", told.stderr);
    assert_eq!(copies(&host).len(), 1);
    host.assert_tidy();
}

#[test]
fn a_list_that_is_not_there_begins_as_one_that_allows_nobody() {
    let host = Host::default();
    let told = edit(&host, "grep -q '^allow: \\[\\]$' $1 && sed -i 's/\\[\\]/[::1]/' $1");
    assert_eq!(told.code, 0, "{}", told.stderr);
    assert!(host.text().ends_with("allow: [::1]\n"));
    fs::remove_file(host.path()).expect("removing");
    let told = edit(&host, "true");
    assert!(told.code == 0 && !host.path().exists(), "{}", told.stderr);
}
