//! The life of a guard, proved from outside: by the command line, on the wire, and in JSON.
//!
//! Each test plays in network namespaces and on a BPF file system of its own, so they run in parallel, and what one of
//! them leaves behind is gone with it.

mod attach_points;
mod audit_wording;
mod bpffs;
mod calls;
mod clocks;
mod conditions;
mod confirm;
mod damage;
mod detach;
mod devices;
mod doctor;
mod errors;
mod explain;
mod flood;
mod foreign;
mod identity;
mod last_good;
mod links;
mod list_changes;
mod list_files;
mod loading;
mod modes;
mod names;
mod netlink;
mod nfs;
mod orders;
mod parallel;
mod pod;
mod probe;
mod prometheus;
mod reload;
mod report;
mod resets;
mod service;
mod stats;
mod status;
mod suggest;
mod support;
mod tcx;
mod top;
mod torture;
mod upgrade;
mod waits;
mod wire;
mod witnesses;
