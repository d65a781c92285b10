//! `portguard explain`: what becomes of packets from an address, and which entry decides.

pub mod document;
pub mod text;

use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ipnet::IpNet;
use jiff::Timestamp;
use portguard_common::conditions::Conditions;
use portguard_common::reason::Denial;
use portguard_common::rpc::Procedure;
use portguard_common::transport::Protocol;

use self::document::{Document, Judge};
use crate::allowlist::{Allowlist, Effective, Entry, Origin};
use crate::cli::options;
use crate::cli::print::{finish, print, print_before, print_json};
use crate::error::{Error, Result};
use crate::explain::text::Text;
use crate::explain::{entries, source};
use crate::guard::{self, Access, Covering, Decision, Guard, PinRoot, Ruling};
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
    /// Judge as of this time: RFC 3339 with an offset from UTC, or a date, which means its end [default: now]
    #[arg(long, value_name = "TIME", value_parser = options::time())]
    pub at: Option<Timestamp>,
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
    let question = Question { sources, protocols, call: args.call.unwrap_or(Procedure::Null), at: args.at };
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
    /// The time that is asked about; `None` for now.
    at: Option<Timestamp>,
}

impl Question {
    /// Why a packet over this protocol is not allowed if these conditions decide, at a time since boot; `None` if it is.
    fn refusal(&self, conditions: &Conditions, protocol: Protocol, boot_now: u64) -> Option<Denial> {
        let permits = || protocol == Protocol::Tcp || conditions.permitted().permits(self.call);
        conditions.denial(|| boot_now).or_else(|| (!permits()).then_some(Denial::CallNotAllowed))
    }

    /// The protocols by what becomes of their packets: each ruling once.
    fn by_ruling(
        &self,
        mut rule: impl FnMut(Protocol) -> Result<Ruling>,
    ) -> Result<Vec<(Ruling, Vec<Protocol>)>> {
        let mut rulings: Vec<(Ruling, Vec<Protocol>)> = Vec::new();
        for &protocol in &self.protocols {
            let ruling = rule(protocol)?;
            match rulings.iter_mut().find(|(known, _)| *known == ruling) {
                Some((_, protocols)) => protocols.push(protocol),
                None => rulings.push((ruling, vec![protocol])),
            }
        }
        Ok(rulings)
    }

    /// The part of a verdict that is not about who judges.
    fn verdict(
        &self,
        source: IpAddr,
        allowlist: &document::Allowlist,
        judged_by: Judge,
    ) -> document::Verdict {
        document::Verdict {
            source,
            interface: None,
            verdict: Decision::Allowed,
            reason: None,
            at: self.at.map(|at| at.to_string()),
            judged_by,
            call: None,
            protocols: Vec::new(),
            allowlist: allowlist.clone(),
            entry: None,
            nearest: None,
            same_program: None,
            note: source::oddity(source),
            enforcing: None,
            service: None,
        }
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
    // Both are clocks of this host; a time before 1970 is before any end.
    let at = question.at.map(|at| u64::try_from(at.as_nanosecond()).unwrap_or(0));
    let shadow = guard.shadow(at)?;
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
    // By their numbers in the kernel, once for all sources.
    let numbered: Vec<&Entry> = text.allowlist().into_iter().flat_map(Allowlist::numbered).collect();
    // Read back from the kernel only if there is no text, and only once.
    let mut kernel: Option<Vec<IpNet>> = None;
    let mut verdicts = Vec::new();
    for &source in &question.sources {
        let covering = guard.covering(source)?;
        let rulings = question.by_ruling(|protocol| {
            let expected = || match covering {
                None => Some(Denial::NotAllowed),
                Some(covering) => {
                    let conditions = covering.conditions.unwrap_or(Conditions::none(list.udp_calls));
                    question.refusal(&conditions.at(at), protocol, guard::boot_now())
                }
            };
            // An entry may end in between.
            let before = expected();
            let ruling = shadow.judge(source, protocol, question.call)?;
            let is_rated = covering.is_some_and(|it| it.conditions.is_some_and(|it| it.rate > 0));
            let is_expected = [before, expected()].contains(&ruling.reason)
                || (is_rated && before.is_none() && ruling.reason == Some(Denial::RateExceeded));
            if is_expected {
                return Ok(ruling);
            }
            let trie = covering.map_or("no entry".to_owned(), |covering| covering.prefix.to_string());
            let what = format!(
                "over {} the program returns {ruling:?}, but the list has {trie} for the source, so {before:?} is expected",
                protocol.name(),
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
        let entry = covering.map(|Covering { prefix, number, conditions }| {
            if text.allowlist().is_none() {
                let conditions =
                    conditions.as_ref().map(|it| document::Conditions::of_kernel(it, list.udp_calls));
                return Ok(document::Entry { conditions, ..without_line(prefix) });
            }
            match numbered.get(number as usize) {
                Some(&entry) if entry.prefix() == prefix => Ok(entry.into()),
                _ => {
                    let what = format!("{prefix} is entry {number} in the kernel, but not in the text");
                    Err(contradiction(name, source, &what))
                }
            }
        });
        let entry = entry.transpose()?;
        let common = question.verdict(source, &allowlist, Judge::Kernel);
        verdicts.extend(rulings.into_iter().map(|(Ruling { decision, reason }, protocols)| {
            document::Verdict {
                interface: Some(name.clone()),
                verdict: decision,
                reason,
                call: question.call_over(&protocols),
                protocols,
                entry: entry.clone(),
                nearest: nearest.clone(),
                same_program: Some(shadow.tag() == guard.program().tag),
                enforcing: Some(guard.is_enforcing()),
                service: service.clone(),
                ..common.clone()
            }
        }));
    }
    Ok(verdicts)
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
    let now = question.at.unwrap_or_else(Timestamp::now);
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
        let rulings = question.by_ruling(|protocol| {
            let reason = match covering {
                None => Some(Denial::NotAllowed),
                Some((index, _)) => {
                    // Without an interface, it is judged as on one that the entry is for.
                    let Effective { until, udp, .. } = list.effective(&list.entries()[index]);
                    let has_ended = until.is_some_and(|until| until <= now);
                    let permits = udp.permits(question.call);
                    match protocol {
                        _ if has_ended => Some(Denial::Expired),
                        Protocol::Udp if !permits => Some(Denial::CallNotAllowed),
                        _ => None,
                    }
                }
            };
            let decision = if reason.is_none() { Decision::Allowed } else { Decision::Dropped };
            Ok(Ruling { decision, reason })
        })?;
        let common = question.verdict(source, &allowlist, Judge::File);
        Ok(rulings
            .into_iter()
            .map(|(Ruling { decision, reason }, protocols)| document::Verdict {
                verdict: decision,
                reason,
                call: question.call_over(&protocols),
                protocols,
                entry: entry.clone(),
                nearest: nearest.clone(),
                ..common.clone()
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
    document::Entry { prefix, line: None, comment: None, conditions: None }
}
