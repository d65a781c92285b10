//! Part 5: a look-up in the kernel's LPM trie alone, as others have published it: entries that are single hosts, and look-ups of
//! random ones of them. It tells how this machine stands to theirs.

use anyhow::{Context as _, Result};
use portguard_testkit::interrupt;

use super::Effort;
use super::cpu;
use super::frames::{Question, frame};
use super::lists::List;
use super::programs::{Object, Order, Program, Programs};
use super::results::{Family, TrieLookup};
use super::spread::Spread;
use super::test_run::{XDP_PASS, measure};

/// Measures look-ups in tries of all sizes.
pub(super) fn run(effort: &Effort, object: &Object) -> Result<Vec<TrieLookup>> {
    let mut rows = Vec::new();
    for &entries in &effort.lists {
        let hosts = List::hosts(entries);
        let sources = hosts.members(entries);
        let frame = frame(*sources.first().context("no hosts")?, Question::Dump, false);
        let mut programs = Programs::load(object, &[hosts, List::generate(Family::V6, 1)])?;
        programs.forge(&sources, entries, Order::Random, &frame)?;
        let programs_of_both = [programs.program("parse")?, programs.program("lpm")?];
        let mut turn = |program: &Program, repeats: u32| -> Result<f64> {
            interrupt::check()?;
            let forger = programs.forger(Family::V4, program)?;
            let (sample, _) = cpu::on(effort.cpu, || measure(&forger, &frame, repeats, XDP_PASS))?;
            Ok(sample.nanoseconds)
        };
        let [_, warm] = programs_of_both.each_ref().map(|program| turn(program, effort.warm_up));
        let repeats = ((effort.round.as_nanos() as f64 / warm?) as u32).max(effort.fewest);
        let mut differences = Vec::new();
        for round in 0..effort.rounds {
            let mut took = [0.0; 2];
            // Another one begins each round.
            for index in [round % 2, (round + 1) % 2] {
                took[index] = turn(&programs_of_both[index], repeats)?;
            }
            differences.push(took[1] - took[0]);
        }
        let row = TrieLookup { entries, nanoseconds: Spread::of(differences) };
        eprintln!("  {entries} hosts: {:.1} ns for a look-up in the trie", row.nanoseconds.median);
        rows.push(row);
    }
    Ok(rows)
}
