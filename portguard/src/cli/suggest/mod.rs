//! `portguard suggest`: proposes an allowlist.

pub mod document;
pub mod merge;
pub mod text;

use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::ArgGroup;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use jiff::Timestamp;

use self::document::{Document, Merge};
use crate::allowlist::Checked;
use crate::cli::print::{print, print_json};
use crate::error::Result;
use crate::guard::{self, Guard, PinRoot};
use crate::interface;
use crate::sockets::connected_peers;
use crate::suggest::files::Files;
use crate::suggest::proposal::Proposal;
use crate::suggest::sources::{self, Peer};
use crate::suggest::systemd::{self, Unit};
use crate::suggest::{from, names};
use crate::term;

/// Arguments of `suggest`.
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("of_list").args(["merge", "systemd"]))]
#[command(after_help = "suggest reads /etc/exports and /etc/exports.d, the networks of the interfaces, the \
        clients of the NFS server, of statd, of rpcbind in /etc/hosts.allow and of NIS, the NFSv3 servers of this \
        host, and the peers of connections to port 111. Who asks on interfaces in audit mode is proposed \
        if it has a TCP connection, which cannot be forged; the sources of other TCP packets are named as comments.\n\n\
        With --from, it reads the named files instead, and nothing that this host knows. Each may be a plain list (addresses, \
        prefixes, netmasks and ranges), an allowlist, the output of `nft -j list ruleset` or of `ipset save`, a hosts.allow, an \
        exports file, or the securenets of NIS. Of the rules of nft, those are taken that accept port 111 from a source.\n\n\
        With --merge, write to another file than the list: in `portguard suggest --merge > LIST`, the shell empties LIST \
        before portguard can read it. Write `portguard suggest --merge > NEW`, then `portguard check NEW`, then \
        `mv NEW LIST`.")]
pub struct Args {
    /// Print the list that is in force, each byte of it, with the entries that are new behind its own
    #[arg(long)]
    pub merge: bool,
    /// Print a drop-in for a unit of rpcbind, by which systemd lets in whom the list lets in: a second net, behind tunnels and NAT
    #[arg(long, value_name = "UNIT", value_parser = unit(), conflicts_with_all = ["from", "link_local", "json"])]
    pub systemd: Option<Unit>,
    /// The list that --merge adds to, or that --systemd is made from [default: that of the guards of this network namespace; without any guard,
    /// $PORTGUARD_ALLOWLIST or /etc/portguard/allowlist.yaml]
    #[arg(long, value_name = "PATH", requires = "of_list")]
    pub allowlist: Option<PathBuf>,
    /// Read addresses from a file (`-` is standard input), instead of what this host knows; may be given several times
    #[arg(long, value_name = "FILE")]
    pub from: Vec<PathBuf>,
    /// Propose link-local networks, too (169.254.0.0/16, fe80::/10)
    #[arg(long, conflicts_with = "from")]
    pub link_local: bool,
    /// The directory with the files
    #[arg(long, value_name = "DIRECTORY", default_value = "/", hide = true)]
    pub root: PathBuf,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// The names of the units.
fn unit() -> impl clap::builder::TypedValueParser<Value = Unit> {
    PossibleValuesParser::new(Unit::ALL.map(Unit::name))
        .try_map(|name| Unit::of_name(&name).ok_or("no such unit"))
}

/// Prints a list of who may need port 111. What cannot be found out is said, and the rest is proposed all the same.
///
/// # Errors
/// The list cannot be printed; a named file cannot be read, or the list cannot be added to.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<ExitCode> {
    if let Some(unit) = args.systemd {
        let list = merge::load("suggest --systemd", args.allowlist.as_deref())?;
        print(out, &systemd::drop_in(&list, unit, Timestamp::now()))?;
        return Ok(ExitCode::SUCCESS);
    }
    // Before anything that takes time.
    let list = args.merge.then(|| merge::list(args.allowlist.as_deref())).transpose()?;
    let proposal = if args.from.is_empty() { of_this_host(args) } else { of_files(&args.from)? };
    let mut document = Document { from_files: !args.from.is_empty(), ..Document::new(proposal) };
    let Some(list) = list else {
        match args.json {
            true => print_json(out, &document)?,
            false => print(out, &text::yaml(&document))?,
        }
        return Ok(ExitCode::SUCCESS);
    };
    let (new, unproven) = merge::new_in(&document.proposal, &list);
    let additions = merge::additions(&new, &unproven, document.proposal.unproven_more);
    let Checked { allowlist: merged, .. } = list.with(&additions)?;
    if args.json {
        document.merge = Some(Merge {
            allowlist: list.path().to_owned(),
            sha256: list.sha256().to_string(),
            new: new.iter().map(|entry| entry.prefix).collect(),
        });
        print_json(out, &document)?;
    } else {
        merge::tell_left_out(&document.proposal.left_out);
        if new.is_empty() {
            term::note("nothing is new: the list has everyone who was found");
        }
        merge::print_list(out, &merged)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Who is in files that an administrator has named.
fn of_files(paths: &[PathBuf]) -> Result<Proposal> {
    let mut files = Files::default();
    for path in paths {
        files.named.extend(from::read(path)?);
    }
    let addresses = names::look_up(sources::names(&files));
    Ok(sources::proposal(&files, &[], &[], &[], &addresses))
}

/// Whom this host knows.
fn of_this_host(args: &Args) -> Proposal {
    let files = Files::read(&args.root);
    for problem in &files.problems {
        term::warning(problem);
    }
    let mut networks = or_warn(interface::networks(), "the networks of the interfaces are left out");
    let link_local =
        networks.extract_if(.., |network| !args.link_local && network.is_link_local()).collect::<Vec<_>>();
    let peers = or_warn(peers(), "the clients that were seen in audit mode are left out");
    let addresses = names::look_up(sources::names(&files));
    let mut proposal = sources::proposal(&files, &networks, &connected_peers(), &peers, &addresses);
    proposal.left_out.extend(sources::left_out_links(&link_local));
    proposal
}

/// Who has asked over TCP, of those whom the guards in audit mode would drop; or would have dropped, if it was over a
/// connection.
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
    let connected = guard.connected()?;
    let is_connected = |address: &IpAddr| connected.binary_search(address).is_ok();
    let mut sources = if guard.is_enforcing() { Vec::new() } else { guard.counters()?.sources };
    sources.retain(|source| source.tcp_packets() > 0 && !is_connected(&source.address));
    sources.sort_unstable_by_key(|source| source.address);
    let interface = || guard.interface().name.clone();
    let proven = connected.iter().map(|address| (*address, 0, true));
    let unproven = sources.iter().map(|source| (source.address, source.tcp_packets(), false));
    let peers = proven.chain(unproven).map(|(address, tcp_packets, connected)| Peer {
        address,
        interface: interface(),
        tcp_packets,
        connected,
    });
    Ok(peers.collect())
}

/// What was found out; or nothing, and a warning that says why.
fn or_warn<T>(result: Result<Vec<T>>, consequence: &str) -> Vec<T> {
    result.unwrap_or_else(|error| {
        term::warning(&format!("{consequence}: {error}"));
        Vec::new()
    })
}
