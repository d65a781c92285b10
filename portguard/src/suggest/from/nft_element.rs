//! The values of nft that stand for addresses, and for ports.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

use super::{Found, network, range};
use crate::suggest::client::Client;

/// The port that a guard is for.
const PORT: u64 = 111;

/// What a part of an element or of a match is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// The address of a source.
    Source,
    /// The port of a service.
    Port,
    /// TCP or UDP.
    Protocol,
    /// Something that an allowlist cannot say.
    Other(String),
}

/// The parts of a type of elements. The first address is the source.
pub(super) fn parts(kind: &Value) -> Vec<Part> {
    let names = match kind {
        Value::Array(names) => names.iter().collect(),
        name => vec![name],
    };
    let mut has_source = false;
    let part = |name: &Value| match name.as_str() {
        Some("ipv4_addr" | "ipv6_addr") if !has_source => {
            has_source = true;
            Part::Source
        }
        Some("ipv4_addr" | "ipv6_addr") => Part::Other("a second address".to_owned()),
        Some("inet_service") => Part::Port,
        Some("inet_proto") => Part::Protocol,
        _ => Part::Other(text(name)),
    };
    names.into_iter().map(part).collect()
}

/// Whom an element of a set with these parts stands for; of a map, an element is a key and a value.
pub(super) fn clients(element: &Value, parts: &[Part], place: &str) -> Vec<Found> {
    match element {
        Value::Array(pair) => match &pair[..] {
            [key, verdict] => match inexpressible(verdict) {
                Some(why) => vec![unclear(key, why, place)],
                None => clients(key, parts, place),
            },
            _ => vec![unclear(element, "it is no key with a value", place)],
        },
        Value::Object(object) if object.contains_key("set") => {
            let elements = object["set"].as_array().into_iter().flatten();
            elements.flat_map(|element| clients(element, parts, place)).collect()
        }
        Value::Object(object) if object.contains_key("elem") => {
            let element = &object["elem"];
            if !element["expires"].is_null() {
                return vec![unclear(&element["val"], "it is there for a time only: it expires", place)];
            }
            let detail = element["comment"].as_str();
            let with_detail = |found: Found| Found { detail: detail.map(str::to_owned), ..found };
            clients(&element["val"], parts, place).into_iter().map(with_detail).collect()
        }
        _ => match source(element, parts) {
            Ok(source) => {
                let written = text(element);
                let found = |client| Found {
                    client,
                    written: written.clone(),
                    part: Some(place.to_owned()),
                    line: None,
                    detail: None,
                };
                addresses(source).into_iter().map(found).collect()
            }
            Err(why) => vec![unclear(element, why, place)],
        },
    }
}

/// Somebody who is not taken.
pub(super) fn unclear(value: &Value, why: impl Into<String>, place: &str) -> Found {
    Found {
        client: Client::Unclear(why.into().into()),
        written: text(value),
        part: Some(place.to_owned()),
        line: None,
        detail: None,
    }
}

/// Why a key of a map is not one that is accepted. Maps whose values are no verdicts are about their keys.
fn inexpressible(value: &Value) -> Option<&'static str> {
    let verdict = value.as_object()?.keys().next()?;
    match &**verdict {
        "accept" | "elem" => None,
        "drop" | "reject" => Some("it is dropped, and a list has no exceptions"),
        "jump" | "goto" => Some("it goes on in another chain"),
        "return" | "continue" | "queue" => Some("it is not accepted there"),
        _ => None,
    }
}

