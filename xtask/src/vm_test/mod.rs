//! `cargo xtask vm-test`: portguard on the kernels of Debian's releases, each in a virtual machine.
//!
//! The machines are emulated, so that this works wherever QEMU does. A machine boots into nothing but the tests; what it
//! prints is read here, and written down as a table.

mod debian;
mod devices;
mod guest;
mod matrix;
mod verdict;

use std::collections::BTreeSet;
use std::fs;
use std::num::NonZero;
use std::panic;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use portguard_testkit::interrupt;
use portguard_testkit::net::{CARDS, FAILOVER, Outcome, run_within};

use self::debian::SERIES;
pub(crate) use self::debian::{Apt, Kernel, Series, mirror, mirrors, output};
pub(crate) use self::guest::{Programs, install_module, pack};
use self::matrix::{CHECKS, Column, PROGRAM_SUITE, Scope};
use self::verdict::Console;
use crate::setup::{self, Purpose};
use crate::workspace;

/// The matrix, below the root of the workspace.
const DOCUMENT: &str = "docs/kernels.md";
/// Where everything is made, below the root of the workspace.
const FOLDER: &str = "target/vm-test";
/// Where the tests for machines are built, below the root of the workspace.
pub(crate) const BUILD: &str = "target/vm-test/build";
/// How long a machine may run: several times as long as it takes where others want the CPU, too.
const LIMIT: Duration = Duration::from_secs(60 * 60);

/// Arguments of `cargo xtask vm-test`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this kernel; may be given several times. The matrix is written only if all are tested
    #[arg(long = "kernel", value_name = "NAME", value_parser = Series::named)]
    kernels: Vec<Series>,
    /// Only the kinds of devices, whose table is in docs/attach-points.md
    #[arg(long)]
    devices: bool,
    /// Only the kernel program: whether the verifier takes it, and its verdicts
    #[arg(long, conflicts_with = "devices")]
    program: bool,
}

impl Args {
    fn scope(&self) -> Scope {
        match self {
            Self { devices: true, .. } => Scope::Devices,
            Self { program: true, .. } => Scope::Program,
            _ => Scope::Everything,
        }
    }
}

/// The tests that are run, suite by suite; those of devices once more behind the others, with more drivers.
fn suites(scope: Scope) -> Vec<(&'static str, Vec<&'static str>)> {
    let mut suites: Vec<(&str, Vec<&str>)> = Vec::new();
    let mut devices = devices::tests();
    for check in &CHECKS {
        let (of_devices, others): (Vec<&str>, Vec<&str>) =
            check.tests.iter().partition(|test| devices::is_about(test));
        devices.extend(of_devices);
        match suites.iter_mut().find(|(suite, _)| *suite == check.suite) {
            Some((_, tests)) => tests.extend(others),
            None => suites.push((check.suite, others)),
        }
    }
    match scope {
        Scope::Everything => {}
        Scope::Devices => suites.clear(),
        Scope::Program => {
            suites.retain(|(suite, _)| *suite == PROGRAM_SUITE);
            return suites;
        }
    }
    suites.push((devices::SUITE, devices));
    suites
}

/// Tests on each kernel, and writes the matrix.
pub(crate) fn run(args: &Args) -> Result<()> {
    ensure!(
        std::env::consts::ARCH == "x86_64",
        "vm-test boots kernels for x86_64 and cannot build tests for them on {}",
        std::env::consts::ARCH
    );
    setup::run_for(&setup::Args::default(), Purpose::Kernels)?;
    interrupt::install().context("cannot handle Ctrl-C")?;
    let series = if args.kernels.is_empty() { SERIES.to_vec() } else { args.kernels.clone() };
    let folder = workspace().join(FOLDER);
    let apt = Apt::update(folder.join("apt"))?;
    let suites = suites(args.scope());
    let names: BTreeSet<&str> = suites.iter().map(|(suite, _)| *suite).collect();
    let programs = Programs::build(&names, &workspace().join(BUILD))?;

    let kernels = folder.join("kernels");
    let kernels: Vec<(Series, Kernel)> = series
        .into_iter()
        .map(|series| {
            let kernel = apt.kernel(series, &kernels)?;
            devices::require_all_kinds(&kernel)?;
            Ok((series, kernel))
        })
        .collect::<Result<_>>()?;
    let mut columns = Vec::new();
    // A machine has one CPU.
    for some in kernels.chunks(thread::available_parallelism().map_or(1, NonZero::get)) {
        let test = |(series, kernel): &(Series, Kernel)| {
            test(&programs, &suites, (*series, args.scope()), kernel, &folder.join(series.name))
        };
        let tested: Vec<Result<Column>> = thread::scope(|scope| {
            let machines: Vec<_> = some.iter().map(|kernel| scope.spawn(|| test(kernel))).collect();
            machines
                .into_iter()
                .map(|machine| machine.join().unwrap_or_else(|panic| panic::resume_unwind(panic)))
                .collect()
        });
        for column in tested {
            columns.push(column?);
        }
    }
    let document = matrix::document(&columns);
    if args.scope() == Scope::Everything {
        print!("{document}");
    }
    if args.scope() != Scope::Program {
        print!("{}", devices::table(&columns));
    }
    if args.kernels.is_empty() && args.scope() != Scope::Program {
        devices::write(&columns)?;
    }
    if args.kernels.is_empty() && args.scope() == Scope::Everything {
        let path = workspace().join(DOCUMENT);
        fs::create_dir_all(path.parent().context("a file is in a folder")?)?;
        fs::write(&path, document).with_context(|| format!("cannot write {DOCUMENT}"))?;
        eprintln!("vm-test: wrote {DOCUMENT}");
    }
    let failed: Vec<_> = columns
        .iter()
        .filter(|column| !column.failures().is_empty())
        .map(|column| column.series.name)
        .collect();
    if !failed.is_empty() {
        bail!("failed on {}", failed.join(", "));
    }
    Ok(())
}

