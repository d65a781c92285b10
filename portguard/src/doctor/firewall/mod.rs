//! What a firewall of this host does with a stranger's packet for port 111, as far as its rules tell it plainly.

mod ipset;
mod iptables;
mod nft;
mod rules;
mod walk;

use std::{fs, io};

use nix::sys::socket::SockProtocol;

use self::rules::Rules;
pub(super) use self::rules::{Atom, Stranger};
use super::command::{self, Failure};
use crate::netlink;

/// `NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETTABLE`, and its reply, `NFT_MSG_NEWTABLE`.
const GET_TABLE: u16 = 0x0a01;
const NEW_TABLE: u16 = 0x0a00;
/// `struct nfgenmsg`: any family, version 0.
const OF_ANY_FAMILY: [u8; 4] = [0; 4];
/// The tables of iptables.
const TABLES_OF_IPTABLES: [&str; 5] = ["filter", "nat", "mangle", "raw", "security"];

/// The rules of this network namespace.
#[derive(Debug, Default)]
pub(super) struct Firewall {
    rules: Vec<Rules>,
    /// What could not be read.
    unread: Vec<String>,
}

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Passage {
    Open,
    /// By what.
    Blocked(String),
    /// Why nobody can tell.
    Unclear(String),
}

impl Passage {
    /// Of several ways in, the one that lets most through; open if there is nothing in the way.
    pub(super) fn widest(passages: impl Iterator<Item = Self>) -> Self {
        let rank = |passage: &Self| match passage {
            Self::Open => 0,
            Self::Unclear(_) => 1,
            Self::Blocked(_) => 2,
        };
        passages.min_by_key(rank).unwrap_or(Self::Open)
    }
}

impl Firewall {
    /// Asks the tools that belong to each kind of rules.
    pub(super) fn read() -> Self {
        let mut firewall = Self::default();
        let of_iptables = firewall.read_nft();
        for (ipv6, program) in [(false, "iptables"), (true, "ip6tables")] {
            let family = if ipv6 { "ip6" } else { "ip" };
            if of_iptables.iter().any(|table| table.split(' ').next() == Some(family)) {
                firewall.read_iptables(&[&format!("{program}-nft-save"), &format!("{program}-save")], ipv6);
            }
            let names = format!("/proc/thread-self/net/{family}_tables_names");
            match fs::read_to_string(&names) {
                Ok(tables) if tables.trim().is_empty() => {}
                Ok(_) => firewall
                    .read_iptables(&[&format!("{program}-legacy-save"), &format!("{program}-save")], ipv6),
                // A kernel without these tables has no such file.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => firewall.unread.push(format!("{names}: {error}")),
            }
        }
        firewall
    }

    /// Returns the tables that have rules of iptables.
    fn read_nft(&mut self) -> Vec<String> {
        let text = match command::output("nft", &["-j", "list", "ruleset"]) {
            Ok(text) => text,
            Err(Failure::Missing) => {
                self.unread
                    .extend(has_tables().then(|| "nft, which lists the rules, is not installed".to_owned()));
                return Vec::new();
            }
            Err(Failure::Failed(why)) => {
                // A kernel without nftables has no rules.
                self.unread.extend(has_tables().then_some(why));
                return Vec::new();
            }
        };
        let devices = match nft::lacks_devices(&text) {
            true => command::output("nft", &["list", "chains"])
                .map(|text| nft::devices(&text))
                .unwrap_or_default(),
            false => nft::Devices::new(),
        };
        let Some(mut read) = nft::parse(&text, &devices) else {
            self.unread
                .extend(has_tables().then(|| "portguard does not understand what nft prints".to_owned()));
            return Vec::new();
        };
        // Those are told by iptables in full.
        let known = |name: &str| TABLES_OF_IPTABLES.iter().any(|it| name.split(' ').nth(1) == Some(*it));
        read.of_iptables.retain(|name| known(name));
        read.rules.tables.retain(|table| {
            table
                .name
                .strip_prefix("nft table ")
                .is_none_or(|name| !read.of_iptables.iter().any(|it| it == name))
        });
        self.rules.push(read.rules);
        read.of_iptables
    }

    /// Takes the first of some tools that is there.
    fn read_iptables(&mut self, tools: &[&str], ipv6: bool) {
        for tool in tools {
            match command::output(tool, &[]) {
                Ok(text) => {
                    let sets = match text.contains("--match-set") {
                        // Without them, a source may be in any set.
                        true => command::output("ipset", &["save"])
                            .map(|text| ipset::parse(&text))
                            .unwrap_or_default(),
                        false => ipset::Sets::new(),
                    };
                    match iptables::parse(&text, ipv6, &sets) {
                        Some(rules) => self.rules.push(rules),
                        None => self.unread.push(format!("portguard does not understand what {tool} prints")),
                    }
                    return;
                }
                Err(Failure::Missing) => {}
                Err(Failure::Failed(why)) => {
                    self.unread.push(why);
                    return;
                }
            }
        }
        self.unread.push(format!("{}, which lists the rules, is not installed", tools.join(" or ")));
    }

    /// What becomes of a stranger's packet. `lowers` are the interfaces below that on which it arrives; `bridge`: that is a
    /// bridge.
    pub(super) fn passage(&self, stranger: &Stranger<'_>, lowers: &[&str], bridge: bool) -> Passage {
        let outcomes: Vec<_> =
            self.rules.iter().flat_map(|rules| rules.outcome(stranger, lowers, bridge)).collect();
        if let Some((chain, _)) = outcomes.iter().find(|(_, outcome)| outcome.is_dropped()) {
            return Passage::Blocked(chain.clone());
        }
        if let Some(why) = self.unread.first() {
            return Passage::Unclear(why.clone());
        }
        match outcomes.iter().find(|(_, outcome)| !outcome.is_accepted()) {
            None => Passage::Open,
            Some((chain, outcome)) => Passage::Unclear(match outcome.other.first() {
                Some(what) => format!("{chain} {what}"),
                None => format!("{chain} depends on more than the source"),
            }),
        }
    }
}

/// Whether the kernel has any table of nftables, or may have some.
fn has_tables() -> bool {
    match netlink::dump(SockProtocol::NetlinkNetFilter, GET_TABLE, &OF_ANY_FAMILY, NEW_TABLE) {
        Ok(tables) => !tables.is_empty(),
        // A kernel without nftables refuses, one without netfilter has no such protocol.
        Err(netlink::Failure::Refused(error)) => error.kind() == io::ErrorKind::PermissionDenied,
        Err(netlink::Failure::Socket(_)) => false,
        // There may be any.
        Err(_) => true,
    }
}
