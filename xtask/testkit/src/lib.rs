//! What the tests, the demo and the bench of portguard share.
//!
//! - Hosts to play on: [`net`] makes networks in namespaces, [`testbed`] hosts with fixed roles, [`machine`] what the
//!   hosts share, [`traffic`] flows between them.
//! - portguard as its users have it: [`portguard`] is its command line, [`service`] is `portguard run`, [`documents`] its
//!   JSON.
//! - Second opinions: [`oracle`] on frames, [`observer`] on guards.
//! - What is told of a run: [`figures`], and the [`document`] that they are written to.
//!
//! For development only; no part of it is in what is released. Nothing here shares code with portguard.

pub mod built;
pub mod document;
pub mod documents;
pub mod figures;
pub mod interrupt;
pub mod lists;
pub mod machine;
pub mod net;
pub mod observer;
pub mod oracle;
pub mod portguard;
pub mod service;
pub mod testbed;
pub mod traffic;
pub mod until;
