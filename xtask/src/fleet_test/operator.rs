//! The operator of a fleet, who has Ansible, an inventory, and a key.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use portguard_testkit::documents::{Document, Status};
use portguard_testkit::net::{Completed, Host, Outcome, run_within};
use serde_json::{Value, json};

use super::DESK;
use super::host::{self, Booted};
use super::tools::Tools;
use crate::{documented, workspace};

/// A roll-out to two hosts takes half a minute.
const LIMIT: Duration = Duration::from_secs(15 * 60);
/// The port of the metrics.
const METRICS: u16 = 9111;
/// What README.md tells to type begins with this, and names this inventory.
const PLAYBOOK: &str = "ansible-playbook ";
const EXAMPLE: &str = "deploy/ansible/inventory.example.yml";

/// How portguard comes to the hosts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Delivery<'a> {
    /// As a binary, with the units beside it.
    Binary(&'a Path),
    /// As a Debian package.
    Package(&'a Path),
}

#[derive(Debug)]
pub(super) struct Operator<'a> {
    pub(super) tools: &'a Tools,
    pub(super) delivery: Delivery<'a>,
    pub(super) desk: &'a Host,
    pub(super) key: PathBuf,
    pub(super) folder: PathBuf,
}

/// What a roll-out did on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Recap {
    pub(super) changed: u32,
    pub(super) failed: u32,
}

/// How a roll-out ended.
#[derive(Debug)]
pub(super) struct RollOut {
    pub(super) succeeded: bool,
    pub(super) said: String,
}

impl RollOut {
    /// What it did on each host that it came to.
    pub(super) fn recaps(&self) -> Result<BTreeMap<String, Recap>> {
        let (_, recap) = self.said.split_once("PLAY RECAP").context("it did not come to its end")?;
        let hosts = recap.lines().filter_map(|line| line.split_once(" : "));
        hosts.map(|(name, counts)| Ok((name.trim().to_owned(), parse(counts)?))).collect()
    }
}

fn parse(counts: &str) -> Result<Recap> {
    let count = |name: &str| -> Result<u32> {
        let word = counts.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        Ok(word.with_context(|| format!("no count of {name}: {counts}"))?.parse()?)
    };
    Ok(Recap { changed: count("changed")?, failed: count("failed")? + count("unreachable")? })
}

impl Operator<'_> {
    /// Rolls out a list, to enforce it or to see what it would do.
    pub(super) fn roll_out(&self, hosts: &[Booted], allow: &[&str], audit: bool) -> Result<RollOut> {
        let inventory = self.folder.join("inventory.json");
        fs::write(&inventory, self.inventory(hosts, allow, audit).to_string())?;
        let line = documented::command(PLAYBOOK)?;
        ensure!(line.contains(EXAMPLE), "README.md does not name {EXAMPLE}");
        // As it is written, with hosts that there are.
        self.play(&line.replace(EXAMPLE, &inventory.display().to_string()))
    }

    /// Looks at what README.md tells, without hosts.
    pub(super) fn look(&self) -> Result<()> {
        let looked = self.play(&format!("{} --syntax-check", documented::command(PLAYBOOK)?))?;
        ensure!(looked.succeeded, "{}", looked.said);
        Ok(())
    }

    /// Runs a command of Ansible's at the root of the workspace.
    fn play(&self, line: &str) -> Result<RollOut> {
        let mut words = line.split(' ');
        let program = words.next().context("a command has a program")?;
        let mut command = self.desk.command(self.tools.path(program));
        command.args(words).current_dir(workspace());
        // The settings of who runs this are not to matter.
        let settings = self.folder.join("ansible.cfg");
        fs::write(&settings, "[defaults]\n")?;
        command.env("ANSIBLE_CONFIG", settings).env("ANSIBLE_HOME", self.folder.join("ansible"));
        command.env("ANSIBLE_NOCOLOR", "1").env("LC_ALL", "C.UTF-8");
        let Completed { status, stdout, stderr, .. } = completed(&mut command)?;
        Ok(RollOut { succeeded: status.success(), said: stdout + &stderr })
    }

    fn inventory(&self, hosts: &[Booted], allow: &[&str], audit: bool) -> Value {
        let entries: Vec<Value> = allow.iter().map(|prefix| json!({ "prefix": prefix })).collect();
        let host = |host: &Booted| json!({ "ansible_host": host.address, "portguard_metrics": { "eth0": metrics(host) } });
        let hosts: BTreeMap<&str, Value> = hosts.iter().map(|booted| (booted.name, host(booted))).collect();
        let (variable, path) = match self.delivery {
            Delivery::Binary(path) => ("portguard_binary", path),
            Delivery::Package(path) => ("portguard_package", path),
        };
        json!({ "portguard": { "hosts": hosts, "vars": {
            variable: path,
            "ansible_user": "root",
            "ansible_ssh_private_key_file": self.key,
            "ansible_ssh_common_args": host::OPTIONS.join(" "),
            "ansible_python_interpreter": "/usr/bin/python3",
            "portguard_allow": entries,
            "portguard_audit": audit,
            "portguard_scrapers": [DESK],
        } } })
    }

    /// Runs a command on a host. Returns what it printed.
    pub(super) fn on(&self, host: &Booted, line: &str) -> Result<String> {
        host.on(self.desk, &self.key, line)
    }

    /// The guard of a host.
    pub(super) fn guard(&self, host: &Booted) -> Result<Status> {
        let text = self.on(host, "portguard status --guarded --json eth0")?;
        let document = Document::<Status>::parse(&text)?;
        document.interfaces.into_iter().next().with_context(|| format!("{} has no guard", host.name))
    }

    /// The process of a host's service.
    pub(super) fn service(&self, host: &Booted) -> Result<String> {
        self.on(host, "systemctl show --property=ActiveState,MainPID portguard@eth0")
    }
}

/// Where a host serves metrics.
pub(super) fn metrics(host: &Booted) -> SocketAddr {
    SocketAddr::new(host.address, METRICS)
}

fn completed(command: &mut Command) -> Result<Completed> {
    match run_within(LIMIT, command)? {
        Outcome::Completed(done) => Ok(done),
        Outcome::TimedOut => bail!("{command:?} did not end within {LIMIT:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recap_tells_of_each_host_that_was_tried() {
        let said = "TASK [x]\n\nPLAY RECAP ****\none  : ok=1    changed=2    unreachable=0    failed=1    skipped=0\n";
        let recaps = RollOut { succeeded: false, said: said.to_owned() }.recaps().expect("a recap");
        assert_eq!(recaps, BTreeMap::from([("one".to_owned(), Recap { changed: 2, failed: 1 })]));
        RollOut { succeeded: false, said: String::new() }.recaps().expect_err("none");
    }
}
