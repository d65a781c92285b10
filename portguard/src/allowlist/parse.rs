//! Turns the YAML of an allowlist into its entries.
//!
//! The reader handles the events of the YAML parser one by one. It builds only the entries, so that a list of two
//! million entries is possible. It sees texts in their written form, before YAML turns `10.0` into a number. It
//! continues after a problem, and reports all problems. Aliases are events, too: the reader refuses them, so no alias
//! is ever expanded.

mod entry;
mod values;

use ipnet::IpNet;
use portguard_common::calls::UdpCalls;
use serde_yaml::granit_parser::Event;

use self::entry::EntryKey;
use super::diagnostic::{Diagnostic, Diagnostics, Severity};
use super::nodes::{Node, Nodes, Result, Unreadable};
use super::text::{Source, Span, cut};
use super::{Entry, MAX_PREFIXES_PER_FAMILY, prefix};
use crate::family::Family;
use crate::printable::printable;

/// The most bytes of a key or alias that a message repeats.
const MAX_TEXT: usize = 64;

/// The keys of the top level.
const TOP_KEYS: &[&str] = &["allow", "udp"];

/// What a file says.
#[derive(Debug, Default)]
pub(super) struct Content {
    /// The entries.
    pub(super) entries: Vec<Entry>,
    /// The calls that they permit over UDP.
    pub(super) udp_calls: UdpCalls,
}

/// Reads the content of `source`. All problems go to `errors` and `warnings`.
pub(super) fn parse(source: &Source<'_>, errors: &mut Diagnostics, warnings: &mut Diagnostics) -> Content {
    let nodes = Nodes::of(source, errors);
    let content = Content::default();
    let mut reader = Reader { source, nodes, warnings, content, v4: Tally::default(), v6: Tally::default() };
    // After a syntax error, the rest has no meaning. The error itself was reported.
    let _ = reader.stream();
    reader.report_limits();
    reader.content
}

/// The number of prefixes of a family, and its limit.
#[derive(Default)]
struct Tally {
    prefixes: usize,
    /// The first prefix over the limit.
    excess: Option<Span>,
}

struct Reader<'s, 'd> {
    source: &'d Source<'s>,
    nodes: Nodes<'s, 'd>,
    warnings: &'d mut Diagnostics,
    content: Content,
    v4: Tally,
    v6: Tally,
}