/// Tests on one kernel, and tells how it went.
fn test(
    programs: &Programs,
    suites: &[(&str, Vec<&str>)],
    (series, scope): (Series, Scope),
    kernel: &Kernel,
    folder: &Path,
) -> Result<Column> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let initramfs = programs.pack(kernel, suites, folder)?;
    eprintln!("vm-test: booting {}", kernel.version);
    let (start, log) = (Instant::now(), folder.join("console.log"));
    let console = boot(kernel, &initramfs, &log)?;
    let column = Column { series, version: kernel.version.clone(), console, scope };
    let failures = column.failures();
    let (result, elapsed) = (if failures.is_empty() { "ok" } else { "FAILED" }, start.elapsed().as_secs());
    eprintln!("vm-test: {} {result}, after {elapsed} s; console: {}", column.version, log.display());
    for failure in failures {
        eprintln!("  {failure}");
    }
    Ok(column)
}

/// Runs a machine to its end; what it prints is kept in `log`.
fn boot(kernel: &Kernel, initramfs: &Path, log: &Path) -> Result<Console> {
    if log.exists() {
        fs::remove_file(log)?;
    }
    let mut command = Command::new("qemu-system-x86_64");
    // Threads of its own for each CPU have crashed a kernel that runs well on a real machine.
    command.args(["-accel", "tcg,thread=single", "-m", "1536", "-no-reboot", "-nodefaults"]);
    // QEMU 7.2 leaves undefined bits in the flags behind `cmpxchg16b`: an interrupt there kills the kernel (a double fault in
    // the allocator of Linux 6.12).
    command.args(["-cpu", "max,cx16=off"]);
    command.args(["-display", "none", "-serial"]).arg(format!("file:{}", log.display()));
    command.arg("-kernel").arg(&kernel.image).arg("-initrd").arg(initramfs);
    command.args(["-append", "console=ttyS0 quiet loglevel=0 panic=-1 rdinit=/init net.ifnames=0"]);
    // Two cards on one wire, which leads nowhere else.
    for (number, mac) in CARDS.iter().enumerate() {
        command.arg("-netdev").arg(format!("hubport,id=wire{number},hubid=0"));
        command.arg("-device").arg(format!("virtio-net-pci,netdev=wire{number},mac={mac}"));
    }
    for (number, mac) in FAILOVER.iter().enumerate() {
        let failover = if number == 0 { ",failover=on" } else { "" };
        command.arg("-netdev").arg(format!("hubport,id=pair{number},hubid=1"));
        let card = format!("virtio-net-pci,id=card{number},netdev=pair{number},mac={mac}{failover}");
        command.arg("-device").arg(card);
    }
    match run_within(LIMIT, &mut command)? {
        Outcome::Completed(done) => ensure!(done.status.success(), "QEMU failed: {}", done.stderr.trim()),
        Outcome::TimedOut => eprintln!("vm-test: stopped after {} minutes", LIMIT.as_secs() / 60),
    }
    let text = fs::read(log).with_context(|| format!("cannot read {}", log.display()))?;
    Ok(Console::read(&String::from_utf8_lossy(&text)))
}
