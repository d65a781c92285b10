//! `portguard reload`: puts a changed allowlist in force.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::allowlist;
use crate::cli::confirm::question::{OnTrial, ask};
use crate::cli::options::TrialOptions;
use crate::cli::print::{self, NOTHING_GUARDED, print_before};
use crate::control::client::Service;
use crate::control::{self, Outcome};
use crate::error::{Error, Kind, Result};
use crate::guard::{self, Access, Guard, PinRoot};
use crate::ops::change::{compare_list, replace_list};
use crate::ops::guardian::Guardian;
use crate::ops::lists::{Lists, keep_last_good};
use crate::ops::owner::{owned, owned_by_somebody, owner_of_name};
use crate::ops::{self, Messages, deadlines, default_allowlist, trial};
use crate::term;

/// Arguments of `reload`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The guarded interfaces to reload [default: all of this network namespace]
    #[arg(value_name = "IFACE")]
    pub interfaces: Vec<String>,
    /// The allowlist [default: the file of the guard's list]
    #[arg(long, value_name = "PATH")]
    pub allowlist: Option<PathBuf>,
    /// Only show what would change
    #[arg(long, conflicts_with = "confirm")]
    pub dry_run: bool,
    /// Accept a list that has lost all entries of an address family
    #[arg(long)]
    pub allow_empty: bool,
    /// Whether it is on trial.
    #[command(flatten)]
    pub trial: TrialOptions,
}

/// What a service that keeps the guard is in the way of.
const CANNOT_RELOAD: &str = "the list cannot be reloaded by hand";

/// Reloads each of the guards, after every list has been found valid.
///
/// # Errors
/// A list is invalid, the process is not permitted, or there is no guard; what goes wrong with one guard is printed,
/// and its old list stays in force.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<ExitCode> {
    let mut messages = term::messages();
    let (mut handed, mut on_trial) = (0, Vec::new());
    match reload(args, &mut handed, &mut on_trial, &mut messages) {
        Ok(pin_root) => {
            let code = finish(messages, handed, out)?;
            pin_root.map_or(Ok(code), |pin_root| ask(&pin_root, &on_trial, code, out))
        }
        Err(error) => print_before(messages, out, error),
    }
}

/// Puts the list that these guards use in force, after a command has changed its file. Its warnings were shown.
///
/// # Errors
/// Like [`run`].
pub(super) fn put_in_force(
    interfaces: Vec<String>,
    allow_empty: bool,
    out: &mut dyn Write,
) -> Result<ExitCode> {
    let trial = TrialOptions { confirm: None };
    let args = Args { interfaces, allowlist: None, dry_run: false, allow_empty, trial };
    let mut messages = term::messages();
    let (mut handed, mut on_trial) = (0, Vec::new());
    let reloaded = reload(&args, &mut handed, &mut on_trial, &mut messages);
    messages.forget_list_warnings();
    match reloaded {
        Ok(_) => finish(messages, handed, out),
        Err(error) => print_before(messages, out, error),
    }
}

