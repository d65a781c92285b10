//! `portguard run`, the service.

mod drop_log;
mod files;
mod interfaces;
mod metrics;
mod pins;
mod signals;
