//! Files with addresses that an administrator has already: firewall sets, tables of other programs, plain lists. What a file is, its
//! content tells.

mod ipset;
mod nft;
mod nft_element;
mod nft_rule;
mod plain;

use std::io::{self, Read as _};
use std::path::Path;

use ipnet::{IpNet, IpSubnets, Ipv4Subnets, Ipv6Subnets};

use super::client::Client;
use super::files::Named;
use super::sources::is_public;
use super::{exports, hosts_allow, securenets};
use crate::allowlist::{Allowlist, Checked, MAX_FILE_SIZE};
use crate::error::{Error, Result};
use crate::printable::printable;

/// The path that means standard input.
const STDIN: &str = "-";

/// What a file can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `nft -j list ...`
    Nft,
    /// `ipset save`
    Ipset,
    /// An allowlist of portguard.
    Allowlist,
    /// exports(5)
    Exports,
    /// hosts_access(5)
    HostsAllow,
    /// The securenets of ypserv(8).
    Securenets,
    /// Prefixes, addresses and ranges.
    Plain,
}

impl Form {
    fn name(self) -> &'static str {
        match self {
            Self::Nft => "the JSON of nft",
            Self::Ipset => "the output of ipset save",
            Self::Allowlist => "an allowlist",
            Self::Exports => "a table of exports",
            Self::HostsAllow => "a hosts.allow",
            Self::Securenets => "the securenets of NIS",
            Self::Plain => "a plain list",
        }
    }
}

/// Somebody who is in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    client: Client,
    /// As it is written there.
    written: String,
    /// The part of the file, if it has parts.
    part: Option<String>,
    line: Option<u32>,
    detail: Option<String>,
}

impl Found {
    fn on_line(line: u32, client: Client, written: impl Into<String>) -> Self {
        Self { client, written: written.into(), part: None, line: Some(line), detail: None }
    }
}

/// Reads the file at a path; `-` is standard input.
///
/// # Errors
/// It cannot be read, it is none of the forms that are known, or it names no host.
pub fn read(path: &Path) -> Result<Vec<Named>> {
    let is_stdin = path == Path::new(STDIN);
    let shown = if is_stdin { "standard input".to_owned() } else { printable(&path.to_string_lossy()) };
    let mut bytes = Vec::new();
    let limit = MAX_FILE_SIZE + 1;
    let read = match is_stdin {
        true => io::stdin().take(limit).read_to_end(&mut bytes),
        false => std::fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)),
    };
    read.map_err(|error| Error::failed(format!("cannot read {shown}")).caused_by(error))?;
    if bytes.len() as u64 > MAX_FILE_SIZE {
        return Err(Error::failed(format!("{shown} is larger than {} MiB", MAX_FILE_SIZE >> 20)));
    }
    let found = clients(path, &shown, &String::from_utf8_lossy(&bytes))?;
    Ok(found.into_iter().map(|found| named(found, &shown)).collect())
}

fn named(Found { client, written, part, line, detail }: Found, file: &str) -> Named {
    let client = match client {
        Client::Network(prefix) => network(prefix),
        other => other,
    };
    let question = match client {
        Client::Network(network) if network.prefix_len() < network.max_prefix_len() && is_public(network) => {
            Some("public addresses: are they all yours?".to_owned())
        }
        _ => None,
    };
    let place = part.map_or_else(|| file.to_owned(), |part| format!("{file}, {part}"));
    let line = line.map(|line| format!("line {line}"));
    let details: Vec<String> = [line, detail, question].into_iter().flatten().collect();
    Named { client, written, place, detail: (!details.is_empty()).then(|| details.join("; ")) }
}

