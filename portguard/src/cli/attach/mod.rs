//! `portguard attach`: puts the guard on interfaces, or renews the guards that are there.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::confirm::question::{OnTrial, ask};
use crate::cli::options::{GuardOptions, TrialOptions};
use crate::cli::print::{finish, print_before};
use crate::error::{Error, Kind, Result};
use crate::guard::{self, Guard, Named, PinRoot, Trial};
use crate::interface;
use crate::ops::change::{Wanted, put_on};
use crate::ops::guardian::Guardian;
use crate::ops::lists::{Lists, keep_last_good};
use crate::ops::owner::{is_open, owned, owned_by_somebody, owner_of_name};
use crate::ops::trial::unless_rejected;
use crate::ops::{Messages, default_allowlist, unique};
use crate::term;

/// Arguments of `attach`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "If an interface has a guard, attach renews it in place, without a gap. The guard keeps \
        its list, its hook, its mode and every other setting that no option names. attach reads the list again."
)]
pub struct Args {
    /// The interfaces to guard
    #[arg(value_name = "IFACE", required = true)]
    pub interfaces: Vec<String>,
    /// The allowlist [default: that of the guard; of a new one, $PORTGUARD_ALLOWLIST or /etc/portguard/allowlist.yaml]
    #[arg(long, value_name = "PATH")]
    pub allowlist: Option<PathBuf>,
    /// What guard.
    #[command(flatten)]
    pub guard: GuardOptions,
    /// Accept a list that has lost all entries of an address family
    #[arg(long)]
    pub allow_empty: bool,
    /// Whether it is on trial.
    #[command(flatten)]
    pub trial: TrialOptions,
}

/// What a service that keeps the guard is in the way of.
const CANNOT_CHANGE: &str = "the guard cannot be changed by hand";

/// Attaches to each of the interfaces, after every list has been found valid. A guard that is there keeps what is not named
/// of its order.
///
/// # Errors
/// A list is invalid, the process is not permitted, or there is no place to keep guards; what goes wrong with one
/// interface is printed, and the others are attached to all the same.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<ExitCode> {
    let mut messages = term::messages();
    match attach(args, &mut messages) {
        Ok((pin_root, on_trial)) => {
            let code = finish(messages, out)?;
            ask(&pin_root, &on_trial, code, out)
        }
        Err(error) => print_before(messages, out, error),
    }
}

/// Returns the changes that wait for their confirmation.
fn attach(args: &Args, messages: &mut Messages) -> Result<(PinRoot, Vec<OnTrial>)> {
    let named = args.guard.named()?;
    let mut lists = Lists::default();
    if let Some(path) = &args.allowlist {
        lists.load(path, messages)?;
    }
    guard::require_privileges()?;
    let pin_root = PinRoot::make(|text| messages.note(text))?;
    let mut names = unique(&args.interfaces);
    names.retain(|name| match owner_of_name(name, messages) {
        // One that the service could not guard is better guarded by hand than open.
        Some(service) if is_open(&service, name) => true,
        Some(service) => {
            messages.error(owned(name, CANNOT_CHANGE, &service));
            false
        }
        None => true,
    });
    interface::lowest_first(&mut names, &interface::all()?, |name| name);
    let trial = args.trial.trial();
    // Before anything is changed; it watches when this function is left.
    let _guardian = trial.filter(|_| !names.is_empty()).map(Guardian::start).transpose()?;
    let wanted = || Ok(names.iter().filter_map(|name| list_for(args, &pin_root, name).ok()).collect());
    let lock = lists.lock(&pin_root, messages, wanted).inspect_err(|error| {
        if error.kind() == Kind::InvalidAllowlist && names.len() > 1 {
            term::note("no interface was changed: every list must be valid first");
        }
    })?;
    guard::sweep(&pin_root, &mut |event| messages.take_of_leftovers(event))?;
    let (mut in_force, mut on_trial): (Vec<PathBuf>, _) = (Vec::new(), Vec::new());
    let mut owned_since = Vec::new();
    for name in &names {
        if is_owned(&pin_root, name)? {
            owned_since.push(name);
            continue;
        }
        match attach_to(args, named, &pin_root, name, &lists, trial, messages) {
            // What is on trial is no good list yet.
            Ok(_) if trial.is_some() => on_trial.extend(OnTrial::on(&pin_root, name)),
            Ok(path) if !in_force.contains(&path) => in_force.push(path),
            Ok(_) => {}
            Err(error) => messages.error(error),
        }
    }
    for list in in_force.iter().filter_map(|path| lists.get(path)) {
        keep_last_good(list, messages);
    }
    drop(lock);
    // Services are asked without the lock: these have taken the guard since they were asked.
    for name in owned_since {
        let error = match owner_of_name(name, messages) {
            Some(service) => owned(name, CANNOT_CHANGE, &service),
            None => owned_by_somebody(name, CANNOT_CHANGE),
        };
        messages.error(error);
    }
    Ok((pin_root, on_trial))
}

/// Whether a service has the guard on the interface with a name, if there is one. The caller holds the lock.
fn is_owned(pin_root: &PinRoot, name: &str) -> Result<bool> {
    interface::by_name(name).map_or(Ok(false), |interface| guard::is_kept(pin_root, &interface))
}

/// Returns the file of the list that is in force then.
fn attach_to(
    args: &Args,
    named: Named,
    pin_root: &PinRoot,
    name: &str,
    lists: &Lists,
    trial: Option<Trial>,
    messages: &mut Messages,
) -> Result<PathBuf> {
    let interface = interface::by_name(name)?;
    let path = list_for(args, pin_root, name)?;
    let mut list = lists.get(&path);
    if trial.is_none() && args.allowlist.is_none() {
        list = unless_rejected(pin_root, &interface, name, list, messages)?;
    }
    let wanted = Wanted { list, named, allow_empty: args.allow_empty, trial, lifts: true };
    if !put_on(pin_root, &interface, name, wanted, messages)? {
        return Err(Error::failed(format!("{name}: the interface changed while portguard read its list"))
            .remedy("Nothing was attached to it. Run the command again."));
    }
    Ok(path)
}

/// The file of the list: the one that is named, that of the guard, or the default of a new guard.
fn list_for(args: &Args, pin_root: &PinRoot, name: &str) -> Result<PathBuf> {
    if let Some(path) = &args.allowlist {
        return Ok(path.clone());
    }
    let guard = Guard::find(pin_root, &interface::by_name(name)?)?;
    Ok(guard.and_then(|guard| guard.list()).map_or_else(default_allowlist, |list| list.path))
}
