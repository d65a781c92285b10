//! The table of exported file systems, as exports(5) describes it and `support/nfs/xio.c` and `exports.c` of nfs-utils
//! read it -> the clients in it.

use super::client::Client;
use super::export_options;

/// A client, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// What is exported to it.
    pub path: String,
    /// As it is written, without its options.
    pub written: String,
    /// Whom that stands for.
    pub client: Client,
    /// Its line in the file, from 1 on.
    pub line: u32,
}

impl Export {
    /// Whether the other one exports the same to the same client, however each is written.
    pub fn is_same(&self, other: &Self) -> bool {
        let is_same_client = match (&self.client, &other.client) {
            (Client::Network(_) | Client::Everyone, client) => self.client == *client,
            _ => self.written == other.written,
        };
        self.path == other.path && is_same_client
    }
}

/// The longest client with its options, and the longest path, in bytes: what exportfs has room for.
const MAX_CLIENT: usize = 511;
const MAX_PATH: usize = 1024;

/// The clients in the text of a table. exportfs stops reading at the first mistake in the form of a table; so does this, and the last
/// one that it gives says why.
pub fn parse(text: &str) -> Vec<Export> {
    Table::read(text, export_options::mistake)
}

/// The clients in the text of the state of exportfs, which only has options that it knows.
pub fn parse_state(text: &str) -> Vec<Export> {
    Table::read(text, |_| None)
}

/// What is left of a table.
struct Table<'a> {
    rest: &'a [u8],
    /// From 1 on.
    line: u32,
    exports: Vec<Export>,
    /// What is wrong with options.
    mistake_in: fn(&str) -> Option<String>,
}

/// A client and its options, or a path.
struct Word {
    /// Whether there is one; its text may be empty nevertheless.
    is_there: bool,
    text: String,
    /// From 1 on.
    line: u32,
    /// There is a quotation mark in it to which there is no second one.
    unclosed: bool,
}

impl<'a> Table<'a> {
    fn read(text: &'a str, mistake_in: fn(&str) -> Option<String>) -> Vec<Export> {
        let mut table = Self { rest: text.as_bytes(), line: 1, exports: Vec::new(), mistake_in };
        while table.exports_of_a_path().is_some() {}
        table.exports
    }

    /// Reads a path, and the clients behind it. Nothing is read after the last one, or after a mistake.
    fn exports_of_a_path(&mut self) -> Option<()> {
        self.skip(b" \t\n");
        let Some(path) = self.word(MAX_PATH) else {
            return self.stop();
        };
        if !path.is_there {
            return self.stop();
        }
        // Everyone, if no client is named; and so if options are behind the last client, which are for clients behind them.
        let mut nobody_named = true;
        loop {
            self.skip(b" \t");
            let mut word = self.client(&path)?;
            if let Some(options) = word.text.strip_prefix('-') {
                if let Some(why) = (self.mistake_in)(options) {
                    return self.mistake(&path, &word, &why);
                }
                nobody_named = true;
                self.skip(b" \t");
                word = self.client(&path)?;
            }
            if !word.is_there && !nobody_named {
                return Some(());
            }
            nobody_named = false;
            self.export(&path, &word)?;
        }
    }

    /// The next client and its options; a word that is not there if there is none.
    fn client(&mut self, path: &Word) -> Option<Word> {
        let line = self.line;
        let word = self.word(MAX_CLIENT);
        if word.is_none() {
            let word = Word { is_there: true, text: "a client".to_owned(), line, unclosed: false };
            self.mistake(path, &word, "it is too long")?;
        }
        word
    }

    /// Takes a client. Without a name before its options, they are those of everyone.
    fn export(&mut self, path: &Word, word: &Word) -> Option<()> {
        let (name, options) = match word.text.split_once('(') {
            Some((name, options)) => (name, Some(options)),
            None => (&*word.text, None),
        };
        if let Some(options) = options {
            let why = match options.find(')') {
                Some(end) if end + 1 == options.len() => (self.mistake_in)(&options[..end]),
                _ => Some("its options do not end in a parenthesis".to_owned()),
            };
            if let Some(why) = why {
                return self.mistake(path, word, &why);
            }
        }
        let client = match path.unclosed || word.unclosed {
            true => Client::Unclear("a quotation mark is not closed".into()),
            false => Client::parse(name),
        };
        self.push(path, name, client, word.line);
        Some(())
    }

    fn push(&mut self, path: &Word, written: &str, client: Client, line: u32) {
        self.exports.push(Export { path: path.text.clone(), written: written.to_owned(), client, line });
    }

    /// Ends the reading at a mistake.
    fn mistake(&mut self, path: &Word, word: &Word, why: &str) -> Option<()> {
        let why = format!("{why}, and exportfs reads nothing of this file from there on");
        self.push(path, &word.text, Client::Unclear(why.into()), word.line);
        None
    }

