//! The command line of portguard, in a network namespace.
//!
//! Most of it is for tests, and panics if a command does not do what the test is about to rely on; what returns a
//! [`Result`] is for programs that tell their user what is wrong.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::de::DeserializeOwned;

use crate::documents::{Document, Stats, Status, Unguarded};
use crate::machine::Machine;
use crate::net::{self, Capture, Completed, Count, Namespace, Outcome, Process, run_within, sum, wait_until};
use crate::traffic::TrafficTotals;

/// How long something may take that happens at once on a machine that is not busy.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Only to end what hangs: in an emulated machine on a busy one, a command takes its time.
const LIMIT: Duration = Duration::from_secs(600);
/// The exit code of a command that finds no guard.
const NOT_ATTACHED: i32 = 4;

/// What a command did.
#[derive(Debug)]
pub struct Output {
    /// Its exit code.
    pub code: i32,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Output {
    /// Runs it to its end, which must come soon and by itself.
    pub fn of(command: &mut Command) -> Self {
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

/// The command line of one portguard on one host.
#[derive(Debug, Clone, Copy)]
pub struct Portguard<'a> {
    program: &'a Path,
    namespace: &'a Namespace,
    machine: Option<&'a Machine>,
}

impl<'a> Portguard<'a> {
    /// That of a program in a network namespace, with the BPF file system of this machine.
    pub fn new(program: &'a Path, namespace: &'a Namespace) -> Self {
        Self { program, namespace, machine: None }
    }

    /// That of a program in a network namespace of a machine.
    pub(crate) fn on(machine: &'a Machine, program: &'a Path, namespace: &'a Namespace) -> Self {
        Self { program, namespace, machine: Some(machine) }
    }

    /// A command with these arguments.
    pub fn command(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = self.on_host(self.program);
        command.args(arguments);
        command
    }

    /// The same, in a folder, which files are named relative to.
    pub fn command_in(&self, folder: &Path, arguments: &[&str]) -> Command {
        // A process that enters a mount namespace is at its root, whatever folder it was started in.
        let mut command = self.on_host(Path::new("env"));
        command.arg("-C").arg(folder).arg(self.program).args(arguments);
        command
    }

    /// A program that finds what portguard finds there.
    fn on_host(&self, program: &Path) -> Command {
        let mut command = match self.machine {
            Some(machine) => {
                let mut command = machine.command(self.namespace, program);
                command.env("STATE_DIRECTORY", machine.state()).env("RUNTIME_DIRECTORY", machine.runtime());
                command
            }
            None => self.namespace.command(program),
        };
        command.env_remove("PORTGUARD_ALLOWLIST").env_remove("PORTGUARD_METRICS");
        command
    }

    /// Runs a command that has to succeed. Ctrl-C does not cut it short.
    pub fn complete(&self, arguments: &[&str]) -> Result<Completed> {
        net::run(&mut self.command(arguments)).with_context(|| format!("portguard {}", arguments.join(" ")))
    }

    /// The counters of the guard on an interface.
    pub fn read_stats(&self, interface: &str) -> Result<Stats> {
        let arguments = ["stats", interface, "--json"];
        let json = self.complete(&arguments)?.stdout;
        let document = Document::<Stats>::parse(&json).context("portguard stats --json")?;
        let mut interfaces = document.interfaces.into_iter();
        interfaces.next().with_context(|| format!("`portguard stats --json` does not tell of {interface}"))
    }

    /// Takes off whatever guard is in the namespace, so that no pin outlives it.
    pub fn detach_all(&self) -> Result<()> {
        let mut process = Process::spawn(&mut self.command(["detach", "--all"]))?;
        let code = process.wait(PATIENCE)?.and_then(|status| status.code());
        ensure!(
            matches!(code, Some(0 | NOT_ATTACHED)),
            "cannot take the guard off in {}, whose pins may be left behind: {}",
            self.namespace.name(),
            process.output().trim_end()
        );
        Ok(())
    }

    /// Runs a command, however it ends.
    pub fn run(&self, arguments: &[&str]) -> Output {
        Output::of(&mut self.command(arguments))
    }

    /// Runs a command that has to succeed; returns what it printed.
    #[track_caller]
    pub fn ok(&self, arguments: &[&str]) -> String {
        let Output { code, stdout, stderr } = self.run(arguments);
        assert_eq!(code, 0, "portguard {}: {stderr}", arguments.join(" "));
        stdout
    }

    /// Runs a command that has to fail with this exit code, tell of it, and print no data; returns what it told.
    #[track_caller]
    pub fn fails(&self, expected: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.stdout, "", "portguard {}", arguments.join(" "));
        assert_eq!(output.code, expected, "portguard {}: {}", arguments.join(" "), output.stderr);
        assert!(output.stderr.contains("error: "), "{output:?}");
        output.stderr
    }

    /// The interfaces that should have a guard and have none, as `status` says.
    pub fn unguarded(&self) -> Vec<Unguarded> {
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
    pub fn all_status(&self) -> Vec<Status> {
        self.status_document(&[])
    }

    /// The only guard.
    #[track_caller]
    pub fn status(&self) -> Status {
        let [status] = self.all_status().try_into().expect("one guard");
        status
    }

    /// The guard on one interface.
    #[track_caller]
    pub fn status_of(&self, interface: &str) -> Status {
        let [status] = self.status_document(&[interface]).try_into().expect("one guard");
        status
    }

    /// `stats --json` with more arguments.
    pub fn all_stats(&self, arguments: &[&str]) -> Vec<Stats> {
        let arguments = [&["stats", "--json"], arguments].concat();
        let stats: Vec<Stats> = parse(&arguments, &self.ok(&arguments)).interfaces;
        stats.iter().for_each(Stats::assert_adds_up);
        stats
    }

    /// The counters of the only guard.
    #[track_caller]
    pub fn stats(&self) -> Stats {
        let [stats] = self.all_stats(&[]).try_into().expect("one guard");
        stats
    }

    /// The counters of the only guard, once they hold all that was sent to it.
    #[track_caller]
    pub fn stats_of(&self, packets: u64) -> Stats {
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
    pub fn assert_counted(&self, exchanged: &TrafficTotals) -> Stats {
        let stats = self.stats_of(exchanged.sent().packets);
        assert_eq!(stats.totals.allowed, exchanged.sent_allowed(), "allowed");
        assert_eq!(stats.totals.by_reason.of("not_allowed"), exchanged.sent_denied(), "denied");
        let by_source: BTreeMap<IpAddr, Count> = exchanged.denied().collect();
        assert_eq!(stats.by_source(), by_source);
        stats
    }

    /// Asserts that the guard, which enforces, has counted what the wire in front of it has carried to port 111: as dropped what
    /// comes from these sources, each under its own name, and as allowed all else.
    #[track_caller]
    pub fn assert_counted_as_on(&self, wire: &mut Capture, denied: &[IpAddr]) -> Stats {
        let requests = wire.requests().expect("a capture without gaps");
        let (denied, allowed): (BTreeMap<IpAddr, Count>, BTreeMap<IpAddr, Count>) =
            requests.into_iter().partition(|(source, _)| denied.contains(source));
        let (dropped, allowed) = (sum(denied.values().copied()), sum(allowed.into_values()));
        let stats = self.stats_of(dropped.packets + allowed.packets);
        assert_eq!(stats.totals.allowed, allowed, "allowed");
        assert_eq!(stats.totals.dropped, dropped, "dropped");
        assert_eq!(stats.totals.by_reason.of("not_allowed"), dropped, "dropped for nothing but their source");
        assert_eq!(stats.by_source(), denied);
        assert_eq!(
            (stats.unattributed, stats.not_shown.sources),
            (Count::default(), 0),
            "few sources are no crowd"
        );
        stats
    }
}

/// A document of one of the commands that describe interfaces.
#[track_caller]
fn parse<T: DeserializeOwned>(arguments: &[&str], json: &str) -> Document<T> {
    Document::parse(json).unwrap_or_else(|error| panic!("portguard {}: {error:#}", arguments.join(" ")))
}
