//! What a rule of nft says about who may reach port 111.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Found;
use super::nft::{Name, Objects, of_set, place};
use super::nft_element::{self, Part, has_port_111, is_tcp_or_udp, text, unclear};
use crate::suggest::client::Client;

/// What is done with a packet that a rule matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Accept,
    Drop,
    Elsewhere,
}

/// A rule, as far as it is about sources and ports.
#[derive(Debug, Default)]
struct Rule<'a> {
    /// What the source must be, and whether it is what it must not be.
    source: Option<(&'a Value, Vec<Part>)>,
    /// It says which sources are not meant.
    is_negated: bool,
    /// It names port 111. Otherwise it is for port 111 and others.
    names_the_port: bool,
    /// What else it asks for.
    conditions: Vec<String>,
    verdict: Option<Verdict>,
}

/// Whom a rule is about; `used` gets the sets that it names.
pub(super) fn clients<'a>(
    rule: &'a Value,
    objects: &Objects<'a>,
    used: &mut BTreeSet<Name<'a>>,
) -> Vec<Found> {
    let table = || Some((rule["family"].as_str()?, rule["table"].as_str()?));
    let (Some((family, table)), Some(chain)) = (table(), rule["chain"].as_str()) else { return Vec::new() };
    let chain = (family, table, chain);
    let Some(read) = Rule::read(&rule["expr"]).filter(|_| objects.is_for_input(chain)) else {
        return Vec::new();
    };
    let place = format!("rule {} of {}", rule["handle"], place("chain", chain));
    let Some((source, parts)) = &read.source else { return read.everyone(&place) };
    let name = source.as_str().and_then(|text| text.strip_prefix('@')).map(|name| (family, table, name));
    if let Some((name, _)) = name.and_then(|name| objects.set(name)) {
        used.insert(name);
    }
    if let Some(why) = read.inexpressible() {
        return vec![unclear(source, why, &place)];
    }
    let detail = rule["comment"].as_str();
    let mut found = match name.map(|name| objects.set(name)) {
        Some(Some((name, set))) => of_set(name, set),
        Some(None) => vec![unclear(source, "the set is not in the file", &place)],
        None => nft_element::clients(source, parts, &place),
    };
    for found in &mut found {
        found.detail = found.detail.take().or_else(|| detail.map(str::to_owned));
    }
    found
}

impl<'a> Rule<'a> {
    /// None if it is not about port 111.
    fn read(expressions: &'a Value) -> Option<Self> {
        let mut rule = Self::default();
        for expression in expressions.as_array()? {
            let (kind, value) = expression.as_object()?.iter().next()?;
            match &**kind {
                "match" => rule.add_match(value)?,
                "vmap" => rule.add_map(value)?,
                "accept" => rule.verdict = Some(Verdict::Accept),
                "drop" | "reject" => rule.verdict = Some(Verdict::Drop),
                "jump" | "goto" | "queue" => rule.verdict = Some(Verdict::Elsewhere),
                "counter" | "log" | "limit" | "comment" => {}
                other => rule.conditions.push(other.to_owned()),
            }
        }
        rule.verdict.is_some().then_some(rule)
    }

    fn add_match(&mut self, value: &'a Value) -> Option<()> {
        let (left, right) = (&value["left"], &value["right"]);
        let is_negated = !matches!(value["op"].as_str(), Some("==" | "in"));
        let parts = parts(left);
        match &parts[..] {
            [Part::Port] if is_negated => (!has_port_111(right)).then_some(()),
            // A set by its name: it is not looked into.
            [Part::Port] if right.as_str().is_some_and(|name| name.starts_with('@')) => {
                self.conditions.push(format!("ports {}", text(right)));
                Some(())
            }
            [Part::Port] => {
                self.names_the_port = true;
                has_port_111(right).then_some(())
            }
            [Part::Protocol] => (is_tcp_or_udp(right) != is_negated).then_some(()),
            parts if parts.contains(&Part::Source) && self.source.is_none() => {
                self.is_negated = is_negated;
                self.names_the_port |= parts.contains(&Part::Port);
                self.source = Some((right, parts.to_vec()));
                Some(())
            }
            _ => {
                if let Some(condition) = condition(left) {
                    self.conditions.push(condition);
                }
                Some(())
            }
        }
    }

