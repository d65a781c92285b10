//! Part 4: two CPUs at the same flood, against one.

use std::os::fd::AsFd as _;
use std::panic;
use std::path::Path;
use std::sync::Barrier;
use std::thread;

use anyhow::{Context as _, Result, bail};
use portguard_testkit::interrupt;

use super::Effort;
use super::bpf;
use super::cpu;
use super::frames::{Question, frame};
use super::lists::List;
use super::peers::{Guard, place};
use super::programs::{Object, Order, Program, Programs};
use super::results::{Family, Scaling, TestProgram};
use super::spread::Spread;
use super::test_run::LIST;

/// Measures who costs more for a packet when another CPU does the same.
pub(super) fn run(effort: &Effort, portguard: &Path, object: &Object) -> Result<Vec<Scaling>> {
    let cpus = cpu::usable()?;
    let [first, second, ..] = cpus[..] else { bail!("there is only one CPU: nothing to compare") };
    let namespace = place("cpus")?;
    let lists = Family::ALL.map(|family| List::generate(family, LIST));
    let guard = Guard::attach(portguard, &namespace, &lists, &[])?;
    let mut programs = Programs::load(object, &lists)?;
    let sources = lists[0].strangers(effort.flood);
    let frame = frame(*sources.first().context("no sources")?, Question::Dump, false);
    programs.forge(&sources, effort.flood, Order::Random, &frame)?;
    let tested = [
        (TestProgram::Bare, programs.program("bare_drop")?),
        (TestProgram::Portguard, guard.program()?),
        (TestProgram::LpmLru, programs.program("lpm_lru")?),
    ];
    let mut rounds = [(); 3].map(|()| Vec::new());
    for round in 0..=effort.rounds {
        for ((_, program), rounds) in tested.iter().zip(&mut rounds) {
            interrupt::check()?;
            let forger = programs.forger(Family::V4, program)?;
            let repeats = effort.warm_up;
            let alone = together(&[first], &forger, &frame, repeats)?;
            let both = together(&[first, second], &forger, &frame, repeats)?;
            // The first round is to get warm.
            if round > 0 {
                rounds.push((alone, both));
            }
        }
    }
    let rows = tested.iter().zip(&rounds).map(|((tested, _), rounds)| {
        let row = Scaling {
            tested: *tested,
            alone: Spread::of(rounds.iter().map(|(alone, _)| *alone)),
            both: Spread::of(rounds.iter().map(|(_, both)| *both)),
            ratio: Spread::of(rounds.iter().map(|(alone, both)| both / alone)),
        };
        eprintln!("  {tested}: {:.1} ns alone, {:.2}x by two", row.alone.median, row.ratio.median);
        row
    });
    Ok(rows.collect())
}

/// Runs a program on each of the CPUs at once. Returns the CPU time for a packet, in nanoseconds, on average.
fn together(cpus: &[usize], program: &Program, frame: &[u8], repeats: u32) -> Result<f64> {
    let start = Barrier::new(cpus.len());
    let one = |cpu: usize| -> Result<f64> {
        let here = cpu::stay_on(cpu);
        start.wait();
        here?;
        let before = cpu::thread_time()?;
        bpf::test_run(program.fd.as_fd(), frame, repeats).context("cannot run the program")?;
        Ok((cpu::thread_time()? - before).as_nanos() as f64 / f64::from(repeats))
    };
    let costs: Vec<Result<f64>> = thread::scope(|scope| {
        let threads: Vec<_> = cpus.iter().map(|&cpu| scope.spawn(move || one(cpu))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic)))
            .collect()
    });
    let costs = costs.into_iter().collect::<Result<Vec<f64>>>()?;
    Ok(costs.iter().sum::<f64>() / costs.len() as f64)
}
