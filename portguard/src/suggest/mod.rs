//! What `portguard suggest` proposes: who may need port 111, as this host's own files, networks and guards tell.
//!
//! Each place where clients are written down has a parser of its own, which is pure; [`files`] reads the files, [`names`]
//! asks the resolver. [`from`] reads files that an administrator names instead. Whatever cannot be said by prefixes is named as such: nothing is left out silently, and nothing is
//! made out to be everyone.

pub mod auth_cache;
pub mod client;
mod export_options;
pub mod exports;
pub mod files;
pub mod from;
pub mod hosts_allow;
pub mod mounts;
pub mod names;
pub mod nfsd;
pub mod proposal;
pub mod rmtab;
pub mod securenets;
pub mod sources;
pub mod systemd;
