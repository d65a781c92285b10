//! What is packed, whatever it is packed into: the program, the man pages, the completions.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use portguard_testkit::built;

use super::cross::Architecture;
use crate::vm_test::output;
use crate::{cargo, workspace};

/// Where it is built, below the root of the workspace.
pub(super) const FOLDER: &str = "target/dist-build";
/// The profile of Cargo.toml.
pub(super) const PROFILE: &str = "dist";

/// What is packed.
#[derive(Debug)]
pub(crate) struct Release {
    /// The version of portguard.
    pub(super) version: String,
    /// The machine that the program is for.
    pub(crate) architecture: Architecture,
    /// The program, linked statically.
    pub(crate) program: PathBuf,
    /// The man pages (`man`) and completions (`completions`).
    pub(super) manual: PathBuf,
    /// When the sources were last changed, in seconds since the epoch: the time of everything that is packed, so that two
    /// builds do not differ by it.
    pub(super) epoch: u64,
    /// Who has changed them, as the one to turn to.
    pub(super) maintainer: String,
}

impl Release {
    /// Builds everything.
    pub(crate) fn build(architecture: Architecture) -> Result<Self> {
        let manual = workspace().join(FOLDER).join("manual");
        let git = |format: &str| {
            let mut command = Command::new("git");
            command.args(["log", "-1"]).arg(format!("--format={format}")).current_dir(workspace());
            let printed = output(&mut command).context("the date of a release is that of its last commit")?;
            Ok::<_, anyhow::Error>(printed.trim().to_owned())
        };
        if manual.exists() {
            fs::remove_dir_all(&manual)?;
        }
        let mut command = cargo();
        command.args(["run", "--quiet", "--locked", "--package=portguard", "--example=manual", "--"]);
        command.arg(&manual).arg(git("%cs")?);
        ensure!(command.status().context("cannot run cargo")?.success(), "the manual cannot be made");
        Ok(Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            program: program(architecture)?,
            architecture,
            manual,
            epoch: git("%ct")?.parse().context("git gives no time")?,
            maintainer: git("%an <%ae>")?,
        })
    }

    /// `portguard-0.1.0-x86_64-linux`
    pub(super) fn name(&self) -> String {
        format!("portguard-{}-{}-linux", self.version, self.architecture.name())
    }

    /// Puts the bare program into a folder.
    pub(super) fn publish(&self, folder: &Path) -> Result<PathBuf> {
        let path = folder.join(self.name());
        fs::copy(&self.program, &path)?;
        Ok(path)
    }
}

/// Builds the program, and makes sure that it needs no library.
fn program(architecture: Architecture) -> Result<PathBuf> {
    let target = architecture.target();
    let mut command = architecture.cargo()?;
    eprintln!("dist: building portguard for {target}; this takes minutes");
    command.args(["build", "--locked", "--package=portguard", "--bin=portguard", "--profile", PROFILE]);
    command.args(["--target", &target, "--target-dir", FOLDER]);
    command.arg("--message-format=json-render-diagnostics").stderr(Stdio::inherit());
    let built = command.output().context("cannot run cargo build")?;
    ensure!(built.status.success(), "it does not build");
    let program = built::executable(&built.stdout, "portguard")?;
    let headers = output(Command::new("readelf").args(["--program-headers", "--wide"]).arg(&program))?;
    ensure!(!headers.contains("INTERP"), "{} is not linked statically", program.display());
    let version = output(architecture.run(&program)?.arg("--version"))?;
    ensure!(version.starts_with("portguard "), "{} does not start", program.display());
    Ok(program)
}
