//! `portguard explain`: what becomes of packets from an address, and which entry decides.

pub mod document;
pub mod text;

use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ipnet::IpNet;
use portguard_common::calls::UdpCalls;
use portguard_common::reason::Denial;
use portguard_common::rpc::Procedure;
use portguard_common::transport::Protocol;

use self::document::Document;
use crate::allowlist::{Allowlist, Entry, Origin};
use crate::cli::options;
use crate::cli::print::{finish, print, print_before, print_json};
use crate::error::{Error, Result};
use crate::explain::text::Text;
use crate::explain::{entries, source};
use crate::guard::{self, Access, Covering, Decision, Guard, PinRoot};
use crate::interface;
use crate::ops::services::{Services, Unguarded};
use crate::ops::{self, Messages, lists};
use crate::term;

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "explain exits with 0 if all packets are allowed, and with 1 if a packet is dropped, or \
        would be dropped if the guard were not in audit mode."
)]
pub struct Args {
    /// The source addresses to check
    #[arg(value_name = "ADDR", required = true)]
    pub sources: Vec<String>,
    /// The guarded interface on which the packets arrive [default: all of this network namespace, one by one]
    #[arg(long = "iface", value_name = "IFACE")]
    pub interface: Option<String>,
    /// The protocol of the packets [default: both]
    #[arg(long = "proto", value_name = "PROTOCOL", value_parser = options::protocol())]
    pub protocol: Option<Protocol>,
    /// What the packets ask for over UDP [default: null]
    #[arg(long, value_name = "CALL", value_parser = options::call())]
    pub call: Option<Procedure>,
    /// Judge by this file, even if interfaces are guarded [default: the guards' lists; without any guard,
    /// $PORTGUARD_ALLOWLIST or /etc/portguard/allowlist.yaml]
    #[arg(long, value_name = "PATH", conflicts_with = "interface")]
    pub allowlist: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Shows the verdicts on each source: of every guard, or of a file.
///
/// # Errors
/// A source is no address, the process is not permitted, a named interface has no guard, or there is neither a guard nor
/// a valid list.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<ExitCode> {
    let sources: Vec<IpAddr> = args.sources.iter().map(|text| source::parse(text)).collect::<Result<_>>()?;
    let protocols = args.protocol.map_or_else(|| Protocol::ALL.to_vec(), |only| vec![only]);
    let question = Question { sources, protocols, call: args.call.unwrap_or(Procedure::Null) };
    let mut messages = term::messages();
    let answer = match &args.allowlist {
        Some(path) => by_file(&question, path, &mut messages).map(|verdicts| (verdicts, Vec::new())),
        None => by_guards(&question, args.interface.as_deref(), &mut messages),
    };
    let (verdicts, unguarded) = match answer {
        Ok(answer) => answer,
        Err(error) => return print_before(messages, out, error),
    };
    let code = finish(messages, out)?;
    let refused = verdicts.iter().flatten().any(|verdict| verdict.verdict != Decision::Allowed);
    let verdicts = in_order_of_sources(verdicts);
    let document = Document { unguarded, ..Document::new(verdicts) };
    if args.json {
        print_json(out, &document)?;
    } else {
        print(out, &text::text(&document))?;
    }
    Ok(if code == ExitCode::SUCCESS && refused { ExitCode::FAILURE } else { code })
}

/// What is asked.
struct Question {
    sources: Vec<IpAddr>,
    protocols: Vec<Protocol>,
    /// What is asked for over UDP.
    call: Procedure,
}

impl Question {
    /// Whether a list that covers a source permits it to ask over this protocol.
    fn is_permitted(&self, protocol: Protocol, udp_calls: UdpCalls) -> bool {
        protocol == Protocol::Tcp || udp_calls.permits(self.call)
    }

    /// The protocols by what becomes of their packets: each decision once.
    fn by_decision(
        &self,
        mut decide: impl FnMut(Protocol) -> Result<Decision>,
    ) -> Result<Vec<(Decision, Vec<Protocol>)>> {
        let mut decisions: Vec<(Decision, Vec<Protocol>)> = Vec::new();
        for &protocol in &self.protocols {
            let decision = decide(protocol)?;
            match decisions.iter_mut().find(|(known, _)| *known == decision) {
                Some((_, protocols)) => protocols.push(protocol),
                None => decisions.push((decision, vec![protocol])),
            }
        }
        Ok(decisions)
    }

