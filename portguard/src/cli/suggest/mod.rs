//! `portguard suggest`: proposes an allowlist.

pub mod document;
pub mod text;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use self::document::Document;
use crate::cli::print::{print, print_json};
use crate::error::Result;
use crate::guard::{self, Guard, PinRoot, Source};
use crate::interface;
use crate::sockets::connected_peers;
use crate::suggest::files::Files;
use crate::suggest::names;
use crate::suggest::sources::{self, Peer};
use crate::term;

/// Arguments of `suggest`.
#[derive(Debug, clap::Args)]
#[command(after_help = "suggest reads /etc/exports and /etc/exports.d, the networks of the interfaces, the \
        clients of the NFS server, of statd, of rpcbind in /etc/hosts.allow and of NIS, the NFSv3 servers of this \
        host, and the peers of connections to port 111. The sources of TCP requests on interfaces in audit mode are named, \
        but not proposed: they can be forged.")]
pub struct Args {
    /// Propose link-local networks, too (169.254.0.0/16, fe80::/10)
    #[arg(long)]
    pub link_local: bool,
    /// The directory with the files
    #[arg(long, value_name = "DIRECTORY", default_value = "/", hide = true)]
    pub root: PathBuf,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Prints a list of who may need port 111. What cannot be found out is said, and the rest is proposed all the same.
///
/// # Errors
/// The list cannot be printed.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<ExitCode> {
    let files = Files::read(&args.root);
    for problem in &files.problems {
        term::warning(problem);
    }
    let mut networks = or_warn(interface::networks(), "the networks of the interfaces are left out");
    if !args.link_local {
        networks.retain(|network| !network.is_link_local());
    }
    let peers = or_warn(peers(), "the clients that were seen in audit mode are left out");
    let addresses = names::look_up(sources::names(&files));
    let connected = connected_peers();
    let proposal = sources::proposal(&files, &networks, &connected, &peers, &addresses);
    let document = Document::new(proposal);
    if args.json {
        print_json(out, &document)?;
    } else {
        print(out, &text::yaml(&document))?;
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
        term::warning(&format!("{consequence}: {error}"));
        Vec::new()
    })
}
