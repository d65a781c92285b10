//! The rules of a firewall, in the form that nftables and iptables share.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use portguard_common::transport::Protocol;

/// The first packet of a stranger, a source that no rule names, for a port of this host, as the rules see it.
#[derive(Debug, Clone)]
pub(crate) struct Stranger<'a> {
    /// The interface that it arrives on; `None`: the rules may see another one.
    pub interface: Option<&'a str>,
    pub protocol: Protocol,
    pub ipv6: bool,
    pub port: u16,
    /// The addresses of this host of that family: it is for one of them.
    pub destinations: &'a [IpAddr],
}

/// All rules of one origin.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Rules {
    pub tables: Vec<Table>,
}

/// A table: its chains call only one another.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Table {
    /// As a user would name it: `nft table inet filter`.
    pub name: String,
    /// By name.
    pub chains: BTreeMap<String, Chain>,
}

/// A chain.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Chain {
    /// Where packets enter it, if it is not only called.
    pub base: Option<Base>,
    pub rules: Vec<Rule>,
}

/// How packets enter a chain.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Base {
    pub scope: Scope,
    /// What becomes of a packet that no rule decides about.
    pub drops: bool,
}

/// Which packets enter a chain.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Scope {
    /// Those of IP; `None`: of both families.
    Ip { ipv6: Option<bool> },
    /// Those that arrive on some interfaces, before IP; `None`: it is not known on which.
    Devices(Option<Vec<String>>),
    /// Those that arrive on bridges.
    Bridge,
}

/// If all conditions hold, the action is taken.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Rule {
    pub conditions: Vec<Condition>,
    pub action: Action,
    pub changes: Changes,
}

/// What rules change of a packet, that later rules look at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Its mark, or that of its connection.
    pub marks: bool,
    /// It is excluded from connection tracking.
    pub untracks: bool,
}

/// What a rule does.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) enum Action {
    /// It counts, logs or marks, and the next rule follows.
    #[default]
    None,
    Accept,
    Drop,
    Return,
    Jump(String),
    Goto(String),
    /// Something else becomes of the packet, in these words.
    Other(String),
    /// The first element decides that fits.
    Map {
        subjects: Vec<Subject>,
        elements: Vec<(Vec<Atom>, Self)>,
    },
}

/// Whether one of the elements fits, in all of the subjects.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Condition {
    pub subjects: Vec<Subject>,
    pub elements: Vec<Vec<Atom>>,
    pub negated: bool,
}

/// What a condition is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    Interface,
    /// `ip` or `ip6`, `ipv4` or `ipv6`.
    Family,
    Protocol,
    Port,
    Source,
    Destination,
    ConnectionState,
    ConnectionStatus,
    /// That of the packet, or of the connection, under whatever mask: 0 if no rule sets it.
    Mark,
    /// Whether it is for this host alone, or for many.
    PacketType,
    DestinationType,
    /// The interface by which the source would be reached: whoever gets an answer has one.
    ReversePath,
    /// What the packet of a stranger does not have, such as an extension header.
    Absent,
    Unknown,
}

/// A value that a subject may have.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Atom {
    Text(String),
    Number(u64),
    Range(u64, u64),
    Prefix(IpNet),
    Addresses(IpAddr, IpAddr),
    Any,
    Unknown,
}

impl Condition {
    /// One that always holds, or never.
    pub(crate) fn constant(holds: bool) -> Self {
        Self { subjects: vec![], elements: if holds { vec![vec![]] } else { vec![] }, negated: false }
    }

    /// That one subject has one value.
    pub(crate) fn is(subject: Subject, atom: Atom) -> Self {
        Self { subjects: vec![subject], elements: vec![vec![atom]], negated: false }
    }

    /// One that may hold or not.
    pub(crate) fn unknown() -> Self {
        Self::is(Subject::Unknown, Atom::Unknown)
    }
}
