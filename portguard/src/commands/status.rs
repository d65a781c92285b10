//! `portguard status`: which guard is on which interface, with which list.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::ExitCode;

use crate::allowlist::{Allowlist, MAX_FILE_SIZE, Sha256Sum, printable};
use crate::cli::Status;
use crate::commands::{NOTHING_GUARDED, for_each, print, print_json};
use crate::error::{Error, Result};
use crate::guard::{self, Guard, Home, ListInfo};
use crate::output::{self, status, time};

/// Shows the guards.
///
/// # Errors
/// The process is not permitted, or a named interface has no guard.
pub fn run(args: &Status, out: &mut dyn Write) -> Result<ExitCode> {
    guard::require_privileges()?;
    let home = Home::find()?;
    let guards = Guard::select(home.as_ref(), &args.interfaces)?;
    if guards.is_empty() && !args.json {
        output::error::note(NOTHING_GUARDED);
    }
    let mut described = Vec::new();
    let code = for_each(guards, |guard| {
        described.push(describe(&guard?)?);
        Ok(())
    });
    let document = status::Document::new(described);
    if args.json {
        print_json(out, &document)?;
    } else {
        print(out, &status::text(&document))?;
    }
    Ok(code)
}

fn describe(guard: &Guard) -> Result<status::Guard> {
    let name = &guard.interface().name;
    let list = guard.list().ok_or_else(|| Error::failed(format!("{name}: the guard has no list")))?;
    let program = guard.program();
    let file = file(&list);
    Ok(status::Guard {
        interface: name.clone(),
        ifindex: guard.interface().index,
        mode: guard.mode().word(),
        enforcing: guard.is_enforcing(),
        generation: list.generation,
        pinned: guard.pin(),
        attached_at: time::seconds(guard.attached_at()),
        allowlist: status::Allowlist {
            changed_on_disk: file != status::File::Unchanged,
            file,
            origin: list.origin.word(),
            path: list.path,
            sha256: list.sha256.to_string(),
            prefixes_v4: list.prefixes_v4,
            prefixes_v6: list.prefixes_v6,
            loaded_at: time::seconds(list.loaded_at),
        },
        program: status::Program {
            id: program.id,
            name: program.name.clone(),
            tag: format!("{:016x}", program.tag),
            abi_version: guard.abi_version(),
        },
    })
}

/// What the file of the list in force holds now.
pub(crate) fn file(list: &ListInfo) -> status::File {
    if holds(&list.path, list.sha256) {
        return status::File::Unchanged;
    }
    match Allowlist::load(&list.path) {
        Ok(checked) if checked.allowlist.sha256() == list.sha256 => status::File::Unchanged,
        Ok(_) => status::File::Changed,
        // Such as one that others may write: it would not be loaded again, whatever it holds.
        Err(invalid) => {
            let first = invalid.errors.iter().next();
            let problem = first.map_or_else(String::new, |problem| {
                let line = problem.place.as_ref().map(|place| format!("line {}: ", place.line));
                printable(&format!("{}{}", line.unwrap_or_default(), problem.message))
            });
            status::File::Broken { problem }
        }
    }
}

/// Whether a file holds what it did, and only its owner may write it: spares the validation of a long list.
fn holds(path: &Path, sha256: Sha256Sum) -> bool {
    let fine = |file: fs::Metadata| file.is_file() && file.len() <= MAX_FILE_SIZE && file.mode() & 0o022 == 0;
    fs::metadata(path).is_ok_and(fine) && fs::read(path).is_ok_and(|bytes| Sha256Sum::of(&bytes) == sha256)
}
