//! What becomes of packets from an address, and which entry decides.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use portguard_common::calls::UdpCalls;
use portguard_common::conditions::{self, NEVER};
use portguard_common::listed;
use portguard_common::reason::Denial;
use portguard_common::rpc::Procedure;
use portguard_common::transport::Protocol;
use serde::{Serialize, Serializer};

use crate::allowlist::{self, InterfacePattern, Origin};
use crate::guard::Decision;
use crate::ops::services::{ServiceState, Unguarded};
use crate::printable::serialize_path;
use crate::time;

/// The document of `explain --json`. Fields may be added; no field is renamed or removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Document {
    /// The version of the meaning of the fields.
    pub schema: u32,
    /// In the order of the sources as they were asked for, and for each in that of the interfaces.
    pub verdicts: Vec<Verdict>,
    /// The interfaces that should have a guard and have none: on those that are there, every packet passes.
    pub unguarded: Vec<Unguarded>,
}

impl Document {
    /// A document of this version.
    pub fn new(verdicts: Vec<Verdict>) -> Self {
        Self { schema: 1, verdicts, unguarded: Vec::new() }
    }
}

/// What becomes of packets for port 111 from one source on one interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Where the packets come from.
    pub source: IpAddr,
    /// The guarded interface; none if a file was judged by.
    pub interface: Option<String>,
    /// What becomes of them.
    pub verdict: Decision,
    /// Why they are not allowed; none if they are.
    #[serde(serialize_with = "denial")]
    pub reason: Option<Denial>,
    /// The time that is asked about, RFC 3339; none for now.
    pub at: Option<String>,
    /// Who says so.
    pub judged_by: Judge,
    /// The protocols that were tried; the verdict is the same for each.
    #[serde(serialize_with = "keys")]
    pub protocols: Vec<Protocol>,
    /// What was asked for over UDP; none if only TCP was tried.
    #[serde(serialize_with = "call")]
    pub call: Option<Procedure>,
    /// The list that decides.
    pub allowlist: Allowlist,
    /// The entry that covers the source, if one does.
    pub entry: Option<Entry>,
    /// If none does: the one that comes nearest. None if the list has none of this address family.
    pub nearest: Option<Entry>,
    /// Whether the program that was run is the one that is attached, instruction for instruction; none if a file was
    /// judged by.
    pub same_program: Option<bool>,
    /// What is odd about the source.
    pub note: Option<&'static str>,
    /// Whether the guard drops, or only counts; none if a file was judged by.
    pub enforcing: Option<bool>,
    /// The service that keeps the guard.
    pub service: Option<ServiceState>,
}

/// Protocols as their keys.
fn keys<S: Serializer>(protocols: &[Protocol], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(protocols.iter().map(|protocol| protocol.key()))
}

/// A reason as its key.
fn denial<S: Serializer>(reason: &Option<Denial>, serializer: S) -> Result<S::Ok, S::Error> {
    reason.map(Denial::key).serialize(serializer)
}

/// A call as its key.
fn call<S: Serializer>(call: &Option<Procedure>, serializer: S) -> Result<S::Ok, S::Error> {
    call.map(Procedure::key).serialize(serializer)
}

/// The calls over UDP as their key.
fn udp<S: Serializer>(calls: &UdpCalls, serializer: S) -> Result<S::Ok, S::Error> {
    calls.key().serialize(serializer)
}

listed! {
    /// Who gives a verdict.
    #[derive(Serialize)]
    #[serde(into = "&'static str")]
    pub enum Judge {
        /// The guard's program, run by the kernel on the list in force.
        Kernel = "kernel",
        /// The file, read by this command.
        File = "file",
    }
}

/// The list that decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Allowlist {
    /// Its file.
    #[serde(serialize_with = "serialize_path")]
    pub path: PathBuf,
    /// Of the file as it was read or loaded, in hexadecimal.
    pub sha256: String,
    /// How many lists the guard has had; none if a file was judged by.
    pub generation: Option<u64>,
    /// The calls that it permits over UDP: `all`, `lookups` or `none`.
    #[serde(serialize_with = "udp")]
    pub udp: UdpCalls,
    /// Whether the file holds something else than the list in force, or is gone.
    pub changed_on_disk: bool,
    /// Which text the lines are those of; none if there is none any more that fits the list in force.
    pub lines_of: Option<Origin>,
}

/// An entry of the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Its prefix.
    pub prefix: IpNet,
    /// Its line, if the text is still there.
    pub line: Option<u32>,
    /// What the user wrote next to it.
    pub comment: Option<String>,
    /// Its conditions, if it has any.
    pub conditions: Option<Conditions>,
}

impl From<&allowlist::Entry> for Entry {
    fn from(entry: &allowlist::Entry) -> Self {
        let comment = entry.comment().map(str::to_owned);
        let conditions = entry.conditions().map(Into::into);
        Self { prefix: entry.prefix(), line: Some(entry.line()), comment, conditions }
    }
}

/// The conditions of an entry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Conditions {
    /// The interfaces that it is for, as the file names them; none if it is for all, or if only the kernel knows the entry.
    pub interfaces: Option<Vec<String>>,
    /// When it ends; RFC 3339.
    pub until: Option<String>,
    /// What it permits over UDP: `all`, `lookups` or `none`; none if that is what the whole list permits.
    pub udp: Option<&'static str>,
    /// How many packets over UDP it lets pass in a second.
    pub rate: Option<u32>,
}

impl Conditions {
    /// Those of an entry that only the kernel knows, of a list that permits these calls.
    pub(super) fn of_kernel(conditions: &conditions::Conditions, of_list: UdpCalls) -> Self {
        let until = (conditions.until != NEVER).then(|| time::seconds(conditions.until));
        let udp = UdpCalls::from_number(conditions.udp_calls).unwrap_or(UdpCalls::None);
        Self {
            interfaces: None,
            until,
            udp: (udp != of_list).then(|| udp.key()),
            rate: (conditions.rate > 0).then_some(conditions.rate),
        }
    }
}

impl From<&allowlist::Conditions> for Conditions {
    fn from(conditions: &allowlist::Conditions) -> Self {
        let allowlist::Conditions { interfaces, until, udp, rate } = conditions;
        let names = |patterns: &[InterfacePattern]| {
            patterns.iter().map(|pattern| pattern.as_str().to_owned()).collect()
        };
        Self {
            interfaces: interfaces.as_deref().map(names),
            until: until.map(|until| until.to_string()),
            udp: udp.map(UdpCalls::key),
            rate: rate.map(Into::into),
        }
    }
}
