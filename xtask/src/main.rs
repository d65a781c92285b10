//! What developers and CI run, one module per command.

mod bench;
mod demo;
mod dist;
mod dist_test;
mod documented;
mod earlier;
mod fleet_test;
mod fuzz;
mod licences;
mod lint;
mod machine;
mod nfs_test;
mod readme_test;
mod reliability;
mod screenshot;
mod setup;
mod systemd_test;
mod test;
mod torture;
mod unload;
mod verify;
mod vm_test;

/// Shared with portguard's build script, which cannot depend on a crate that setup has yet to make buildable.
#[path = "../../portguard/build/toolchain.rs"]
mod toolchain;

use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, Subcommand};
use portguard_testkit::built::{cargo, workspace};

/// What developers and CI run.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Install what the other commands need, and nothing that is there already
    Setup(setup::Args),
    /// Show the guard at work: a real rpcbind, an attacker and a victim, before and after
    Demo(demo::Args),
    /// Draw `portguard top` during an attack, into docs/top.svg; needs root and BPF
    Screenshot,
    /// Check formatting, lints, documentation and the licences of the dependencies
    Lint,
    /// Run all tests; needs root and BPF
    Test(test::Args),
    /// Look for inputs that break the parsers, for a given time
    Fuzz(fuzz::Args),
    /// Prove the verdict at length, and write docs/verification.md; needs root and BPF
    Verify(verify::Args),
    /// Measure what portguard and its peers cost, and write docs/performance.md; needs root and BPF
    Bench(portguard_bench::Args),
    /// Measure what a guard takes, by the size of its list and tables, and write docs/scaling.md; needs root and BPF
    Scaling(portguard_bench::scaling::Args),
    /// Kill, starve and mislead portguard under traffic, and write docs/reliability.md; needs root and BPF
    Torture(torture::TortureArgs),
    /// Run the service under a flood for a long time, and write docs/reliability.md; needs root and BPF
    Soak(torture::SoakArgs),
    /// Start, reload, kill and stop the units by a real systemd, in a virtual machine; needs root
    SystemdTest,
    /// Mount, lock and restart NFS servers and clients behind guards, in a virtual machine, and write docs/nfs.md; needs root
    NfsTest(nfs_test::Args),
    /// Try what brings portguard to a fleet, with the real tools: Kubernetes' schemas, Ansible to two hosts, Prometheus; needs
    /// root
    FleetTest,
    /// Build a release: a static program, a Debian package, an archive, checksums and a bill of materials
    Dist(dist::Args),
    /// Install, upgrade, remove and purge a release, in a clean Debian and in a virtual machine, and bring it to two hosts; needs
    /// root
    DistTest,
    /// Type the first command of README.md in clean Debians, with the cargo of the release, and do what it says; write down what
    /// that costs; needs root and BPF
    ReadmeTest,
    /// Build a release, and install it: program, units, man pages, completions
    Install(dist::InstallArgs),
    /// Run portguard on the kernels of Debian's releases, in virtual machines, and write down what works on which
    VmTest(vm_test::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Setup(args) => setup::run(&args),
        Command::Demo(args) => setup::run(&setup::Args::default()).and_then(|()| demo::run(&args)),
        Command::Screenshot => screenshot::run(),
        Command::Lint => lint::run(),
        Command::Test(args) => test::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Scaling(args) => bench::scaling(&args),
        Command::Torture(args) => torture::torture(&args),
        Command::Soak(args) => torture::soak(&args),
        Command::SystemdTest => systemd_test::run(),
        Command::NfsTest(args) => nfs_test::run(&args),
        Command::FleetTest => fleet_test::run(),
        Command::Dist(args) => dist::run(&args),
        Command::DistTest => dist_test::run(),
        Command::ReadmeTest => readme_test::run(),
        Command::Install(args) => dist::install(&args),
        Command::VmTest(args) => vm_test::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The kernel of this machine.
fn kernel() -> toolchain::Target {
    toolchain::Target { arch: std::env::consts::ARCH.to_owned(), big_endian: cfg!(target_endian = "big") }
}

/// What cargo says of all packages that are built for a platform, as far as `T` looks at it (`cargo metadata`).
fn metadata<T: serde::de::DeserializeOwned>(platform: &str) -> Result<T> {
    let mut command = cargo();
    let platform = format!("--filter-platform={platform}");
    command.args(["metadata", "--format-version=1", "--locked", &platform]);
    let output = command.output().context("cannot run cargo metadata")?;
    ensure!(
        output.status.success(),
        "cargo metadata failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    serde_json::from_slice(&output.stdout).context("cannot read what cargo metadata prints")
}
