//! What the network namespaces of one machine share: its mounts, with a BPF file system of their own, and the portguard
//! that is installed on it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;

use crate::net::{MountNamespace, Namespace};
use crate::portguard::Portguard;

/// Where the BPF file system is.
pub const BPFFS: &str = "/sys/fs/bpf";

/// A mount namespace, in which the BPF file system is a new one. Pins of other tests are not in it; and its own are gone
/// with it, and the guards with them, however the test ends.
#[derive(Debug)]
pub struct Machine {
    program: PathBuf,
    mounts: MountNamespace,
    state: TempDir,
    runtime: TempDir,
}

/// A program that fails while another one of it runs on the same host: its lock file, in `/run`, is that of all namespaces.
const XDP_FILTER: &str = "xdp-filter";
/// Lets one wait for the other.
const XDP_FILTER_LOCK: &str = "/tmp/portguard-xdp-filter.lock";

impl Machine {
    /// One with this portguard.
    pub fn new(program: impl AsRef<Path>) -> Self {
        Self::set_up(program.as_ref()).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// One where an empty directory is at `/sys/fs/bpf`.
    pub fn without_bpffs(program: impl AsRef<Path>) -> Self {
        Self::bare(program.as_ref()).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// One with this portguard, if the machine that it is on allows it.
    pub fn set_up(program: &Path) -> Result<Self> {
        let machine = Self::bare(program)?;
        machine.try_mount_bpffs(MsFlags::empty())?;
        Ok(machine)
    }

    fn bare(program: &Path) -> Result<Self> {
        let mounts = MountNamespace::new()?;
        mounts.run(|| {
            // Several may be on top of one another.
            while umount2(BPFFS, MntFlags::MNT_DETACH).is_ok() {}
            Ok(())
        })?;
        let folder = || TempDir::new().context("cannot create a temporary folder");
        Ok(Self { program: program.to_owned(), mounts, state: folder()?, runtime: folder()? })
    }

    /// Where its last good lists are kept.
    pub fn state(&self) -> &Path {
        self.state.path()
    }

    /// Where its services have their sockets.
    pub fn runtime(&self) -> &Path {
        self.runtime.path()
    }

    /// Mounts one more BPF file system, with these flags.
    pub fn mount_bpffs(&self, flags: MsFlags) {
        self.try_mount_bpffs(flags).unwrap_or_else(|error| panic!("{error:#}"));
    }

    fn try_mount_bpffs(&self, flags: MsFlags) -> Result<()> {
        self.mounts.run(|| {
            mount(Some("bpf"), BPFFS, Some("bpf"), flags, Some("mode=0700"))
                .context("cannot mount a BPF file system")
        })
    }

    /// Its mounts.
    pub fn mounts(&self) -> &MountNamespace {
        &self.mounts
    }

    /// The command line in a network namespace.
    pub fn portguard<'a>(&'a self, namespace: &'a Namespace) -> Portguard<'a> {
        self.other_portguard(&self.program, namespace)
    }

    /// The command line of another portguard in a network namespace.
    pub fn other_portguard<'a>(&'a self, program: &'a Path, namespace: &'a Namespace) -> Portguard<'a> {
        Portguard::on(self, program, namespace)
    }

    /// A command that sees the machine's BPF file system.
    pub fn command(&self, namespace: &Namespace, program: impl AsRef<Path>) -> Command {
        let program = program.as_ref();
        let mut command = if program == Path::new(XDP_FILTER) {
            let mut command = namespace.command("flock");
            command.args([XDP_FILTER_LOCK, XDP_FILTER]);
            command
        } else {
            namespace.command(program)
        };
        self.mounts.enter(&mut command);
        command
    }

    /// A script for a shell on the machine, in which only one `xdp-filter` of this host runs at a time.
    pub fn script(text: &str) -> String {
        text.replace(&format!("{XDP_FILTER} "), &format!("flock {XDP_FILTER_LOCK} {XDP_FILTER} "))
    }

    /// Everything below portguard's directory, as paths relative to it, sorted.
    pub fn pins(&self) -> Vec<String> {
        self.mounts
            .run(|| {
                let root = Path::new(BPFFS).join("portguard");
                let mut found = Vec::new();
                if root.exists() {
                    walk(&root, &mut found)?;
                }
                let mut found: Vec<String> = found
                    .iter()
                    .map(|path| path.strip_prefix(&root).unwrap_or(path).display().to_string())
                    .collect();
                found.sort_unstable();
                Ok(found)
            })
            .expect("listing the pins")
    }
}

fn walk(directory: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in directory.read_dir()? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), found)?;
        }
        found.push(entry.path());
    }
    Ok(())
}
