//! Turns the events of the YAML parser into nodes of the document, each with its place in the file.
//!
//! No tree is built, and aliases are not expanded: they are nodes like others.

use std::borrow::Cow;

use serde_yaml::granit_parser::{self, ErrorKind, Event, Marker, Parser, ScalarStyle, ScanError, StrInput};

use super::diagnostic::{Diagnostic, Diagnostics, Severity};
use super::text::{Source, Span, to_u32};
use crate::printable::printable;

/// The deepest nesting of lists and mappings. It is far more than a valid list needs: its entries are at the third
/// level.
const MAX_DEPTH: usize = 32;

/// The rest of the YAML cannot be read. The problem has been reported.
pub(super) struct Unreadable;

pub(super) type Result<T = (), E = Unreadable> = std::result::Result<T, E>;

/// The start of a node of the document.
pub(super) enum Node<'s> {
    Text(Cow<'s, str>),
    Null,
    List,
    Mapping,
    Alias(&'s str),
}

/// Reads the documents of a file node by node, and collects problems.
pub(super) struct Nodes<'s, 'd> {
    source: &'d Source<'s>,
    events: Parser<'s, StrInput<'s>>,
    errors: &'d mut Diagnostics,
}

impl<'s, 'd> Nodes<'s, 'd> {
    pub(super) fn of(source: &'d Source<'s>, errors: &'d mut Diagnostics) -> Self {
        let options = granit_parser::options! {
            emit_comments: false,
            emit_unresolved_aliases: true,
            flow_nesting_limit: MAX_DEPTH,
            block_nesting_limit: MAX_DEPTH,
        };
        Self { source, events: Parser::new_from_str_with_options(source.text(), options), errors }
    }

    /// The next key of a mapping; `None` at the end of the mapping. A key that is not text has `None` as its text.
    pub(super) fn key(&mut self) -> Result<Option<(Option<Cow<'s, str>>, Span)>> {
        let (event, span) = self.event()?;
        if matches!(event, Event::MappingEnd) {
            return Ok(None);
        }
        Ok(Some(match self.start(event, span)? {
            Node::Text(text) => (Some(text), span),
            node => {
                self.skip(&node)?;
                (None, span)
            }
        }))
    }

    /// The next item of a list; `None` at the end of the list.
    pub(super) fn item(&mut self) -> Result<Option<(Node<'s>, Span)>> {
        let (event, span) = self.event()?;
        if matches!(event, Event::SequenceEnd) {
            return Ok(None);
        }
        Ok(Some((self.start(event, span)?, span)))
    }

    pub(super) fn skip_value(&mut self) -> Result {
        let (node, _) = self.node()?;
        self.skip(&node)
    }

    /// Skips the rest of a node.
    pub(super) fn skip(&mut self, node: &Node<'s>) -> Result {
        let mut depth = usize::from(matches!(node, Node::List | Node::Mapping));
        while depth > 0 {
            match self.event()?.0 {
                Event::SequenceStart(..) | Event::MappingStart(..) => depth += 1,
                Event::SequenceEnd | Event::MappingEnd => depth -= 1,
                _ => {}
            }
        }
        Ok(())
    }

    pub(super) fn node(&mut self) -> Result<(Node<'s>, Span)> {
        let (event, span) = self.event()?;
        Ok((self.start(event, span)?, span))
    }

    /// The node that begins with `event`.
    fn start(&mut self, event: Event<'s>, span: Span) -> Result<Node<'s>> {
        let (node, tag) = match event {
            Event::Scalar(text, style, _, tag) => {
                let null =
                    style == ScalarStyle::Plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                (if null { Node::Null } else { Node::Text(text) }, tag)
            }
            Event::SequenceStart(_, _, tag) => (Node::List, tag),
            Event::MappingStart(_, _, tag) => (Node::Mapping, tag),
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                let text = self.source.text().get(span.start as usize..span.end as usize);
                (Node::Alias(text.unwrap_or_default()), None)
            }
            // The grammar of the events has a node at each place where this function is called.
            _ => {
                self.error(span, "a value is missing here", "write a prefix, like 192.0.2.0/24");
                return Err(Unreadable);
            }
        };
        if tag.is_some() {
            self.error(
                self.tag_before(span),
                "a YAML tag has no meaning in an allowlist",
                "remove the word that begins with `!`",
            );
        }
        Ok(node)
    }

    /// The tag in front of a node: the word that begins with `!`.
    fn tag_before(&self, node: Span) -> Span {
        let before = self.source.text().get(..node.start as usize).unwrap_or_default();
        let line = before.rsplit(['\n', '\r']).next().unwrap_or_default();
        let Some(at) = line.rfind('!') else { return node };
        let at = line[..at].rfind([' ', '\t']).map_or(at, |blank| blank + 1);
        let start = before.len() - line.len() + at;
        let length = line[at..].find([' ', '\t']).unwrap_or(line.len() - at);
        let column = line[..at].chars().count() + 1;
        Span { start: to_u32(start), end: to_u32(start + length), line: node.line, column: to_u32(column) }
    }

    /// The second line of a text, and its place: YAML joins lines that are indented further.
    pub(super) fn continuation(&self, text: Span) -> Option<(Span, &'s str)> {
        let source = self.source.text();
        let begun = source.get(text.start as usize..text.end as usize)?;
        let quoted = begun.starts_with(['"', '\'', '|', '>']);
        let newline = begun.find('\n').filter(|_| !quoted)?;
        let rest = &begun[newline + 1..];
        let indentation = rest.len() - rest.trim_start_matches([' ', '\t']).len();
        let line = rest.lines().next()?.trim();
        let start = text.start as usize + newline + 1 + indentation;
        let place = Span {
            start: to_u32(start),
            end: to_u32(start + line.len()),
            line: text.line + 1,
            column: to_u32(indentation + 1),
        };
        (!line.is_empty()).then_some((place, line))
    }

    pub(super) fn event(&mut self) -> Result<(Event<'s>, Span)> {
        match self.events.next() {
            Some(Ok((event, span))) => Ok((event, between(span.start, span.end))),
            Some(Err(error)) => {
                self.syntax_error(&error);
                Err(Unreadable)
            }
            None => Err(Unreadable),
        }
    }

    fn syntax_error(&mut self, error: &ScanError) {
        let mut span = between(*error.marker(), *error.marker());
        // The span must mark one character.
        span.end = span.start.saturating_add(1);
        let help = match error.kind() {
            ErrorKind::RecursionLimitExceeded => {
                "an entry is one prefix: write each on a line of its own, after `- `"
            }
            ErrorKind::TabNotAllowed | ErrorKind::TabInBlockIndentation | ErrorKind::TabInIndentation => {
                "indent with blanks, not with tabs"
            }
            _ => "indent all entries alike, each after `- `, and put texts with special characters in quotes",
        };
        self.error(span, format!("this is not YAML: {}", printable(&error.info())), help);
    }

    pub(super) fn error(&mut self, span: Span, message: impl Into<String>, help: impl Into<String>) {
        self.errors.push_with(span.line, span.column, || Diagnostic {
            severity: Severity::Error,
            message: message.into(),
            help: Some(help.into()),
            place: Some(self.source.place(span)),
        });
    }
}

fn between(start: Marker, end: Marker) -> Span {
    let offset = |marker: Marker| to_u32(marker.byte_offset().unwrap_or_default());
    Span {
        start: offset(start),
        end: offset(end),
        line: to_u32(start.line()),
        column: to_u32(start.col() + 1),
    }
}
