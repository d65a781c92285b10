//! The command line, in a network namespace, with a BPF file system of its own.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use portguard_testkit::net::{Count, MountNamespace, Namespace, Outcome, run_within, wait_until};
use serde::de::DeserializeOwned;
use tempfile::TempDir;

use super::documents::{Document, Stats, Status, Unguarded};
use super::{PATIENCE, TrafficTotals, earlier};

pub(crate) const BPFFS: &str = "/sys/fs/bpf";
/// Only to end what hangs: in an emulated machine on a busy one, a command takes its time.
const LIMIT: Duration = Duration::from_secs(600);

/// What the network namespaces of one machine share: a mount namespace, in which the BPF file system is a new one.
/// Pins of other tests are not in it; and its own are gone with it, and the guards with them, however the test ends.
#[derive(Debug)]
pub(crate) struct Machine {
    mounts: MountNamespace,
    state: TempDir,
    runtime: TempDir,
}

impl Machine {
    pub(crate) fn new() -> Self {
        let machine = Self::without_bpffs();
        machine.mount_bpffs(MsFlags::empty());
        machine
    }

    /// One where an empty directory is at `/sys/fs/bpf`.
    pub(crate) fn without_bpffs() -> Self {
        let mounts = MountNamespace::new().expect("a mount namespace");
        mounts
            .run(|| {
                // Several may be on top of one another.
                while umount2(BPFFS, MntFlags::MNT_DETACH).is_ok() {}
                Ok(())
            })
            .expect("entering the mount namespace");
        let [state, runtime] = [(), ()].map(|()| TempDir::new().expect("a temporary folder"));
        Self { mounts, state, runtime }
    }

    /// Where its last good lists are kept.
    pub(crate) fn state(&self) -> &Path {
        self.state.path()
    }

    pub(crate) fn mount_bpffs(&self, flags: MsFlags) {
        self.mounts
            .run(|| Ok(mount(Some("bpf"), BPFFS, Some("bpf"), flags, Some("mode=0700"))?))
            .expect("mounting a BPF file system");
    }

    pub(crate) fn mounts(&self) -> &MountNamespace {
        &self.mounts
    }

    /// The command line in a network namespace.
    pub(crate) fn portguard<'a>(&'a self, namespace: &'a Namespace) -> Portguard<'a> {
        Portguard { machine: self, namespace, program: Portguard::BINARY }
    }

    /// The command line of an earlier portguard in a network namespace; see [`earlier`](super::earlier).
    pub(crate) fn earlier<'a>(&'a self, namespace: &'a Namespace) -> Portguard<'a> {
        Portguard { program: earlier::program(), ..self.portguard(namespace) }
    }

    /// A command that sees the machine's BPF file system.
    pub(crate) fn command(&self, namespace: &Namespace, program: impl AsRef<Path>) -> Command {
        let mut command = namespace.command(program);
        self.mounts.enter(&mut command);
        command
    }

    /// Everything below portguard's directory, as paths relative to it, sorted.
    pub(crate) fn pins(&self) -> Vec<String> {
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

fn walk(directory: &Path, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in directory.read_dir()? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), found)?;
        }
        found.push(entry.path());
    }
    Ok(())
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    /// Runs it to its end, which must come soon and by itself.
    pub(crate) fn of(command: &mut Command) -> Self {
        match run_within(LIMIT, command).unwrap_or_else(|error| panic!("{error:#}")) {
            Outcome::Completed(done) => Self {
                code: done.status.code().unwrap_or_else(|| panic!("{command:?} was killed: {done:?}")),
                stdout: done.stdout,
                stderr: done.stderr,
            },
            Outcome::TimedOut => panic!("{command:?} did not end within {LIMIT:?}"),
        }
    }
}

/// The command line of the binary under test, or of an earlier one, on one host.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Portguard<'a> {
    machine: &'a Machine,
    namespace: &'a Namespace,
    program: &'a str,
}

