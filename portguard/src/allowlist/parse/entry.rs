//! The entries in the long form: with keys.

use ipnet::IpNet;
use portguard_common::listed;

use super::Reader;
use crate::allowlist::nodes::{Node, Result};
use crate::allowlist::text::Span;
use crate::allowlist::{Conditions, Entry};

listed! {
    /// The keys of an entry.
    #[derive(PartialOrd, Ord)]
    pub enum EntryKey {
        /// The prefix.
        Prefix = "prefix",
        /// Its comment.
        Comment = "comment",
        /// The interfaces that it is for.
        Interfaces = "interfaces",
        /// When it ends to allow.
        Until = "until",
        /// The calls that it permits over UDP.
        Udp = "udp",
        /// How many packets over UDP it lets pass in a second.
        Rate = "rate",
    }
}

impl Reader<'_, '_> {
    /// An entry with keys; it begins at `start`.
    pub(super) fn long_entry(&mut self, start: Span) -> Result {
        let mut first = [None; EntryKey::ALL.len()];
        let mut prefix: Option<(Option<IpNet>, Span)> = None;
        let mut comment = None;
        let mut conditions = Conditions::default();
        let mut unknown = false;
        while let Some((text, span)) = self.nodes.key()? {
            let Some(key) = text.as_deref().and_then(EntryKey::from_key) else {
                unknown = true;
                self.unknown_key(text.as_deref(), span, &EntryKey::ALL.map(EntryKey::key))?;
                continue;
            };
            if let Some(first) = first[key as usize] {
                self.repeated_key(key.key(), span, first)?;
                continue;
            }
            first[key as usize] = Some(span);
            match key {
                EntryKey::Prefix => prefix = Some(self.prefix_value(span)?),
                EntryKey::Comment => comment = self.comment_value()?,
                EntryKey::Interfaces => conditions.interfaces = self.interfaces(span)?,
                EntryKey::Until => conditions.until = self.until(span)?,
                EntryKey::Udp => conditions.udp = self.udp(span)?,
                EntryKey::Rate => conditions.rate = self.rate(span)?,
            }
        }
        match prefix {
            Some((Some(prefix), span)) => {
                let conditions = (!conditions.is_empty()).then(|| conditions.into());
                self.push(Entry { prefix, comment, conditions, span });
            }
            // The prefix is not valid, or it is probably the value of the unknown key. Both were reported.
            Some((None, _)) => {}
            None if unknown => {}
            None => self.nodes.error(
                start,
                "the entry has no `prefix`",
                "write `prefix:` and a prefix, like 192.0.2.0/24",
            ),
        }
        Ok(())
    }

    /// The value of `prefix`, whose key is at `key`.
    fn prefix_value(&mut self, key: Span) -> Result<(Option<IpNet>, Span)> {
        let (node, span) = self.nodes.node()?;
        match node {
            Node::Text(text) => Ok((self.prefix(&text, span), span)),
            Node::Null => {
                self.nodes.error(key, "`prefix` has no value", "write a prefix after it, like 192.0.2.0/24");
                Ok((None, key))
            }
            Node::Alias(name) => {
                self.alias(name, span);
                Ok((None, span))
            }
            Node::List | Node::Mapping => {
                self.nodes.error(
                    span,
                    "`prefix` is not text",
                    "write one prefix, like 192.0.2.0/24; further ones are entries of their own",
                );
                self.nodes.skip(&node)?;
                Ok((None, span))
            }
        }
    }

    fn comment_value(&mut self) -> Result<Option<Box<str>>> {
        let (node, span) = self.nodes.node()?;
        match node {
            Node::Text(text) => return Ok(Some(text.into_owned().into())),
            Node::Null => {}
            Node::Alias(name) => self.alias(name, span),
            Node::List | Node::Mapping => {
                self.nodes.error(
                    span,
                    "`comment` is not text",
                    "write it in quotes if it has brackets, braces or colons in it",
                );
                self.nodes.skip(&node)?;
            }
        }
        Ok(None)
    }
}
