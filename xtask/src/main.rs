//! The commands of developers and CI.
fn main() {}
