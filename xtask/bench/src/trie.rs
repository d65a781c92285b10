//! Part 5: a look-up in the kernel's LPM trie alone, as others have published it: entries that are single hosts, and look-ups of
//! random ones of them. It tells how this machine stands to theirs.

use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result};
use portguard_testkit::interrupt;

use super::Effort;
use super::bpf;
use super::cpu;
use super::frames::{Question, frame};
use super::lists::List;
use super::programs::{Object, Order, Program, Programs};
use super::results::{Family, TrieLookup};
use super::spread::Spread;

/// Measures look-ups in tries of all sizes.
pub(super) fn run(effort: &Effort, object: &Object) -> Result<Vec<TrieLookup>> {
    let mut rows = Vec::new();
    for &entries in &effort.lists {
        let hosts = List::hosts(entries);
        let sources = hosts.members(entries);
        let frame = frame(*sources.first().context("no hosts")?, Question::Dump, false);
        let mut programs = Programs::load(object, &[hosts, List::generate(Family::V6, 1)])?;
        programs.forge(&sources, entries, Order::Random, &frame)?;
        let [bare, lpm] = [programs.program("bare_pass")?, programs.program("lpm")?];
        let mut turn = |program: &Program, repeats: u32| -> Result<f64> {
            interrupt::check()?;
            let forger = programs.forger(Family::V4, program)?;
            cpu::on(effort.cpu, || {
                let before = cpu::thread_time()?;
                bpf::test_run(forger.fd.as_fd(), &frame, repeats).context("cannot run the program")?;
                Ok((cpu::thread_time()? - before).as_nanos() as f64 / f64::from(repeats))
            })
        };
        let warm = turn(&lpm, effort.warm_up)?;
        let repeats = ((effort.round.as_nanos() as f64 / warm) as u32).max(effort.fewest);
        let mut differences = Vec::new();
        for _ in 0..effort.rounds {
            differences.push(turn(&lpm, repeats)? - turn(&bare, repeats)?);
        }
        let row = TrieLookup { entries, nanoseconds: Spread::of(differences) };
        eprintln!("  {entries} hosts: {:.1} ns for a look-up in the trie", row.nanoseconds.median);
        rows.push(row);
    }
    Ok(rows)
}
