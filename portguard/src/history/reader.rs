//! Reads lines, and finds the last line of each set of counters.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::{self, BufRead, Read as _};

use crate::guard::SetId;
use crate::history::line::Line;

/// Longer lines are skipped. portguard writes lines of at most some 100 KB.
const MAX_LINE: usize = 1024 * 1024;

/// The contents of the history.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// The last line of each set of counters, by the time when the set was at zero.
    pub lines: Vec<Line>,
    /// The number of lines that could not be read: torn, too long, or with a later schema.
    pub skipped: u64,
}

/// A reader of the files, which it gets in the order of their days.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// More than one line for a key only if boots share it.
    sets: HashMap<SetId, Line>,
    skipped: u64,
}

impl Reader {
    /// Reads one file to its end. Apart from the last line of each set, it keeps at most one line in memory.
    pub(super) fn read(&mut self, mut text: impl BufRead) -> io::Result<()> {
        let mut line = Vec::new();
        loop {
            line.clear();
            if (&mut text).take(MAX_LINE as u64).read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            if line.len() == MAX_LINE && !line.ends_with(b"\n") {
                text.skip_until(b'\n')?;
                self.skipped += 1;
                continue;
            }
            if line == b"\n" {
                continue;
            }
            match Line::parse(&line) {
                Some(line) => self.add(line),
                None => self.skipped += 1,
            }
        }
    }

    /// Of two lines of a set, the one with more packets is the last one. Their order in the files does not show that:
    /// if the clock was set back between them, the later one is in the file of an earlier day. If both have the same
    /// counts, the one that is read last is kept.
    fn add(&mut self, line: Line) {
        match self.sets.entry(line.set) {
            Entry::Vacant(free) => {
                free.insert(line);
            }
            Entry::Occupied(mut known) if line.counted() >= known.get().counted() => {
                known.insert(line);
            }
            Entry::Occupied(_) => {}
        }
    }

    /// The last line of each set that counted at `since` (in nanoseconds of Unix time) or later; all sets without it.
    pub(super) fn finish(self, since: Option<u64>) -> History {
        let mut lines: Vec<Line> =
            self.sets.into_values().filter(|line| since.is_none_or(|since| line.until >= since)).collect();
        lines.sort_by_key(|line| (line.since, line.set));
        History { lines, skipped: self.skipped }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::tests::{line, text};

    fn read(text: &[u8]) -> History {
        let mut reader = Reader::default();
        reader.read(text).unwrap();
        reader.finish(None)
    }

    #[test]
    fn the_last_line_of_each_set_counts_once() {
        let (first, second, other) = (line(1, 10), line(1, 30), line(2, 5));
        for order in [[&first, &other, &second], [&second, &first, &other]] {
            let text: String = order.into_iter().map(text).collect();
            let history = read(text.as_bytes());
            assert_eq!(history, History { lines: vec![second.clone(), other.clone()], skipped: 0 });
            // A file that was copied or restored holds every line twice.
            assert_eq!(read(text.repeat(2).as_bytes()), history);
        }
    }

    #[test]
    fn among_lines_with_the_same_counts_the_later_one_is_the_last() {
        let mut end = line(1, 10);
        end.until += 1_000_000;
        assert_eq!(read((text(&line(1, 10)) + &text(&end)).as_bytes()).lines, [end]);
    }

    #[test]
    fn a_set_goes_on_whatever_else_its_lines_tell() {
        // The service cannot read the id of the boot, and the wall clock may be set between two lines.
        let (by_service, mut by_hand) = (line(1, 10), line(1, 30));
        by_hand.boot_id = Some("3f0a".into());
        by_hand.since -= 7_200_000_000_000;
        assert_eq!(read((text(&by_service) + &text(&by_hand)).as_bytes()).lines, [by_hand]);
    }

    #[test]
    fn a_line_that_is_torn_at_any_byte_costs_only_itself() {
        let (before, torn, after) = (text(&line(1, 10)), text(&line(2, 20)), text(&line(3, 30)));
        for end in 1..torn.len() - 1 {
            let middle = before.clone() + &torn[..end] + "\n" + &after;
            let history = read(middle.as_bytes());
            assert_eq!(history.lines, [line(1, 10), line(3, 30)], "torn at {end} in the middle");
            assert_eq!(history.skipped, 1, "torn at {end} in the middle");
            let history = read((before.clone() + &torn[..end]).as_bytes());
            assert_eq!((history.lines, history.skipped), (vec![line(1, 10)], 1), "torn at {end} at the end");
        }
        // Only the newline is missing: nothing is lost.
        let whole = before + torn.trim_end();
        assert_eq!(read(whole.as_bytes()), History { lines: vec![line(1, 10), line(2, 20)], skipped: 0 });
    }

    #[test]
    fn what_is_no_line_is_skipped_and_counted() {
        let zeroes_of_a_power_cut = [0; 4096];
        for junk in [
            &zeroes_of_a_power_cut[..],
            b"\xff\xfe",
            b"{}",
            b"[]",
            b"null",
            b"{\"schema\":1}",
            "[".repeat(100_000).as_bytes(),
            text(&line(2, 20)).replace("\"schema\":1", "\"schema\":2").trim_end().as_bytes(),
        ] {
            let text = [text(&line(1, 10)).as_bytes(), junk, b"\n", text(&line(3, 30)).as_bytes()].concat();
            let history = read(&text);
            assert_eq!(history.lines, [line(1, 10), line(3, 30)], "{:?}", junk.utf8_chunks().next());
            assert_eq!(history.skipped, 1, "{:?}", junk.utf8_chunks().next());
        }
        assert_eq!(read(b"").skipped, 0);
    }

    #[test]
    fn a_line_beyond_the_limit_is_skipped_whole() {
        let padded = |length: usize| {
            let line = text(&line(2, 20));
            " ".repeat(length - line.len()) + &line
        };
        for (length, skipped) in [(MAX_LINE, 0), (MAX_LINE + 1, 1), (2 * MAX_LINE, 1), (3 * MAX_LINE + 7, 1)]
        {
            let history = read((padded(length) + &text(&line(3, 30))).as_bytes());
            assert_eq!(history.skipped, skipped, "{length}");
            assert_eq!(history.lines.len() as u64, 2 - skipped, "{length}");
            assert_eq!(history.lines.last(), Some(&line(3, 30)), "{length}");
        }
    }

    #[test]
    fn fields_and_reasons_of_later_versions_do_no_harm() {
        let later = text(&line(1, 10))
            .replace("\"detach\"", "\"evaporated\"")
            .replace("\"truncated\":", "\"evaporated\":{\"packets\":1,\"bytes\":2},\"truncated\":")
            .replacen('{', "{\"new\":[{}],", 1);
        let history = read(later.as_bytes());
        assert_eq!(history, History { lines: vec![Line { reason: None, ..line(1, 10) }], skipped: 0 });
    }

    #[test]
    fn sets_that_ended_before_are_left_out() {
        let mut early = line(1, 10);
        early.until -= 2_000;
        let late = line(2, 20);
        let since = |since| {
            let mut reader = Reader::default();
            reader.read((text(&early) + &text(&late)).as_bytes()).unwrap();
            reader.finish(since).lines
        };
        assert_eq!(since(Some(early.until)), [early.clone(), late.clone()]);
        assert_eq!(since(Some(early.until + 1)), std::slice::from_ref(&late));
        assert_eq!(since(Some(u64::MAX)), []);
    }
}
