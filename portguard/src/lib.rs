//! portguard's user-space half: it reads the allowlist, puts the guard on an interface, and reads its counters.
//!
//! Invariants:
//! - Nothing touches the kernel before the whole allowlist is valid.
//! - Fill first, attach last; a failed reload leaves the old list in force.
//! - Counters live in pinned maps of their own and outlive reloads and upgrades.
//! - No silent fall-back: generic mode, a missing feature, a missing pin: each is said.

pub mod allowlist;
pub mod cli;
pub mod control;
pub mod doctor;
pub mod error;
pub mod explain;
pub mod family;
pub mod guard;
pub mod history;
pub mod interface;
mod netlink;
pub mod ops;
mod printable;
pub mod probe;
pub mod rpcbind;
pub mod service;
mod sockets;
mod state_directory;
pub mod suggest;
pub mod term;
mod time;
pub mod top;
