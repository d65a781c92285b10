//! What the commands and the service do alike: read lists, take the lock, change guards.
//!
//! Nothing is printed, asked or waited for while the lock is held: what there is to tell is collected in [`Messages`], and
//! printed when the lock is free again. So a terminal or a pipe that stands still keeps no other portguard waiting.

pub(crate) mod change;
pub(crate) mod guardian;
pub(crate) mod lists;
pub(crate) mod messages;
pub(crate) mod owner;
pub mod services;
pub(crate) mod trial;

use std::path::PathBuf;

use crate::allowlist::DEFAULT_PATH;
use crate::error::Result;
use crate::guard::{Access, Lock, Patience, PinRoot};

pub use self::messages::{Console, Message, Messages, Progress};

/// Waits for other portguards, as long as a command does. To change guards, take [`trial::lock_to_change`].
pub(crate) fn lock(pin_root: &PinRoot, access: Access, messages: &Messages) -> Result<Lock> {
    pin_root.lock(access, &Patience::default(), |holder| tell_holder(messages.console(), holder))
}

/// Tells whom this process waits for: at once.
pub(crate) fn tell_holder(console: &dyn Console, holder: Option<u32>) {
    let who = holder.map_or(String::new(), |process| format!(" (process {process})"));
    console.note(format!("waiting for another portguard to finish{who}"));
}

/// Where the list of a new guard is, if nobody names one.
pub(crate) fn default_allowlist() -> PathBuf {
    let named = std::env::var_os("PORTGUARD_ALLOWLIST").filter(|path| !path.is_empty());
    named.map_or_else(|| DEFAULT_PATH.into(), PathBuf::from)
}

/// Names without repetitions, in their order.
pub(crate) fn unique(names: &[String]) -> Vec<&String> {
    let mut unique = Vec::new();
    for name in names {
        if !unique.contains(&name) {
            unique.push(name);
        }
    }
    unique
}

/// What a guard does, in words.
pub fn state(enforcing: bool) -> &'static str {
    if enforcing { "enforcing" } else { "audit only, nothing is dropped" }
}