/// `handed` gets the exit code of what was handed to services, and `on_trial` the changes that wait for their confirmation.
fn reload(
    args: &Args,
    handed: &mut u8,
    on_trial: &mut Vec<OnTrial>,
    messages: &mut Messages,
) -> Result<Option<PinRoot>> {
    let mut lists = Lists::default();
    if let Some(path) = &args.allowlist {
        lists.load(path, messages)?;
    }
    guard::require_privileges()?;
    let found = PinRoot::find()?;
    let names = match &args.interfaces[..] {
        [] => guard::guarded_names(found.as_ref())?,
        names => names.to_vec(),
    };
    if names.is_empty() {
        return Err(Error::new(Kind::NotThere, "nothing to reload")
            .because(NOTHING_GUARDED)
            .remedy("Attach a guard with: portguard attach IFACE"));
    }
    let (services, names) = match args.dry_run {
        true => (Services::new(), names),
        false => by_service(names, messages),
    };
    let select = || Guard::select(found.as_ref(), &names);
    let Some(pin_root) = found.as_ref().filter(|_| !names.is_empty()) else {
        hand_over(args, services, handed, on_trial, messages);
        // Interfaces may be named, and nothing is guarded.
        if !names.is_empty() {
            select()?.into_iter().filter_map(Result::err).for_each(|error| messages.error(error));
        }
        return Ok(found);
    };
    let list_of = |guard: &Guard| args.allowlist.clone().unwrap_or_else(|| own_path(guard));
    let wanted = || -> Result<Vec<PathBuf>> { Ok(select()?.iter().flatten().map(list_of).collect()) };
    if args.dry_run {
        for path in wanted()? {
            lists.load(&path, messages)?;
        }
        let _lock = ops::lock(pin_root, Access::Judge, messages)?;
        for guard in select()? {
            match guard.map(|guard| {
                lists.get(&list_of(&guard)).map(|list| compare_list(&guard, list, args.allow_empty, messages))
            }) {
                Ok(_) => {}
                Err(error) => messages.error(error),
            }
        }
        return Ok(found);
    }
    let among_others = !services.is_empty() || names.len() > 1;
    let tell_stopped = |error: &Error| {
        if error.kind() == Kind::InvalidAllowlist {
            term::note(match among_others {
                true => "nothing was reloaded: every list must be valid first",
                false => "the list in force remains",
            });
        }
    };
    // The list of a service is valid if the service says so. Those of the others are read before it is asked.
    for path in wanted()? {
        if let Err(error) = lists.load(&path, messages) {
            tell_stopped(&error);
            // Deadlines follow the clock whatever is in the file: the list in force has them.
            if deadlines::are_off(pin_root) {
                drop(trial::lock_to_change(pin_root, messages)?);
            }
            return Err(error);
        }
    }
    hand_over(args, services, handed, on_trial, messages);
    let trial = args.trial.trial();
    // Before anything is changed; it watches when this function is left.
    let _guardian = trial.map(Guardian::start).transpose()?;
    let lock = lists.lock(pin_root, messages, wanted)?;
    let (mut in_force, mut owned_since): (Vec<PathBuf>, Vec<String>) = (Vec::new(), Vec::new());
    for guard in select()? {
        let replaced = guard.and_then(|guard| {
            let path = list_of(&guard);
            let name = guard.interface().name.clone();
            if guard::is_kept(pin_root, guard.interface())? {
                owned_since.push(name);
                return Ok(None);
            }
            let Some(list) = lists.get(&path) else {
                return Err(Error::failed(format!(
                    "{name}: the guard changed while portguard read its list"
                ))
                .remedy("The list in force remains. Run the command again."));
            };
            replace_list(guard, list, args.allow_empty, trial, messages)?;
            on_trial.extend(trial.and_then(|_| OnTrial::on(pin_root, &name)));
            // What is on trial is no good list yet.
            Ok(Some(path).filter(|_| trial.is_none()))
        });
        match replaced {
            Ok(Some(path)) if !in_force.contains(&path) => in_force.push(path),
            Ok(_) => {}
            Err(error) => messages.error(error),
        }
    }
    for list in in_force.iter().filter_map(|path| lists.get(path)) {
        keep_last_good(list, messages);
    }
    drop(lock);
    // Services are asked without the lock: these have taken the guard since they were asked.
    let (services, others) = by_service(owned_since, messages);
    hand_over(args, services, handed, on_trial, messages);
    for name in others {
        messages.error(owned_by_somebody(&name, CANNOT_RELOAD));
    }
    Ok(found)
}

/// Services by their process, with the interfaces that they keep, or wait for.
type Services = BTreeMap<u32, (Service, Vec<String>)>;

/// The services that keep these interfaces, and the names of those that nobody keeps.
fn by_service(names: Vec<String>, messages: &mut Messages) -> (Services, Vec<String>) {
    let (mut services, mut others) = (Services::new(), Vec::new());
    for name in names {
        match owner_of_name(&name, messages) {
            Some(service) => {
                let pid = service.description().pid;
                services.entry(pid).or_insert_with(|| (service, Vec::new())).1.push(name);
            }
            None => others.push(name),
        }
    }
    (services, others)
}

/// Lets services reload their lists.
fn hand_over(
    args: &Args,
    services: Services,
    handed: &mut u8,
    on_trial: &mut Vec<OnTrial>,
    messages: &mut Messages,
) {
    for (service, names) in services.into_values() {
        match reload_by(args, &names, &service) {
            Ok(outcome) => {
                let code = messages.take_outcome(outcome);
                *handed = if *handed == 0 { code } else { *handed };
                if let Ok(Some(pin_root)) = PinRoot::find()
                    && args.trial.confirm.is_some()
                    && code == 0
                {
                    on_trial.extend(names.iter().filter_map(|name| OnTrial::on(&pin_root, name)));
                }
            }
            Err(error) => messages.error(error),
        }
    }
}

/// Lets a service reload its list, which is the one that is named, if one is.
fn reload_by(args: &Args, names: &[String], service: &Service) -> Result<Outcome> {
    if let Some(path) = &args.allowlist
        && allowlist::absolute(path) != service.description().order.allowlist
    {
        return Err(owned(&names.join(", "), "another list cannot be put in force by hand", service));
    }
    service.reload(control::Reload {
        interfaces: names.to_vec(),
        allow_empty: args.allow_empty,
        confirm_seconds: args.trial.confirm,
    })
}

/// Prints what was collected. What the services have reported counts as well.
fn finish(messages: Messages, handed: u8, out: &mut dyn Write) -> Result<ExitCode> {
    Ok(match print::finish(messages, out)? {
        ExitCode::SUCCESS => handed.into(),
        code => code,
    })
}

/// The file that the guard was given.
fn own_path(guard: &Guard) -> PathBuf {
    guard.list().map_or_else(default_allowlist, |list| list.path)
}