impl<'s> Reader<'s, '_> {
    /// The whole file: one document.
    fn stream(&mut self) -> Result {
        let mut documents = 0_usize;
        loop {
            let (event, span) = self.nodes.event()?;
            match event {
                Event::DocumentStart(..) => {
                    documents += 1;
                    if documents > 1 {
                        let help = "one file is one list: put all prefixes under one `allow:`";
                        self.nodes.error(span, "a second YAML document begins here", help);
                        return Err(Unreadable);
                    }
                    self.document()?;
                }
                Event::StreamEnd if documents == 0 => {
                    self.no_list(span);
                    return Ok(());
                }
                Event::StreamEnd => return Ok(()),
                _ => {}
            }
        }
    }

    fn no_list(&mut self, span: Span) {
        self.nodes.error(
            span,
            "there is no list in the file",
            "write `allow:`, and the prefixes of your clients below it (`portguard suggest` proposes a list), or \
             `allow: []` to allow nobody",
        );
    }

    fn document(&mut self) -> Result {
        let (node, span) = self.nodes.node()?;
        match node {
            Node::Null => self.no_list(span),
            Node::Mapping => return self.top(span),
            Node::Alias(name) => self.alias(name, span),
            Node::Text(_) | Node::List => {
                self.nodes.error(
                    span,
                    "the file does not begin with `allow:`",
                    "write `allow:`, and the prefixes below it",
                );
                self.nodes.skip(&node)?;
            }
        }
        Ok(())
    }

    fn top(&mut self, start: Span) -> Result {
        let (mut allow, mut udp): (Option<Span>, Option<Span>) = (None, None);
        let mut unknown = false;
        while let Some((key, span)) = self.nodes.key()? {
            match (key.as_deref(), allow, udp) {
                (Some("allow"), None, _) => {
                    allow = Some(span);
                    self.allow(span)?;
                }
                (Some("udp"), _, None) => {
                    udp = Some(span);
                    let calls = self.udp(span)?;
                    self.content.udp_calls = calls.unwrap_or_default();
                }
                (Some(key @ "allow"), Some(first), _) | (Some(key @ "udp"), _, Some(first)) => {
                    self.repeated_key(key, span, first)?;
                }
                (key, ..) => {
                    unknown = true;
                    self.unknown_key(key, span, TOP_KEYS)?;
                }
            }
        }
        // The list is probably the value of the unknown key, which was reported.
        if allow.is_none() && !unknown {
            self.nodes.error(start, "`allow` is missing", "write `allow:`, and the prefixes below it");
        }
        Ok(())
    }

    /// The value of `allow`, whose key is at `key`.
    fn allow(&mut self, key: Span) -> Result {
        let (node, span) = self.nodes.node()?;
        match &node {
            Node::List => {}
            Node::Alias(name) => {
                self.alias(name, span);
                return Ok(());
            }
            Node::Null => {
                let help = "write `allow: []` to allow nobody, or the prefixes below it, each after `- `";
                self.nodes.error(key, "`allow` has no value", help);
                return Ok(());
            }
            Node::Text(text) if text.starts_with('-') => {
                self.nodes.error(span, "`allow` is not a list", "a `-` needs a blank after it");
                return Ok(());
            }
            Node::Text(_) | Node::Mapping => {
                self.nodes.error(
                    span,
                    "`allow` is not a list",
                    "write each prefix on a line of its own, after `- `",
                );
                return self.nodes.skip(&node);
            }
        }
        let mut empty = true;
        while let Some((node, span)) = self.nodes.item()? {
            empty = false;
            self.entry(node, span)?;
        }
        if empty {
            self.warnings.push(Diagnostic {
                severity: Severity::Warning,
                message: "the list is empty: it allows nobody".to_owned(),
                help: Some("write the networks of your clients below `allow:`, each after `- `".to_owned()),
                place: Some(self.source.place(key)),
            });
        }
        Ok(())
    }

    fn entry(&mut self, node: Node<'s>, span: Span) -> Result {
        match node {
            Node::Text(text) => {
                if let Some(prefix) = self.prefix(&text, span) {
                    self.push(Entry { prefix, comment: None, conditions: None, span });
                }
            }
            Node::Mapping => return self.long_entry(span),
            Node::Null => {
                self.nodes.error(span, "the entry is empty", "write a prefix after `- `, or remove the line");
            }
            Node::List => {
                self.nodes.error(
                    span,
                    "the entry is a list",
                    "an entry is one prefix, without brackets around it",
                );
                return self.nodes.skip(&node);
            }
            Node::Alias(name) => self.alias(name, span),
        }
        Ok(())
    }

    fn prefix(&mut self, text: &str, span: Span) -> Option<IpNet> {
        let fault = match prefix::parse(text) {
            Ok(prefix) => return Some(prefix),
            Err(fault) => fault,
        };
        match self.nodes.continuation(span) {
            // Not the prefix is wrong, but the line below it.
            Some((below, line)) => {
                let key = line.split(':').next().and_then(EntryKey::from_key);
                let help = match key {
                    _ if line.starts_with('-') => "indent it like the entry above".to_owned(),
                    Some(key) => {
                        format!(
                            "begin the entry with `- prefix:`, and write `{}:` below `prefix:`",
                            key.key()
                        )
                    }
                    None => "write it after `- `, indented like the entry above".to_owned(),
                };
                self.nodes.error(
                    below,
                    "this line is indented further than the entry above, so it is a part of that entry",
                    help,
                );
            }
            None => self.nodes.error(span, fault.message, fault.help),
        }
        None
    }

    fn push(&mut self, entry: Entry) {
        let family = match entry.prefix {
            IpNet::V4(_) => &mut self.v4,
            IpNet::V6(_) => &mut self.v6,
        };
        family.prefixes += 1;
        if family.prefixes <= MAX_PREFIXES_PER_FAMILY {
            self.content.entries.push(entry);
        } else {
            family.excess.get_or_insert(entry.span);
        }
    }

    fn report_limits(&mut self) {
        for (name, Tally { prefixes, excess }) in [
            (Family::V4.name(), std::mem::take(&mut self.v4)),
            (Family::V6.name(), std::mem::take(&mut self.v6)),
        ] {
            if let Some(span) = excess {
                self.nodes.error(
                    span,
                    format!(
                        "the list has {prefixes} {name} prefixes, and the limit is {MAX_PREFIXES_PER_FAMILY}"
                    ),
                    "this is the first one over the limit: replace neighbouring prefixes by larger ones",
                );
            }
        }
    }

    /// Reports a key that occurs again, and skips its value.
    fn repeated_key(&mut self, key: &str, span: Span, first: Span) -> Result {
        let help = format!("it is on line {} already: remove one of them, or join them", first.line);
        self.nodes.error(span, format!("the key `{key}` appears twice"), help);
        self.nodes.skip_value()
    }

    /// Reports an unknown key, and skips its value.
    fn unknown_key(&mut self, key: Option<&str>, span: Span, known: &[&str]) -> Result {
        let Some(key) = key else {
            self.nodes.error(span, "the key is not text", permitted(known));
            return self.nodes.skip_value();
        };
        let shown = printable(&cut(key, MAX_TEXT));
        if prefix::parse(&format!("{key}:")).is_ok() {
            let help = format!("write it in quotes: \"{shown}:\"");
            self.nodes.error(
                span,
                format!("YAML reads {shown}: as a key, because it ends with a colon"),
                help,
            );
        } else if prefix::parse(key).is_ok() {
            let help = format!("write `- {shown}`, or `- prefix: {shown}` and `comment:` on the next line");
            self.nodes.error(span, format!("the prefix {shown} is written as a key"), help);
        } else {
            let help = match closest(key, known) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => permitted(known),
            };
            self.nodes.error(span, format!("unknown key `{shown}`"), help);
        }
        self.nodes.skip_value()
    }

    fn alias(&mut self, alias: &str, span: Span) {
        let shown = printable(&cut(alias, MAX_TEXT));
        self.nodes.error(
            span,
            format!("the alias {shown} is not followed"),
            "write its value instead: a list that could refer to itself could expand without end",
        );
    }
}

fn permitted(keys: &[&str]) -> String {
    format!("the keys that are valid here: `{}`", keys.join("`, `"))
}

/// The known key that the user probably intended.
fn closest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    let distance = |known: &str| strsim::damerau_levenshtein(&cut(key, MAX_TEXT).to_lowercase(), known);
    known
        .iter()
        .copied()
        .filter(|known| distance(known) <= 1 + known.len() / 4)
        .min_by_key(|known| distance(known))
}
