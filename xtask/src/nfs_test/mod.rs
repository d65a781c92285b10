//! `cargo xtask nfs-test`: the kernel's NFS server and client behind guards, in a virtual machine with Debian's packages and
//! units: mounts, locks, notices of restarts, and what denied clients get. What it has seen goes into `docs/nfs.md`.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use portguard_testkit::document::Document;

use crate::machine::{self, Boot, Parts};

/// Where everything is made, below the root of the workspace.
const FOLDER: &str = "target/nfs-test";
/// What readers see of it.
const DOCUMENT: Document = Document("docs/nfs.md");
/// The marks of what denied clients wait for, and of how late a lock comes.
const SECTIONS: [Section; 2] = [
    Section { key: "denied", mark: "HANG ", head: "| a denied client's | ends after, s |", divisor: 1.0 },
    Section { key: "locks", mark: "LOCK ", head: "| | a lock comes after its release, s |", divisor: 10.0 },
];
const BOOT: Boot = Boot {
    name: "nfs",
    interface: "eth0",
    script: include_str!("guest.sh"),
    files: &[("test/testbed", include_str!("testbed.sh"))],
    modules: &["dns_resolver", "nfsv4"],
    // To all of them: it is the guard that makes the difference.
    exports: Some(
        "/srv 192.0.2.0/24(rw,fsid=1,no_root_squash) 2001:db8:1::/64(rw,fsid=1,no_root_squash) \
         198.51.100.0/24(rw,fsid=1,no_root_squash)\n",
    ),
    limit: Duration::from_secs(45 * 60),
};

/// A table of the document: the lines of the machine that begin with a mark.
struct Section {
    key: &'static str,
    mark: &'static str,
    head: &'static str,
    /// What its figures are divided by.
    divisor: f64,
}

impl Section {
    /// The table of what a machine has told.
    fn table(&self, console: &str) -> Result<String> {
        let mut table = format!("{}\n|---|---:|\n", self.head);
        let mut lines: Vec<&str> = console.lines().filter_map(|line| line.strip_prefix(self.mark)).collect();
        lines.sort_unstable();
        ensure!(!lines.is_empty(), "the machine told nothing of {}", self.key);
        for line in lines {
            let (name, figure) = line.split_once(" | ").with_context(|| format!("no figure in {line:?}"))?;
            let figure: f64 = figure.parse().with_context(|| format!("no figure in {line:?}"))?;
            writeln!(table, "| {name} | {} |", figure / self.divisor)?;
        }
        Ok(table)
    }
}

/// Boots the machine, reads what it tells, and writes it down.
pub(crate) fn run() -> Result<()> {
    let parts = Parts::make("nfs-test", FOLDER)?;
    let console = BOOT.run(&parts)?;
    let told = machine::judge(&console, "nfs")?;
    for section in &SECTIONS {
        let table = section.table(&console)?;
        DOCUMENT.write(section.key, &format!("{table}\nIn the machine: {}.\n", told.machine))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_a_place_for_each_table() {
        for section in &SECTIONS {
            assert!(DOCUMENT.read(section.key).is_some(), "no marks of {}", section.key);
        }
    }

    #[test]
    fn a_table_has_what_the_machine_told() {
        let [denied, locks] = &SECTIONS;
        let console = "PASS x\nHANG b | 61\nHANG a | 131\nLOCK c | 172\n";
        assert!(denied.table(console).expect("figures").ends_with("|---|---:|\n| a | 131 |\n| b | 61 |\n"));
        assert!(locks.table(console).expect("figures").ends_with("| c | 17.2 |\n"));
        assert!(denied.table("LOCK c | 1\n").is_err());
    }
}
