//! Those who are measured, each on an interface of its own, put there by their own programs.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::mount::{MsFlags, mount};
use portguard_testkit::lists::Lists;
use portguard_testkit::net::{Completed, MountNamespace, Namespace, Outcome, Process, run, run_within};
use portguard_testkit::portguard::Portguard;

use super::bpf;
use super::lists::{List, yaml};
use super::programs::Program;
use super::results::Accounts;

/// The name of the file of a guard's list.
const ALLOWLIST: &str = "allowlist.yaml";

/// Where guards are pinned, as ARCHITECTURE.md says.
const PINS: &str = "/sys/fs/bpf/portguard";

/// How long portguard may take; lists of a million entries take seconds.
const PATIENCE: Duration = Duration::from_secs(300);

/// The name of every guarded interface.
pub(super) const INTERFACE: &str = "guarded";

/// portguard, on one interface of a namespace.
#[derive(Debug)]
pub(super) struct Guard<'a> {
    portguard: Portguard<'a>,
    namespace: &'a Namespace,
    lists: Lists,
    /// The path of its list.
    list: String,
    service: Option<Process>,
}

impl<'a> Guard<'a> {
    /// Attaches it with a list.
    pub(super) fn attach(
        binary: &'a Path,
        namespace: &'a Namespace,
        lists: &[List; 2],
        arguments: &[&str],
    ) -> Result<Self> {
        let guard = Self::new(binary, namespace, lists);
        guard.portguard.complete(&guard.with_list("attach", arguments))?;
        Ok(guard)
    }

    /// Attaches it as a service, which goes on.
    pub(super) fn serve(
        binary: &'a Path,
        namespace: &'a Namespace,
        lists: &[List; 2],
        arguments: &[&str],
    ) -> Result<Self> {
        let mut guard = Self::new(binary, namespace, lists);
        let mut service = Process::spawn(&mut guard.portguard.command(guard.with_list("run", arguments)))?;
        service.ready("the service guards its interface", PATIENCE, || {
            // It fails until there is a guard.
            let status =
                run_within(PATIENCE, &mut guard.portguard.command(["status", "--guarded", INTERFACE]))?;
            Ok(matches!(status, Outcome::Completed(done) if done.status.success()))
        })?;
        guard.service = Some(service);
        Ok(guard)
    }

    /// Attaches it with a list of the same prefixes that was written in another way.
    pub(super) fn attach_with_text(
        binary: &'a Path,
        namespace: &'a Namespace,
        lists: &[List; 2],
        text: &str,
    ) -> Result<Self> {
        let guard = Self::new(binary, namespace, lists);
        guard.lists.write_text(ALLOWLIST, text);
        guard.portguard.complete(&guard.with_list("attach", &[]))?;
        Ok(guard)
    }

    fn new(binary: &'a Path, namespace: &'a Namespace, lists: &[List; 2]) -> Self {
        let portguard = Portguard::new(binary, namespace);
        let folder = Lists::new();
        let list = folder.write_text(ALLOWLIST, &yaml(&lists.each_ref()));
        Self { portguard, namespace, lists: folder, list, service: None }
    }

    /// Puts another list in force.
    pub(super) fn reload(&self, lists: &[List; 2]) -> Result<()> {
        self.lists.write_text(ALLOWLIST, &yaml(&lists.each_ref()));
        self.portguard.complete(&["reload", INTERFACE]).map(drop)
    }

    /// The program that the guard runs.
    pub(super) fn program(&self) -> Result<Program> {
        let inode = fs::metadata(self.namespace.path()).context("no namespace")?.ino();
        let ifindex = self.namespace.ifindex(INTERFACE)?;
        let pins = PathBuf::from(format!("{PINS}/{inode}/{ifindex}"));
        let entries = fs::read_dir(&pins).with_context(|| format!("no guard at {}", pins.display()))?;
        let program = entries
            .filter_map(|entry| Some(entry.ok()?.path().join("program")))
            .find(|program| program.exists())
            .with_context(|| format!("no program in {}", pins.display()))?;
        let fd = bpf::get(&program).with_context(|| format!("cannot open {}", program.display()))?;
        // From Linux 5.18 on, which the bench's own programs need, it is the one for packets in several buffers.
        Ok(Program { fd, frags: true })
    }

