//! The rules of nftables, as `nft -j list ruleset` prints them (libnftables-json(5)). Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

use super::rules::{Action, Atom, Base, Condition, Rule, Rules, Scope, Subject, Table};

/// The devices of chains of the hook `ingress`, by family, table and chain: older versions of nft leave them out of the JSON.
pub(super) type Devices = BTreeMap<[String; 3], Vec<String>>;

/// The elements of sets and maps, by family, table and name.
type Sets<'a> = BTreeMap<[&'a str; 3], &'a [Value]>;

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub rules: Rules,
    /// The tables that have expressions of iptables, which `nft` does not show: `ip filter`.
    pub of_iptables: Vec<String>,
}

/// Reads a rule set; `None`: it is no such document.
pub(super) fn parse(text: &str, devices: &Devices) -> Option<Read> {
    let document: Value = serde_json::from_str(text).ok()?;
    let objects = document.get("nftables")?.as_array()?;
    let mut sets = Sets::new();
    for set in objects.iter().filter_map(|object| object.get("set").or_else(|| object.get("map"))) {
        let elements = set.get("elem").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        sets.insert([text_of(set, "family")?, text_of(set, "table")?, text_of(set, "name")?], elements);
    }
    let mut tables = BTreeMap::<[&str; 2], Table>::new();
    let mut of_iptables = Vec::new();
    for object in objects {
        if let Some(chain) = object.get("chain") {
            let place = place(chain)?;
            let base = base(chain, place[0], devices);
            table(&mut tables, place).chains.entry(text_of(chain, "name")?.to_owned()).or_default().base =
                base;
        }
        if let Some(rule) = object.get("rule") {
            let place = place(rule)?;
            let expressions = rule.get("expr")?.as_array()?;
            let table = table(&mut tables, place);
            let mut reader = Reader { sets: &sets, place, opaque: false };
            let read = reader.rule(expressions);
            let name = place.join(" ");
            if reader.opaque && !of_iptables.contains(&name) {
                of_iptables.push(name);
            }
            table.chains.entry(text_of(rule, "chain")?.to_owned()).or_default().rules.push(read);
        }
    }
    Some(Read { rules: Rules { tables: tables.into_values().collect() }, of_iptables })
}

/// Whether a rule set has chains whose devices are not told.
pub(super) fn lacks_devices(text: &str) -> bool {
    text.contains("\"hook\": \"ingress\"")
}

/// The devices of chains, as `nft list chains` prints them.
pub(super) fn devices(text: &str) -> Devices {
    let (mut devices, mut table, mut chain) = (Devices::new(), [String::new(), String::new()], String::new());
    for line in text.lines() {
        let words: Vec<&str> =
            line.split([' ', '\t', '"', ',', '=']).filter(|word| !word.is_empty()).collect();
        match &words[..] {
            ["table", family, name, ..] => table = [(*family).to_owned(), (*name).to_owned()],
            ["chain", name, ..] => chain = (*name).to_owned(),
            ["type", _, "hook", "ingress", "device", name, ..] => {
                let [family, name_of_table] = table.clone();
                devices.insert([family, name_of_table, chain.clone()], vec![(*name).to_owned()]);
            }
            ["type", _, "hook", "ingress", "devices", "{", names @ ..] => {
                let names = names.iter().take_while(|name| **name != "}").map(|name| (*name).to_owned());
                let [family, name_of_table] = table.clone();
                devices.insert([family, name_of_table, chain.clone()], names.collect());
            }
            _ => {}
        }
    }
    devices
}

fn text_of<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.get(key)?.as_str()
}

fn place(object: &Value) -> Option<[&str; 2]> {
    Some([text_of(object, "family")?, text_of(object, "table")?])
}

