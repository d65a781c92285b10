//! The man pages and completions: complete, without complaints of those who render them, and true.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

#[path = "../examples/manual/completions.rs"]
mod completions;
#[path = "../examples/manual/pages.rs"]
mod pages;

/// All pages in a folder, and where they are.
fn manual() -> (TempDir, Vec<PathBuf>) {
    let folder = TempDir::new().expect("a temporary folder");
    let write = |page: pages::Page| {
        let path = folder.path().join(page.file);
        fs::write(&path, page.text).expect("writing");
        path
    };
    let paths = pages::all("2026-01-31").into_iter().map(write).collect();
    (folder, paths)
}

/// What a program says of a file; with what the caller has to do if it is not there.
fn judge(program: &str, arguments: &[&str], path: &Path) -> Output {
    let mut command = Command::new(program);
    command.args(arguments).arg(path).env("LC_ALL", "C.UTF-8");
    command.output().unwrap_or_else(|error| panic!("{program}: {error}; cargo xtask setup installs it"))
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Both formatters that are in use warn of nothing; `groff` as man-db calls it.
fn complaints(page: &Path) -> String {
    let mandoc = judge("mandoc", &["-T", "lint", "-W", "warning"], page);
    let groff = judge("groff", &["-ww", "-z", "-man", "-Tutf8", "-Kutf8"], page);
    said(&mandoc) + &said(&groff)
}

#[test]
fn pages_render_without_warnings() {
    let (_folder, pages) = manual();
    assert!(!pages.is_empty());
    for page in &pages {
        assert_eq!(complaints(page), "", "{}", page.display());
    }

    // Nor would they keep quiet.
    let broken = &pages[0];
    let text = fs::read_to_string(broken).expect("a page").replace(".SH NAME", ".SH NAME\n.nonsense");
    fs::write(broken, text).expect("writing");
    let complaints = complaints(broken);
    assert!(complaints.contains("mandoc:") && complaints.contains("troff:"), "{complaints}");
}

#[test]
fn every_command_has_a_page_which_tells_of_every_option() {
    let (folder, pages) = manual();
    let help = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_portguard")).args(arguments).output();
        String::from_utf8(output.expect("portguard starts").stdout).expect("UTF-8")
    };
    let listed = help(&["--help"]);
    let (_, commands) = listed.split_once("Commands:\n").expect("commands");
    let commands = commands.lines().map_while(|line| line.split_whitespace().next());
    let commands: Vec<&str> = commands.filter(|command| *command != "help").collect();
    let mut names: BTreeSet<String> =
        commands.iter().map(|command| format!("portguard-{command}.8")).collect();
    names.extend(["portguard.8", "portguard-allowlist.5"].map(str::to_owned));
    let files = pages.iter().map(|page| page.file_name().expect("a name").to_string_lossy().into_owned());
    assert_eq!(files.collect::<BTreeSet<_>>(), names);

    for command in commands {
        let page = folder.path().join(format!("portguard-{command}.8"));
        let rendered = judge("mandoc", &["-T", "ascii"], &page);
        // Bold letters are printed twice.
        let text = said(&rendered);
        let text: String = text.replace("_\u{8}", "").split('\u{8}').fold(String::new(), |text, rest| {
            let kept = text.strip_suffix(|_: char| true).unwrap_or_default().to_owned();
            kept + rest
        });
        let help = help(&[command, "--help"]);
        let options = help.split_whitespace().filter(|word| word.starts_with("--") && word.len() > 2);
        for option in options {
            let option = option.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
            assert!(text.contains(option), "{option} is not in {}: {text}", page.display());
        }
    }
}

#[test]
fn the_example_of_the_allowlist_is_a_list_and_its_errors_are_errors() {
    let (folder, _) = manual();
    let page = fs::read_to_string(folder.path().join("portguard-allowlist.5")).expect("the page");
    assert!(!page.contains('@'), "a mark is left: {page}");
    let (_, example) = page.split_once(".EX\n").expect("an example");
    let (example, _) = example.split_once(".EE").expect("its end");
    let list = folder.path().join("list.yaml");
    let check = |text: &str| {
        fs::write(&list, text).expect("writing");
        let output = judge(env!("CARGO_BIN_EXE_portguard"), &["check"], &list);
        (output.status.code(), said(&output))
    };
    let (code, told) = check(&example.replace('\\', ""));
    assert_eq!(code, Some(0), "{told}");
    let summary = ": 3 entries (2 IPv4, 1 IPv6), 2 with conditions, udp lookups, 0 warnings\n";
    assert!(told.contains(summary), "{told}");
    for mistake in
        ["allow:\n  - 10.1.2.3/16\n", "deny: []\n", "allow: [10.0.0.1, 10.0.0.1]\n", "allow: [010.0.0.1]\n"]
    {
        assert_eq!(check(mistake).0, Some(3), "{mistake}");
    }
}

#[test]
fn bash_takes_the_completions_and_completes() {
    let folder = TempDir::new().expect("a temporary folder");
    let (file, text) = completions::all().into_iter().next().expect("bash is the first");
    let path = folder.path().join(file);
    fs::write(&path, text).expect("writing");
    let output = judge("bash", &["-n"], &path);
    assert!(output.status.success() && said(&output).is_empty(), "{output:?}");
    let script = r#"source "$1"; COMP_WORDS=(portguard det); COMP_CWORD=1; _portguard portguard det portguard; echo "${COMPREPLY[@]}""#;
    let output = judge("bash", &["-c", script, "bash"], &path);
    assert_eq!(said(&output), "detach\n");
}
