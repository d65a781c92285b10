//! `portguard run`, the service.

mod files;
mod interfaces;
mod signals;
