//! Which machine a release is for, and what it takes to build for another one than this.
//!
//! The linker and the C library come from Debian. So does Rust's standard library, for Debian's own compiler and of its
//! very version, unless rustup has brought one: not every machine may download from there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::release::FOLDER;
use crate::setup::{self, Purpose};
use crate::vm_test::output;
use crate::{cargo, workspace};

/// Debian's compiler.
const RUSTC: &str = "/usr/bin/rustc";

/// The machines that releases are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Architecture {
    #[value(name = "x86_64")]
    X86,
    #[value(name = "aarch64")]
    Arm,
}

impl Architecture {
    /// That of this machine.
    pub(crate) fn here() -> Result<Self> {
        use clap::ValueEnum as _;
        let here = std::env::consts::ARCH;
        let found = Self::value_variants().iter().find(|architecture| architecture.name() == here);
        found.copied().with_context(|| format!("there are no releases for {here}"))
    }

    /// As Rust calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::X86 => "x86_64",
            Self::Arm => "aarch64",
        }
    }

    /// As Debian calls it.
    fn debian(self) -> &'static str {
        match self {
            Self::X86 => "amd64",
            Self::Arm => "arm64",
        }
    }

    /// The target whose C library the program is linked with: glibc, because that is what Rust comes with everywhere.
    pub(super) fn target(self) -> String {
        format!("{}-unknown-linux-gnu", self.name())
    }

    /// A cargo that builds programs for it, linked statically.
    pub(super) fn cargo(self) -> Result<Command> {
        const STATIC: &str = "-Ctarget-feature=+crt-static";
        let mut command = cargo();
        command.env("RUSTFLAGS", STATIC);
        if self == Self::here()? {
            return Ok(command);
        }
        ensure!(self == Self::Arm, "releases for {} are built on such a machine", self.name());
        setup::run_for(&setup::Args::default(), Purpose::Cross)?;
        command.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "aarch64-linux-gnu-gcc");
        let own = output(cargo_rustc().args(["--print", "sysroot"]))?;
        if !Path::new(own.trim()).join("lib/rustlib").join(self.target()).is_dir() {
            let sysroot = self.standard_library()?;
            command.env("RUSTC", RUSTC).env("RUSTFLAGS", format!("{STATIC} --sysroot={}", sysroot.display()));
        }
        Ok(command)
    }

    /// Runs a program that was built for it, emulated if need be.
    pub(crate) fn run(self, program: &Path) -> Result<Command> {
        if self == Self::here()? {
            return Ok(Command::new(program));
        }
        let mut command = Command::new(format!("qemu-{}-static", self.name()));
        command.arg(program);
        Ok(command)
    }

    /// The standard library for it, as Debian has it, below a sysroot of its own. Only downloaded, not installed.
    fn standard_library(self) -> Result<PathBuf> {
        let query = |format: &str, package: &str| {
            output(Command::new("dpkg-query").args(["--show", "--showformat", format, package]))
        };
        let owner = output(Command::new("dpkg-query").args(["--search", RUSTC])).with_context(|| {
            format!("there is no standard library for {}: rustup target add {}", self.name(), self.target())
        })?;
        let compiler = owner.split(':').next().unwrap_or_default();
        let version = query("${Version}", compiler)?;
        let root = workspace().join(FOLDER).join("std").join(format!(
            "{}-{}",
            self.name(),
            version.replace('~', "-")
        ));
        let sysroot = root.join("usr");
        if sysroot.is_dir() {
            return Ok(sysroot);
        }
        // `libstd-rust-web-dev` for `rustc-web`
        let package = format!("libstd-{}-dev", compiler.replacen("rustc", "rust", 1));
        eprintln!("dist: fetching {package} for {}", self.name());
        let partial = root.with_extension("partial");
        if partial.exists() {
            fs::remove_dir_all(&partial)?;
        }
        for folder in ["apt/lists/partial", "apt/cache/archives/partial"] {
            fs::create_dir_all(partial.join(folder))?;
        }
        fs::write(partial.join("apt/status"), "")?;
        // An apt that knows this machine's mirrors, and another architecture than this machine's.
        let apt = || {
            let mut command = Command::new("apt-get");
            for (option, value) in
                [("State", ""), ("State::Lists", "lists"), ("State::Status", "status"), ("Cache", "cache")]
            {
                command
                    .arg("--option")
                    .arg(format!("Dir::{option}={}", partial.join("apt").join(value).display()));
            }
            command.args(["--option", "APT::Sandbox::User=root", "--option", "quiet=2"]);
            command.arg("--option").arg(format!("APT::Architectures::={}", self.debian()));
            command.current_dir(&partial);
            command
        };
        output(apt().arg("update"))?;
        output(apt().arg("download").arg(format!("{package}:{}={version}", self.debian())))?;
        let archive = fs::read_dir(&partial)?.filter_map(Result::ok).map(|entry| entry.path());
        let archive = archive.filter(|path| path.extension().is_some_and(|extension| extension == "deb"));
        let archive = archive.last().context("apt-get has downloaded nothing")?;
        output(Command::new("dpkg-deb").arg("--extract").arg(&archive).arg(&partial))?;
        fs::remove_dir_all(partial.join("apt"))?;
        fs::rename(&partial, &root)?;
        Ok(sysroot)
    }
}

/// The rustc that cargo would use.
fn cargo_rustc() -> Command {
    Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
}