    /// A map from what packets have to verdicts.
    fn add_map(&mut self, value: &'a Value) -> Option<()> {
        let parts = parts(&value["key"]);
        if parts.contains(&Part::Source) && self.source.is_none() {
            self.names_the_port |= parts.contains(&Part::Port);
            self.source = Some((&value["data"], parts));
            // The verdicts of its elements are looked at one by one.
            self.verdict = Some(Verdict::Accept);
            return Some(());
        }
        let data = value["data"]["set"].as_array();
        let is_for_111 = |pair: &Value| has_port_111(&pair[0]);
        if parts == [Part::Port] && data.is_some_and(|pairs| pairs.iter().any(is_for_111)) {
            self.names_the_port = true;
        }
        self.verdict = Some(Verdict::Elsewhere);
        Some(())
    }

    /// What there is to say of a rule that does not ask for the source.
    fn everyone(&self, place: &str) -> Vec<Found> {
        if !self.names_the_port {
            return Vec::new();
        }
        let client = match (self.verdict, &self.conditions[..]) {
            (Some(Verdict::Accept), []) => Client::Everyone,
            (Some(Verdict::Accept), conditions) => Client::Unclear(only(conditions).into()),
            (Some(Verdict::Elsewhere), _) => Client::Unclear("it goes on in another chain".into()),
            (Some(Verdict::Drop) | None, _) => return Vec::new(),
        };
        vec![Found {
            client,
            written: "port 111".to_owned(),
            part: Some(place.to_owned()),
            line: None,
            detail: None,
        }]
    }

    /// Why the sources of a rule cannot be taken.
    fn inexpressible(&self) -> Option<String> {
        match self.verdict {
            Some(Verdict::Drop) if self.is_negated => {
                Some("the rule says who is dropped, not who is accepted".to_owned())
            }
            Some(Verdict::Drop) => Some("it is dropped, and a list has no exceptions".to_owned()),
            Some(Verdict::Elsewhere) => Some("it goes on in another chain".to_owned()),
            _ if self.is_negated => Some("the rule says who is not meant".to_owned()),
            _ if !self.conditions.is_empty() => Some(only(&self.conditions)),
            _ if !self.names_the_port => {
                Some("the rule accepts all ports, and does not name port 111".to_owned())
            }
            _ => None,
        }
    }
}

fn only(conditions: &[String]) -> String {
    format!("only together with something else ({})", conditions.join(", "))
}

/// What a match looks at.
fn parts(left: &Value) -> Vec<Part> {
    match left["concat"].as_array() {
        Some(parts) => parts.iter().map(part).collect(),
        None => vec![part(left)],
    }
}

fn part(left: &Value) -> Part {
    let payload = &left["payload"];
    match (payload["protocol"].as_str(), payload["field"].as_str(), left["meta"]["key"].as_str()) {
        (Some("ip" | "ip6"), Some("saddr"), _) => Part::Source,
        (Some("tcp" | "udp" | "th"), Some("dport"), _) => Part::Port,
        (Some("ip"), Some("protocol"), _) | (Some("ip6"), Some("nexthdr"), _) | (_, _, Some("l4proto")) => {
            Part::Protocol
        }
        _ => Part::Other(condition(left).unwrap_or_default()),
    }
}

/// What else a match asks for; none if it says nothing about clients.
fn condition(left: &Value) -> Option<String> {
    let field = |value: &Value| value.as_str().map(str::to_owned);
    if let Some(key) = field(&left["meta"]["key"]) {
        return (!matches!(&*key, "nfproto" | "protocol")).then_some(key);
    }
    if left["ct"]["key"] == "state" {
        return None;
    }
    let payload = &left["payload"];
    match (field(&payload["protocol"]), field(&payload["field"])) {
        (Some(protocol), Some(name)) => Some(format!("{protocol} {name}")),
        _ => Some(text(left)),
    }
}
