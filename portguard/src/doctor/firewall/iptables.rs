//! The rules of iptables, as `iptables-save` prints them (iptables-extensions(8)). Pure.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, ipv4_mask_to_prefix};

use super::ipset::Sets;
use super::rules::{Action, Atom, Base, Chain, Changes, Condition, Rule, Rules, Scope, Subject, Table};

/// Reads the tables; `None`: it is no such text.
pub(super) fn parse(text: &str, ipv6: bool, sets: &Sets) -> Option<Rules> {
    let program = if ipv6 { "ip6tables" } else { "iptables" };
    let mut rules = Rules::default();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('*') {
            rules.tables.push(Table { name: format!("{program} table {name}"), ..Table::default() });
            continue;
        }
        if line == "COMMIT" {
            continue;
        }
        let table = rules.tables.last_mut()?;
        if let Some(chain) = line.strip_prefix(':') {
            let mut words = chain.split_whitespace();
            let (name, policy) = (words.next()?, words.next()?);
            let enters = matches!(name, "PREROUTING" | "INPUT");
            let base =
                enters.then(|| Base { scope: Scope::Ip { ipv6: Some(ipv6) }, drops: policy == "DROP" });
            table.chains.insert(name.to_owned(), Chain { base, rules: Vec::new() });
            continue;
        }
        // Counters may stand in front.
        let line =
            line.strip_prefix('[').and_then(|rest| rest.split_once(']')).map_or(line, |(_, rest)| rest);
        let words = words(line);
        let mut words = words.iter().map(String::as_str);
        if words.next() != Some("-A") {
            return None;
        }
        let chain = words.next()?.to_owned();
        let rule = rule(&words.collect::<Vec<_>>(), sets);
        table.chains.entry(chain).or_default().rules.push(rule);
    }
    Some(rules)
}

/// The words of a line; some are in double quotes, in which a backslash stands before what would end them.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), None::<String>, false);
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' if quoted => word.get_or_insert_default().extend(characters.next()),
            ' ' | '\t' if !quoted => words.extend(word.take()),
            character => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    words
}

/// A rule, from the words behind the name of its chain.
fn rule(words: &[&str], sets: &Sets) -> Rule {
    let mut rule = Rule::default();
    let mut words = words.iter().copied().peekable();
    let mut negated = false;
    while let Some(word) = words.next() {
        if word == "!" {
            negated = true;
            continue;
        }
        let mut value = || words.next().unwrap_or_default();
        let condition = match word {
            // A module alone is no condition; but for one: its own option only turns it around.
            "-m" | "--match" => match value() {
                "rpfilter" => {
                    Some(Condition { negated, ..Condition::is(Subject::ReversePath, text("exists")) })
                }
                // These have conditions in their options only.
                "tcp" | "udp" | "multiport" | "conntrack" | "state" | "addrtype" | "comment" | "mark"
                | "connmark" | "iprange" | "pkttype" | "mac" | "icmp" | "icmp6" | "set" => None,
                _ => Some(Condition::unknown()),
            },
            "--comment" => {
                value();
                None
            }
            "-j" | "--jump" => {
                (rule.action, rule.changes) = target(value());
                // What follows is for the target.
                rule.changes.untracks |= words.by_ref().any(|word| word == "--notrack");
                words.by_ref().for_each(drop);
                None
            }
            "-g" | "--goto" => {
                rule.action = Action::Goto(value().to_owned());
                None
            }
            "--invert" => {
                if let Some(last) = rule.conditions.last_mut() {
                    last.negated = !last.negated;
                }
                None
            }
            "--match-set" => {
                let (name, dimensions) = (value(), words.next().unwrap_or_default());
                rule.conditions.extend(of_set(sets.get(name), dimensions, negated));
                None
            }
            "--loose" | "--validmark" | "--accept-local" => None,
            "-f" | "--fragment" => Some(Condition { negated, ..Condition::is(Subject::Absent, text("")) }),
            "--syn" => Some(Condition::constant(!negated)),
            "--tcp-flags" => {
                let (mask, wanted) = (value(), words.next().unwrap_or_default());
                let has_syn = |flags: &str| flags == "ALL" || flags.split(',').any(|flag| flag == "SYN");
                let only_syn = wanted == "SYN" || (wanted == "NONE" && !has_syn(mask));
                Some(Condition::constant((only_syn && (wanted == "NONE" || has_syn(mask))) != negated))
            }
            option => condition(option, &mut value).map(|condition| Condition { negated, ..condition }),
        };
        rule.conditions.extend(condition);
        negated = false;
    }
    rule
}

fn text(text: &str) -> Atom {
    Atom::Text(text.to_owned())
}

