//! What `ipset save` prints: `create SET TYPE ...` and `add SET ELEMENT ...` (ipset(8)).

use std::collections::HashMap;

use super::{Found, network, plain};
use crate::suggest::client::Client;

/// The port that a guard is for.
const PORT: u16 = 111;

/// A part of the elements of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part<'a> {
    /// The address that is meant, or the network.
    Source,
    Port,
    /// Something that an allowlist cannot say.
    Other(&'a str),
}

/// A set.
#[derive(Debug, Default)]
struct Set<'a> {
    parts: Vec<Part<'a>>,
    /// What each address stands for, if that is more than itself: the text of a netmask or a prefix length.
    mask: Option<&'a str>,
}

/// Who is in the sets.
pub(super) fn clients(text: &str) -> Vec<Found> {
    let mut sets: HashMap<&str, Set<'_>> = HashMap::new();
    let mut found = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [] | ["flush", ..] => {}
            ["create" | "-N", name, kind, ref options @ ..] => {
                let set = Set::new(kind, options);
                if !set.parts.contains(&Part::Source) && kind != "list:set" {
                    found.push(unclear(number, name, format!("a set of the type {kind} has no addresses")));
                }
                sets.insert(name, set);
            }
            ["add" | "-A", set, element, ref options @ ..] => {
                let part = format!("set {set}");
                // A member that is a set of this file is there itself.
                let is_known = sets.contains_key(element);
                let elements = match sets.get(set) {
                    Some(set) if set.parts == [Part::Other("set")] && is_known => continue,
                    Some(set) if !set.parts.contains(&Part::Source) && set.parts != [Part::Other("set")] => {
                        continue;
                    }
                    Some(set) => set.clients(element, options),
                    None => Set { parts: vec![Part::Source], mask: None }.clients(element, options),
                };
                let detail = comment(line);
                found.extend(elements.into_iter().map(|client| Found {
                    client,
                    written: element.to_owned(),
                    part: Some(part.clone()),
                    line: Some(number),
                    detail: detail.clone(),
                }));
            }
            _ if line.trim_start().starts_with('#') => {}
            _ => found.push(unclear(number, line.trim(), "it is neither `create` nor `add`")),
        }
    }
    found
}

fn unclear(line: u32, written: &str, why: impl Into<String>) -> Found {
    Found::on_line(line, Client::Unclear(why.into().into()), written)
}

/// The comment of an element, which has no quotation mark in it.
fn comment(line: &str) -> Option<String> {
    let (_, comment) = line.split_once(" comment \"")?;
    let (comment, _) = comment.split_once('"')?;
    Some(comment.to_owned())
}

impl<'a> Set<'a> {
    /// One of a type such as `hash:ip,port`.
    fn new(kind: &'a str, options: &[&'a str]) -> Self {
        let (_, parts) = kind.split_once(':').unwrap_or(("", kind));
        let mut has_source = false;
        let part = |name: &'a str| match name {
            "ip" | "net" if !has_source => {
                has_source = true;
                Part::Source
            }
            "ip" | "net" => Part::Other("a second address"),
            "port" => Part::Port,
            other => Part::Other(other),
        };
        let parts = parts.split(',').map(part).collect();
        let mask =
            options.windows(2).find(|pair| matches!(pair[0], "netmask" | "bitmask")).map(|pair| pair[1]);
        Self { parts, mask }
    }

    /// Whom an element stands for.
    fn clients(&self, element: &str, options: &[&str]) -> Vec<Client> {
        let timeout =
            options.windows(2).find(|pair| pair[0] == "timeout").and_then(|pair| pair[1].parse().ok());
        if options.contains(&"nomatch") {
            let why = "an exception (nomatch), and a list has none: write the networks around it without it";
            return vec![Client::Unclear(why.into())];
        }
        if timeout.is_some_and(|seconds: u64| seconds > 0) {
            return vec![Client::Unclear("it is there for a time only: it has a timeout".into())];
        }
        let mut source = None;
        let mut texts = element.split(',');
        for part in &self.parts {
            let text = texts.next().unwrap_or_default();
            match part {
                Part::Source => source = Some(text),
                Part::Port if !has_port_111(text) => {
                    return vec![Client::Unclear(format!("it is for {text}, not for port 111").into())];
                }
                Part::Port => {}
                Part::Other(what) => {
                    return vec![Client::Unclear(
                        format!("only together with something else ({what})").into(),
                    )];
                }
            }
        }
        let Some(source) = source.filter(|_| texts.next().is_none()) else {
            return vec![Client::Unclear("its set is not in the file".into())];
        };
        self.addresses(source)
    }

    fn addresses(&self, text: &str) -> Vec<Client> {
        if text.contains('-') {
            return plain::parse(text);
        }
        let text = match self.mask {
            Some(mask) if !text.contains('/') => format!("{text}/{mask}"),
            _ => text.to_owned(),
        };
        // ipset(8) does not mind host bits.
        vec![match Client::parse(&text) {
            Client::Network(prefix) => network(prefix),
            other => other,
        }]
    }
}

