//! `cargo xtask scaling`: what a guard takes, by the length of its list, the sources that it remembers, and CPUs.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use portguard_testkit::document::{Document, grouped};
use portguard_testkit::lists::Lists;
use portguard_testkit::net;
use portguard_testkit::portguard::Portguard;

use super::lists::{List, yaml};
use super::peers::{INTERFACE, place};
use super::results::Family;
use super::timed;

/// How many prefixes the lists have.
const LISTS: [usize; 5] = [10, 1000, 10_000, 100_000, 1_000_000];
/// How many sources are remembered on each CPU, of each family.
const SOURCES: [u64; 4] = [256, 4096, 16_384, 1_048_576];

/// What readers see of it, and the keys of the figures in it.
const DOCUMENT: Document = Document("docs/scaling.md");
const BY_LIST: &str = "lists";
const BY_TABLES: &str = "sources";

/// Arguments of `cargo xtask scaling`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Measure this portguard instead of building the one of the working tree
    #[arg(long, value_name = "PATH")]
    portguard: Option<PathBuf>,
}

/// What a guard took.
#[derive(Debug, Clone, Copy)]
struct Taken {
    maps: u64,
    peak: u64,
}

/// Measures, and writes it down.
pub fn run(args: &Args) -> Result<()> {
    for leftover in net::stale()? {
        eprintln!("scaling: removing {}, which a killed run left behind", leftover.name());
    }
    let portguard = match &args.portguard {
        Some(path) => fs::canonicalize(path).with_context(|| format!("no {}", path.display()))?,
        None => super::build()?,
    };
    DOCUMENT.write(BY_LIST, &lists(&portguard)?)?;
    DOCUMENT.write(BY_TABLES, &tables(&portguard)?)
}

fn lists(portguard: &Path) -> Result<String> {
    let mut text = "| prefixes | family | maps, KiB | at most, KiB |\n|---:|---|---:|---:|\n".to_owned();
    let mut formulas = String::new();
    for family in Family::ALL {
        let mut taken = Vec::new();
        for size in LISTS {
            let one = measure(portguard, &[List::generate(family, size)], SOURCES[0])?;
            eprintln!("  {family}, {size} prefixes: {one:?}");
            let Taken { maps, peak } = one;
            let [size, maps, peak] = [size as u64, maps / 1024, peak / 1024].map(grouped);
            text += &format!("| {size} | {family} | {maps} | {peak} |\n");
            taken.push(one);
        }
        let (Some(short), Some(long)) = (taken.first(), taken.last()) else { continue };
        let (shortest, longest) = (LISTS[0] as u64, LISTS[LISTS.len() - 1] as u64);
        let each =
            |figure: fn(&Taken) -> u64| figure(long).saturating_sub(figure(short)) / (longest - shortest);
        let (maps, peak) = (each(|taken| taken.maps), each(|taken| taken.peak));
        formulas += &format!(
            "- A prefix of {family} takes {maps} bytes while its list is in force, and {peak} bytes while it is loaded. A \
             million of them: {} MiB in force; {} MiB while they are attached, and {} MiB while a reload puts as many others in \
             their place.\n",
            mebibytes(long.maps),
            mebibytes(long.peak),
            mebibytes(long.maps + long.peak),
        );
    }
    Ok(format!("{text}\n{formulas}"))
}

fn tables(portguard: &Path) -> Result<String> {
    let cpus = possible_cpus()?;
    let lists = Family::ALL.map(|family| List::generate(family, LISTS[0]));
    let mut text = "| `--sources` | CPUs | maps, KiB |\n|---:|---:|---:|\n".to_owned();
    let mut taken = Vec::new();
    for sources in SOURCES {
        let one = measure(portguard, &lists, sources)?;
        eprintln!("  {sources} sources: {one:?}");
        text += &format!("| {} | {cpus} | {} |\n", grouped(sources), grouped(one.maps / 1024));
        taken.push(one.maps);
    }
    let fewest = SOURCES[0];
    let most = SOURCES[SOURCES.len() - 1];
    let grown = taken[taken.len() - 1].saturating_sub(taken[0]);
    let each = grown / (cpus * (most - fewest));
    let fixed = taken[0].saturating_sub(each * cpus * fewest);
    text += &format!(
        "\n- A source takes {each} bytes on each CPU, for both families together; the rest of a guard with a short \
         list takes {} KiB: memory = {} KiB + {each} bytes x sources x CPUs + the list's.\n- By default, the sources \
         are as many as fit into 64 MiB, or a 64th of the host's memory if that is less, but never more than 16,384 \
         on each CPU: more CPUs share the same memory, down to 256 each.\n",
        grouped(fixed / 1024),
        grouped(fixed / 1024),
    );
    Ok(text)
}

