//! Part 3: how long it takes to check, attach, reload and read, by the command line as an administrator has it.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use portguard_testkit::lists::Lists;
use portguard_testkit::portguard::Portguard;
use portguard_testkit::{built, interrupt};

use super::Effort;
use super::bpf;
use super::cpu;
use super::frames::{Question, frame};
use super::lists::{List, yaml};
use super::peers::{Guard, INTERFACE, must, place};
use super::programs::{Object, Order, Programs};
use super::results::{Family, Loading, Operation, Reading, Timing};
use super::spread::Spread;
use super::test_run::LIST;
use super::timed::{self, Took};
use super::waits;
use std::os::fd::AsFd as _;

/// Times each operation at each size, for each family.
pub(super) fn run(effort: &Effort, portguard: &Path) -> Result<Vec<Loading>> {
    let mut rows = Vec::new();
    for family in Family::ALL {
        for &size in &effort.lists {
            interrupt::check()?;
            let list = List::generate(family, size);
            let (timings, wait) = operations(effort, portguard, &list)?;
            let row = Loading { family, list: size, timings, wait };
            let seconds: Vec<_> = row
                .timings
                .iter()
                .map(|timing| format!("{} {:.0} ms", timing.operation, timing.wall.median))
                .collect();
            eprintln!("  {family}, {size} prefixes: {}", seconds.join(", "));
            rows.push(row);
        }
    }
    Ok(rows)
}

/// All operations with one list, each several times; and the longest wait for a CPU during the last reload, in milliseconds.
fn operations(effort: &Effort, portguard: &Path, list: &List) -> Result<(Vec<Timing>, Spread)> {
    const OPERATIONS: [Operation; 5] = [
        Operation::Check,
        Operation::Attach,
        Operation::Reload,
        Operation::Stats,
        Operation::ReloadHundredth,
    ];
    let lists = Lists::new();
    let whole = lists.write_text("whole.yaml", &yaml(&[list]));
    let shorter = lists.write_text("shorter.yaml", &yaml(&[&list.without_last()]));
    let changed = lists.write_text("changed.yaml", &yaml(&[&list.with_hundredth_changed()]));
    let mut took: [Vec<Took>; OPERATIONS.len()] = Default::default();
    let mut waits = Vec::new();
    for _ in 0..effort.repetitions {
        let namespace = place("load")?;
        let on = OnInterface(Portguard::new(portguard, &namespace));
        let ordinary = [
            on.timed(&["check", &whole])?,
            on.timed(&["attach", INTERFACE, "--allowlist", &whole])?,
            on.timed(&["reload", INTERFACE, "--allowlist", &shorter])?,
            on.timed(&["stats", "--json", "--top", "0"])?,
        ];
        let (last, wait) = waits::during(|| on.timed(&["reload", INTERFACE, "--allowlist", &changed]))?;
        waits.push(milliseconds(wait));
        for (all, one) in took.iter_mut().zip(ordinary.into_iter().chain([last])) {
            all.push(one);
        }
    }
    let timings = OPERATIONS.into_iter().zip(&took).map(|(operation, took)| timing(operation, took));
    Ok((timings.collect(), Spread::of(waits)))
}

/// Times how long it takes to build the index of the longest list, which cannot be told from outside, by a program of
/// portguard's own that does nothing else.
pub(super) fn indexes(effort: &Effort) -> Result<Vec<(Family, Spread)>> {
    let size = effort.lists.iter().copied().max().context("no lists")?;
    // The short form says little anyway, and need not wait for a second build of portguard.
    let profile = if effort.quick { "--profile=dev" } else { "--release" };
    let program = built::build(&[profile, "--package=portguard", "--example=index"], "index")?;
    let lists = Lists::new();
    let mut rows = Vec::new();
    for family in Family::ALL {
        let path = lists.write_text("allowlist.yaml", &yaml(&[&List::generate(family, size)]));
        let mut milliseconds = Vec::new();
        for _ in 0..effort.repetitions {
            interrupt::check()?;
            let words = must(Command::new(&program).arg(&path))?.stdout;
            milliseconds.push(words.trim().parse().with_context(|| format!("it says {words:?}"))?);
        }
        let time = Spread::of(milliseconds);
        eprintln!("  the index of {size} prefixes, {family}: {:.0} ms", time.median);
        rows.push((family, time));
    }
    Ok(rows)
}

/// Fills the tables of sources on every CPU, and times how long it takes to read them.
pub(super) fn read(effort: &Effort, portguard: &Path, object: &Object) -> Result<Reading> {
    let namespace = place("read")?;
    let lists = Family::ALL.map(|family| List::generate(family, LIST));
    let guard = Guard::attach(portguard, &namespace, &lists, &[])?;
    let mut programs = Programs::load(object, &lists)?;
    let program = guard.program()?;
    for list in &lists {
        // Twice as many as have a place, so that nearly every place is taken.
        const SOURCES: usize = 64 * 1024;
        let sources = list.strangers(SOURCES);
        let frame = frame(*sources.first().context("no sources")?, Question::Dump, false);
        programs.forge(&sources, SOURCES, Order::Random, &frame)?;
        let forger = programs.forger(list.family(), &program)?;
        for cpu in cpu::usable()? {
            cpu::on(cpu, || {
                bpf::test_run(forger.fd.as_fd(), &frame, 8 * SOURCES as u32).context("cannot run the program")
            })?;
        }
    }
    let sources = guard.source_count()?;
    ensure!(sources > 1000, "only {sources} sources are remembered: nothing to read");
    let on = OnInterface(Portguard::new(portguard, &namespace));
    let (mut start, mut read, mut print) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..effort.rounds {
        interrupt::check()?;
        start.push(on.timed(&["status", "--json"])?);
        read.push(on.timed(&["stats", "--json", "--top", "0"])?);
        print.push(on.timed(&["stats", "--json"])?);
    }
    let wall = |took: &[Took]| Spread::of(took.iter().map(|took| milliseconds(took.wall)));
    let pairs = start.iter().zip(&read);
    let reading = Reading {
        sources,
        status: wall(&start),
        read: wall(&read),
        print: wall(&print),
        read_alone: Spread::of(pairs.map(|(start, read)| milliseconds(read.wall) - milliseconds(start.wall))),
    };
    eprintln!(
        "  {sources} sources: {:.1} ms to read, {:.1} ms to print, too",
        reading.read.median, reading.print.median
    );
    Ok(reading)
}

/// portguard in a namespace whose guards are taken off in the end.
struct OnInterface<'a>(Portguard<'a>);

impl OnInterface<'_> {
    fn timed(&self, arguments: &[&str]) -> Result<Took> {
        timed::run(&mut self.0.command(arguments))
    }
}

impl Drop for OnInterface<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.detach_all() {
            eprintln!("bench: {error:#}");
        }
    }
}

fn timing(operation: Operation, took: &[Took]) -> Timing {
    let of = |figure: fn(&Took) -> f64| Spread::of(took.iter().map(figure));
    Timing {
        operation,
        wall: of(|took| milliseconds(took.wall)),
        user: of(|took| milliseconds(took.user)),
        system: of(|took| milliseconds(took.system)),
        memory: took.iter().map(|took| took.memory).max().unwrap_or_default(),
    }
}

fn milliseconds(duration: std::time::Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
