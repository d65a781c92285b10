//! What the tests, the demo and the bench of portguard share: networks on one machine, and a second opinion on frames.
//!
//! For development only; no part of it is in what is released.

pub mod built;
pub mod document;
pub mod figures;
pub mod interrupt;
pub mod net;
pub mod oracle;
