//! `cargo xtask fleet-test`: the ways to bring portguard to many hosts, tried with the operators' own tools.
//!
//! - `deploy/kubernetes`: what kustomize makes of it, against the schemas of the API. (That the pod works is a test of
//!   portguard's, `lifecycle/pod`.)
//! - `deploy/ansible`: rolled out by Ansible over SSH, to two hosts with systemd and rpcbind of their own, and seen by a
//!   Prometheus. As a binary; `cargo xtask dist-test` rolls out the package of a release.

pub(crate) mod host;
mod kubernetes;
mod operator;
mod prometheus;
mod tools;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use portguard_testkit::documents::Status;
use portguard_testkit::net::{self, Host, Switch, Veth, rpc};
use portguard_testkit::{built, interrupt};

use self::host::{Booted, Image};
pub(crate) use self::operator::Delivery;
use self::operator::{Operator, RollOut};
use self::prometheus::Prometheus;
use self::tools::Tools;
use crate::setup::{self, Purpose};
use crate::{test, workspace};

/// Where everything is made, below the root of the workspace.
const FOLDER: &str = "target/fleet-test";
/// How long rpcbind may take to answer; or must be silent.
const ANSWER: Duration = Duration::from_secs(20);
const SILENCE: Duration = Duration::from_secs(2);

const DESK: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 100));
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 20));
const HOSTS: [(&str, IpAddr); 2] =
    [("one", IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))), ("two", IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)))];

/// Tries all of them with what the sources give.
pub(crate) fn run() -> Result<()> {
    setup::run_for(&setup::Args::default(), Purpose::Fleet)?;
    interrupt::install().context("cannot handle Ctrl-C")?;
    check(Delivery::Binary(&built::portguard()?))
}

/// Tries all of them with what was built.
pub(crate) fn check(delivery: Delivery<'_>) -> Result<()> {
    test::require_preconditions()?;
    for leftover in net::stale()? {
        eprintln!("fleet-test: removing {}, which a killed run left behind", leftover.name());
    }
    let folder = workspace().join(FOLDER);
    fs::create_dir_all(&folder)?;
    let tools = Tools::install(&folder.join("tools"))?;
    let objects = kubernetes::validate(&tools, &folder)?;
    println!("Kubernetes: {objects} objects are as the schemas want them");
    let image = Image::make(&folder)?;
    let switch = Switch::new(Veth::new())?;
    let (desk, stranger) = (switch.host("desk", &[DESK])?, switch.host("stranger", &[STRANGER])?);
    let mut hosts = HOSTS
        .into_iter()
        .map(|(name, address)| Booted::start(&image, &switch, name, address))
        .collect::<Result<Vec<_>>>()?;
    hosts.iter_mut().try_for_each(|host| host.wait_for(&desk))?;
    let operator = Operator { tools: &tools, delivery, desk: &desk, key: image.key.clone(), folder };
    operator.look()?;
    roll_out(&operator, &hosts, &stranger)
}

/// Rolls out a first list, a changed one, a broken one, and an audit.
fn roll_out(operator: &Operator<'_>, hosts: &[Booted], stranger: &Host) -> Result<()> {
    let guards = || hosts.iter().map(|host| operator.guard(host)).collect::<Result<Vec<Status>>>();
    let services = || hosts.iter().map(|host| operator.service(host)).collect::<Result<Vec<String>>>();
    for host in hosts {
        ensure!(answers(host, stranger, ANSWER)?, "rpcbind of {} is not asked before", host.name);
    }

    let first = ["192.0.2.0/24"];
    expect_changes(&operator.roll_out(hosts, &first, false)?, true)?;
    for (host, guard) in hosts.iter().zip(guards()?) {
        ensure!(guard.enforcing && guard.allowlist.prefixes_v4 == 1, "{}: {guard:?}", host.name);
        ensure!(!answers(host, stranger, SILENCE)?, "{} answers who is not on the list", host.name);
        ensure!(answers(host, operator.desk, ANSWER)?, "{} does not answer who is on the list", host.name);
    }
    println!("Ansible: two hosts are guarded");
    let prometheus = Prometheus::start(operator.desk, hosts)?;
    let everywhere = hosts.len();
    prometheus.sees("portguard_guard_enforcing == 1", everywhere)?;
    prometheus.sees("portguard_denied_packets_total{reason='not_allowed'} > 0", everywhere)?;
    println!("Prometheus: both are seen, and what they drop");
    expect_changes(&operator.roll_out(hosts, &first, false)?, false)?;
    println!("Ansible: the same again changes nothing");

    let (before, running) = (guards()?, services()?);
    let changed = ["192.0.2.0/24", "198.51.100.0/24"];
    expect_changes(&operator.roll_out(hosts, &changed, false)?, true)?;
    let after = guards()?;
    ensure!(services()? == running, "a changed list must not restart the services");
    for ((host, before), after) in hosts.iter().zip(&before).zip(&after) {
        ensure!(after.allowlist.prefixes_v4 == 2, "{}: {after:?}", host.name);
        ensure!(after.generation > before.generation, "{}: {after:?}", host.name);
        ensure!(after.attached_at == before.attached_at, "{} was attached again", host.name);
        ensure!(answers(host, stranger, ANSWER)?, "{} does not answer who is on the list now", host.name);
    }
    prometheus.sees("portguard_allowlist_prefixes{family='ipv4'} == 2", everywhere)?;
    prometheus.sees("count by (sha256) (portguard_allowlist_info)", 1)?;
    println!("Ansible: a changed list is in force on both, by a reload");

    let broken = operator.roll_out(hosts, &["192.0.2.0/24", "203.0.113.0/33"], false)?;
    let recaps = broken.recaps()?;
    ensure!(!broken.succeeded && broken.said.contains("203.0.113.0/33"), "{}", broken.said);
    ensure!(recaps.get("one").is_some_and(|host| host.failed == 1), "{}", broken.said);
    ensure!(!recaps.contains_key("two"), "it went on to the second host: {}", broken.said);
    ensure!(guards()? == after && services()? == running, "the list in force must stay");
    prometheus.sees("portguard_allowlist_prefixes{family='ipv4'} == 2", everywhere)?;
    println!("Ansible: a broken list stops at the first host, and the old one stays in force on both");

    expect_changes(&operator.roll_out(hosts, &first, true)?, true)?;
    for (host, guard) in hosts.iter().zip(guards()?) {
        ensure!(!guard.enforcing && guard.allowlist.prefixes_v4 == 1, "{}: {guard:?}", host.name);
        ensure!(answers(host, stranger, ANSWER)?, "{} drops in audit mode", host.name);
    }
    prometheus.sees("portguard_guard_enforcing == 0", everywhere)?;
    prometheus.sees("portguard_would_drop_packets_total > 0", everywhere)?;
    println!("Ansible: both are in audit mode");
    Ok(())
}

/// Fails unless a roll-out came to both hosts, and changed something on each, or nothing.
fn expect_changes(done: &RollOut, something: bool) -> Result<()> {
    let recaps = done.recaps().with_context(|| done.said.clone())?;
    ensure!(done.succeeded && recaps.len() == HOSTS.len(), "the roll-out failed: {}", done.said);
    ensure!(recaps.values().all(|host| host.failed == 0 && (host.changed > 0) == something), "{}", done.said);
    Ok(())
}

/// Whether a host's rpcbind answers another host, over UDP.
fn answers(host: &Booted, who: &Host, patience: Duration) -> Result<bool> {
    let server = SocketAddr::new(host.address, rpc::PORT);
    Ok(who.run(|| rpc::dump(server, patience))?.is_some())
}
