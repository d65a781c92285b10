//! The values of conditions.

use std::num::NonZeroU32;

use jiff::Timestamp;
use portguard_common::calls::UdpCalls;

use super::{MAX_TEXT, Reader};
use crate::allowlist::InterfacePattern;
use crate::allowlist::conditions::{MAX_INTERFACES, read_interface, read_rate, read_until};
use crate::allowlist::nodes::{Node, Result};
use crate::allowlist::prefix::Fault;
use crate::allowlist::text::{Span, cut};
use crate::printable::printable;

const INTERFACES: &str =
    "write names or patterns, like [eth1, bond*]; without the key, the entry is for all interfaces";

impl<'s> Reader<'s, '_> {
    /// The value of `udp`, whose key is at `key`: of the list, or of an entry.
    pub(super) fn udp(&mut self, key: Span) -> Result<Option<UdpCalls>> {
        const HELP: &str = "write `lookups` (what clients need, and nobody can misuse), `all` or `none`";
        self.text("udp", key, HELP, |text| {
            UdpCalls::from_key(text).ok_or_else(|| Fault {
                message: format!("`{}` is no kind of UDP calls", printable(&cut(text, MAX_TEXT))),
                help: HELP.to_owned(),
            })
        })
    }

    /// The value of `until`, whose key is at `key`.
    pub(super) fn until(&mut self, key: Span) -> Result<Option<Timestamp>> {
        let help =
            "write a time, like 2026-12-01T18:00:00Z, or a day; without the key, the entry does not end";
        self.text("until", key, help, read_until)
    }

    /// The value of `rate`, whose key is at `key`.
    pub(super) fn rate(&mut self, key: Span) -> Result<Option<NonZeroU32>> {
        let help = "write packets in a second, like 100/s; without the key, any number passes";
        self.text("rate", key, help, read_rate)
    }

    /// A value that is one text.
    fn text<T>(
        &mut self,
        name: &str,
        key: Span,
        help: &str,
        read: impl FnOnce(&str) -> std::result::Result<T, Fault>,
    ) -> Result<Option<T>> {
        let (node, span) = self.nodes.node()?;
        match &node {
            Node::Text(text) => return Ok(self.read(text, span, read)),
            Node::Null => self.nodes.error(key, format!("`{name}` has no value"), help),
            Node::Alias(name) => self.alias(name, span),
            Node::List | Node::Mapping => {
                self.nodes.error(span, format!("`{name}` is not text"), help);
                self.nodes.skip(&node)?;
            }
        }
        Ok(None)
    }

    fn read<T>(
        &mut self,
        text: &str,
        span: Span,
        read: impl FnOnce(&str) -> std::result::Result<T, Fault>,
    ) -> Option<T> {
        read(text).map_err(|Fault { message, help }| self.nodes.error(span, message, help)).ok()
    }

    /// The value of `interfaces`, whose key is at `key`: one name, or a list of them.
    pub(super) fn interfaces(&mut self, key: Span) -> Result<Option<Box<[InterfacePattern]>>> {
        let (node, span) = self.nodes.node()?;
        match node {
            Node::List => return self.interface_list(key),
            Node::Text(text) => {
                return Ok(self.read(&text, span, read_interface).map(|pattern| [pattern].into()));
            }
            Node::Null => self.nodes.error(key, "`interfaces` has no value", INTERFACES),
            Node::Alias(name) => self.alias(name, span),
            Node::Mapping => {
                self.nodes.error(span, "`interfaces` is not a list", INTERFACES);
                self.nodes.skip(&Node::Mapping)?;
            }
        }
        Ok(None)
    }

    /// The interfaces of a list of them. Those after the last that is permitted are not kept.
    fn interface_list(&mut self, key: Span) -> Result<Option<Box<[InterfacePattern]>>> {
        let mut patterns: Vec<InterfacePattern> = Vec::new();
        let mut number = 0_usize;
        while let Some((node, span)) = self.nodes.item()? {
            number += 1;
            if number == MAX_INTERFACES + 1 {
                let message = format!("an entry names at most {MAX_INTERFACES} interfaces");
                self.nodes.error(span, message, "write patterns, like eth*");
            }
            if number > MAX_INTERFACES {
                self.nodes.skip(&node)?;
                continue;
            }
            patterns.extend(self.interface(node, span, &patterns)?);
        }
        if number == 0 {
            self.nodes.error(key, "`interfaces` is empty: the entry would allow nobody", INTERFACES);
        }
        Ok(Some(patterns.into()))
    }

    /// An interface of a list that has the `others` already.
    fn interface(
        &mut self,
        node: Node<'s>,
        span: Span,
        others: &[InterfacePattern],
    ) -> Result<Option<InterfacePattern>> {
        match node {
            Node::Text(text) => {
                let pattern = self.read(&text, span, read_interface);
                if let Some(twice) = pattern.as_ref().filter(|pattern| others.contains(pattern)) {
                    let message = format!("`{}` is in the list twice", twice.as_str());
                    self.nodes.error(span, message, "remove one of them");
                }
                return Ok(pattern);
            }
            Node::Null => self.nodes.error(span, "the name of an interface is missing", INTERFACES),
            Node::Alias(name) => self.alias(name, span),
            Node::List | Node::Mapping => {
                self.nodes.error(span, "the name of an interface is not text", INTERFACES);
                self.nodes.skip(&node)?;
            }
        }
        Ok(None)
    }
}
