//! Values -> text, JSON, CSV; pure.

pub mod error;
pub mod explain;
pub mod lists;
pub mod progress;
pub mod stats;
pub mod status;
pub mod suggest;
pub mod time;