/// The source of an element, if its other parts mean port 111, and say nothing else.
fn source<'a>(element: &'a Value, parts: &[Part]) -> Result<&'a Value, String> {
    let values = match element["concat"].as_array() {
        Some(values) => values.iter().collect(),
        None => vec![element],
    };
    if values.len() != parts.len() {
        return Err("it has other parts than its type".to_owned());
    }
    let mut source = None;
    for (value, part) in values.into_iter().zip(parts) {
        match part {
            Part::Source => source = Some(value),
            Part::Port if !has_port_111(value) => {
                return Err(format!("it is for port {}, not for 111", text(value)));
            }
            Part::Protocol if !is_tcp_or_udp(value) => {
                return Err(format!("it is for {}, not for TCP or UDP", text(value)));
            }
            Part::Port | Part::Protocol => {}
            Part::Other(what) => return Err(format!("only together with something else ({what})")),
        }
    }
    source.ok_or_else(|| "it has no address".to_owned())
}

/// Whom an address, a prefix or a range stands for.
fn addresses(value: &Value) -> Vec<Client> {
    let prefix = &value["prefix"];
    let prefix = prefix["addr"]
        .as_str()
        .zip(prefix["len"].as_u64())
        .and_then(|(address, length)| IpNet::new(address.parse().ok()?, u8::try_from(length).ok()?).ok());
    let ends =
        value["range"].as_array().and_then(|ends| Some((ends.first()?.as_str()?, ends.get(1)?.as_str()?)));
    let why = "it is neither an address, a prefix nor a range";
    match (value.as_str(), prefix, ends) {
        (Some("*"), ..) => vec![Client::Everyone],
        (Some(text), ..) => vec![match (text.parse::<IpAddr>(), text.parse::<IpNet>()) {
            (Ok(address), _) => Client::Network(address.into()),
            (_, Ok(prefix)) => network(prefix),
            _ => Client::Unclear(why.into()),
        }],
        (_, Some(prefix), _) => vec![network(prefix)],
        (_, _, Some((first, last))) => match range(first, last) {
            Some(prefixes) => prefixes.into_iter().map(network).collect(),
            None => vec![Client::Unclear(why.into())],
        },
        _ => vec![Client::Unclear(why.into())],
    }
}

/// Whether a port, a range or a set of ports has port 111.
pub(super) fn has_port_111(value: &Value) -> bool {
    let number = |value: &Value| if value == "sunrpc" { Some(PORT) } else { value.as_u64() };
    match value {
        Value::Object(object) => match (object.get("range"), object.get("set"), object.get("elem")) {
            (Some(range), ..) => number(&range[0])
                .zip(number(&range[1]))
                .is_some_and(|(first, last)| (first..=last).contains(&PORT)),
            (_, Some(set), _) => set.as_array().into_iter().flatten().any(has_port_111),
            (.., Some(element)) => has_port_111(&element["val"]),
            _ => false,
        },
        value => number(value) == Some(PORT),
    }
}

/// Whether a protocol, or one of a set, is TCP or UDP.
pub(super) fn is_tcp_or_udp(value: &Value) -> bool {
    match value["set"].as_array() {
        Some(set) => set.iter().any(is_tcp_or_udp),
        None => matches!(value.as_str(), Some("tcp" | "udp")) || matches!(value.as_u64(), Some(6 | 17)),
    }
}

/// A value as nft writes it, as far as that is short.
pub(super) fn text(value: &Value) -> String {
    let list = |values: &Value, separator: &str| {
        let values = values.as_array().into_iter().flatten();
        values.map(text).collect::<Vec<_>>().join(separator)
    };
    match value {
        Value::String(text) => text.clone(),
        Value::Array(_) => list(value, " : "),
        Value::Object(object) => match object.iter().next() {
            Some((key, prefix)) if key == "prefix" => format!("{}/{}", text(&prefix["addr"]), prefix["len"]),
            Some((key, range)) if key == "range" => list(range, "-"),
            Some((key, parts)) if key == "concat" => list(parts, " . "),
            Some((key, set)) if key == "set" => format!("{{{}}}", list(set, ", ")),
            Some((key, element)) if key == "elem" => text(&element["val"]),
            _ => value.to_string(),
        },
        value => value.to_string(),
    }
}
