//! Values -> text, JSON, CSV; pure.

pub mod calls;
pub mod doctor;
pub mod error;
pub mod explain;
pub mod lists;
pub mod metrics;
pub mod probe;
pub mod progress;
pub mod report;
pub mod services;
pub mod stats;
pub mod status;
pub mod suggest;
mod table;
pub mod time;

/// What a guard does, in words.
pub fn state(enforcing: bool) -> &'static str {
    if enforcing { "enforcing" } else { "audit only, nothing is dropped" }
}
