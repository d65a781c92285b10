//! Who stands at the end of the wire: each firewall set up as its manual says, and asked for its own count of what it
//! has dropped.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use aya::programs::Xdp;
use aya::programs::xdp::{XdpLink, XdpMode};
use portguard_testkit::net::{Namespace, run};

use super::lists::List;
use super::peers::{Guard, INTERFACE, XdpFilter};
use super::programs::{Object, Programs};
use super::results::Firewall;

/// A firewall that is up, for as long as the value lives.
#[derive(Debug)]
pub(super) struct InstalledFirewall<'a> {
    namespace: &'a Namespace,
    kind: Kind<'a>,
}

#[derive(Debug)]
enum Kind<'a> {
    /// Nothing: whatever comes is delivered.
    Nobody,
    /// A program of the bench, which does not count.
    Own {
        _programs: Programs,
        _link: XdpLink,
    },
    Portguard(Guard<'a>),
    XdpFilter(XdpFilter<'a>),
    Iptables,
    Nft,
}

/// What a rule set needs to know.
pub(super) struct Setting<'a> {
    /// The program of portguard.
    pub(super) portguard: &'a Path,
    /// The bench's own programs.
    pub(super) object: &'a Object,
    /// What is allowed.
    pub(super) lists: &'a [List; 2],
}

impl<'a> InstalledFirewall<'a> {
    /// Nobody stands there.
    pub(super) fn nobody(namespace: &'a Namespace) -> Self {
        Self { namespace, kind: Kind::Nobody }
    }

    /// Sets a firewall up on the interface of a namespace.
    pub(super) fn set_up(
        firewall: Firewall,
        setting: &Setting<'a>,
        namespace: &'a Namespace,
    ) -> Result<Self> {
        let mode = if firewall.is_generic() { "generic" } else { "native" };
        let kind = match firewall {
            Firewall::Bare | Firewall::BareGeneric => own("bare_drop", firewall, setting, namespace)?,
            Firewall::LpmLru | Firewall::LpmLruGeneric => own("lpm_lru", firewall, setting, namespace)?,
            Firewall::Portguard | Firewall::PortguardGeneric => {
                portguard(setting, namespace, ["--mode", mode])?
            }
            Firewall::PortguardTcx => portguard(setting, namespace, ["--hook", "tcx"])?,
            Firewall::XdpFilter => Kind::XdpFilter(XdpFilter::load(namespace, &["--mode", "native"])?),
            Firewall::XdpFilterUdp => {
                Kind::XdpFilter(XdpFilter::load(namespace, &["--mode", "native", "--features", "udp"])?)
            }
            Firewall::XdpFilterGeneric => Kind::XdpFilter(XdpFilter::load(namespace, &["--mode", "skb"])?),
            Firewall::Iptables => {
                iptables(namespace, &setting.lists[0])?;
                Kind::Iptables
            }
            Firewall::Nft => {
                nft(namespace, &setting.lists[0], false)?;
                Kind::Nft
            }
            Firewall::NftPerSource => {
                nft(namespace, &setting.lists[0], true)?;
                Kind::Nft
            }
        };
        Ok(Self { namespace, kind })
    }

    /// How many packets it says it has dropped; `None` if it does not count.
    pub(super) fn dropped(&self) -> Result<Option<u64>> {
        let count = match &self.kind {
            Kind::Nobody | Kind::Own { .. } => return Ok(None),
            Kind::Portguard(guard) => guard.accounts()?.denied,
            Kind::XdpFilter(filter) => filter.dropped()?,
            Kind::Iptables => {
                let mut command = self.namespace.command("iptables");
                let list = run(command.args(["-t", "raw", "-nvxL", "PREROUTING"]))?.stdout;
                let rule = list.lines().find(|line| line.contains("match-set"));
                let packets = rule.and_then(|rule| rule.split_whitespace().next()?.parse().ok());
                packets.with_context(|| format!("no count in:\n{list}"))?
            }
            Kind::Nft => {
                let mut command = self.namespace.command("nft");
                let list = run(command.args(["list", "chain", "netdev", "guard", "denied"]))?.stdout;
                let packets = list
                    .split_once("counter packets ")
                    .and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok());
                packets.with_context(|| format!("no count in:\n{list}"))?
            }
        };
        Ok(Some(count))
    }
}

/// Attaches portguard.
fn portguard<'a>(setting: &Setting<'a>, namespace: &'a Namespace, place: [&str; 2]) -> Result<Kind<'a>> {
    Ok(Kind::Portguard(Guard::attach(setting.portguard, namespace, setting.lists, &place)?))
}

/// Attaches a program of the bench.
fn own<'a>(name: &str, firewall: Firewall, setting: &Setting<'a>, namespace: &Namespace) -> Result<Kind<'a>> {
    let mut programs = Programs::load(setting.object, setting.lists)?;
    let mode = if firewall.is_generic() { XdpMode::Skb } else { XdpMode::Driver };
    let ifindex = namespace.ifindex(INTERFACE)?;
    let link = namespace.run(|| -> Result<XdpLink> {
        let program: &mut Xdp = programs.xdp(name)?;
        let id = program.attach_to_if_index(ifindex, mode)?;
        Ok(program.take_link(id)?)
    });
    let link = link.with_context(|| format!("cannot attach {name}"))?;
    Ok(Kind::Own { _programs: programs, _link: link })
}

/// `iptables` in the raw table, before connection tracking, with the list in an ipset.
fn iptables(namespace: &Namespace, list: &List) -> Result<()> {
    let mut set = "create allowed hash:net family inet maxelem 1048576\n".to_owned();
    for (address, length) in list.written() {
        set += &format!("add allowed {address}/{length}\n");
    }
    from_file(namespace, &set, &["ipset", "restore", "-file"])?;
    let rule = "-t raw -A PREROUTING -p udp --dport 111 -m set ! --match-set allowed src -j DROP";
    run(namespace.command("iptables").args(rule.split_whitespace())).map(drop)
}

/// `nft` at ingress, the earliest hook that it has, with the list in an interval set.
fn nft(namespace: &Namespace, list: &List, per_source: bool) -> Result<()> {
    let elements: Vec<_> = list.written().map(|(address, length)| format!("{address}/{length}")).collect();
    // A set that is full refuses new sources, and ends the rule: the drop stands in the next one.
    let update = if per_source { "update @seen { ip saddr counter }" } else { "" };
    let rules = format!(
        "table netdev guard {{
           set allowed {{ type ipv4_addr; flags interval; auto-merge; elements = {{ {} }} }}
           set seen {{ type ipv4_addr; flags dynamic,timeout; timeout 1m; size 65536; }}
           chain denied {{
             {update}
             counter drop
           }}
           chain ingress {{
             type filter hook ingress device {INTERFACE} priority 0;
             udp dport 111 ip saddr != @allowed goto denied
           }}
         }}",
        elements.join(", ")
    );
    from_file(namespace, &rules, &["nft", "-f"])
}

/// Runs a command with a file of this content as its last argument.
fn from_file(namespace: &Namespace, content: &str, command: &[&str]) -> Result<()> {
    let directory = tempfile::tempdir().context("cannot make a directory for rules")?;
    let path = directory.path().join("rules");
    fs::write(&path, content).context("cannot write rules")?;
    let (program, arguments) = command.split_first().context("no command")?;
    ensure!(!arguments.is_empty(), "{program} takes its file as an argument");
    run(namespace.command(program).args(arguments).arg(&path)).map(drop)
}
