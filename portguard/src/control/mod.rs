//! The control socket of `portguard run`: commands hand requests to the service that keeps an interface.
//!
//! A request is one line of JSON, and so is the reply; a connection carries one of each. Both name the protocol:
//!
//! ```text
//! {"protocol":1,"request":"reload","interfaces":["eth0"],"allow_empty":false,"confirm_seconds":null}
//! {"busy":true}
//! {"protocol":1,"reply":"outcome","stdout":"eth0: +1 -0, ...\n","messages":[],"code":0}
//! ```
//!
//! While the service works on a request, it sends `{"busy":true}` each second. Fields that a reader does not know are
//! ignored. A line has at most [`LONGEST_LINE`] bytes. A path is a string if it is UTF-8, else an array of its bytes.
//!
//! Invariants:
//! - Each side closes the connection unless the other one runs as root or as the same user (`SO_PEERCRED`).
//! - A client that is slow, silent or gone delays neither the service nor other clients.
//! - Each wait has a limit.

pub mod client;
mod directory;
pub mod server;

use std::fs;
use std::path::PathBuf;
use std::process;

use nix::unistd::{Uid, geteuid, getppid};
use portguard_common::listed;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use self::directory::RuntimeDirectory;
use crate::allowlist::{Invalid, Style};
use crate::error::{Error, Result};
use crate::guard::network_namespace;

/// The version of the protocol.
pub const PROTOCOL: u32 = 1;
/// The longest line, in bytes, with its end.
pub const LONGEST_LINE: usize = 1 << 20;
/// The line that the service sends while it works on a request.
const BUSY: &[u8] = b"{\"busy\":true}\n";

/// A request of a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// Describe the service, its order and its interfaces.
    Describe,
    /// Put the content of the allowlist in force.
    Reload(Reload),
    /// Confirm the changes on trial.
    Confirm(Confirm),
}

/// The arguments of a reload.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reload {
    /// The interfaces to reload; all that the service keeps if it is empty.
    #[serde(default)]
    pub interfaces: Vec<String>,
    /// Accept a list that loses all entries of an address family.
    #[serde(default)]
    pub allow_empty: bool,
    /// Restore the previous list unless a [`Confirm`] arrives within this time.
    #[serde(default)]
    pub confirm_seconds: Option<u64>,
}

/// The arguments of a confirmation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirm {
    /// The interfaces to confirm; all that the service keeps if it is empty.
    #[serde(default)]
    pub interfaces: Vec<String>,
}

/// A reply of the service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
enum Reply {
    Description(Description),
    Outcome(Outcome),
    /// The service refused the request.
    Refused {
        /// The reason.
        text: String,
    },
}

/// A service, its order and its interfaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The number of its process, in its own PID namespace.
    pub pid: u32,
    /// Its systemd unit.
    pub unit: Option<String>,
    /// The inode number of its network namespace.
    pub namespace: u64,
    /// Its version of portguard.
    pub version: String,
    /// The order that it keeps in force.
    pub order: OrderDescription,
    /// The interfaces that it is ordered to guard.
    pub interfaces: Vec<Kept>,
}

/// The order that a service keeps in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderDescription {
    /// The path of the allowlist.
    #[serde(with = "path")]
    pub allowlist: PathBuf,
    /// The hook, if it was named: `auto`, `xdp`, `tcx`.
    #[serde(default)]
    pub hook: Option<String>,
    /// The mode, if it was named: `auto`, `native`, `generic`.
    pub mode: Option<String>,
    /// Whether the guards run in audit mode.
    pub audit: bool,
    /// The number of sources that each CPU remembers, if it was named.
    pub sources: Option<u32>,
    /// The entries that the drop log may write in a second, if it is on.
    pub log_rate: Option<u32>,
}

/// An interface that a service keeps guarded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Its name on the command line of the service.
    pub name: String,
    /// Its index; `None` while the service does not keep its guard.
    pub ifindex: Option<u32>,
    /// Its state, as text for users.
    pub state: String,
    /// Whether the interface exists, and the service could not guard it.
    #[serde(default)]
    pub open: bool,
    /// Why the service could not guard it.
    #[serde(default)]
    pub why: Option<String>,
}

/// The output of a command, and its exit code.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The text for standard output.
    pub stdout: String,
    /// The messages for standard error.
    pub messages: Vec<Message>,
    /// The exit code.
    pub code: u8,
}

/// A message for standard error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Its severity.
    pub severity: Severity,
    /// Its text, in one line.
    pub text: String,
    /// The problems of an allowlist, as lines that are printed before the text.
    #[serde(default)]
    pub list_problems: Option<String>,
}

listed! {
    /// The severity of a message.
    #[derive(Deserialize, Serialize)]
    #[serde(into = "&'static str", try_from = "String")]
    pub enum Severity {
        /// Nothing has failed.
        Note = "note",
        /// Something is not in order.
        Warning = "warning",
        /// Something has failed.
        Error = "error",
    }
}

impl TryFrom<String> for Severity {
    type Error = &'static str;

    fn try_from(key: String) -> Result<Self, &'static str> {
        Self::from_key(&key).ok_or("a severity that this version does not know")
    }
}

impl Description {
    /// The description of the service in this process.
    ///
    /// # Errors
    /// `/proc` does not show the network namespace.
    pub fn of_this_process(order: OrderDescription, interfaces: Vec<Kept>) -> Result<Self> {
        Ok(Self {
            pid: process::id(),
            unit: unit(),
            namespace: network_namespace()?,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            order,
            interfaces,
        })
    }

