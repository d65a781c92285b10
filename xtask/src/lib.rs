//! What the tests, the demo and the benchmarks of portguard share.

pub mod built;
pub mod demo;
pub mod interrupt;
pub mod lab;
pub mod proof;