    /// What is asked for, if that matters.
    fn call_over(&self, protocols: &[Protocol]) -> Option<Procedure> {
        protocols.contains(&Protocol::Udp).then_some(self.call)
    }
}

/// For each source what each judge says, instead of for each judge what it says of each source.
fn in_order_of_sources(verdicts: Vec<Vec<document::Verdict>>) -> Vec<document::Verdict> {
    let mut judges: Vec<_> = verdicts.into_iter().map(Vec::into_iter).collect();
    let mut ordered = Vec::new();
    loop {
        let before = ordered.len();
        ordered.extend(judges.iter_mut().filter_map(Iterator::next));
        if ordered.len() == before {
            return ordered;
        }
    }
}

/// What each guard says of each source; or the file, if there is no guard, and nobody has asked for one. And the interfaces
/// that should have a guard and have none.
fn by_guards(
    question: &Question,
    interface: Option<&str>,
    messages: &mut Messages,
) -> Result<(Vec<Vec<document::Verdict>>, Vec<Unguarded>)> {
    guard::require_privileges()?;
    // Before the lock is taken: a service may be waiting for it.
    let services = Services::ask();
    for error in &services.silent {
        messages.note(error.to_string());
    }
    let pin_root = PinRoot::find()?;
    // The program and the list that are asked must be the same ones to the end.
    let lock = pin_root.as_ref().map(|pin_root| ops::lock(pin_root, Access::Judge, messages)).transpose()?;
    let names: Vec<String> = interface.map(str::to_owned).into_iter().collect();
    let guards = Guard::select(pin_root.as_ref(), &names)?;
    let mut unguarded = services.unguarded(pin_root.as_ref(), &interface::all()?)?;
    unguarded.retain(|it| names.is_empty() || names.contains(&it.interface));
    if guards.is_empty() {
        drop(lock);
        messages.note("no guard here: the file decides");
        let list = services.allowlists().next().map_or_else(ops::default_allowlist, Path::to_owned);
        return Ok((by_file(question, &list, messages)?, unguarded));
    }
    let mut verdicts = Vec::new();
    for guard in guards {
        match guard.and_then(|guard| by_guard(question, &guard, &services)) {
            Ok(more) => verdicts.push(more),
            Err(error) => messages.error(error),
        }
    }
    Ok((verdicts, unguarded))
}

fn by_guard(question: &Question, guard: &Guard, services: &Services) -> Result<Vec<document::Verdict>> {
    let name = &guard.interface().name;
    let list = guard.list().ok_or_else(|| Error::failed(format!("{name}: the guard has no list")))?;
    let shadow = guard.shadow()?;
    let service = services.of(guard);
    let text = Text::of(&list);
    let allowlist = document::Allowlist {
        path: list.path,
        sha256: list.sha256.to_string(),
        generation: Some(list.generation),
        udp: list.udp_calls,
        changed_on_disk: text.changed_on_disk(),
        lines_of: text.allowlist().map(Allowlist::origin),
    };
    // Read back from the kernel only if there is no text, and only once.
    let mut kernel: Option<Vec<IpNet>> = None;
    let mut verdicts = Vec::new();
    for &source in &question.sources {
        let covering = guard.covering(source)?;
        let decisions = question.by_decision(|protocol| {
            let decision = shadow.judge(source, protocol, question.call)?;
            let expected = covering.is_some() && question.is_permitted(protocol, list.udp_calls);
            if (decision == Decision::Allowed) == expected {
                return Ok(decision);
            }
            let trie = covering.map_or("no entry".to_owned(), |covering| covering.prefix.to_string());
            let what = format!(
                "over {} the program returns {decision:?}, but the list has {trie} for the source, and permits {} calls",
                protocol.name(),
                list.udp_calls.key()
            );
            Err(contradiction(name, source, &what))
        })?;
        let mut nearest = None;
        if covering.is_none() {
            nearest = match text.allowlist() {
                Some(allowlist) => nearest_in(allowlist, source),
                None => {
                    if kernel.is_none() {
                        kernel = Some(guard.prefixes()?.into_iter().collect());
                    }
                    let prefixes = kernel.iter().flatten().copied();
                    entries::nearest(prefixes, source).map(|(_, prefix)| without_line(prefix))
                }
            };
        }
        let entry = covering.map(|Covering { prefix, number, .. }| {
            let Some(allowlist) = text.allowlist() else { return Ok(without_line(prefix)) };
            match allowlist.numbered().nth(number as usize) {
                Some(entry) if entry.prefix() == prefix => Ok(entry.into()),
                _ => {
                    let what = format!("{prefix} is entry {number} in the kernel, but not in the text");
                    Err(contradiction(name, source, &what))
                }
            }
        });
        let entry = entry.transpose()?;
        verdicts.extend(decisions.into_iter().map(|(decision, protocols)| document::Verdict {
            source,
            interface: Some(name.clone()),
            verdict: decision,
            reason: reason(decision, entry.as_ref()),
            judged_by: document::Judge::Kernel,
            call: question.call_over(&protocols),
            protocols,
            allowlist: allowlist.clone(),
            entry: entry.clone(),
            nearest: nearest.clone(),
            same_program: Some(shadow.tag() == guard.program().tag),
            note: source::oddity(source),
            enforcing: Some(guard.is_enforcing()),
            service: service.clone(),
        }));
    }
    Ok(verdicts)
}

