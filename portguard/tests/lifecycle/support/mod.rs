//! What the cases share beside the test kit: what administrators, clusters and killers do.

mod behind;
mod cable;
mod config_map;
mod earlier;
mod foreign;
mod form;
mod http;
mod shifted_clock;
mod traced;

pub(crate) use behind::{Typed, behind_its_back, detach_link, pause, typed};
pub(crate) use cable::Cable;
pub(crate) use config_map::ConfigMap;
pub(crate) use earlier::{ABI_4, ABI_6, ABI_8, attach_abi, attach_abi4, attach_earlier};
pub(crate) use foreign::{Foreign, has_tcx, programs_at_tcx};
pub(crate) use form::{chosen, is_at_tcx, is_long};
pub(crate) use http::{ask, connect, samples};
pub(crate) use portguard_testkit::documents::{Calls, OrderStatus, Stats, Status};
pub(crate) use portguard_testkit::lists::Lists;
pub(crate) use portguard_testkit::machine::{BPFFS, Machine};
pub(crate) use portguard_testkit::net::{Tun, sum};
pub(crate) use portguard_testkit::observer::{lost_by, program_on};
pub(crate) use portguard_testkit::portguard::{Output, PATIENCE, Portguard};
pub(crate) use portguard_testkit::service::Service;
pub(crate) use portguard_testkit::testbed::{
    ALLOWED, DENIED, IFACE, OTHER, Role, SERVER, SOURCE_PORT, SingleHost, Testbed, flow,
};
pub(crate) use portguard_testkit::traffic::{Traffic, TrafficTotals, burst, port_111, under_traffic};
pub(crate) use portguard_testkit::until::Until;
pub(crate) use shifted_clock::ShiftedClock;
pub(crate) use traced::{Traced, run_to, run_to_rename, system_calls, system_calls_until};

use std::time::Duration;

/// The program under test.
pub(crate) const PORTGUARD: &str = env!("CARGO_BIN_EXE_portguard");
/// How soon a service does what an event asks for: its next look may be as far as ten seconds away.
pub(crate) const BEFORE_THE_LOOK: Duration = Duration::from_secs(2);
/// How long nothing must come of a question to count as no answer.
pub(crate) const SILENCE: Duration = Duration::from_millis(700);
