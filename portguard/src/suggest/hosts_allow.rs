//! The clients of rpcbind in `/etc/hosts.allow`, as hosts_access(5) describes it: `DAEMONS : CLIENTS [: COMMANDS]`.

use super::client::Client;

/// The names by which rpcbind and its predecessor are known there; and every daemon.
const DAEMONS: [&str; 3] = ["rpcbind", "portmap", "ALL"];

/// A client, as it is written, and its line, from 1 on.
pub type Written = (Client, String, u32);

/// The clients in the text of the table.
pub fn clients(text: &str) -> Vec<Written> {
    let mut clients = Vec::new();
    for (number, line) in unfolded(text) {
        let mut parts = split(&line);
        let (Some(daemons), Some(list)) = (parts.next(), parts.next()) else { continue };
        let (named, excepted) = daemons.split_once("EXCEPT").unwrap_or((&daemons, ""));
        let has_rpcbind = |daemons: &str| words(daemons).any(|word| DAEMONS.contains(&word));
        if !has_rpcbind(named) || has_rpcbind(excepted) {
            continue;
        }
        for word in words(&list) {
            if word == "EXCEPT" {
                let why = "exceptions cannot be told by prefixes: write the networks without them";
                clients.push((Client::Unclear(why.into()), list.trim().to_owned(), number));
                break;
            }
            clients.push((client(word), word.to_owned(), number));
        }
    }
    clients
}

/// Whether a line is one of such a table: names of daemons, a colon, and clients.
pub(super) fn is_entry(line: &str) -> bool {
    let mut parts = split(line);
    let (Some(daemons), Some(clients)) = (parts.next(), parts.next()) else { return false };
    let is_daemon = |word: &str| {
        word.starts_with(|first: char| first.is_ascii_alphabetic())
            && word.chars().all(|it| it.is_ascii_alphanumeric() || "-._@".contains(it))
    };
    words(&daemons).next().is_some() && words(&daemons).all(is_daemon) && !clients.trim().is_empty()
}

/// The lines without comments, each with its number; a backslash at the end of a line continues it.
fn unfolded(text: &str) -> Vec<(u32, String)> {
    let mut lines: Vec<(u32, String)> = Vec::new();
    let mut continues = false;
    for (number, line) in (1..).zip(text.lines()) {
        let (part, goes_on) = line.strip_suffix('\\').map_or((line, false), |part| (part, true));
        match lines.last_mut() {
            Some((_, last)) if continues => last.push_str(part),
            _ => lines.push((number, part.to_owned())),
        }
        continues = goes_on;
    }
    lines.retain(|(_, line)| !line.trim_start().starts_with('#'));
    lines
}

/// The parts between colons that are not within brackets.
fn split(line: &str) -> impl Iterator<Item = String> {
    let mut depth = 0;
    let mut parts = vec![String::new()];
    for character in line.chars() {
        match character {
            '[' => depth += 1,
            ']' => depth -= 1,
            _ => {}
        }
        match (character, parts.last_mut()) {
            (':', _) if depth <= 0 => parts.push(String::new()),
            (_, Some(part)) => part.push(character),
            (_, None) => {}
        }
    }
    parts.into_iter()
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split([' ', '\t', ',']).filter(|word| !word.is_empty())
}

/// Whom a pattern stands for.
fn client(pattern: &str) -> Client {
    match pattern {
        "ALL" => return Client::Everyone,
        "LOCAL" | "KNOWN" | "UNKNOWN" | "PARANOID" => return Client::Wildcard,
        _ => {}
    }
    if pattern.starts_with('.') {
        return Client::Wildcard;
    }
    if pattern.starts_with('/') {
        return Client::Unclear("its patterns are in another file".into());
    }
    // The first octets of addresses: `192.0.2.`.
    if let Some(octets) = pattern.strip_suffix('.')
        && octets.split('.').all(|octet| octet.parse::<u8>().is_ok())
    {
        let count = octets.split('.').count();
        return match count {
            1..=3 => Client::parse(&format!("{octets}{}/{}", ".0".repeat(4 - count), 8 * count)),
            _ => Client::Unclear("it has too many octets".into()),
        };
    }
    // `[2001:db8::]/48`.
    if let Some(rest) = pattern.strip_prefix('[') {
        return match rest.split_once(']') {
            Some((address, length)) => Client::parse(&format!("{address}{length}")),
            None => Client::Unclear("a bracket is not closed".into()),
        };
    }
    Client::parse(pattern)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_of_rpcbind_are_found_in_every_form() {
        let text = "# rpcbind: 203.0.113.1\nsshd: 203.0.113.2\nrpcbind, mountd : 192.0.2. 198.51.100.0/255.255.255.0,nfs1 \\\n\
                    .example.com [2001:db8:40::]/48 : ALLOW\nportmap: ALL\nALL: 10.1.2.3\nALL EXCEPT rpcbind: 203.0.113.3\n\
                    rpcbind: 10.0.0.0/8 EXCEPT 10.9.0.0/16\nrpcbind: @trusted /etc/more\n";
        let network = |text: &str| Client::Network(text.parse().unwrap());
        let found: Vec<(Client, u32)> =
            clients(text).into_iter().map(|(client, _, line)| (client, line)).collect();
        let expected = [
            (network("192.0.2.0/24"), 3),
            (network("198.51.100.0/24"), 3),
            (Client::Host("nfs1".into()), 3),
            (Client::Wildcard, 3),
            (network("2001:db8:40::/48"), 3),
            (Client::Everyone, 5),
            (network("10.1.2.3/32"), 6),
            (network("10.0.0.0/8"), 8),
        ];
        assert_eq!(found[..expected.len()], expected);
        assert!(matches!(found[8], (Client::Unclear(_), 8)), "{:?}", found[8]);
        assert_eq!(found[9], (Client::Netgroup, 9));
        assert!(matches!(found[10], (Client::Unclear(_), 9)), "{:?}", found[10]);
    }
}
