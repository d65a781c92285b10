//! What portguard costs, and what its peers cost, in the same rounds: `cargo xtask bench`; and what a guard takes:
//! `cargo xtask scaling`.
//!
//! Absolute times hold for one machine only, so everything is told as a ratio to a program that does nothing but drop
//! or pass. No test asserts any of it.

mod bpf;
mod comparison;
mod cpu;
mod cpus;
mod document;
mod ethtool;
mod firewalls;
mod frames;
mod goals;
mod lists;
mod load;
mod machine;
mod peers;
mod plot;
mod programs;
mod results;
pub mod scaling;
mod spread;
mod table;
mod test_run;
mod timed;
mod trie;
mod waits;
mod wire;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use portguard_testkit::{built, interrupt, net};

use self::comparison::Committed;
pub use self::programs::Object;
use self::results::Results;

/// Arguments of `cargo xtask bench`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Few rounds and small lists, to see whether it works; writes no document
    #[arg(long)]
    quick: bool,
    /// Only this part; may be given several times
    #[arg(long, value_name = "PART", value_enum)]
    only: Vec<Part>,
    /// Only lists of so many prefixes; may be given several times. Writes no document
    #[arg(long = "list", value_name = "PREFIXES")]
    lists: Vec<usize>,
    /// Measure this portguard instead of building the one of the working tree
    #[arg(long, value_name = "PATH")]
    portguard: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Each program on one frame again and again
    TestRun,
    /// Floods of real frames over veth
    Wire,
    /// Lists of all sizes: check, attach, reload; and reading many sources
    Load,
    /// Two CPUs against one
    Cpus,
    /// Look-ups in the kernel's LPM trie, as others have published them
    Trie,
}

/// How much is done.
#[derive(Debug)]
struct Effort {
    quick: bool,
    /// How many prefixes of each family the lists have.
    lists: Vec<usize>,
    /// How often everybody takes a turn.
    rounds: usize,
    /// How long a turn takes.
    round: Duration,
    /// The packets of a turn at least.
    fewest: u32,
    /// The packets before the first turn.
    warm_up: u32,
    /// Where it is measured.
    cpu: usize,
    /// How often everybody stands a flood of real frames.
    floods: usize,
    /// How long a flood takes.
    flood_time: Duration,
    /// The sources of a flood: many times as many as anybody remembers.
    flood: usize,
    /// The sources of a flood in which each comes once: more than fit into a turn.
    fresh: usize,
    /// The sources of permitted traffic.
    members: usize,
    /// How often a list is loaded.
    repetitions: usize,
}

impl Effort {
    fn new(args: &Args) -> Result<Self> {
        let quick = args.quick;
        let lists: &[usize] =
            if quick { &[10, 1000, 10_000] } else { &[10, 100, 1000, 10_000, 100_000, 1_000_000] };
        let lists = if args.lists.is_empty() { lists } else { &args.lists }.to_vec();
        let cpu = *cpu::usable()?.last().context("no CPU")?;
        Ok(if quick {
            Self {
                quick,
                lists,
                rounds: 3,
                round: Duration::from_millis(3),
                fewest: 1000,
                warm_up: 20_000,
                cpu,
                floods: 2,
                flood_time: Duration::from_millis(100),
                flood: 4096,
                fresh: 32 * 1024,
                members: 1024,
                repetitions: 1,
            }
        } else {
            Self {
                quick,
                lists,
                rounds: 15,
                round: Duration::from_millis(30),
                fewest: 20_000,
                warm_up: 500_000,
                cpu,
                floods: 5,
                flood_time: Duration::from_secs(1),
                flood: 256 * 1024,
                fresh: 2 << 20,
                members: 64 * 1024,
                repetitions: 3,
            }
        })
    }
}

/// Runs the bench, with its kernel programs.
pub fn run(args: &Args, object: &Object) -> Result<()> {
    interrupt::install().context("cannot catch Ctrl-C")?;
    for leftover in net::stale()? {
        eprintln!("bench: removing {}, which a killed run left behind", leftover.name());
    }
    let effort = Effort::new(args)?;
    let portguard = match &args.portguard {
        Some(path) => std::fs::canonicalize(path).with_context(|| format!("no {}", path.display()))?,
        None => build()?,
    };
    let mut results = Results::load(effort.quick);
    results.machine = machine::describe(&effort)?;
    let parts = if args.only.is_empty() { Part::value_variants() } else { &args.only };
    for part in parts {
        eprintln!(
            "bench: {}",
            part.to_possible_value().map_or_else(String::new, |name| name.get_name().to_owned())
        );
        match part {
            Part::TestRun => {
                let (cases, accounts) = test_run::run(&effort, &portguard, object)?;
                results.cases = cases;
                results.accounts = Some(accounts);
            }
            Part::Wire => {
                results.wire = wire::run(&effort, &portguard, object)?;
                results.nft = machine::nft()?;
            }
            Part::Load => {
                results.loading = load::run(&effort, &portguard)?;
                if !effort.quick {
                    results.indexes = load::indexes(&effort)?;
                }
                results.reading = Some(load::read(&effort, &portguard, object)?);
            }
            Part::Cpus => results.scaling = cpus::run(&effort, &portguard, object)?,
            Part::Trie => results.trie = trie::run(&effort, object)?,
        }
        results.save()?;
    }
    println!("{}", table::of_goals(&results).drawn());
    if effort.quick || !args.lists.is_empty() {
        return Ok(());
    }
    plot::draw(&results)?;
    document::write(&results)?;
    // Only what was measured in one run, of the tree that is committed, is compared and kept.
    if args.only.is_empty() && args.portguard.is_none() {
        let now = Committed::of(&results);
        if let Some(last) = Committed::last()? {
            let compared = table::of_comparison(&last.compared(&now));
            println!("{}\n{}", table::heading(&last.machine), compared.drawn());
        }
        now.write()?;
    }
    Ok(())
}

/// Builds portguard as it is installed, and returns the program's path.
fn build() -> Result<PathBuf> {
    built::build(&["--release", "--package=portguard", "--bin=portguard"], "portguard")
}
