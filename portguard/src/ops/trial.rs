//! Changes on trial, for the commands and the service. Each process that takes the lock to change guards restores
//! overdue changes.

use std::time::Duration;

use crate::allowlist::Allowlist;
use crate::error::{Error, Kind, Result};
use crate::guard::{self, Access, Confirmation, Due, Guard, Lock, PinRoot, Restored, Waits};
use crate::interface::Interface;
use crate::ops::lists::keep_last_good;
use crate::ops::{Messages, deadlines, lock};
use crate::time;

/// Takes the lock to change guards, with the waiting time of a command, restores overdue changes, and lets deadlines of entries follow
/// the clock.
pub(crate) fn lock_to_change(pin_root: &PinRoot, messages: &mut Messages) -> Result<Lock> {
    let lock = lock(pin_root, Access::Change, messages)?;
    restore(pin_root, Due::Overdue, messages);
    deadlines::set(pin_root, messages);
    Ok(lock)
}

/// Takes back the changes that are due, and reports it. The caller holds the lock.
pub(crate) fn restore(pin_root: &PinRoot, due: Due, messages: &mut Messages) {
    let restored = guard::restore(pin_root, due, &mut |interface, event| messages.take(interface, event));
    let restored = match restored {
        Ok(restored) => restored,
        Err(error) => return messages.error(error),
    };
    let is_any = !restored.is_empty();
    restored.into_iter().for_each(|Restored { interface, result }| match result {
        Ok(()) => messages.warning(format!(
            "{interface}: the change was not confirmed, and the previous state is in force"
        )),
        Err(error) => messages.error(error),
    });
    // The deadlines of what is in force again are those of before the trial, and the clock may have been set since.
    if is_any {
        deadlines::set(pin_root, messages);
    }
}

/// Confirms the change that waits on an interface, and reports it. The caller holds the lock.
pub(crate) fn confirm(guard: &Guard, messages: &mut Messages) -> Result<()> {
    guard.confirm()?;
    messages.data(format!("{}: confirmed\n", guard.interface().name));
    // A list on trial is not a good list yet, so its copy is kept only now.
    if let Some(in_force) = guard.list()
        && let Ok(checked) = Allowlist::load(&in_force.path)
        && checked.allowlist.sha256() == in_force.sha256
    {
        keep_last_good(&checked.allowlist, messages);
    }
    Ok(())
}

/// Reports that a change waits, and how to confirm it: a line below the changes.
pub(crate) fn tell_waiting(guard: &Guard, name: &str, messages: &mut Messages) -> Result<()> {
    if let Some(confirmation) = guard.confirmation()?.filter(|it| it.state == Waits::Pending) {
        let until = time::time_of_day(confirmation.deadline);
        messages.data(format!(
            "  portguard restores the previous state at {until} unless you run: portguard confirm {name}\n"
        ));
    }
    Ok(())
}

/// The change that waits on an interface, if there is one.
pub(crate) fn waiting(pin_root: &PinRoot, name: &str) -> Result<Option<Confirmation>> {
    let guard = match Guard::by_name(Some(pin_root), name) {
        Ok(guard) => guard,
        // The change was a first attachment, and was taken back.
        Err(error) if error.kind() == Kind::NotThere => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(guard.confirmation()?.filter(Confirmation::is_in_force))
}

/// A change on trial in one line, for the status of a service.
pub(crate) fn summary(confirmation: &Confirmation) -> String {
    let until = time::time_of_day(confirmation.deadline);
    match confirmation.state {
        Waits::Pending => format!("a change waits for its confirmation until {until}"),
        Waits::Overdue => format!("CONFIRMATION OVERDUE since {until}"),
        Waits::Rejected => "the last change was rejected: not confirmed".to_owned(),
    }
}

/// The list that was read from the file of a guard, unless it was on trial on that guard and was not confirmed. In that
/// case, the list in force remains until a command puts the other one in force.
pub(crate) fn unless_rejected<'a>(
    pin_root: &PinRoot,
    interface: &Interface,
    name: &str,
    list: Option<&'a Allowlist>,
    messages: &mut Messages,
) -> Result<Option<&'a Allowlist>> {
    let Some(file) = list else { return Ok(None) };
    let Some(guard) = Guard::find(pin_root, interface)? else { return Ok(list) };
    if !guard.rejects(file.sha256())? {
        return Ok(list);
    }
    messages.warning(format!(
        "{name}: {} has the change that was not confirmed; the list in force remains (portguard reload {name} puts \
         the file in force)",
        file.path().display()
    ));
    Ok(None)
}

/// A time in seconds, rounded up, as the command line accepts it.
pub(crate) fn seconds(time: Duration) -> u64 {
    time.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX)
}

/// The error that a change was taken back.
pub(crate) fn not_confirmed(names: &[String]) -> Error {
    let names = names.join(", ");
    Error::failed(format!("{names}: the change was not confirmed, and the previous state is in force"))
}