    /// Ends the reading where there is no path; which is a mistake, unless nothing is behind it.
    fn stop(&mut self) -> Option<()> {
        let line = self.line;
        while !self.rest.is_empty() {
            self.skip(b" \t\n\r\x0b\x0c");
            if self.word(usize::MAX).is_some_and(|word| word.is_there) {
                let why = "there is a carriage return or the like in an empty line, or a path that is too long, and exportfs \
                           reads nothing from there on";
                self.exports.push(Export {
                    path: "the rest of the file".to_owned(),
                    written: "all clients from there on".to_owned(),
                    client: Client::Unclear(why.into()),
                    line,
                });
                return None;
            }
        }
        None
    }

    /// The next character; a backslash at the end of a line, and the blanks with which the next one begins, are one blank.
    fn next(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        if byte == b'\\' && rest.first() == Some(&b'\n') {
            let blanks = rest[1..].iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
            self.rest = &rest[1 + blanks..];
            self.line += 1;
            return Some(b' ');
        }
        self.line += u32::from(byte == b'\n');
        Some(byte)
    }

    /// Skips these characters, and comments: a `#` within a word is a character like others.
    fn skip(&mut self, skipped: &[u8]) {
        loop {
            let before = (self.rest, self.line);
            match self.next() {
                Some(b'#') => {
                    let end = self.rest.iter().position(|&byte| byte == b'\n').unwrap_or(self.rest.len());
                    self.rest = &self.rest[end..];
                }
                Some(byte) if skipped.contains(&byte) => {}
                _ => {
                    (self.rest, self.line) = before;
                    return;
                }
            }
        }
    }

    /// The characters up to a blank, which is taken as well unless it ends the line; none if there are too many.
    fn word(&mut self, most: usize) -> Option<Word> {
        let (mut bytes, mut quoted, line) = (Vec::new(), false, self.line);
        loop {
            let before = (self.rest, self.line);
            match self.next() {
                Some(b'\n') if !quoted => {
                    (self.rest, self.line) = before;
                    break;
                }
                Some(byte) if !quoted && is_blank(byte) => break,
                None => break,
                Some(b'"') => quoted = !quoted,
                Some(byte) => {
                    bytes.push(byte);
                    decode_last(&mut bytes);
                }
            }
            if bytes.len() > most {
                return None;
            }
        }
        // exportfs keeps it in a string of C.
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
        let text = String::from_utf8_lossy(&bytes[..end]).into_owned();
        Some(Word { is_there: !bytes.is_empty(), text, line, unclosed: quoted })
    }
}

