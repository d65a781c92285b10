//! `portguard suggest`: proposes an allowlist.

use std::io::Write;
use std::process::ExitCode;

use crate::cli::Suggest;
use crate::commands::{print, print_json};
use crate::error::Result;
use crate::guard::{self, Guard, PinRoot, Source};
use crate::interface;
use crate::output::{self, suggest};
use crate::suggest::files::Files;
use crate::suggest::names;
use crate::suggest::sources::{self, Peer};

/// Prints a list of who may need port 111. What cannot be found out is said, and the rest is proposed all the same.
///
/// # Errors
/// The list cannot be printed.
pub fn run(args: &Suggest, out: &mut dyn Write) -> Result<ExitCode> {
    let files = Files::read(&args.root);
    for problem in &files.problems {
        output::error::warning(problem);
    }
    let mut networks = or_warn(interface::networks(), "the networks of the interfaces are left out");
    if !args.link_local {
        networks.retain(|network| !network.is_link_local());
    }
    let peers = or_warn(peers(), "who was seen in audit mode is left out");
    let addresses = names::look_up(sources::names(&files));
    let document = suggest::Document::new(sources::proposal(&files, &networks, &peers, &addresses));
    if args.json {
        print_json(out, &document)?;
    } else {
        print(out, &suggest::yaml(&document))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Who has asked over TCP, of those whom the guards in audit mode would drop.
fn peers() -> Result<Vec<Peer>> {
    guard::require_privileges()?;
    let pin_root = PinRoot::find()?;
    let mut peers = Vec::new();
    for guard in Guard::select(pin_root.as_ref(), &[])? {
        peers
            .extend(or_warn(guard.and_then(|guard| peers_of(&guard)), "the sources of a guard are left out"));
    }
    Ok(peers)
}

fn peers_of(guard: &Guard) -> Result<Vec<Peer>> {
    if guard.is_enforcing() {
        return Ok(Vec::new());
    }
    let mut sources = guard.counters()?.sources;
    sources.retain(|source| source.tcp_packets() > 0);
    sources.sort_unstable_by_key(|source| source.address);
    let peer = |source: Source| Peer {
        address: source.address,
        interface: guard.interface().name.clone(),
        tcp_packets: source.tcp_packets(),
    };
    Ok(sources.into_iter().map(peer).collect())
}

/// What was found out; or nothing, and a warning that says why.
fn or_warn<T>(result: Result<Vec<T>>, consequence: &str) -> Vec<T> {
    result.unwrap_or_else(|error| {
        output::error::warning(&format!("{consequence}: {error}"));
        Vec::new()
    })
}