fn table<'t, 'a>(tables: &'t mut BTreeMap<[&'a str; 2], Table>, place: [&'a str; 2]) -> &'t mut Table {
    let name = || format!("nft table {}", place.join(" "));
    tables.entry(place).or_insert_with(|| Table { name: name(), ..Table::default() })
}

fn base(chain: &Value, family: &str, devices: &Devices) -> Option<Base> {
    let hook = text_of(chain, "hook")?;
    let scope = match (family, hook) {
        (_, "ingress") => Scope::Devices(match chain.get("dev") {
            Some(Value::String(device)) => Some(vec![device.clone()]),
            Some(Value::Array(all)) => all.iter().map(|it| it.as_str().map(str::to_owned)).collect(),
            _ => {
                let key =
                    ["family", "table", "name"].map(|key| text_of(chain, key).unwrap_or_default().to_owned());
                devices.get(&key).cloned()
            }
        }),
        ("ip", "prerouting" | "input") => Scope::Ip { ipv6: Some(false) },
        ("ip6", "prerouting" | "input") => Scope::Ip { ipv6: Some(true) },
        ("inet", "prerouting" | "input") => Scope::Ip { ipv6: None },
        ("bridge", "prerouting" | "input") => Scope::Bridge,
        _ => return None,
    };
    Some(Base { scope, drops: text_of(chain, "policy") == Some("drop") })
}

struct Reader<'a> {
    sets: &'a Sets<'a>,
    place: [&'a str; 2],
    opaque: bool,
}

impl Reader<'_> {
    fn rule(&mut self, expressions: &[Value]) -> Rule {
        let mut rule = Rule::default();
        for expression in expressions {
            let Some((name, body)) = expression.as_object().and_then(|object| object.iter().next()) else {
                rule.conditions.push(Condition::unknown());
                continue;
            };
            match &**name {
                "match" => rule.conditions.extend(self.condition(body)),
                "vmap" => rule.action = self.map(body, &mut rule.conditions),
                "counter" | "log" | "dup" | "set" | "map" | "ct helper" | "ct timeout" | "ct expectation"
                | "secmark" | "flow" | "meter" => {}
                "mangle" => {
                    let key = body.get("key");
                    rule.changes.marks |=
                        key.is_none_or(|key| key.get("meta").is_some() || key.get("ct").is_some());
                    if key.is_some_and(|key| key.get("payload").is_some()) {
                        rule.action = Action::Other("changes packets".to_owned());
                    }
                }
                "notrack" => rule.changes.untracks = true,
                "xt" => self.opaque = true,
                // Rates and quotas: sometimes they hold.
                "limit" | "quota" | "ct count" | "last" => rule.conditions.push(Condition::unknown()),
                other => rule.action = action(other, body),
            }
            if self.opaque && name == "xt" {
                rule.conditions.push(Condition::unknown());
                if text_of(body, "type") != Some("match") {
                    rule.action = Action::Other("is a rule of iptables".to_owned());
                }
            }
        }
        rule
    }

    fn map(&self, body: &Value, conditions: &mut Vec<Condition>) -> Action {
        let unclear = || Action::Other("has a map that portguard does not understand".to_owned());
        let (Some(key), Some(data)) = (body.get("key"), body.get("data")) else { return unclear() };
        let subjects = subjects(key, conditions);
        let Some(pairs) = self.elements(data) else { return unclear() };
        let element = |pair: &Value| {
            let [key, verdict] = pair.as_array()?.get(..2)? else { return None };
            let (name, body) = verdict.as_object()?.iter().next()?;
            Some((atoms(&subjects, key), action(name, body)))
        };
        match pairs.iter().map(element).collect::<Option<Vec<_>>>() {
            Some(elements) => Action::Map { subjects, elements },
            None => unclear(),
        }
    }

    fn elements<'v>(&'v self, value: &'v Value) -> Option<&'v [Value]> {
        if let Some(name) = value.as_str().and_then(|text| text.strip_prefix('@')) {
            return self.sets.get(&[self.place[0], self.place[1], name]).copied();
        }
        value.get("set").unwrap_or(value).as_array().map(Vec::as_slice)
    }

    fn condition(&self, body: &Value) -> Vec<Condition> {
        let mut conditions = Vec::new();
        let (Some(left), Some(right)) = (body.get("left"), body.get("right")) else {
            return vec![Condition::unknown()];
        };
        let subjects = subjects(left, &mut conditions);
        let operator = text_of(body, "op").unwrap_or("==");
        let elements = match operator {
            "==" | "in" | "!=" => {
                let elements = self.elements(right).map_or_else(|| vec![right.clone()], <[Value]>::to_vec);
                elements.iter().map(|element| atoms(&subjects, element)).collect()
            }
            _ => vec![vec![comparison(operator, right)]],
        };
        let condition = Condition { subjects, elements, negated: false };
        conditions.push(flags(left, right).map_or(condition, Condition::constant));
        if let Some(last) = conditions.last_mut() {
            last.negated = operator == "!=";
        }
        conditions
    }
}

