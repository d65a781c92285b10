//! portguard, used as an administrator uses it: by its command line.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use portguard_testkit::net::{self, Completed, Count, Host, Namespace};

/// The command line in one namespace, with the files of one directory.
#[derive(Debug)]
pub(super) struct Portguard<'a> {
    pub(super) binary: &'a Path,
    pub(super) directory: &'a Path,
    pub(super) host: &'a Host,
}

impl Portguard<'_> {
    fn run(&self, arguments: &[&str]) -> Result<Completed> {
        let mut command = self.host.command(self.binary);
        net::run(command.args(arguments).current_dir(self.directory))
            .with_context(|| format!("portguard {}", arguments.join(" ")))
    }

    /// Runs a command that has to succeed, and returns what it shows on a terminal.
    pub(super) fn show(&self, arguments: &[&str]) -> Result<String> {
        self.run(arguments).map(|done| done.stderr + &done.stdout)
    }

    /// The counters of the server's interface.
    pub(super) fn stats(&self) -> Result<Stats> {
        let json = self.run(&["stats", Host::INTERFACE, "--json"])?.stdout;
        let document: StatsDocument = serde_json::from_str(&json)
            .with_context(|| format!("`portguard stats --json` printed {json}"))?;
        ensure!(document.schema == 1, "`portguard stats --json` has schema {}, not 1", document.schema);
        document
            .interfaces
            .into_iter()
            .find(|stats| stats.interface == Host::INTERFACE)
            .with_context(|| format!("`portguard stats --json` does not tell of {}", Host::INTERFACE))
    }
}

/// Takes the guard off when the demo ends before it does so itself.
#[derive(Debug)]
pub(super) struct DetachOnDrop<'a> {
    portguard: Option<&'a Portguard<'a>>,
}

impl<'a> DetachOnDrop<'a> {
    pub(super) fn new(portguard: &'a Portguard<'a>) -> Self {
        Self { portguard: Some(portguard) }
    }

    /// The guard is off.
    pub(super) fn done(mut self) {
        self.portguard = None;
    }
}

impl Drop for DetachOnDrop<'_> {
    fn drop(&mut self) {
        let Some(portguard) = self.portguard else { return };
        if let Err(error) = detach_all(portguard.binary, portguard.host.namespace()) {
            eprintln!("demo: the guard's pins may be left behind: {error:#}");
        }
    }
}

/// Takes off whatever guard is in a namespace, so that no pin outlives it.
pub(super) fn detach_all(binary: &Path, namespace: &Namespace) -> Result<()> {
    const NOT_ATTACHED: i32 = 4;
    let mut command: Command = namespace.command(binary);
    let mut process = net::Process::spawn(command.args(["detach", "--all"]))?;
    let status = process.wait(std::time::Duration::from_secs(10))?;
    let code = status.and_then(|status| status.code());
    ensure!(
        matches!(code, Some(0 | NOT_ATTACHED)),
        "cannot take the guard off in {}: {}",
        namespace.name(),
        process.output().trim_end()
    );
    Ok(())
}

#[derive(Debug, Deserialize)]
struct StatsDocument {
    schema: u32,
    interfaces: Vec<Stats>,
}

/// As much of `stats --json` as the demo checks.
#[derive(Debug, Deserialize)]
pub(super) struct Stats {
    interface: String,
    totals: Totals,
    sources: Vec<Source>,
    unattributed: Count,
}

#[derive(Debug, Deserialize)]
struct Totals {
    allowed: Count,
    dropped: Count,
}

#[derive(Debug, Deserialize)]
struct Source {
    source: IpAddr,
    #[serde(flatten)]
    count: Count,
}

/// What went over the wire to port 111, by what has to become of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) allowed: Count,
    pub(super) dropped: BTreeMap<IpAddr, Count>,
}

impl Counted {
    /// Adds what the wire saw since the last time.
    pub(super) fn book(
        &mut self,
        requests: &BTreeMap<IpAddr, Count>,
        earlier: &BTreeMap<IpAddr, Count>,
        is_allowed: impl Fn(IpAddr) -> bool,
    ) {
        for (&source, &count) in requests {
            let new = count.since(earlier.get(&source).copied().unwrap_or_default());
            if new == Count::default() {
                continue;
            }
            if is_allowed(source) {
                self.allowed += new;
            } else {
                *self.dropped.entry(source).or_default() += new;
            }
        }
    }

