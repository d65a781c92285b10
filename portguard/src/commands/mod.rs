//! One verb, one file, one function that takes its arguments and a writer.

pub mod check;
