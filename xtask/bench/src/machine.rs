//! Where it was measured.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use portguard_testkit::built::workspace;

use super::Effort;
use super::cpu;
use super::results::Machine;

/// Looks at this machine.
pub(super) fn describe(effort: &Effort) -> Result<Machine> {
    const RELEASE: &str = "/proc/sys/kernel/osrelease";
    let kernel = fs::read_to_string(RELEASE).with_context(|| format!("cannot read {RELEASE}"))?;
    let described = ["describe", "--always", "--dirty"];
    Ok(Machine {
        date: said(Command::new("date").args(["-u", "+%Y-%m-%d"]))?,
        kernel: kernel.trim().to_owned(),
        cpu: cpu::name(),
        cpus: cpu::usable()?.len(),
        commit: said(Command::new("git").arg("-C").arg(workspace()).args(described))?,
        flood: effort.flood,
        quick: effort.quick,
    })
}

/// The version of nft, and what its interval sets are in this kernel (`net/netfilter/nft_set_rbtree.c`), which must have loaded
/// them: newer ones search a sorted array, made from the tree.
pub(super) fn nft() -> Result<String> {
    const SYMBOLS: &str = "/proc/kallsyms";
    let version = said(Command::new("nft").arg("--version"))?;
    let version = version.split(' ').take(2).collect::<Vec<_>>().join(" ");
    let symbols = fs::read_to_string(SYMBOLS).with_context(|| format!("cannot read {SYMBOLS}"))?;
    let set = if symbols.contains("nft_array_") {
        "a sorted array beside a red-black tree"
    } else {
        "a red-black tree"
    };
    Ok(format!("{version}, whose interval sets are {set}"))
}

fn said(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(output.status.success(), "failed: {command:?}");
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
