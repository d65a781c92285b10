//! Networks on one machine: hosts that are network namespaces, cables that are veth pairs, a switch that is a bridge,
//! the real rpcbind, and an attacker who forges his source address.
//!
//! Invariants:
//! - Nothing reaches outside: no namespace has a link to the machine's own network.
//! - Every address is one that documents and benchmarks may use ([`NETWORKS`]).
//! - What is set up goes away on `Drop`: processes, links, namespaces, mounts. What a killed run left behind is
//!   found by its name, which carries the process id: [`stale`].
//! - No fixed sleeps: a condition and a deadline.

mod capture;
mod cards;
mod forger;
pub mod frame;
mod mounts;
mod namespace;
mod packet_socket;
mod process;
pub mod rpc;
mod services;
mod switch;
mod terminal;
mod tun;
mod veth;

pub use capture::{Capture, Count, Replies, sum};
pub use cards::{CARDS, Cards, FAILOVER};
pub use forger::Forger;
pub use mounts::MountNamespace;
pub use namespace::{Namespace, stale};
pub use packet_socket::PacketSocket;
pub use process::{Completed, Outcome, Process, run, run_within, wait_until};
pub use services::RpcServices;
pub use switch::{Host, NETWORKS, Switch};
pub use terminal::{Size, Terminal};
pub use tun::{Datagrams, Layout, Tun, Virtual};
pub use veth::{End, Veth};