/// Attaches a guard, looks at what it takes, and takes it off.
fn measure(portguard: &Path, lists: &[List], sources: u64) -> Result<Taken> {
    let namespace = place("scaling")?;
    let folder = Lists::new();
    let path = folder.write_text("allowlist.yaml", &yaml(&lists.iter().collect::<Vec<_>>()));
    let portguard = Portguard::new(portguard, &namespace);
    let sources = sources.to_string();
    let mut attach = portguard.command(["attach", INTERFACE, "--sources", &sources, "--allowlist", &path]);
    let group = Group::new()?;
    group.enter(&mut attach)?;
    let took = timed::run(&mut attach);
    let (maps, peak) = (group.memory(), group.peak());
    let detached = portguard.detach_all();
    took?;
    detached?;
    Ok(Taken { maps: maps?, peak: peak? })
}

/// A memory control group, which the kernel charges maps to: all of them, with what they need beside their entries.
struct Group {
    folder: PathBuf,
    /// Where there is the older kind of groups.
    is_v1: bool,
}

impl Group {
    fn new() -> Result<Self> {
        let root = Path::new("/sys/fs/cgroup");
        let v1 = root.join("memory");
        let is_v1 = v1.join("memory.kmem.usage_in_bytes").exists();
        if !is_v1 {
            fs::write(root.join("cgroup.subtree_control"), "+memory")
                .context("no control groups for memory")?;
        }
        let name = format!("portguard-scaling-{}", std::process::id());
        let folder = if is_v1 { v1 } else { root.to_owned() }.join(name);
        fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self { folder, is_v1 })
    }

    /// Lets a command run in it.
    fn enter(&self, command: &mut Command) -> Result<()> {
        let processes = File::options().write(true).open(self.folder.join("cgroup.procs"))?;
        // SAFETY: the hook runs between fork and exec and makes one system call: it neither allocates nor locks.
        unsafe { command.pre_exec(move || (&processes).write_all(b"0")) };
        Ok(())
    }

    /// The most memory that has been charged to it at a time, of processes, files and the kernel.
    fn peak(&self) -> Result<u64> {
        let name = if self.is_v1 { "memory.max_usage_in_bytes" } else { "memory.peak" };
        let text = fs::read_to_string(self.folder.join(name)).context("Linux 5.19 or later is needed")?;
        Ok(text.trim().parse()?)
    }

    /// The kernel's memory that is charged to it.
    fn memory(&self) -> Result<u64> {
        let name = if self.is_v1 { "memory.kmem.usage_in_bytes" } else { "memory.stat" };
        let text = fs::read_to_string(self.folder.join(name))?;
        let number = if self.is_v1 {
            Some(&*text)
        } else {
            text.lines().find_map(|line| line.strip_prefix("kernel "))
        };
        Ok(number.context("Linux 5.18 or later is needed")?.trim().parse()?)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.folder) {
            eprintln!("scaling: cannot remove {}: {error}", self.folder.display());
        }
    }
}

/// How many CPUs there can be; each has its part of the tables.
fn possible_cpus() -> Result<u64> {
    let text = fs::read_to_string("/sys/devices/system/cpu/possible").context("cannot count the CPUs")?;
    let last = text.trim().rsplit([',', '-']).next().context("no CPU")?;
    Ok(last.parse::<u64>()? + 1)
}

fn mebibytes(bytes: u64) -> String {
    grouped(bytes.div_ceil(1 << 20))
}
