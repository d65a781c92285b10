//! `docs/verification.md`: what was proved, by whom, and with which figures.
//!
//! The words are here; the figures are those of the last run of each command, and stay until it runs again.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::workspace;

/// A part of the document with figures of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Section {
    /// Names its figures in the document.
    pub(crate) key: &'static str,
    title: &'static str,
    words: &'static str,
    /// What makes its figures.
    command: &'static str,
}

/// Layer 1.
pub(crate) const TABLE: Section = Section {
    key: "table",
    title: "A table of frames",
    words: "\
`portguard/tests/program/frames.rs` is the product's verdict table, row by row and edge by edge. Each case is run through \
the host build of the parser and through the loaded program (`BPF_PROG_TEST_RUN`), on Ethernet and on raw IP, enforcing and \
in audit mode, with the packet in one buffer and split over several. The action must be right, and so must every counter.",
    command: "cargo xtask verify table",
};

/// Layer 2.
pub(crate) const PARSERS: Section = Section {
    key: "parsers",
    title: "Two parsers, one truth",
    words: "\
Random frames (VLAN stacks, options, extension header chains, fragments, TCP, UDP and others, from sources on both sides of \
every edge of the list; half of them damaged) are judged three times: by an oracle that reads each header with etherparse and \
shares no code with the guard, by the host build, and by the loaded program. Verdicts must agree frame by frame; the program's \
counters must move by exactly what the host build expects, per reason and per source, in packets and in bytes. Where etherparse \
can take the whole frame apart on its own, the port that it finds must fit the verdict, too; the oracle itself judges every \
frame.",
    command: "cargo xtask verify parsers",
};

/// Layer 3.
pub(crate) const LINUX: Section = Section {
    key: "linux",
    title: "Linux itself as the oracle",
    words: "\
Two hosts with equal addresses, one of them guarded in native mode, get the same random frames over a veth. UDP sockets, \
listening TCP sockets (their SYN-ACKs and resets on the wire) and echo replies show what Linux has delivered, reassembled \
fragments included. From denied sources nothing may ever arrive on port 111 of the guarded host; everything else that arrives \
at the other one must arrive there. Beyond the header limits (4 tags, 16 extension headers) only the first is asked.",
    command: "cargo xtask verify linux",
};

/// Layer 4.
pub(crate) const FUZZING: Section = Section {
    key: "fuzzing",
    title: "Fuzzing",
    words: "\
libFuzzer looks for inputs that reach new code: `frame` holds the host parser against the oracle of layer 2, `allowlist` \
asks that reading a list never panics, takes bounded time, and that an accepted list means the same when it is written down \
again. The committed seeds run in `cargo xtask test`.",
    command: "cargo xtask fuzz",
};

/// Whether the layers would notice.
pub(crate) const MUTANTS: Section = Section {
    key: "mutants",
    title: "Deliberate bugs",
    words: "\
Each patch in `xtask/mutants/` plants one bug into a copy of the sources; the short forms of layers 1 to 3 run against it. \
A layer catches the bug if its tests fail. The command fails unless each bug is caught by at least two layers.",
    command: "cargo xtask verify mutants",
};

const SECTIONS: [Section; 5] = [TABLE, PARSERS, LINUX, FUZZING, MUTANTS];

const HEAD: &str = "\
# Verification

The property: **no packet that Linux could deliver to UDP or TCP port 111 passes unless its source is on the list; no packet
that Linux would deliver anywhere else is dropped**, the header limits aside. It is held up by independent layers. The
figures below are written by the commands that make them.
";

impl Section {
    fn begin(self) -> String {
        format!("<!-- {} -->\n", self.key)
    }

    fn end(self) -> String {
        format!("<!-- end of {} -->\n", self.key)
    }

    /// Its figures in a document.
    fn figures(self, document: &str) -> Option<&str> {
        let (_, rest) = document.split_once(&self.begin())?;
        Some(rest.split_once(&self.end())?.0)
    }
}

/// Writes down new figures of a section, with the date and the kernel.
pub(crate) fn write(section: Section, figures: &str) -> Result<()> {
    let path = path();
    let old = fs::read_to_string(&path).unwrap_or_default();
    let figures = format!("{figures}\n{}, Linux {}.\n", today()?, kernel()?);
    fs::create_dir_all(path.parent().unwrap_or(&path))
        .and_then(|()| fs::write(&path, render(&old, section, &figures)))
        .with_context(|| format!("cannot write {}", path.display()))?;
    eprintln!("verify: written to {}", path.display());
    Ok(())
}

/// The figures of a section as they stand in the document.
pub(crate) fn read(section: Section) -> Option<String> {
    let document = fs::read_to_string(path()).ok()?;
    section.figures(&document).map(str::to_owned)
}

fn path() -> PathBuf {
    workspace().join("docs/verification.md")
}

fn render(old: &str, new: Section, figures: &str) -> String {
    let mut document = HEAD.to_owned();
    for section in SECTIONS {
        let figures = if section == new { Some(figures) } else { section.figures(old) };
        let figures = figures.unwrap_or("Not run yet.\n");
        let Section { title, words, command, .. } = section;
        document += &format!(
            "\n## {title}\n\n{words}\n\n`{command}`:\n\n{}{figures}{}",
            section.begin(),
            section.end()
        );
    }
    document
}

fn today() -> Result<String> {
    let output = Command::new("date").args(["-u", "+%Y-%m-%d"]).output().context("cannot run date")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn kernel() -> Result<String> {
    const RELEASE: &str = "/proc/sys/kernel/osrelease";
    Ok(fs::read_to_string(RELEASE).with_context(|| format!("cannot read {RELEASE}"))?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_figures_replace_their_own_only() {
        let first = render("", PARSERS, "7 frames\n");
        let second = render(&first, LINUX, "8 frames\n");
        assert_eq!(PARSERS.figures(&second), Some("7 frames\n"));
        assert_eq!(LINUX.figures(&second), Some("8 frames\n"));
        assert_eq!(FUZZING.figures(&second), Some("Not run yet.\n"));
        let third = render(&second, PARSERS, "9 frames\n");
        assert_eq!(PARSERS.figures(&third), Some("9 frames\n"));
        assert_eq!(third.matches("## ").count(), SECTIONS.len());
    }
}