    /// The place where an administrator changes the order of the service.
    pub fn place(&self) -> String {
        match &self.unit {
            Some(unit) if unit.starts_with("portguard@") => format!(
                "{unit} (PORTGUARD_OPTIONS and PORTGUARD_ALLOWLIST in /etc/default/portguard or a drop-in)"
            ),
            // A unit that an administrator has written need not read that file.
            Some(unit) => format!("{unit} (its ExecStart= and environment)"),
            None => format!("the command line of process {}", self.pid),
        }
    }

    /// The name of the service for users: `process 123 (portguard@eth0.service)`.
    pub fn name(&self) -> String {
        name_of(self.pid, self.unit.as_deref())
    }

    /// The place of the service's messages.
    pub fn log(&self) -> String {
        match &self.unit {
            Some(unit) => format!("journalctl -u {unit}"),
            None => format!("the standard error of process {}", self.pid),
        }
    }

    /// Whether the service keeps an interface of its network namespace. A name counts with any index, because the
    /// service follows names.
    pub fn keeps(&self, ifindex: Option<u32>, names: &[&str]) -> bool {
        self.interfaces.iter().any(|kept| {
            names.contains(&kept.name.as_str()) || (kept.ifindex.is_some() && kept.ifindex == ifindex)
        })
    }
}

impl From<&Error> for Message {
    fn from(error: &Error) -> Self {
        Self {
            severity: Severity::Error,
            text: error.to_string(),
            list_problems: Invalid::of(error).map(|invalid| invalid.render(Style::Plain)),
        }
    }
}

/// The name of a service for users.
pub fn name_of(pid: u32, unit: Option<&str>) -> String {
    let unit = unit.map(|unit| format!(" ({unit})")).unwrap_or_default();
    format!("process {pid}{unit}")
}

/// The systemd unit of this process. A shell may run in the cgroup of a unit as well (`ssh.service`), so a unit counts
/// only if systemd itself started the process.
fn unit() -> Option<String> {
    if getppid().as_raw() != 1 {
        return None;
    }
    unit_in(&fs::read_to_string("/proc/self/cgroup").ok()?)
}

/// The unit that a `/proc/PID/cgroup` names (cgroups(7)): the hierarchy of systemd has no controllers in version 2, and a
/// name in version 1.
fn unit_in(cgroups: &str) -> Option<String> {
    cgroups.lines().find_map(|line| {
        let (_, line) = line.split_once(':')?;
        let (controllers, path) = line.split_once(':')?;
        let systemd = controllers.is_empty() || controllers == "name=systemd";
        let mut parts = path.rsplit('/').filter(|_| systemd);
        parts.find(|part| part.ends_with(".service")).map(str::to_owned)
    })
}

/// Whether a process of this user may be on the other side of a connection.
fn is_trusted(uid: u32) -> bool {
    let uid = Uid::from_raw(uid);
    uid.is_root() || uid == geteuid()
}

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    protocol: u32,
    #[serde(flatten)]
    body: T,
}

/// The line with a request or a reply.
fn encode(body: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut line = serde_json::to_vec(&Envelope { protocol: PROTOCOL, body })?;
    line.push(b'\n');
    Ok(line)
}

/// The request or the reply in a line, or the reason why the line is not valid.
fn decode<T: DeserializeOwned>(line: &[u8]) -> Result<T, String> {
    #[derive(Deserialize)]
    struct Version {
        protocol: u32,
    }
    let not_readable = |error: serde_json::Error| format!("the line cannot be read: {error}");
    // The version is read first, because the rest may have another form in another version.
    let Version { protocol } = serde_json::from_slice(line).map_err(not_readable)?;
    if protocol != PROTOCOL {
        return Err(format!(
            "this portguard uses protocol {PROTOCOL}, and the other side protocol {protocol}"
        ));
    }
    serde_json::from_slice::<Envelope<T>>(line).map(|envelope| envelope.body).map_err(not_readable)
}

/// Paths as JSON: a string if they are UTF-8, else an array of bytes.
mod path {
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serialize as _, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        Text(String),
        Bytes(Vec<u8>),
    }

    pub(super) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        match path.to_str() {
            Some(text) => serializer.serialize_str(text),
            None => path.as_os_str().as_bytes().serialize(serializer),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        Ok(match Form::deserialize(deserializer)? {
            Form::Text(text) => text.into(),
            Form::Bytes(bytes) => OsString::from_vec(bytes).into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_is_the_innermost_service_of_systemds_hierarchy() {
        let unit = |text: &str| unit_in(text);
        assert_eq!(
            unit("0::/system.slice/system-portguard.slice/portguard@eth0.service\n").as_deref(),
            Some("portguard@eth0.service")
        );
        assert_eq!(
            unit("0::/user.slice/user@0.service/app.slice/my.service/child").as_deref(),
            Some("my.service")
        );
        let version_1 =
            "12:cpu,cpuacct:/other.service\n1:name=systemd:/system.slice/portguard@br\\x2d0.service\n0::/\n";
        assert_eq!(unit(version_1).as_deref(), Some("portguard@br\\x2d0.service"));
        assert_eq!(unit("0::/user.slice/user-0.slice/session-3.scope\n"), None);
        assert_eq!(unit("0::/\n"), None);
        assert_eq!(unit(""), None);
    }
}
