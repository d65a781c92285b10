//! Plain lists: prefixes, addresses and ranges, separated by blanks, commas and ends of lines. Comments begin with `#` or `;`.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net, ipv4_mask_to_prefix};

use super::{Found, network, range};
use crate::allowlist::read_prefix;
use crate::suggest::client::Client;

/// Who is in a list.
pub(super) fn clients(text: &str) -> Vec<Found> {
    let mut found = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        for word in words(line) {
            found.extend(parse(&word).into_iter().map(|client| Found::on_line(number, client, word.clone())));
        }
    }
    found
}

/// Whether a line begins like one of a list.
pub(super) fn is_line(line: &str) -> bool {
    let first = words(line).into_iter().next();
    first.is_some_and(|word| parse(&word).iter().any(|client| !matches!(client, Client::Unclear(_))))
}

/// The texts of a line that each stand for an address, a prefix or a range: a netmask behind a blank belongs to its address.
fn words(line: &str) -> Vec<String> {
    let line = line.split(['#', ';']).next().unwrap_or_default();
    let mut words = Vec::new();
    for part in line.split(',') {
        let mut rest = part.split_whitespace().peekable();
        while let Some(word) = rest.next() {
            let is_address = word.parse::<Ipv4Addr>().is_ok();
            match rest.peek() {
                Some(&"-") => {
                    rest.next();
                    words.push(format!("{word}-{}", rest.next().unwrap_or_default()));
                }
                Some(mask) if is_address && is_mask(mask) => {
                    words.push(format!("{word}/{mask}"));
                    rest.next();
                }
                _ => words.push(word.to_owned()),
            }
        }
    }
    words
}

/// Whether a text is a netmask, and no address of a host.
fn is_mask(text: &str) -> bool {
    let mask = text.parse::<Ipv4Addr>().ok().filter(|mask| ipv4_mask_to_prefix(*mask).is_ok());
    mask.is_some_and(|mask| mask.octets()[0] >= 128 || mask.is_unspecified())
}

/// Whom a text stands for: several clients if it is a range.
pub(super) fn parse(text: &str) -> Vec<Client> {
    if let Some((first, last)) = text.split_once('-')
        && first.parse::<IpAddr>().is_ok()
    {
        let prefixes = range(first, last);
        let why = "it is no range: the text after the `-` is no address behind the first one";
        return prefixes
            .map_or(vec![Client::Unclear(why.into())], |it| it.into_iter().map(network).collect());
    }
    vec![masked(text).unwrap_or_else(|| match text.parse::<IpAddr>() {
        Ok(address) => Client::Network(address.to_canonical().into()),
        Err(_) => read_prefix(text).map_or_else(|why| Client::Unclear(why.into()), network),
    })]
}

/// An IPv4 address with a netmask in dotted form.
fn masked(text: &str) -> Option<Client> {
    let (address, mask) = text.split_once('/')?;
    let (address, mask): (Ipv4Addr, Ipv4Addr) = (address.parse().ok()?, mask.parse().ok()?);
    let written = Ipv4Net::new(address, ipv4_mask_to_prefix(mask).ok()?).ok()?;
    Some(match written.trunc() {
        meant if meant == written => network(IpNet::V4(meant)),
        meant => {
            Client::Unclear(format!("it has host bits set: did you mean {meant} or {address}/32?").into())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_people_write_is_understood_or_named() {
        let text = "# ours\n10.0.0.0/8\n192.0.2.7 ; rack 4\n\n192.0.2.0/255.255.255.0, 198.51.100.0 255.255.255.0 198.51.101.1\n\
                    192.0.2.10-192.0.2.20\n2001:db8::/32 2001:db8:1::7\n192.0.2.1 - 192.0.2.2\n0.0.0.0/0\n0.0.0.0 0.0.0.0\n\
                    10.1.2.3/16\nnfs1.example.com\n192.0.2.20-192.0.2.10\n::ffff:192.0.2.9\n";
        let found: Vec<(String, String)> = clients(text)
            .into_iter()
            .map(|it| (format!("line {}", it.line.unwrap()), format!("{:?}", it.client)))
            .collect();
        let network = |line: u32, text: &str| {
            (format!("line {line}"), format!("{:?}", Client::Network(text.parse().unwrap())))
        };
        let expected = [
            network(2, "10.0.0.0/8"),
            network(3, "192.0.2.7/32"),
            network(5, "192.0.2.0/24"),
            network(5, "198.51.100.0/24"),
            network(5, "198.51.101.1/32"),
            network(6, "192.0.2.10/31"),
            network(6, "192.0.2.12/30"),
            network(6, "192.0.2.16/30"),
            network(6, "192.0.2.20/32"),
            network(7, "2001:db8::/32"),
            network(7, "2001:db8:1::7/128"),
            network(8, "192.0.2.1/32"),
            network(8, "192.0.2.2/32"),
            ("line 9".to_owned(), "Everyone".to_owned()),
            ("line 10".to_owned(), "Everyone".to_owned()),
        ];
        assert_eq!(found[..expected.len()], expected);
        let unclear = &found[expected.len()..];
        assert!(unclear[..3].iter().all(|(_, client)| client.starts_with("Unclear")), "{unclear:?}");
        assert!(unclear[0].1.contains("10.1.0.0/16 or 10.1.2.3/32"), "{unclear:?}");
        assert_eq!(unclear[3], network(14, "192.0.2.9/32"));
    }
}
