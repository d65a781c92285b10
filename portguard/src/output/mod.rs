//! Values -> text, JSON, CSV; pure.

pub mod calls;
pub mod error;
pub mod lists;
pub mod progress;
pub mod stats;
pub mod status;
mod table;
pub mod time;
