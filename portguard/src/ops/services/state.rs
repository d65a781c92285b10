//! What services keep, and what of it is not as they are ordered: parts of several documents.

use portguard_common::listed;
use serde::Serialize;

use crate::control;
use crate::printable::printable;

/// The service that keeps a guard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServiceState {
    /// Its process, as numbered in its own PID namespace.
    pub pid: u32,
    /// Its systemd unit.
    pub unit: Option<String>,
    /// Whether the guard does what the service is ordered to do.
    pub as_ordered: bool,
    /// What it does otherwise, an element for each part of the order: what is ordered, and what is in force.
    pub differences: Vec<String>,
}

impl ServiceState {
    /// What an administrator calls the service.
    pub fn name(&self) -> String {
        printable(&control::name_of(self.pid, self.unit.as_deref()))
    }

    /// Whether the guard is as ordered, in words.
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
    /// Whether it is there.
    pub state: UnguardedState,
    /// The service that is to guard it; none if a guard was attached by hand, and its link is gone.
    pub service: Option<Owner>,
    /// Why it has no guard, if that is known.
    pub why: Option<String>,
}

listed! {
    /// How it is with an interface that should have a guard and has none.
    #[derive(Serialize)]
    #[serde(into = "&'static str")]
    pub enum UnguardedState {
        /// There is no such interface; the service waits for it.
        Waiting = "waiting",
        /// The interface is there, and port 111 is open on it.
        Open = "open",
    }
}

/// The service that is to guard an interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Owner {
    /// Its process, as numbered in its own PID namespace.
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