/// `tcp:111`, `udp:100-120`, `111`
fn has_port_111(text: &str) -> bool {
    let (protocol, ports) = text.split_once(':').unwrap_or(("tcp", text));
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let number = |text: &str| if text == "sunrpc" { Some(PORT) } else { text.parse().ok() };
    matches!(protocol, "tcp" | "udp")
        && number(first).zip(number(last)).is_some_and(|(first, last)| (first..=last).contains(&PORT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_is_taken_if_it_means_a_source_and_port_111_alone() {
        let text = "create a hash:ip family inet hashsize 1024 netmask 24\nadd a 192.0.2.0\n\
                    create n hash:net family inet timeout 0 comment\nadd n 10.0.0.0/8 timeout 0 comment \"all of us\"\n\
                    add n 10.9.0.0/16 nomatch\nadd n 10.8.0.0/16 timeout 299\nadd n 0.0.0.0/1\n\
                    create p hash:ip,port\nadd p 192.0.2.1,tcp:111\nadd p 192.0.2.2,udp:2049\n\
                    create i hash:net,iface\nadd i 10.0.0.0/8,eth0\ncreate l list:set\nadd l a\nadd l other\n\
                    create t hash:net,port,net\nadd t 10.0.0.0/8,tcp:111,192.0.2.0/24\ncreate m hash:mac\nadd m 01:02:03:04:05:06\n\
                    add new 2001:db8::7\ncreate b bitmap:ip range 10.0.0.0-10.0.0.255\nadd b 10.0.0.4-10.0.0.5\nswap a b\n";
        let found: Vec<(String, String)> = clients(text)
            .into_iter()
            .map(|Found { client, written, detail, .. }| match client {
                Client::Network(network) => (network.to_string(), detail.unwrap_or_default()),
                Client::Unclear(why) => (format!("no {written}"), why.into_owned()),
                other => (written, format!("{other:?}")),
            })
            .collect();
        let found: Vec<(&str, &str)> =
            found.iter().map(|(what, why)| (&**what, why.split(':').next().unwrap())).collect();
        assert_eq!(
            found,
            [
                ("192.0.2.0/24", ""),
                ("10.0.0.0/8", "all of us"),
                ("no 10.9.0.0/16", "an exception (nomatch), and a list has none"),
                ("no 10.8.0.0/16", "it is there for a time only"),
                ("0.0.0.0/1", "Everyone"),
                ("192.0.2.1/32", ""),
                ("no 192.0.2.2,udp:2049", "it is for udp"),
                ("no 10.0.0.0/8,eth0", "only together with something else (iface)"),
                ("no other", "only together with something else (set)"),
                (
                    "no 10.0.0.0/8,tcp:111,192.0.2.0/24",
                    "only together with something else (a second address)"
                ),
                ("no m", "a set of the type hash"),
                ("2001:db8::7/128", ""),
                ("10.0.0.4/31", ""),
                ("no swap a b", "it is neither `create` nor `add`"),
            ]
        );
    }
}