impl Portguard<'_> {
    pub(crate) const BINARY: &'static str = env!("CARGO_BIN_EXE_portguard");

    pub(crate) fn command(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = self.machine.command(self.namespace, self.program);
        command.args(arguments).env_remove("PORTGUARD_ALLOWLIST").env_remove("PORTGUARD_METRICS");
        command.env("STATE_DIRECTORY", self.machine.state());
        command.env("RUNTIME_DIRECTORY", self.machine.runtime.path());
        command
    }

    /// Runs a command, however it ends.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        Output::of(&mut self.command(arguments))
    }

    /// Runs a command that has to succeed; returns what it printed.
    #[track_caller]
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let Output { code, stdout, stderr } = self.run(arguments);
        assert_eq!(code, 0, "portguard {}: {stderr}", arguments.join(" "));
        stdout
    }

    /// Runs a command that has to fail with this exit code, tell of it, and print no data; returns what it told.
    #[track_caller]
    pub(crate) fn fails(&self, expected: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.stdout, "", "portguard {}", arguments.join(" "));
        assert_eq!(output.code, expected, "portguard {}: {}", arguments.join(" "), output.stderr);
        assert!(output.stderr.contains("error: "), "{output:?}");
        output.stderr
    }

    fn document<T: DeserializeOwned>(&self, arguments: &[&str]) -> Vec<T> {
        parse(arguments, &self.ok(arguments)).interfaces
    }

    /// The interfaces that should have a guard and have none, as `status` says.
    pub(crate) fn unguarded(&self) -> Vec<Unguarded> {
        let arguments = ["status", "--json"];
        parse::<Status>(&arguments, &self.run(&arguments).stdout).unguarded
    }

    /// `status --json`, whose exit code tells whether every guard is enforcing, and no interface open that should have one.
    #[track_caller]
    fn status_document(&self, interfaces: &[&str]) -> Vec<Status> {
        let arguments = [&["status", "--json"], interfaces].concat();
        let Output { code, stdout, stderr } = self.run(&arguments);
        let document = parse::<Status>(&arguments, &stdout);
        let is_open = document.unguarded.iter().any(|it| it.state == "open");
        let expected = i32::from(is_open || !document.interfaces.iter().all(|guard| guard.enforcing));
        assert_eq!(code, expected, "portguard {}: {stdout}{stderr}", arguments.join(" "));
        document.interfaces
    }

    /// All guards.
    #[track_caller]
    pub(crate) fn all_status(&self) -> Vec<Status> {
        self.status_document(&[])
    }

    /// The only guard.
    #[track_caller]
    pub(crate) fn status(&self) -> Status {
        let [status] = self.all_status().try_into().expect("one guard");
        status
    }

    /// The guard on one interface.
    #[track_caller]
    pub(crate) fn status_of(&self, interface: &str) -> Status {
        let [status] = self.status_document(&[interface]).try_into().expect("one guard");
        status
    }

    /// `stats --json` with more arguments.
    pub(crate) fn all_stats(&self, arguments: &[&str]) -> Vec<Stats> {
        let stats: Vec<Stats> = self.document(&[&["stats", "--json"], arguments].concat());
        stats.iter().for_each(Stats::assert_adds_up);
        stats
    }

    /// The counters of the only guard.
    #[track_caller]
    pub(crate) fn stats(&self) -> Stats {
        let [stats] = self.all_stats(&[]).try_into().expect("one guard");
        stats
    }

    /// The counters of the only guard, once they hold all that was sent to it.
    #[track_caller]
    pub(crate) fn stats_of(&self, packets: u64) -> Stats {
        // What was sent is judged at once; unless this machine has more to do.
        let mut stats = self.stats();
        let all = wait_until("all that was sent is counted", PATIENCE, || {
            stats = self.stats();
            Ok(stats.packets() >= packets)
        });
        assert!(all.is_ok(), "{packets} were sent, and counted: {:?}", stats.totals);
        stats
    }

    /// Asserts that the guard has counted what the traffic was: no more, no less.
    #[track_caller]
    pub(crate) fn assert_counted(&self, exchanged: &TrafficTotals) -> Stats {
        let stats = self.stats_of(exchanged.sent().packets);
        assert_eq!(stats.totals.allowed, exchanged.sent_allowed(), "allowed");
        assert_eq!(stats.totals.by_reason.not_allowed, exchanged.sent_denied(), "denied");
        let by_source: BTreeMap<IpAddr, Count> = exchanged.denied().collect();
        assert_eq!(stats.by_source(), by_source);
        stats
    }
}

/// A document of one of the commands that describe interfaces.
#[track_caller]
fn parse<T: DeserializeOwned>(arguments: &[&str], json: &str) -> Document<T> {
    let document: Document<T> = serde_json::from_str(json)
        .with_context(|| format!("portguard {} printed {json}", arguments.join(" ")))
        .unwrap_or_else(|error| panic!("{error:#}"));
    assert_eq!(document.schema, 1);
    document
}
