//! `cargo xtask dist`: what a release consists of, into `target/dist`; `cargo xtask install`: the same, onto this machine.
//!
//! There is one program: linked statically, with the kernel program inside, so that it starts on any Linux of this
//! architecture. The package and the archive hold the same files.

mod archive;
mod cross;
mod deb;
mod release;
mod sbom;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use self::cross::Architecture;
pub(crate) use self::deb::Deb;
pub(crate) use self::release::Release;
use crate::setup::{self, Purpose};
use crate::vm_test::output;
use crate::workspace;

/// Where a release is put, below the root of the workspace.
pub(crate) const FOLDER: &str = "target/dist";
/// The checksums of everything else there.
pub(crate) const SUMS: &str = "SHA256SUMS";

/// Arguments of `cargo xtask dist`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The machine that the release is for, if it is not this one; may be given several times
    #[arg(long = "arch", value_name = "ARCHITECTURE")]
    architectures: Vec<Architecture>,
}

/// Arguments of `cargo xtask install`.
#[derive(Debug, clap::Args)]
pub(crate) struct InstallArgs {
    /// Where to install to
    #[arg(long, value_name = "DIRECTORY", default_value = "/usr/local")]
    prefix: String,
    /// The root of the file system to install into, if it is not that of this machine
    #[arg(long, value_name = "DIRECTORY")]
    destdir: Option<PathBuf>,
}

/// What was made.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) release: Release,
    pub(crate) deb: Deb,
    pub(crate) archive: PathBuf,
}

impl Made {
    /// The package once more, as the next one; not for publication.
    pub(crate) fn next(&self) -> Result<Deb> {
        deb::build(&self.release, deb::REVISION + 1, &workspace().join(release::FOLDER))
    }
}

/// Builds releases.
pub(crate) fn run(args: &Args) -> Result<()> {
    setup::run_for(&setup::Args::default(), Purpose::Package)?;
    let here = [Architecture::here()?];
    let architectures = if args.architectures.is_empty() { &here[..] } else { &args.architectures };
    make(architectures).map(drop)
}

/// Builds a release for this machine, with what that takes.
pub(crate) fn make_here() -> Result<Made> {
    make(&[Architecture::here()?])?.pop().context("it was made")
}

/// Builds a release for each of the machines.
fn make(architectures: &[Architecture]) -> Result<Vec<Made>> {
    let folder = workspace().join(FOLDER);
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {FOLDER}"))?;
    }
    fs::create_dir_all(&folder)?;
    let (mut all, mut files) = (Vec::new(), Vec::new());
    for architecture in architectures {
        let release = Release::build(*architecture)?;
        let archive = archive::pack(&release, &folder)?;
        let deb = deb::build(&release, deb::REVISION, &folder)?;
        files.extend([release.publish(&folder)?, archive.clone(), deb.path.clone()]);
        files.push(sbom::write(&release, &folder)?);
        all.push(Made { release, deb, archive });
    }
    files.push(sums(&files, &folder.join(SUMS))?);
    eprintln!("dist: made in {FOLDER}:");
    for file in files {
        let size = fs::metadata(&file)?.len();
        eprintln!("  {size:>9} {}", file.file_name().unwrap_or_default().display());
    }
    Ok(all)
}

/// Builds a release, and installs it here as its archive would.
pub(crate) fn install(args: &InstallArgs) -> Result<()> {
    setup::run(&setup::Args::default())?;
    let release = Release::build(Architecture::here()?)?;
    let folder = tempfile::tempdir()?;
    archive::unpacked(&release, folder.path())?;
    let mut command = Command::new(folder.path().join("install.sh"));
    command.arg("--prefix").arg(&args.prefix);
    if let Some(destdir) = &args.destdir {
        command.arg("--destdir").arg(destdir);
    }
    ensure!(command.status().context("cannot run install.sh")?.success(), "it is not installed");
    Ok(())
}

/// Writes down the checksums of files, as `sha256sum --check` takes them.
fn sums(files: &[PathBuf], to: &std::path::Path) -> Result<PathBuf> {
    let names = files.iter().map(|file| file.file_name().context("a file has a name"));
    let names: Vec<_> = names.collect::<Result<_>>()?;
    let folder = to.parent().context("a file is in a folder")?;
    fs::write(to, output(Command::new("sha256sum").args(names).current_dir(folder))?)?;
    Ok(to.to_owned())
}
