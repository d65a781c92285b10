//! The command line itself: what it says about itself, and what it does not take.

use std::process::{Command, Stdio};

const COMMANDS: &[&str] = &[
    "attach", "detach", "reload", "allow", "revoke", "edit", "confirm", "run", "status", "stats", "top",
    "check", "explain", "suggest", "report", "probe", "doctor",
];

/// Runs `portguard ARGUMENTS` away from any terminal; gives all that it did.
fn portguard(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_portguard"))
        .args(arguments)
        .env_remove("PORTGUARD_ALLOWLIST")
        .env_remove("PORTGUARD_METRICS")
        .env_remove("COLUMNS")
        .stdin(Stdio::null())
        .output()
        .expect("portguard starts");
    let text = |bytes| String::from_utf8(bytes).expect("what portguard prints is UTF-8");
    format!(
        "$ portguard {}\n{}----- stderr -----\n{}----- exit code: {} -----\n",
        arguments.join(" "),
        text(output.stdout),
        text(output.stderr),
        output.status.code().expect("portguard was not killed")
    )
}

#[test]
fn help() {
    insta::assert_snapshot!("help", portguard(&["--help"]));
    for command in COMMANDS {
        insta::assert_snapshot!(format!("help-{command}"), portguard(&[command, "--help"]));
    }
}

#[test]
fn help_lists_every_command() {
    let help = portguard(&["--help"]);
    let listed: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .map_while(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(listed, [COMMANDS, &["help"]].concat());
}

#[test]
fn help_goes_to_standard_output_and_is_no_error() {
    for arguments in [&["--help"][..], &["-h"], &["help"], &["help", "attach"], &["stats", "-h"]] {
        let told = portguard(arguments);
        assert!(told.ends_with("----- stderr -----\n----- exit code: 0 -----\n"), "{told}");
        assert!(told.contains("Usage: portguard"), "{told}");
    }
}

#[test]
fn the_nearest_verb_is_suggested_first() {
    let told = portguard(&["atach"]);
    assert!(told.contains("some similar subcommands exist: 'attach', 'detach'"), "{told}");
}

#[test]
fn without_arguments_it_explains_itself() {
    let told = portguard(&[]);
    assert!(told.starts_with("$ portguard \n----- stderr -----\nGuards port 111"), "{told}");
    assert!(told.ends_with("----- exit code: 2 -----\n"), "{told}");
}

#[test]
fn version() {
    let expected = |name: &str, line: &str| {
        let version = env!("CARGO_PKG_VERSION");
        format!("$ portguard {line}\n{name} {version}\n----- stderr -----\n----- exit code: 0 -----\n")
    };
    assert_eq!(portguard(&["--version"]), expected("portguard", "--version"));
    assert_eq!(portguard(&["-V"]), expected("portguard", "-V"));
    for command in COMMANDS {
        let line = format!("{command} --version");
        assert_eq!(portguard(&[command, "--version"]), expected(&format!("portguard-{command}"), &line));
    }
}

/// Found before anything is looked at or touched: the interfaces need not exist, and no rights are needed.
#[test]
fn usage_errors() {
    let wrong: &[&[&str]] = &[
        &["atach", "eth0"],
        &["--json"],
        &["attach"],
        &["attach", "--allowlist"],
        &["attach", "eth0", "--mode", "fast"],
        &["attach", "eth0", "--mode", "native", "--mode", "generic"],
        &["attach", "eth0", "--all"],
        &["detach"],
        &["detach", "eth0", "--all"],
        &["reload", "--dryrun"],
        &["reload", "--audit"],
        &["allow"],
        &["allow", "10.1.2.3/16"],
        &["allow", "192.0.2.7", "--comment", ""],
        &["revoke", "--all"],
        &["revoke", "192.0.2.7", "--comment", "x"],
        &["edit", "/etc/portguard/allowlist.yaml"],
        &["edit", "--json"],
        &["status", "--csv"],
        &["stats", "--json", "--csv"],
        &["stats", "--top"],
        &["stats", "--top", "-1"],
        &["stats", "--top", "many"],
        &["stats", "--sort", "name"],
        &["top"],
        &["top", "--json"],
        &["top", "--interval", "0"],
        &["top", "--interval", "3601"],
        &["check", "a.yaml", "b.yaml"],
        &["check", "--reset"],
        &["suggest", "/etc/exports"],
        &["suggest", "--allowlist", "a.yaml"],
        &["suggest", "--from"],
        &["suggest", "--from", "a.txt", "--link-local"],
        &["report", "--json", "--csv"],
        &["report", "--top", "-1"],
        &["explain"],
        &["explain", "192.0.2.7", "--proto", "icmp"],
        &["explain", "192.0.2.7", "--iface", "eth0", "--allowlist", "a.yaml"],
        &["probe", "192.0.2.1", "192.0.2.2"],
        &["probe", "--timeout", "0"],
        &["probe", "--csv"],
        &["doctor", "eth0"],
    ];
    let told: Vec<String> = wrong.iter().map(|arguments| portguard(arguments)).collect();
    for told in &told {
        let (stdout, _) = told.split_once("----- stderr -----").expect("the heading");
        assert_eq!(stdout.lines().count(), 1, "nothing but the command itself: {told}");
        assert!(told.ends_with("----- exit code: 2 -----\n"), "{told}");
    }
    insta::assert_snapshot!(told.join("\n"));
}

/// What is no source is found before anything is looked at, too, and so is what was probably meant.
#[test]
fn what_explain_does_not_take_for_a_source() {
    let wrong = [
        "",
        " 192.0.2.7",
        "192.0.2.0/24",
        "2001:db8::/32",
        "192.0.2.0/24/8",
        "a/b",
        "fe80::1%eth0",
        "::ffff:192.0.2.7",
        "192.0.2.7:111",
        "[2001:db8::7]:111",
        "[2001:db8::7]",
        "nfs1.example",
        "192.0.2.007",
        "192.0.2",
        "2001:db8:::7",
        "\u{1b}[2J",
    ];
    let told: Vec<String> = wrong.iter().map(|source| portguard(&["explain", "192.0.2.7", source])).collect();
    for told in &told {
        assert!(told.ends_with("----- exit code: 2 -----\n"), "{told}");
    }
    insta::assert_snapshot!(told.join("\n"));
}