/// Who is in a text.
fn clients(path: &Path, shown: &str, text: &str) -> Result<Vec<Found>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let form = recognize(text).map_err(|line| unrecognized(shown, line))?;
    let lines = |clients: Vec<(Client, String, u32)>| {
        clients.into_iter().map(|(client, written, line)| Found::on_line(line, client, written)).collect()
    };
    let found: Vec<Found> = match form {
        Form::Nft => nft::clients(text).map_err(|error| {
            Error::failed(format!("{shown} is not valid JSON"))
                .because(error)
                .remedy("Write it with: nft -j list ruleset")
        })?,
        Form::Ipset => ipset::clients(text),
        Form::Allowlist => allowlist(path, text)?,
        Form::Exports => {
            let found = exports::parse(text).into_iter();
            found.map(|it| Found::on_line(it.line, it.client, it.written)).collect()
        }
        Form::HostsAllow => lines(hosts_allow::clients(text)),
        Form::Securenets => lines(securenets::clients(text)),
        Form::Plain => plain::clients(text),
    };
    if found.is_empty() {
        return Err(Error::failed(format!("{shown}, read as {}, names no host", form.name())));
    }
    Ok(found)
}

fn unrecognized(shown: &str, line: Option<(u32, String)>) -> Error {
    let Some((line, text)) = line else {
        return Error::failed(format!("{shown} has no addresses: it is empty"));
    };
    let text: String = text.chars().take(80).collect();
    Error::failed(format!("{shown} is no file that portguard knows"))
        .because(format!("line {line} is not understood: {}", printable(&text)))
        .remedy(
            "Give it a list with an address, a prefix or a range on each line, an allowlist, the output of `nft -j list ruleset` or of \
             `ipset save`, a hosts.allow, an exports file, or the securenets of NIS.",
        )
}

/// What a text is, by the first of its lines that is more than a comment. The error is that line, if there is one.
fn recognize(text: &str) -> Result<Form, Option<(u32, String)>> {
    let mut lines = (1..).zip(text.lines()).map(|(number, line)| (number, line.trim()));
    let first = lines.find(|(_, line)| !line.is_empty() && !line.starts_with(['#', ';'])).ok_or(None)?;
    let (number, line) = first;
    let words: Vec<&str> = line.split_whitespace().collect();
    let form = match words[..] {
        _ if line.starts_with('{') && text.contains("\"nftables\"") => Some(Form::Nft),
        _ if is_allowlist(text, line) => Some(Form::Allowlist),
        _ if securenets::is_entry(&words) => Some(Form::Securenets),
        ["create" | "add" | "-N" | "-A" | "flush", _, ..] => Some(Form::Ipset),
        _ if line.starts_with('/') || line.starts_with("\"/") => Some(Form::Exports),
        _ if plain::is_line(line) => Some(Form::Plain),
        _ if hosts_allow::is_entry(line) => Some(Form::HostsAllow),
        _ => None,
    };
    form.ok_or_else(|| Some((number, line.to_owned())))
}

fn is_allowlist(text: &str, line: &str) -> bool {
    let key = line.trim_start_matches(['{', '"', '\'', '?', ' ']);
    let has_key = key
        .strip_prefix("allow")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['"', '\'', ':', ' ']));
    has_key
        || ((line.starts_with("---") || line.starts_with('{') || line.starts_with('%'))
            && text.contains("allow"))
}

fn allowlist(path: &Path, text: &str) -> Result<Vec<Found>> {
    let Checked { allowlist, .. } = Allowlist::parse(path, text.as_bytes())?;
    let found = |entry: &crate::allowlist::Entry| {
        let prefix = entry.prefix();
        let detail = entry.comment().map(str::to_owned);
        Found { detail, ..Found::on_line(entry.line(), network(prefix), prefix.to_string()) }
    };
    Ok(allowlist.entries().iter().map(found).collect())
}

/// The hosts of a prefix. Half of all addresses are everyone: sets that hold no prefix of length 0 have them in two halves.
fn network(prefix: IpNet) -> Client {
    if prefix.prefix_len() <= 1 { Client::Everyone } else { Client::Network(prefix.trunc()) }
}

/// The prefixes from one address to another; none if there are no addresses between them.
fn range(first: &str, last: &str) -> Option<Vec<IpNet>> {
    let subnets = match (first.parse().ok()?, last.parse().ok()?) {
        (std::net::IpAddr::V4(first), std::net::IpAddr::V4(last)) if first <= last => {
            IpSubnets::V4(Ipv4Subnets::new(first, last, 0))
        }
        (std::net::IpAddr::V6(first), std::net::IpAddr::V6(last)) if first <= last => {
            IpSubnets::V6(Ipv6Subnets::new(first, last, 0))
        }
        _ => return None,
    };
    Some(subnets.collect())
}