/// Why packets are not allowed.
fn reason(decision: Decision, entry: Option<&document::Entry>) -> Option<Denial> {
    match (decision, entry) {
        (Decision::Allowed, _) => None,
        (_, None) => Some(Denial::NotAllowed),
        (_, Some(_)) => Some(Denial::CallNotAllowed),
    }
}

/// What must not be, and would be a bug of portguard.
fn contradiction(name: &str, source: IpAddr, what: &str) -> Error {
    Error::failed(format!("{name}: the guard gives contradictory verdicts for {source}"))
        .because(what)
        .remedy("This is a bug of portguard. Please report it, with the list.")
}

/// What a file says of each source.
fn by_file(question: &Question, path: &Path, messages: &mut Messages) -> Result<Vec<Vec<document::Verdict>>> {
    let list = lists::load(path, messages)?;
    let prefixes = || list.entries().iter().map(Entry::prefix);
    let allowlist = document::Allowlist {
        path: list.path().to_owned(),
        sha256: list.sha256().to_string(),
        generation: None,
        udp: list.udp_calls(),
        changed_on_disk: false,
        lines_of: Some(Origin::File),
    };
    let verdicts_on = |&source: &IpAddr| -> Result<Vec<document::Verdict>> {
        let covering = entries::covering(prefixes(), source);
        let entry = covering.map(|(index, _)| document::Entry::from(&list.entries()[index]));
        let nearest = if entry.is_none() { nearest_in(&list, source) } else { None };
        let decisions = question.by_decision(|protocol| {
            let allowed = entry.is_some() && question.is_permitted(protocol, list.udp_calls());
            Ok(if allowed { Decision::Allowed } else { Decision::Dropped })
        })?;
        Ok(decisions
            .into_iter()
            .map(|(decision, protocols)| document::Verdict {
                source,
                interface: None,
                verdict: decision,
                reason: reason(decision, entry.as_ref()),
                judged_by: document::Judge::File,
                call: question.call_over(&protocols),
                protocols,
                allowlist: allowlist.clone(),
                entry: entry.clone(),
                nearest: nearest.clone(),
                same_program: None,
                note: source::oddity(source),
                enforcing: None,
                service: None,
            })
            .collect())
    };
    let verdicts = question.sources.iter().map(verdicts_on).collect::<Result<Vec<_>>>()?;
    Ok(vec![verdicts.concat()])
}

fn nearest_in(list: &Allowlist, source: IpAddr) -> Option<document::Entry> {
    let (index, _) = entries::nearest(list.entries().iter().map(Entry::prefix), source)?;
    Some(document::Entry::from(&list.entries()[index]))
}

/// An entry of which only the kernel knows.
fn without_line(prefix: IpNet) -> document::Entry {
    document::Entry { prefix, line: None, comment: None }
}
