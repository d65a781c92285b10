//! Somebody who asks over HTTP, and takes as long as it takes.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use portguard_testkit::net::Namespace;

use super::PATIENCE;

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// A connection, from inside a namespace.
pub(crate) fn connect(namespace: &Namespace, server: SocketAddr) -> io::Result<TcpStream> {
    let stream = namespace.run(|| TcpStream::connect_timeout(&server, PATIENCE))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Asks for something; `more` is further lines of the head.
pub(crate) fn ask(
    namespace: &Namespace,
    server: SocketAddr,
    request: &str,
    more: &str,
) -> io::Result<Answer> {
    let mut stream = connect(namespace, server)?;
    // In one piece: a server that answers before it has read all closes the connection under the next one.
    let question = format!("{request} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n{more}\r\n");
    stream.write_all(question.as_bytes())?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let text = String::from_utf8(bytes).map_err(io::Error::other)?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| io::Error::other("no head"))?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default();
    let body = if head.contains("transfer-encoding: chunked") || head.contains("Transfer-Encoding: chunked") {
        unchunked(body).ok_or_else(|| io::Error::other("chunks that make no sense"))?
    } else {
        body.to_owned()
    };
    Ok(Answer { status, head: head.to_owned(), body })
}

fn unchunked(mut rest: &str) -> Option<String> {
    let mut whole = String::new();
    loop {
        let (size, after) = rest.split_once("\r\n")?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        if size == 0 {
            return Some(whole);
        }
        whole += after.get(..size)?;
        rest = after.get(size..)?.strip_prefix("\r\n")?;
    }
}

/// The samples of a page of metrics, by name and labels.
pub(crate) fn samples(page: &str) -> BTreeMap<String, f64> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
            (series.to_owned(), value.parse().unwrap_or_else(|error| panic!("{line}: {error}")))
        })
        .collect()
}