fn action(name: &str, body: &Value) -> Action {
    let target = || text_of(body, "target").unwrap_or_default().to_owned();
    match name {
        "accept" => Action::Accept,
        "drop" | "reject" => Action::Drop,
        "return" => Action::Return,
        "continue" | "masquerade" | "snat" => Action::None,
        "jump" => Action::Jump(target()),
        "goto" => Action::Goto(target()),
        "dnat" | "redirect" => Action::Other("sends packets to another port or host".to_owned()),
        other => Action::Other(format!("does something that portguard does not understand ({other})")),
    }
}

/// What an expression is about; a header that it is in must be there, which is a condition of its own.
fn subjects(expression: &Value, conditions: &mut Vec<Condition>) -> Vec<Subject> {
    if let Some(parts) = expression.get("concat").and_then(Value::as_array) {
        return parts.iter().flat_map(|part| subjects(part, conditions)).collect();
    }
    let masked = expression.get("&").and_then(|parts| parts.get(0));
    if let Some(masked) = masked {
        // Of nothing, any mask leaves nothing.
        let subject = subjects(masked, conditions);
        return if subject == [Subject::Mark] { subject } else { vec![Subject::Unknown] };
    }
    let Some((kind, body)) = expression.as_object().and_then(|object| object.iter().next()) else {
        return vec![Subject::Unknown];
    };
    let key = text_of(body, "key").unwrap_or_default();
    vec![match (&**kind, key) {
        ("payload", _) => payload(body, conditions),
        ("meta", "iifname" | "iif") => Subject::Interface,
        ("meta", "nfproto" | "protocol") => Subject::Family,
        ("meta", "l4proto") => Subject::Protocol,
        ("meta" | "ct", "mark") => Subject::Mark,
        ("meta", "pkttype") => Subject::PacketType,
        ("ct", "state") => Subject::ConnectionState,
        ("ct", "status") => Subject::ConnectionStatus,
        ("ct", "helper") | ("exthdr" | "ip option", _) => Subject::Absent,
        ("fib", _) => fib(body),
        _ => Subject::Unknown,
    }]
}

fn payload(body: &Value, conditions: &mut Vec<Condition>) -> Subject {
    let protocol = text_of(body, "protocol").unwrap_or_default();
    let (of, field) = match protocol {
        "ip" | "ip6" => (Subject::Family, text_of(body, "field").unwrap_or_default()),
        "ether" | "th" => (Subject::Unknown, text_of(body, "field").unwrap_or_default()),
        _ => (Subject::Protocol, text_of(body, "field").unwrap_or_default()),
    };
    if of != Subject::Unknown && !protocol.is_empty() {
        conditions.push(Condition::is(of, Atom::Text(protocol.to_owned())));
    }
    match (protocol, field) {
        ("ip" | "ip6", "saddr") => Subject::Source,
        ("ip" | "ip6", "daddr") => Subject::Destination,
        ("ip", "protocol") | ("ip6", "nexthdr") => Subject::Protocol,
        ("udp" | "tcp" | "th", "dport") => Subject::Port,
        // Who is named by its card is no stranger.
        ("ether", "saddr") => Subject::Absent,
        _ => Subject::Unknown,
    }
}

