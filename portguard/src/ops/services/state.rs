//! The state of guards compared with the orders of services: parts of several documents.

use portguard_common::listed;
use serde::Serialize;

use crate::control;
use crate::printable::printable;

/// The service that keeps a guard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServiceState {
    /// The number of its process, in its own PID namespace.
    pub pid: u32,
    /// Its systemd unit.
    pub unit: Option<String>,
    /// Whether the guard is as the service is ordered.
    pub as_ordered: bool,
    /// The parts of the order that differ, with the ordered value and the value in force.
    pub differences: Vec<String>,
}

impl ServiceState {
    /// The name of the service for users: `process 123 (portguard@eth0.service)`.
    pub fn name(&self) -> String {
        printable(&control::name_of(self.pid, self.unit.as_deref()))
    }

    /// Whether the guard is as ordered, as text.
    pub fn verdict(&self) -> String {
        if self.as_ordered {
            return "as ordered".to_owned();
        }
        format!("NOT AS ORDERED: {}", printable(&self.differences.join(", ")))
    }
}

/// An interface that should have a guard and has none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unguarded {
    /// Its name.
    pub interface: String,
    /// Whether the interface exists.
    pub state: UnguardedState,
    /// The service that is ordered to guard it; `None` if its guard was attached by hand, and the link is gone.
    pub service: Option<Owner>,
    /// Why it has no guard, if that is known.
    pub why: Option<String>,
}

listed! {
    /// The state of an interface that should have a guard and has none.
    #[derive(Serialize)]
    #[serde(into = "&'static str")]
    pub enum UnguardedState {
        /// The interface does not exist, and the service waits for it.
        Waiting = "waiting",
        /// The interface exists, and port 111 is open on it.
        Open = "open",
    }
}

/// The service that is ordered to guard an interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Owner {
    /// The number of its process, in its own PID namespace.
    pub pid: u32,
    /// Its systemd unit.
    pub unit: Option<String>,
}

/// One line: `wg0: waiting for the interface (process 123, portguard@wg0.service)`.
pub fn line(unguarded: &Unguarded) -> String {
    let Unguarded { interface, state, service, why } = unguarded;
    let state = match state {
        UnguardedState::Waiting => "waiting for the interface",
        UnguardedState::Open => "NOT GUARDED, port 111 is open",
    };
    let service = service.as_ref().map(|Owner { pid, unit }| {
        let unit = unit.as_ref().map(|unit| format!(", {unit}")).unwrap_or_default();
        format!(" (process {pid}{unit})")
    });
    let why = why.as_ref().map(|why| format!(": {why}"));
    printable(&format!("{interface}: {state}{}{}", service.unwrap_or_default(), why.unwrap_or_default()))
}
