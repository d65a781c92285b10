//! What the cases share: hosts, the command line in one of them, its documents, and traffic that is counted.

mod behind;
mod config_map;
mod documents;
mod earlier;
mod form;
mod http;
mod lists;
mod portguard;
mod service;
mod testbed;
mod traced;
mod traffic;
mod tun;
mod until;
mod witness;

pub(crate) use behind::{Typed, behind_its_back, detach_link, typed};
pub(crate) use config_map::ConfigMap;
pub(crate) use documents::{Calls, OrderStatus, ServiceStatus, Stats, Status, Unguarded, sum};
pub(crate) use earlier::{ABI_4, as_abi4, attach_abi4};
pub(crate) use form::{chosen, is_long};
pub(crate) use http::{ask, connect, samples};
pub(crate) use lists::Lists;
pub(crate) use portguard::{BPFFS, Machine, Output, Portguard};
pub(crate) use service::Service;
pub(crate) use testbed::{ALLOWED, Bench, DENIED, IFACE, OTHER, Role, SERVER, SOURCE_PORT, Testbed, flow};
pub(crate) use traced::{Traced, run_to, system_calls, system_calls_until};
pub(crate) use traffic::{Traffic, TrafficTotals, burst, port_111, under_traffic};
pub(crate) use tun::Tun;
pub(crate) use until::Until;
pub(crate) use witness::{lost_by, program_on};

use std::time::Duration;

/// How long something may take that happens at once on a machine that is not busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// How soon a service does what an event asks for: its next look may be as far as ten seconds away.
pub(crate) const BEFORE_THE_LOOK: Duration = Duration::from_secs(2);
/// How long nothing must come of a question to count as no answer.
pub(crate) const SILENCE: Duration = Duration::from_millis(700);