/// `isspace` of C.
fn is_blank(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

/// Three octal digits behind a backslash at the end become the byte that they stand for, of which there are eight bits.
fn decode_last(bytes: &mut Vec<u8>) {
    let Some(&[b'\\', a @ b'0'..=b'7', b @ b'0'..=b'7', c @ b'0'..=b'7']) = bytes.last_chunk() else {
        return;
    };
    bytes.truncate(bytes.len() - 4);
    bytes.push((a & 7) << 6 | (b & 7) << 3 | c & 7);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Path, client and line of each.
    fn read(text: &str) -> Vec<(String, String, u32)> {
        parse(text).into_iter().map(|export| (export.path, export.written, export.line)).collect()
    }

    fn expected(exports: &[(&str, &str, u32)]) -> Vec<(String, String, u32)> {
        exports.iter().map(|&(path, written, line)| (path.into(), written.into(), line)).collect()
    }

    #[test]
    fn the_example_of_the_manual() {
        let text = "\
# sample /etc/exports file
/               master(rw) trusty(rw,no_root_squash)
/projects       proj*.local.domain(rw)
/usr            *.local.domain(ro) @trusted(rw)
/home/joe       pc001(rw,all_squash,anonuid=150,anongid=100)
/pub            *(ro,insecure,all_squash)
/srv/www        -sync,rw server @trusted @external(ro)
/foo            2001:db8:9:e54::/64(rw) 192.0.2.0/24(rw)
/build          buildhost[0-9].local.domain(rw)
";
        assert_eq!(
            read(text),
            expected(&[
                ("/", "master", 2),
                ("/", "trusty", 2),
                ("/projects", "proj*.local.domain", 3),
                ("/usr", "*.local.domain", 4),
                ("/usr", "@trusted", 4),
                ("/home/joe", "pc001", 5),
                ("/pub", "*", 6),
                ("/srv/www", "server", 7),
                ("/srv/www", "@trusted", 7),
                ("/srv/www", "@external", 7),
                ("/foo", "2001:db8:9:e54::/64", 8),
                ("/foo", "192.0.2.0/24", 8),
                ("/build", "buildhost[0-9].local.domain", 9),
            ])
        );
    }

    #[test]
    fn lines_go_on_after_a_backslash() {
        let text = "/srv/a \\\n\t192.0.2.1(rw) \\\n  -ro 192.0.2.2\\\n192.0.2.3 # \\\n/srv/b 192.0.2.4\r\n";
        assert_eq!(
            read(text),
            expected(&[
                ("/srv/a", "192.0.2.1", 2),
                ("/srv/a", "192.0.2.2", 3),
                ("/srv/a", "192.0.2.3", 4),
                ("/srv/b", "192.0.2.4", 5),
            ])
        );
    }

    #[test]
    fn names_with_blanks_are_quoted_or_in_octal() {
        let text =
            "\"/srv/my files # 1\" 192.0.2.1(rw)\n/srv/a\\040b \"192.0.2.2\"(ro)\n/srv/\\999 192.0.2.3";
        assert_eq!(
            read(text),
            expected(&[
                ("/srv/my files # 1", "192.0.2.1", 1),
                ("/srv/a b", "192.0.2.2", 2),
                ("/srv/\\999", "192.0.2.3", 3),
            ])
        );
    }

    #[test]
    fn a_comment_begins_where_a_word_could() {
        let exports =
            parse("/srv/b#c 192.0.2.7(rw)\n/srv/a 192.0.2.8(ro)\t# 192.0.2.9(rw)\n#/srv 192.0.2.10\n");
        let found: Vec<_> = exports.iter().map(|it| (it.path.as_str(), it.written.as_str())).collect();
        assert_eq!(found, [("/srv/b#c", "192.0.2.7"), ("/srv/a", "192.0.2.8")]);
    }

    #[test]
    fn nobody_named_is_everyone() {
        // A blank before the options is a well-known mistake: the host gets the defaults, and everyone the options.
        for (text, clients) in [("/srv", 1), ("/srv -ro", 1), ("/srv (rw)", 1), ("/srv *(rw)", 1)] {
            let exports = parse(text);
            assert_eq!(exports.len(), clients, "{text}");
            assert!(exports.iter().all(|export| export.client == Client::Everyone), "{text}: {exports:?}");
        }
        let [host, everyone] = &parse("/srv 192.0.2.1 (rw)")[..] else { panic!("two clients") };
        assert_eq!((&host.client, &everyone.client), (&Client::parse("192.0.2.1"), &Client::Everyone));
    }

    /// They are options of clients behind them; and where there are none, of everyone.
    #[test]
    fn options_behind_the_last_client_are_those_of_everyone() {
        for text in ["/srv/www 192.0.2.7 -ro", "/srv/www 192.0.2.7(rw) -ro # all\n/srv/b 192.0.2.8\n"] {
            let exports = parse(text);
            assert_eq!(exports[0].client, Client::parse("192.0.2.7"), "{text}");
            assert_eq!((&exports[1].client, &*exports[1].path), (&Client::Everyone, "/srv/www"), "{text}");
        }
        assert_eq!(
            read("/srv -ro 192.0.2.7 -rw 192.0.2.8"),
            expected(&[("/srv", "192.0.2.7", 1), ("/srv", "192.0.2.8", 1)])
        );
        // Only the first word can be options.
        assert_eq!(read("/srv 192.0.2.7 -ro -rw 192.0.2.8")[1].1, "-rw");
    }

    #[test]
    fn nothing_is_taken_from_behind_a_mistake() {
        for (mistake, why) in [
            ("/srv/a 192.0.2.1(nonsense) 192.0.2.2", "`nonsense`"),
            ("/srv/a 192.0.2.1(rw) -nonsense 192.0.2.2", "`nonsense`"),
            ("/srv/a 192.0.2.1(rw", "parenthesis"),
            ("/srv/a 192.0.2.1(rw)\r\n\r", "carriage return"),
        ] {
            let exports = parse(&format!("{mistake}\n/srv/b 192.0.2.3(rw)\n"));
            let (last, before) = exports.split_last().unwrap();
            assert!(matches!(&last.client, Client::Unclear(it) if it.contains(why)), "{mistake:?}: {last:?}");
            assert!(before.iter().all(|it| it.written == "192.0.2.1"), "{mistake:?}: {before:?}");
        }
    }

    #[test]
    fn what_is_no_client_is_said_to_be_none() {
        for text in
            ["/srv 192.0.2.1(rw", "/srv 192.0.2.1(rw)x", "\"/srv 192.0.2.1(rw)", "/srv \"192.0.2.1(rw)\n"]
        {
            let [export] = &parse(text)[..] else { panic!("{text}") };
            assert!(matches!(export.client, Client::Unclear(_)), "{text}: {export:?}");
        }
    }

    #[test]
    fn nothing_is_exported_by_an_empty_table() {
        for text in ["", "\n\n", "# /srv *(rw)\n", "  \t\n#", "\\\n", "\\\n\\\n# x"] {
            assert_eq!(parse(text), [], "{text:?}");
        }
    }
}
