//! Operations of both the commands and the service: they read lists, take the lock, and change guards.
//!
//! While the lock is held, portguard prints nothing, and waits for no user and no network. [`Messages`] collects
//! messages, which are printed after the lock is free. So a terminal or a pipe that blocks does not make another
//! portguard wait.

pub(crate) mod change;
pub(crate) mod deadlines;
pub(crate) mod guardian;
pub(crate) mod list_here;
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

/// Takes the lock, with the waiting time of a command. To change guards, use [`trial::lock_to_change`].
pub(crate) fn lock(pin_root: &PinRoot, access: Access, messages: &Messages) -> Result<Lock> {
    pin_root.lock(access, &Patience::default(), |holder| tell_holder(messages.console(), holder))
}

/// Reports at once which process this one waits for.
pub(crate) fn tell_holder(console: &dyn Console, holder: Option<u32>) {
    let who = holder.map_or(String::new(), |process| format!(" (process {process})"));
    console.note(format!("waiting for another portguard to finish{who}"));
}

/// The path of the list of a new guard, if the user gives no path.
pub(crate) fn default_allowlist() -> PathBuf {
    let named = std::env::var_os("PORTGUARD_ALLOWLIST").filter(|path| !path.is_empty());
    named.map_or_else(|| DEFAULT_PATH.into(), PathBuf::from)
}

/// The names in their order, each once.
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
