//! `cargo xtask nfs-test`: the kernel's NFS server and client behind guards, in virtual machines with Debian's packages and
//! units, and with portguard's package: mounts, automounts, locks, quotas, NIS, notices of restarts, and what denied clients get.
//! The short form of `cargo xtask test`, with NFS-Ganesha and libnfs, runs on the same kernels. What the machines have seen goes
//! into `docs/nfs.md`, whose examples of files are the files of the machines.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use portguard_testkit::document::Document;

use crate::machine::{self, Boot, Installation, Parts};
use crate::vm_test::{self, Programs, Series};
use crate::workspace;

/// Where everything is made, below the root of the workspace.
const FOLDER: &str = "target/nfs-test";
/// What readers see of it.
const DOCUMENT: Document = Document("docs/nfs.md");
/// The kernels, unless others are named: those of the releases of Debian that users have.
const KERNELS: [&str; 2] = ["6.1", "6.12"];
/// What the machine has beside an NFS server.
const PACKAGES: [&str; 9] = [
    "autofs",
    "libnfs-utils",
    "nfs-ganesha",
    "nfs-ganesha-vfs",
    "nftables",
    "quota",
    "yp-tools",
    "ypbind-mt",
    "ypserv",
];
/// Keeps the units of NFS-Ganesha off.
const GANESHA: [&str; 4] =
    ["mask", "nfs-ganesha.service", "nfs-ganesha-config.service", "nfs-ganesha-lock.service"];
/// The suite of the short form.
const SUITE: &str = "lifecycle";
/// The marks of what denied clients wait for, and of how late a lock comes.
const SECTIONS: [Section; 2] = [
    Section { key: "denied", mark: "HANG ", head: "a denied client's command ends after, s", divisor: 1.0 },
    Section { key: "locks", mark: "LOCK ", head: "a lock comes after its release, s", divisor: 10.0 },
];
const BOOT: Boot = Boot {
    name: "nfs",
    interface: "eth0",
    script: include_str!("guest.sh"),
    files: &[
        ("test/testbed", include_str!("testbed.sh")),
        ("test/nfs.md", include_str!("../../../docs/nfs.md")),
    ],
    modules: &["dns_resolver", "nfsv4", "autofs4", "crc32c_generic", "libcrc32c", "nfnetlink", "nf_tables"],
    // To all of them: it is the guard that makes the difference.
    exports: Some(
        "/srv 192.0.2.0/24(rw,fsid=1,no_root_squash) 2001:db8:1::/64(rw,fsid=1,no_root_squash) \
         198.51.100.0/24(rw,fsid=1,no_root_squash) 2001:db8:2::/64(rw,fsid=1,no_root_squash)\n",
    ),
    limit: Duration::from_secs(60 * 60),
};

/// The short form: the tests of the life cycle that are about NFS.
const SHORT: Boot = Boot {
    name: "short",
    interface: "eth0",
    script: include_str!("short.sh"),
    files: &[],
    modules: &["llc", "stp", "bridge"],
    exports: None,
    limit: Duration::from_secs(30 * 60),
};

/// Arguments of `cargo xtask nfs-test`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this kernel; may be given several times. A run without this option writes the document
    #[arg(long = "kernel", value_name = "NAME", value_parser = Series::named)]
    kernels: Vec<Series>,
}

/// A table of the document: the lines of the machines that begin with a mark.
struct Section {
    key: &'static str,
    mark: &'static str,
    head: &'static str,
    /// What its figures are divided by.
    divisor: f64,
}

impl Section {
    /// The table of what machines have told, which have these names.
    fn table(&self, machines: &[(&str, &str)]) -> Result<String> {
        let mut rows: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for (_, console) in machines {
            for line in console.lines().filter_map(|line| line.strip_prefix(self.mark)) {
                let (row, figure) =
                    line.split_once(" | ").with_context(|| format!("no figure in {line:?}"))?;
                let figure: f64 = figure.parse().with_context(|| format!("no figure in {line:?}"))?;
                rows.entry(row).or_default().push(figure / self.divisor);
            }
        }
        ensure!(!rows.is_empty(), "the machines told nothing of {}", self.key);
        let names = machines.iter().map(|(name, _)| format!(" Linux {name} |")).collect::<String>();
        let mut table = format!("| {} |{names}\n|---|{}\n", self.head, "---:|".repeat(machines.len()));
        for (row, figures) in rows {
            if figures.len() != machines.len() {
                bail!("not every machine told once of {row}");
            }
            let figures = figures.iter().map(|figure| format!(" {figure} |")).collect::<String>();
            writeln!(table, "| {row} |{figures}")?;
        }
        Ok(table)
    }
}

/// Boots the machines, reads what they tell, and writes it down.
pub(crate) fn run(args: &Args) -> Result<()> {
    let parts = Parts::make("nfs-test", FOLDER, &PACKAGES, Installation::package)?;
    let all =
        KERNELS.map(Series::named).into_iter().collect::<Result<Vec<_>, _>>().map_err(anyhow::Error::msg)?;
    let kernels = if args.kernels.is_empty() { &all } else { &args.kernels };
    let programs = Programs::build(&BTreeSet::from([SUITE]), &workspace().join(vm_test::BUILD))?;
    let mut machines = Vec::new();
    for series in kernels {
        let kernel = parts.kernel(*series)?;
        let context = || format!("Linux {}", series.name());
        let console = SHORT.run(&parts, &kernel, |root| {
            programs.install(root)?;
            // This tree may be below /tmp, which Debian empties at each boot.
            machine::write(root, "etc/tmpfiles.d/tmp.conf", "", 0o644)
        })?;
        machine::held(&console).with_context(context)?;
        // It is for the short form, and would take the place of the kernel's server, and of rpc.statd.
        let without = |root: &Path| machine::systemctl(root, &GANESHA);
        let console = BOOT.run(&parts, &kernel, without)?;
        let told = machine::judge(&console, "nfs").with_context(context)?;
        machines.push((series.name(), console, told.machine));
    }
    if !args.kernels.is_empty() {
        return Ok(());
    }
    let consoles: Vec<(&str, &str)> =
        machines.iter().map(|(name, console, _)| (*name, console.as_str())).collect();
    let told: Vec<&str> = machines.iter().map(|(_, _, machine)| machine.as_str()).collect();
    for section in &SECTIONS {
        let table = section.table(&consoles)?;
        DOCUMENT.write(section.key, &format!("{table}\nIn the machines: {}.\n", told.join("; ")))?;
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
    fn a_table_has_what_the_machines_told() {
        let [denied, locks] = &SECTIONS;
        let one = "PASS x\nHANG b | 61\nHANG a | 131\nLOCK c | 172\n";
        let other = "HANG a | 130\nHANG b | 62\nLOCK c | 1\n";
        let machines = [("6.1", one), ("6.12", other)];
        let table = denied.table(&machines).expect("figures");
        assert!(
            table.ends_with(
                " | Linux 6.1 | Linux 6.12 |\n|---|---:|---:|\n| a | 131 | 130 |\n| b | 61 | 62 |\n"
            ),
            "{table}"
        );
        assert!(locks.table(&machines).expect("figures").ends_with("| c | 17.2 | 0.1 |\n"));
        assert!(denied.table(&[("6.1", "LOCK c | 1\n")]).is_err());
        assert!(locks.table(&[("6.1", one), ("6.12", "LOCK d | 1\n")]).is_err());
    }
}
