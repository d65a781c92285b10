//! The man pages: one of each command, from its definition, and that of the allowlist, which is written by hand.

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};
use portguard::allowlist;
use portguard::allowlist::{MAX_FILE_SIZE, MAX_PREFIXES_PER_FAMILY};
use portguard::cli::Cli;
use portguard::error::Kind;

/// What the pages belong to, in the middle of their first line.
const MANUAL: &str = "System Administration";
/// Programs of the administrator.
const SECTION: &str = "8";
/// The page of the allowlist, with marks where the others have what is generated.
const ALLOWLIST: &str = include_str!("portguard-allowlist.5");

/// A page.
pub(crate) struct Page {
    /// The name of its file.
    pub(crate) file: String,
    /// Its source.
    pub(crate) text: String,
}

/// All pages, as of `date`, which is given because a page should not differ between two builds of a release.
pub(crate) fn all(date: &str) -> Vec<Page> {
    let mut cli = Cli::command().disable_help_subcommand(true);
    cli.build();
    let verbs: Vec<Command> = cli.get_subcommands().filter(|verb| !verb.is_hide_set()).cloned().collect();
    let mut pages: Vec<Page> = verbs.iter().map(|verb| page(verb, &verbs, date)).collect();
    pages.push(page(&cli, &verbs, date));
    pages.push(allowlist(date));
    pages
}

/// The name that a command's page has.
fn name(command: &Command) -> String {
    command.get_display_name().unwrap_or(command.get_name()).to_owned()
}

/// The page of one command; `verbs` are those that there are.
fn page(command: &Command, verbs: &[Command], date: &str) -> Page {
    let is_verb = !command.has_subcommands();
    let name = name(command);
    let man = Man::new(command.clone())
        .title(name.to_uppercase())
        .section(SECTION)
        .date(date)
        .source(format!("portguard {}", env!("CARGO_PKG_VERSION")))
        .manual(MANUAL);
    let mut text = Vec::new();
    man.render_title(&mut text)
        .and_then(|()| man.render_name_section(&mut text))
        .and_then(|()| synopsis(command).to_writer(&mut text))
        .and_then(|()| man.render_description_section(&mut text))
        .and_then(|()| man.render_options_section(&mut text))
        .and_then(|()| if is_verb { Ok(()) } else { man.render_subcommands_section(&mut text) })
        .expect("memory takes everything");
    // An empty line is set by two breaks, which mandoc warns of.
    let text = String::from_utf8(text).expect("roff is text").replace("\n.br\n\n.br\n", "\n.sp\n");
    let mut rest = Roff::new();
    if let Some(notes) = command.get_after_long_help().or(command.get_after_help()) {
        rest.control("SH", ["NOTES"]);
        for (number, paragraph) in notes.to_string().split("\n\n").enumerate() {
            if number > 0 {
                rest.control("PP", []);
            }
            rest.text([roman(paragraph)]);
        }
    }
    if !is_verb {
        files(&mut rest);
    }
    exit_status(&mut rest);
    see_also(&mut rest, &name, verbs);
    Page { file: format!("{name}.{SECTION}"), text: text + &rest.render() }
}

/// The forms of a command, as its help shows them.
fn synopsis(command: &Command) -> Roff {
    let usage = command.clone().render_usage().to_string();
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]);
    for (number, form) in usage.trim_start_matches("Usage: ").lines().enumerate() {
        if number > 0 {
            roff.control("br", []);
        }
        let called = command.get_bin_name().unwrap_or(command.get_name());
        let form = form.trim();
        let arguments = form.strip_prefix(called).unwrap_or(form);
        roff.text([bold(&form[..form.len() - arguments.len()]), roman(arguments)]);
    }
    roff
}

/// A term and what it means.
fn term(roff: &mut Roff, term: Inline, meaning: &str) {
    roff.control("TP", []).text([term]).text([roman(meaning)]);
}

fn files(roff: &mut Roff) {
    roff.control("SH", ["FILES"]);
    for (file, meaning) in [
        (
            allowlist::DEFAULT_PATH,
            "The allowlist, unless PORTGUARD_ALLOWLIST or an option names another one.",
        ),
        (
            "/etc/default/portguard",
            "The environment of the units: PORTGUARD_ALLOWLIST and PORTGUARD_OPTIONS.",
        ),
        ("/var/lib/portguard", "Copies of the lists that were put in force; the service falls back to them."),
        ("/sys/fs/bpf/portguard", "The guards: the kernel keeps them on as long as they are here."),
    ] {
        term(roff, italic(file), meaning);
    }
    roff.control("SH", ["ENVIRONMENT"]);
    for (variable, meaning) in [
        (
            "PORTGUARD_ALLOWLIST",
            "The allowlist of attach, run and check, and of allow, revoke, edit, explain and suggest --merge if there is no guard, \
             unless an option names another one. reload reads the file of the guard's list.",
        ),
        ("PORTGUARD_METRICS", "Where run serves metrics, unless an option names another place."),
        ("VISUAL, EDITOR", "The editor of edit, with its arguments; the first one that is set."),
        ("NO_COLOR", "If set, nothing is coloured."),
    ] {
        term(roff, bold(variable), meaning);
    }
}

fn exit_status(roff: &mut Roff) {
    roff.control("SH", ["EXIT STATUS"]);
    term(roff, bold("0"), "Done.");
    for (kind, meaning) in [
        (Kind::Failed, "Failed."),
        (Kind::Usage, "The command line is invalid."),
        (Kind::InvalidAllowlist, "The allowlist is invalid."),
        (Kind::NotThere, "There is no such interface, or no guard on it."),
        (Kind::NotPermitted, "Not permitted; the missing capability is named."),
    ] {
        term(roff, bold(kind.exit_code().to_string()), meaning);
    }
}

/// The other pages, in the order that man(7) asks for: by section, then by name.
fn see_also(roff: &mut Roff, this: &str, verbs: &[Command]) {
    let mut commands: Vec<String> = verbs.iter().map(name).collect();
    commands.push("portguard".to_owned());
    commands.push("rpcbind".to_owned());
    commands.retain(|command| command != this);
    commands.sort_unstable();
    let mut line = vec![bold("portguard-allowlist"), roman("(5)")];
    for command in commands {
        line.extend([roman(", "), bold(command), roman(format!("({SECTION})"))]);
    }
    roff.control("SH", ["SEE ALSO"]).text(line);
}

fn allowlist(date: &str) -> Page {
    let text = ALLOWLIST
        .replace("@DATE@", date)
        .replace("@VERSION@", env!("CARGO_PKG_VERSION"))
        .replace("@MANUAL@", MANUAL)
        .replace("@DEFAULT@", allowlist::DEFAULT_PATH)
        .replace("@PREFIXES@", &MAX_PREFIXES_PER_FAMILY.to_string())
        .replace("@SIZE@", &(MAX_FILE_SIZE >> 20).to_string());
    Page { file: "portguard-allowlist.5".to_owned(), text }
}
