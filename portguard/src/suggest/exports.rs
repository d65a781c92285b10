//! The table of exported file systems, as exports(5) describes it and `support/nfs/xio.c` and `exports.c` of nfs-utils
//! read it -> the clients in it.

use super::client::Client;

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

/// The clients in the text of a table.
pub fn parse(text: &str) -> Vec<Export> {
    let mut exports = Vec::new();
    for line in lines(text) {
        let mut words = line.into_iter();
        let Some(path) = words.next() else { continue };
        let mut export = |written: &str, client: Client, line: u32| {
            exports.push(Export { path: path.text.clone(), written: written.to_owned(), client, line });
        };
        if path.unclosed {
            export(&path.text, Client::Unclear("a quotation mark is not closed"), path.line);
            continue;
        }
        let mut clients = 0;
        for word in words {
            if word.text.starts_with('-') {
                // Options of the clients that follow.
                continue;
            }
            clients += 1;
            // Without a client before its options, they are those of everyone.
            let (name, options) = match word.text.split_once('(') {
                Some((name, options)) => (name, Some(options)),
                None => (&*word.text, None),
            };
            let closed = options.is_none_or(|options| options.find(')') == options.len().checked_sub(1));
            let client = match () {
                () if word.unclosed => Client::Unclear("a quotation mark is not closed"),
                () if !closed => Client::Unclear("its options do not end in a parenthesis"),
                () => Client::parse(name),
            };
            export(if closed { name } else { &word.text }, client, word.line);
        }
        if clients == 0 {
            export("", Client::Everyone, path.line);
        }
    }
    exports
}

/// What stands between blanks.
#[derive(Debug)]
struct Word {
    text: String,
    /// From 1 on.
    line: u32,
    /// There is a quotation mark in it to which there is no second one.
    unclosed: bool,
}

/// A byte and its line, from 1 on.
type Byte = (u8, u32);

/// The words of each line that has any.
fn lines(text: &str) -> impl Iterator<Item = Vec<Word>> {
    unfolded(text.as_bytes()).into_iter().map(|line| words(&line))
}

/// The lines without comments; one that ends in a backslash goes on with what follows the blanks of the next one.
fn unfolded(mut text: &[u8]) -> Vec<Vec<Byte>> {
    let mut lines = Vec::new();
    let (mut current, mut number, mut quoted) = (Vec::new(), 1, false);
    while let Some((&byte, rest)) = text.split_first() {
        text = rest;
        match byte {
            b'\\' if text.starts_with(b"\n") => {
                current.push((b' ', number));
                number += 1;
                let blanks = text[1..].iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
                text = &text[1 + blanks..];
            }
            // Within a word it is a character like others.
            b'#' if !quoted && current.last().is_none_or(|(byte, _)| byte.is_ascii_whitespace()) => {
                let end = text.iter().position(|&byte| byte == b'\n').unwrap_or(text.len());
                text = &text[end..];
            }
            b'\n' => {
                lines.push(std::mem::take(&mut current));
                number += 1;
                quoted = false;
            }
            byte => {
                quoted ^= byte == b'"';
                current.push((byte, number));
            }
        }
    }
    lines.push(current);
    lines
}

fn words(mut line: &[Byte]) -> Vec<Word> {
    let mut words = Vec::new();
    loop {
        let blanks = line.iter().take_while(|(byte, _)| is_blank(*byte)).count();
        line = &line[blanks..];
        let Some(&(_, number)) = line.first() else { return words };
        let (mut bytes, mut quoted) = (Vec::new(), false);
        while let Some((&(byte, _), rest)) = line.split_first() {
            if is_blank(byte) && !quoted {
                break;
            }
            line = rest;
            match byte {
                b'"' => quoted = !quoted,
                b'\\' => match octal(line) {
                    Some(byte) => {
                        bytes.push(byte);
                        line = &line[3..];
                    }
                    None => bytes.push(byte),
                },
                byte => bytes.push(byte),
            }
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        words.push(Word { text, line: number, unclosed: quoted });
    }
}

/// `isspace` of C.
fn is_blank(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

/// The byte that three octal digits stand for.
fn octal(line: &[Byte]) -> Option<u8> {
    let digits = line.get(..3)?;
    digits.iter().try_fold(0_u8, |value, (digit, _)| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(digit - b'0'),
        _ => None,
    })
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
