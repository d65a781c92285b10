//! What `portguard explain` finds out beside the verdict: which source is meant, which entry decides, and where the text
//! is that has it.

pub mod entries;
pub mod source;
pub mod text;