    /// Where the guard's view differs from this one of the wire, line by line.
    pub(super) fn differences(&self, counted: &Self) -> Vec<String> {
        let sources: BTreeSet<_> = self.dropped.keys().chain(counted.dropped.keys()).collect();
        let of = |counted: &Self, source| counted.dropped.get(source).copied().unwrap_or_default();
        let dropped = sources
            .into_iter()
            .map(|source| (format!("dropped from {source}"), of(self, source), of(counted, source)));
        [("allowed".to_owned(), self.allowed, counted.allowed)]
            .into_iter()
            .chain(dropped)
            .filter(|(_, wire, counted)| wire != counted)
            .map(|(what, wire, counted)| format!("{what}: the wire saw {wire}, portguard counted {counted}"))
            .collect()
    }

    /// The sum over all sources.
    pub(super) fn total_dropped(&self) -> Count {
        self.dropped.values().fold(Count::default(), |mut sum, &count| {
            sum += count;
            sum
        })
    }
}

impl Stats {
    /// The guard's own view, in the terms of the wire. Fails when its sums do not add up.
    pub(super) fn counted(self) -> Result<Counted> {
        ensure!(
            self.unattributed == Count::default(),
            "a handful of sources, and yet {} are unattributed",
            self.unattributed
        );
        let dropped = self.sources.into_iter().map(|source| (source.source, source.count)).collect();
        let counted = Counted { allowed: self.totals.allowed, dropped };
        ensure!(
            counted.total_dropped() == self.totals.dropped,
            "the sources add up to {}, the total is {}",
            counted.total_dropped(),
            self.totals.dropped
        );
        Ok(counted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The document of product contract, shortened.
    const DOCUMENT: &str = r#"{"schema":1,"taken_at":"2026-11-23T05:12:31.123456Z","interfaces":[
        {"interface":"eth0","mode":"native","enforcing":true,"since":"2026-11-23T04:00:00Z",
         "totals":{"allowed":{"packets":12,"bytes":1032},"dropped":{"packets":60,"bytes":4080},
                   "would_drop":{"packets":0,"bytes":0},"by_reason":{"not_allowed":{"packets":60,"bytes":4080}}},
         "sources":[{"source":"203.0.113.9","packets":60,"bytes":4080,"udp_packets":60,"tcp_packets":0,
                     "first_seen":"2026-11-23T04:10:00Z","last_seen":"2026-11-23T05:12:30Z"}],
         "unattributed":{"packets":0,"bytes":0}}]}"#;

    fn stats() -> Stats {
        serde_json::from_str::<StatsDocument>(DOCUMENT).unwrap().interfaces.remove(0)
    }

    fn count(packets: u64) -> Count {
        Count { packets, bytes: packets * 68 }
    }

    #[test]
    fn the_documented_json_is_understood() {
        let counted = stats().counted().unwrap();
        assert_eq!(counted.allowed, Count { packets: 12, bytes: 1032 });
        assert_eq!(counted.dropped, BTreeMap::from([("203.0.113.9".parse().unwrap(), count(60))]));
    }

    #[test]
    fn sums_that_do_not_add_up_are_refused() {
        let mut wrong = stats();
        wrong.totals.dropped = count(61);
        assert!(wrong.counted().is_err());
        let mut hidden = stats();
        hidden.unattributed = count(1);
        assert!(hidden.counted().is_err());
    }

    #[test]
    fn a_source_is_booked_by_what_holds_at_its_time() {
        let source: IpAddr = "198.51.100.20".parse().unwrap();
        let (first, second) = (BTreeMap::from([(source, count(3))]), BTreeMap::from([(source, count(5))]));
        let mut counted = Counted::default();
        counted.book(&first, &BTreeMap::new(), |_| false);
        counted.book(&second, &first, |_| true);
        counted.book(&second, &second, |_| false);
        assert_eq!(counted, Counted { allowed: count(2), dropped: first });
    }

    #[test]
    fn differences_name_the_source_and_both_counts() {
        let [a, b]: [IpAddr; 2] = ["192.0.2.7", "198.51.100.20"].map(|source| source.parse().unwrap());
        let wire = Counted { allowed: count(1), dropped: BTreeMap::from([(a, count(3)), (b, count(1))]) };
        let counted = Counted { allowed: count(1), dropped: BTreeMap::from([(b, count(2))]) };
        assert_eq!(wire.differences(&wire), [""; 0]);
        assert_eq!(
            wire.differences(&counted),
            [
                "dropped from 192.0.2.7: the wire saw 3 packets (204 bytes), portguard counted 0 packets (0 bytes)",
                "dropped from 198.51.100.20: the wire saw 1 packets (68 bytes), portguard counted 2 packets (136 bytes)",
            ]
        );
    }
}
