//! `portguard status`: which guard is on which interface, with which list.

pub mod document;
pub mod text;

use std::io::Write;
use std::process::ExitCode;

use self::document::Document;
use crate::allowlist::OnDisk;
use crate::cli::print::{NOTHING_GUARDED, for_each, print, print_json};
use crate::error::{Error, Result};
use crate::guard::{self, Guard, PinRoot};
use crate::interface;
use crate::ops::services::{Services, UnguardedState};
use crate::term;
use crate::time;

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "EXIT STATUS: 0 if every guard that is shown drops denied packets; 1 if one of them only \
        counts them (audit mode) or cannot be read, or if an interface that should have a guard is open; 4 \
        if a named interface does not exist or has no guard.\n\n\
    With --guarded: 0 if every named interface has a guard, enforcing or in audit mode; without names, 0 if there is a \
    guard, and 1 if there is none."
)]
pub struct Args {
    /// The interfaces to show [default: all guarded ones of this network namespace]
    #[arg(value_name = "IFACE")]
    pub interfaces: Vec<String>,
    /// Accept guards in audit mode; fail if there is no guard
    #[arg(long)]
    pub guarded: bool,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Shows the guards. The exit code tells whether they are what the caller asks for.
///
/// # Errors
/// The process is not permitted.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<ExitCode> {
    guard::require_privileges()?;
    let services = Services::ask();
    for error in &services.silent {
        term::note(&error.to_string());
    }
    let pin_root = PinRoot::find()?;
    let guards = Guard::select(pin_root.as_ref(), &args.interfaces)?;
    if guards.is_empty() && !args.json {
        term::note(NOTHING_GUARDED);
    }
    let mut described = Vec::new();
    let found = for_each(guards, |guard| {
        described.push(describe(&guard?, &services)?);
        Ok(())
    });
    let mut unguarded = services.unguarded(pin_root.as_ref(), &interface::all()?)?;
    unguarded.retain(|it| args.interfaces.is_empty() || args.interfaces.contains(&it.interface));
    let is_open = unguarded.iter().any(|it| it.state == UnguardedState::Open);
    let code = code(found, args.guarded, &described, is_open);
    let document = Document { unguarded, ..Document::new(described) };
    if args.json {
        print_json(out, &document)?;
    } else {
        print(out, &text::text(&document))?;
    }
    Ok(code)
}

/// The exit code: that of the first error, if there was one. Without errors, the guards decide: `status` wants each of
/// them to be enforcing, and `status --guarded` wants at least one guard of any kind. Neither accepts an interface that is to
/// be guarded, and is open.
fn code(found: ExitCode, guarded: bool, guards: &[document::Guard], is_open: bool) -> ExitCode {
    let satisfied = if guarded { !guards.is_empty() } else { guards.iter().all(|guard| guard.enforcing) };
    let satisfied = satisfied && !is_open;
    if found == ExitCode::SUCCESS && !satisfied { ExitCode::FAILURE } else { found }
}

fn describe(guard: &Guard, services: &Services) -> Result<document::Guard> {
    let name = &guard.interface().name;
    let list = guard.list().ok_or_else(|| Error::failed(format!("{name}: the guard has no list")))?;
    let program = guard.program();
    let file = OnDisk::of(&list.path, list.sha256);
    Ok(document::Guard {
        interface: name.clone(),
        ifindex: guard.interface().index,
        hook: guard.hook(),
        enforcing: guard.is_enforcing(),
        generation: list.generation,
        pinned: guard.pin(),
        attached_at: time::seconds(guard.attached_at()),
        allowlist: document::Allowlist {
            changed_on_disk: file != OnDisk::Unchanged,
            file,
            origin: list.origin,
            path: list.path,
            sha256: list.sha256.to_string(),
            prefixes_v4: list.prefixes_v4,
            prefixes_v6: list.prefixes_v6,
            udp: list.udp_calls.key(),
            conditional: list.conditional,
            deadlines_off_by: guard.deadline_drift().as_secs(),
            loaded_at: time::seconds(list.loaded_at),
        },
        confirmation: guard.confirmation()?.map(|confirmation| document::Confirmation {
            state: confirmation.state,
            deadline: time::seconds(confirmation.deadline),
        }),
        program: document::Program {
            id: program.id,
            name: program.name.clone(),
            tag: format!("{:016x}", program.tag),
            abi_version: guard.abi_version(),
        },
        order: guard.order()?.into(),
        service: services.of(guard),
    })
}
