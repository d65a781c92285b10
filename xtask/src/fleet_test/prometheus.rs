//! Debian's Prometheus at the operator's desk, with portguard's alert rules.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use portguard_testkit::net::{Host, Process, run, wait_until};
use serde::Deserialize;
use tempfile::TempDir;

use super::host::Booted;
use super::operator::metrics;
use crate::workspace;

const API: &str = "127.0.0.1:9090";
/// It looks at the hosts once a second.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a query gives: the rest is not looked at.
#[derive(Debug, Deserialize)]
struct Sample {}

/// A running Prometheus.
#[derive(Debug)]
pub(super) struct Prometheus<'a> {
    desk: &'a Host,
    // Dropped before the folder that it writes to.
    process: Process,
    _folder: TempDir,
}

impl<'a> Prometheus<'a> {
    /// Starts it, and waits until it can be asked.
    pub(super) fn start(desk: &'a Host, hosts: &[Booted]) -> Result<Self> {
        let folder = TempDir::new()?;
        let targets = hosts.iter().map(|host| format!("'{}'", metrics(host))).collect::<Vec<_>>().join(", ");
        let rules = workspace().join("deploy/prometheus/portguard.rules.yml");
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\n\
             rule_files: ['{}']\n\
             scrape_configs: [{{job_name: portguard, static_configs: [{{targets: [{targets}]}}]}}]\n",
            rules.display()
        );
        let file = folder.path().join("prometheus.yml");
        fs::write(&file, config)?;
        let mut process = Process::spawn(&mut command(desk, &file, folder.path()))?;
        process
            .ready("it answers", PATIENCE, || Ok(run(desk.command("promtool").args(query("1"))).is_ok()))?;
        Ok(Self { desk, process, _folder: folder })
    }

    /// Waits until an expression has so many results.
    pub(super) fn sees(&self, expression: &str, results: usize) -> Result<()> {
        wait_until(&format!("{results} results of {expression}"), PATIENCE, || {
            Ok(self.results(expression)? == results)
        })
        .with_context(|| format!("Prometheus says:\n{}", self.process.output()))
    }

    fn results(&self, expression: &str) -> Result<usize> {
        let answer = run(self.desk.command("promtool").args(query(expression)))?;
        let samples: Vec<Sample> = serde_json::from_str(&answer.stdout)
            .with_context(|| format!("{expression}: what is {}?", answer.stdout))?;
        Ok(samples.len())
    }
}

fn command(desk: &Host, config: &Path, folder: &Path) -> std::process::Command {
    let mut command = desk.command("prometheus");
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
        .arg(format!("--web.listen-address={API}"));
    command
}

/// What promtool is asked to ask.
fn query(expression: &str) -> [String; 6] {
    ["query", "instant", "--format=json", &format!("http://{API}"), "--", expression].map(str::to_owned)
}
