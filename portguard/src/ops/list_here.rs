//! The list that a command is about: that of the guards here, and which of them use it. The caller does not hold the lock.

use std::fs;
use std::path::{Path, PathBuf};

use crate::allowlist::{Allowlist, Sha256Sum, absolute, last_good};
use crate::error::{Error, Kind, Result};
use crate::guard::{self, Access, Guard, PinRoot};
use crate::ops::change::compare_list;
use crate::ops::services::Services;
use crate::ops::{Messages, default_allowlist, lock};
use crate::printable::{printable, quoted};

/// The file of a list, and the guards of this network namespace that use it.
#[derive(Debug)]
pub(crate) struct ListHere {
    /// The absolute path of the file.
    pub(crate) path: PathBuf,
    /// The names of the interfaces; or why they cannot be found out, if the file was named.
    users: Result<Vec<String>>,
}

/// How it is with a list on a guard that uses its file.
#[derive(Debug)]
pub(crate) struct State {
    /// The interface.
    pub(crate) interface: String,
    /// The generation of the list in force.
    pub(crate) generation: Option<u64>,
    /// Whether that is the list of the file.
    pub(crate) in_force: bool,
}

impl ListHere {
    /// The list that is named; else the only one of the guards and services here; else that of a new guard. `command` is what names
    /// one.
    ///
    /// # Errors
    /// There are several lists here; or the process may not see the guards.
    pub(crate) fn find(named: Option<&Path>, command: &str) -> Result<Self> {
        let guards = guards(&[]);
        if let Some(path) = named {
            return Ok(Self { path: absolute(path), users: guards.map(|guards| users(&guards, path)) });
        }
        let guards = guards?;
        let of_guards = guards.iter().filter_map(Guard::list).map(|list| list.path);
        let services = Services::ask();
        let mut paths: Vec<PathBuf> = of_guards.chain(services.allowlists().map(Path::to_owned)).collect();
        paths.sort_unstable();
        paths.dedup_by(|one, other| is_same(one, other));
        let path = match &paths[..] {
            [] => absolute(&default_allowlist()),
            [path] => path.clone(),
            paths => {
                let paths: Vec<String> = paths.iter().map(|path| shown(path)).collect();
                return Err(Error::new(Kind::Usage, "the guards here have several lists")
                    .because(paths.join(", "))
                    .remedy(format!("Name the one to change: portguard {command} --allowlist PATH")));
            }
        };
        Ok(Self { users: Ok(users(&guards, &path)), path })
    }

    /// The interfaces of the guards that use it.
    ///
    /// # Errors
    /// They cannot be found out.
    pub(crate) fn users(&self) -> Result<&[String], &Error> {
        self.users.as_deref()
    }

    /// The guards that use it, as they are now. None if they cannot be found out.
    fn guards(&self) -> Result<Vec<Guard>> {
        match self.users() {
            Ok([]) | Err(_) => Ok(Vec::new()),
            Ok(names) => guards(names),
        }
    }

    /// Whether a guard that uses it has another list in force than this one.
    pub(crate) fn differs_from(&self, list: Sha256Sum) -> bool {
        self.state(list).iter().any(|state| !state.in_force)
    }

    /// How it is with the list of the file, which has this hash. A guard that is gone is left out.
    pub(crate) fn state(&self, list: Sha256Sum) -> Vec<State> {
        let guards = self.guards().unwrap_or_default();
        let state = |guard: &Guard| {
            let in_force = guard.list();
            State {
                interface: guard.interface().name.clone(),
                generation: in_force.as_ref().map(|it| it.generation),
                in_force: in_force.is_some_and(|it| it.sha256 == list),
            }
        };
        guards.iter().map(state).collect()
    }

    /// Fails if a reload would refuse the list that is to take the place of `old` in the file; or if it would put in force what
    /// somebody has not confirmed.
    pub(crate) fn require_reloadable(
        &self,
        old: Sha256Sum,
        new: &Allowlist,
        allow_empty: bool,
    ) -> Result<()> {
        for guard in self.guards()? {
            if guard.rejects(old)? {
                let (name, path) = (&guard.interface().name, shown(&self.path));
                return Err(Error::failed(format!("{name}: {path} has a change that was not confirmed"))
                    .because("it would come into force together with the new one")
                    .remedy(format!(
                        "Put it in force first (portguard reload {name}), or take it out: portguard edit"
                    )));
            }
            guard.require_reloadable(new, allow_empty)?;
        }
        Ok(())
    }

    /// Reports what a list would change, and changes nothing.
    pub(crate) fn compare(&self, list: &Allowlist, allow_empty: bool, messages: &mut Messages) -> Result<()> {
        let Some(pin_root) = PinRoot::find().ok().flatten() else { return Ok(()) };
        let _lock = lock(&pin_root, Access::Judge, messages)?;
        self.guards()?.iter().for_each(|guard| compare_list(guard, list, allow_empty, messages));
        Ok(())
    }

    /// Fails if guards use the file, which is not there: a new list would take the place of theirs.
    pub(crate) fn require_unused(&self) -> Result<()> {
        let Ok([name, ..]) = self.users() else { return Ok(()) };
        let path = shown(&self.path);
        let remedy = match last_good::copy_of(&self.path) {
            Some(copy) => format!(
                "Restore the list that was last put in force from it: cp {} {}",
                quoted(&shown(&copy)),
                quoted(&path)
            ),
            None => format!("Write it again, with the entries that {name} needs."),
        };
        Err(Error::new(Kind::InvalidAllowlist, format!("{path} does not exist"))
            .because(format!("{name} uses it: a new file would take all its entries out of force"))
            .remedy(remedy))
    }
}

/// The guards on these interfaces, or all guards of this network namespace.
fn guards(names: &[String]) -> Result<Vec<Guard>> {
    guard::require_privileges()?;
    Guard::select(PinRoot::find()?.as_ref(), names)?.into_iter().collect()
}

/// The interfaces of those guards that use the list at a path.
fn users(guards: &[Guard], path: &Path) -> Vec<String> {
    let uses = |guard: &&Guard| guard.list().is_some_and(|list| is_same(&list.path, path));
    guards.iter().filter(uses).map(|guard| guard.interface().name.clone()).collect()
}

/// Whether two paths lead to the same file.
fn is_same(one: &Path, other: &Path) -> bool {
    let resolved = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| absolute(path));
    resolved(one) == resolved(other)
}

fn shown(path: &Path) -> String {
    printable(&path.to_string_lossy())
}