    /// What it has counted.
    pub(super) fn accounts(&self) -> Result<Accounts> {
        let stats = self.portguard.read_stats(INTERFACE)?;
        Ok(Accounts {
            denied: stats.denied().packets,
            attributed: stats.sources.iter().map(|source| source.packets).sum(),
            unattributed: stats.unattributed.packets,
        })
    }

    /// How many sources it remembers.
    pub(super) fn source_count(&self) -> Result<usize> {
        Ok(self.portguard.read_stats(INTERFACE)?.sources.len())
    }

    /// The arguments of a command that puts the guard's list in force.
    fn with_list<'s>(&'s self, verb: &'s str, arguments: &[&'s str]) -> Vec<&'s str> {
        [&[verb, INTERFACE, "--allowlist", &self.list], arguments].concat()
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        // While a service keeps the guard, it is not taken off.
        self.service = None;
        if let Err(error) = self.portguard.detach_all() {
            eprintln!("bench: {error:#}");
        }
    }
}

/// xdp-filter, on one interface of a namespace, denying UDP port 111 to everybody. It keeps its maps in one place for
/// all interfaces: each has a BPF file system of its own here.
#[derive(Debug)]
pub(super) struct XdpFilter<'a> {
    namespace: &'a Namespace,
    mounts: MountNamespace,
}

impl<'a> XdpFilter<'a> {
    /// Loads it, with more arguments of `xdp-filter load`.
    pub(super) fn load(namespace: &'a Namespace, arguments: &[&str]) -> Result<Self> {
        let mounts = MountNamespace::new()?;
        mounts.run(|| {
            mount(Some("bpf"), "/sys/fs/bpf", Some("bpf"), MsFlags::empty(), None::<&Path>)
                .context("cannot mount a BPF file system for xdp-filter")
        })?;
        let filter = Self { namespace, mounts };
        let load = [&["load", INTERFACE], arguments].concat();
        filter.run(&load)?;
        filter.run(&["port", "111", "--proto", "udp", "--mode", "dst"])?;
        Ok(filter)
    }

    /// The program that it has put on the interface.
    pub(super) fn program(&self) -> Result<Program> {
        let mut command = self.namespace.command("ip");
        let json = run(command.args(["-json", "link", "show", "dev", INTERFACE]))?.stdout;
        let links: serde_json::Value = serde_json::from_str(&json).context("cannot read `ip -json link`")?;
        let id = links[0]["xdp"]["prog"]["id"].as_u64().context("xdp-filter has put no program there")?;
        let fd = bpf::program_by_id(u32::try_from(id)?).context("cannot open xdp-filter's program")?;
        Ok(Program { fd, frags: false })
    }

    /// How many packets it has dropped.
    pub(super) fn dropped(&self) -> Result<u64> {
        let mut command = self.command(&["status"]);
        // With one feature only, it fails in the end, for want of the others' maps, when this is printed already.
        let Outcome::Completed(done) = run_within(PATIENCE, self.mounts.enter(&mut command))? else {
            bail!("xdp-filter status does not end")
        };
        let status = done.stdout;
        let line = status.lines().find_map(|line| line.trim().strip_prefix("XDP_DROP"));
        let packets = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        packets.with_context(|| format!("no count of drops in:\n{status}"))
    }

    fn run(&self, arguments: &[&str]) -> Result<Completed> {
        run(self.mounts.enter(&mut self.command(arguments)))
            .with_context(|| format!("xdp-filter {}", arguments.join(" ")))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.namespace.command("xdp-filter");
        // Without the dispatcher of libxdp, which lets several programs share an interface and costs each of them
        // something. The kernel would not let a forger call it, either.
        command.args(arguments).env("LIBXDP_SKIP_DISPATCHER", "1");
        command
    }
}

/// A namespace with an interface to be guarded, and the other end of its cable beside it.
pub(super) fn place(label: &str) -> Result<Namespace> {
    let namespace = Namespace::new(label)?;
    namespace.ip(&format!("link add {INTERFACE} type veth peer name other"))?;
    Ok(namespace)
}

/// Runs a command that has to succeed, however long its list is.
pub(super) fn must(command: &mut Command) -> Result<Completed> {
    let name = command.get_program().display().to_string();
    match run_within(PATIENCE, command)? {
        Outcome::Completed(done) => {
            ensure!(done.status.success(), "{name} failed ({}): {}{}", done.status, done.stdout, done.stderr);
            Ok(done)
        }
        Outcome::TimedOut => bail!("{name} did not end within {PATIENCE:?}"),
    }
}