fn fib(body: &Value) -> Subject {
    let has = |wanted: &str| match body.get("flags") {
        Some(Value::Array(flags)) => flags.iter().any(|flag| flag == wanted),
        Some(flag) => flag == wanted,
        None => false,
    };
    match text_of(body, "result") {
        Some("type") if has("daddr") && !has("iif") => Subject::DestinationType,
        Some("oif" | "oifname") if has("saddr") => Subject::ReversePath,
        _ => Subject::Unknown,
    }
}

/// The flags of the first segment of a connection, `SYN`, under a mask.
fn flags(left: &Value, right: &Value) -> Option<bool> {
    let parts = left.get("&")?.as_array()?;
    let of = parts.first()?.get("payload")?;
    if text_of(of, "protocol") != Some("tcp") || text_of(of, "field") != Some("flags") {
        return None;
    }
    let mask = names(parts.get(1)?)?;
    let wanted = names(right)?;
    let seen: Vec<&str> = mask.into_iter().filter(|flag| *flag == "syn").collect();
    Some(seen == wanted)
}

/// The names of flags.
fn names(value: &Value) -> Option<Vec<&str>> {
    match value {
        Value::String(name) => Some(vec![name]),
        Value::Array(names) => names.iter().map(Value::as_str).collect(),
        Value::Object(object) => names(object.get("|")?),
        _ => None,
    }
}

fn comparison(operator: &str, right: &Value) -> Atom {
    let Some(number) = right.as_u64() else { return Atom::Unknown };
    match operator {
        "<" => number.checked_sub(1).map_or(Atom::Unknown, |high| Atom::Range(0, high)),
        "<=" => Atom::Range(0, number),
        ">" => Atom::Range(number.saturating_add(1), u64::MAX),
        ">=" => Atom::Range(number, u64::MAX),
        _ => Atom::Unknown,
    }
}

/// An element of a set, for each of the subjects.
fn atoms(subjects: &[Subject], value: &Value) -> Vec<Atom> {
    if let Some(element) = value.get("elem").and_then(|element| element.get("val")) {
        return atoms(subjects, element);
    }
    match value.get("concat").and_then(Value::as_array) {
        Some(parts) if parts.len() == subjects.len() => {
            subjects.iter().zip(parts).map(|(subject, part)| atom(*subject, part)).collect()
        }
        _ if subjects.len() == 1 => subjects.iter().map(|subject| atom(*subject, value)).collect(),
        _ => vec![Atom::Unknown; subjects.len()],
    }
}

fn atom(subject: Subject, value: &Value) -> Atom {
    let address = |value: &Value| value.as_str()?.parse::<IpAddr>().ok();
    let is_address = matches!(subject, Subject::Source | Subject::Destination);
    match value {
        Value::String(text) if text == "*" => Atom::Any,
        Value::String(_) if is_address => {
            address(value).map_or(Atom::Unknown, |address| Atom::Prefix(address.into()))
        }
        Value::String(text) => Atom::Text(text.clone()),
        Value::Number(number) => number.as_u64().map_or(Atom::Unknown, Atom::Number),
        Value::Bool(exists) => Atom::Text(if *exists { "exists" } else { "missing" }.to_owned()),
        Value::Object(object) => {
            let prefix = |body: &Value| {
                let length = u8::try_from(body.get("len")?.as_u64()?).ok()?;
                IpNet::new(address(body.get("addr")?)?, length).ok().map(Atom::Prefix)
            };
            let range = |body: &Value| match (body.get(0)?, body.get(1)?) {
                (Value::Number(low), Value::Number(high)) => Some(Atom::Range(low.as_u64()?, high.as_u64()?)),
                (low, high) => Some(Atom::Addresses(address(low)?, address(high)?)),
            };
            let prefix = object.get("prefix").and_then(prefix);
            prefix.or_else(|| object.get("range").and_then(range)).unwrap_or(Atom::Unknown)
        }
        _ => Atom::Unknown,
    }
}