/// The condition that an option makes.
fn condition<'a>(option: &str, value: &mut impl FnMut() -> &'a str) -> Option<Condition> {
    let several = |subject: Subject, list: &str, atom: &dyn Fn(&str) -> Atom| Condition {
        subjects: vec![subject],
        elements: list.split(',').map(|it| vec![atom(it)]).collect(),
        negated: false,
    };
    let lower = |it: &str| Atom::Text(it.to_ascii_lowercase());
    Some(match option {
        "-s" | "--source" => several(Subject::Source, value(), &prefix),
        "-d" | "--destination" => several(Subject::Destination, value(), &prefix),
        "--src-range" => Condition::is(Subject::Source, range(value())),
        "--dst-range" => Condition::is(Subject::Destination, range(value())),
        "-i" | "--in-interface" => Condition::is(Subject::Interface, text(value())),
        "-p" | "--protocol" => match value() {
            "all" | "0" => return None,
            name => Condition::is(Subject::Protocol, name.parse().map_or_else(|_| lower(name), Atom::Number)),
        },
        "--dport" | "--destination-port" | "--dports" | "--destination-ports" => {
            several(Subject::Port, value(), &port)
        }
        // The port of the source, too.
        "--ports" => {
            let mut condition = several(Subject::Port, value(), &port);
            condition.elements.push(vec![Atom::Unknown]);
            condition
        }
        // `DNAT` and `SNAT` say how an address was translated: a new connection has none of these states.
        "--state" | "--ctstate" => several(Subject::ConnectionState, value(), &lower),
        "--ctstatus" => several(Subject::ConnectionStatus, value(), &lower),
        "--dst-type" => several(Subject::DestinationType, value(), &lower),
        "--pkt-type" => Condition::is(Subject::PacketType, lower(value())),
        "--mark" => {
            let number = value().split('/').next().and_then(number).map_or(Atom::Unknown, Atom::Number);
            Condition::is(Subject::Mark, number)
        }
        "--icmp-type" | "--icmpv6-type" | "--mac-source" => {
            value();
            Condition::is(Subject::Absent, text(""))
        }
        // Another option of a module, or the value of one.
        _ => Condition::unknown(),
    })
}

fn target(name: &str) -> (Action, Changes) {
    let changes = Changes { marks: matches!(name, "MARK" | "CONNMARK"), untracks: name == "NOTRACK" };
    let action = match name {
        "ACCEPT" => Action::Accept,
        "DROP" | "REJECT" => Action::Drop,
        "RETURN" => Action::Return,
        "DNAT" | "REDIRECT" | "NETMAP" | "TPROXY" => {
            Action::Other("sends packets to another port or host".to_owned())
        }
        "MARK" | "CONNMARK" | "NOTRACK" | "LOG" | "NFLOG" | "ULOG" | "CT" | "TRACE" | "AUDIT" | "SET"
        | "CLASSIFY" | "CONNSECMARK" | "SECMARK" | "TCPMSS" | "CHECKSUM" | "SNAT" | "MASQUERADE" => {
            Action::None
        }
        "QUEUE" | "NFQUEUE" | "SYNPROXY" | "TARPIT" | "TTL" | "HL" | "DSCP" | "TEE" | "IDLETIMER"
        | "RATEEST" => Action::Other(format!("does something that portguard does not understand ({name})")),
        chain => Action::Jump(chain.to_owned()),
    };
    (action, changes)
}

/// Whether the source is in a set; of the other parts of its elements nothing is known.
fn of_set(set: Option<&Vec<Atom>>, dimensions: &str, negated: bool) -> Vec<Condition> {
    let mut dimensions = dimensions.split(',');
    match (set, dimensions.next(), dimensions.next()) {
        (Some(set), Some("src"), more) if more.is_none() || !negated => {
            let elements = set.iter().map(|atom| vec![atom.clone()]).collect();
            let source = Condition { subjects: vec![Subject::Source], elements, negated };
            [source].into_iter().chain(more.map(|_| Condition::unknown())).collect()
        }
        _ => vec![Condition::unknown()],
    }
}

/// `10.0.0.0/8`, with a length or a mask, or one address.
fn prefix(text: &str) -> Atom {
    let parse = || match text.split_once('/') {
        None => text.parse::<IpAddr>().ok().map(IpNet::from),
        Some((address, mask)) => match mask.parse() {
            Ok(mask) => {
                Ipv4Net::new(address.parse().ok()?, ipv4_mask_to_prefix(mask).ok()?).ok().map(IpNet::V4)
            }
            Err(_) => text.parse().ok(),
        },
    };
    parse().map_or(Atom::Unknown, Atom::Prefix)
}

fn range(text: &str) -> Atom {
    let parse = || {
        let (low, high) = text.split_once('-')?;
        Some(Atom::Addresses(low.parse().ok()?, high.parse().ok()?))
    };
    parse().unwrap_or(Atom::Unknown)
}

fn port(text: &str) -> Atom {
    let number = |text: &str| text.parse::<u64>().ok();
    match text.split_once(':') {
        Some((low, high)) => match (number(low), number(high)) {
            (Some(low), Some(high)) => Atom::Range(low, high),
            _ => Atom::Unknown,
        },
        None => number(text).map_or_else(|| Atom::Text(text.to_owned()), Atom::Number),
    }
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}
