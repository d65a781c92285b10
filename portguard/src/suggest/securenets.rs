//! The clients of NIS in `/var/yp/securenets` or `/etc/ypserv.securenets`, as ypserv(8) reads it: `NETMASK NETWORK`, or
//! `host ADDRESS`. They find ypserv by rpcbind.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::ipv4_mask_to_prefix;

use super::client::Client;

/// The clients in the text of the table, each as it is written, with its line, from 1 on.
pub fn clients(text: &str) -> Vec<(Client, String, u32)> {
    let mut clients = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or_default().trim();
        let words: Vec<&str> = line.split_whitespace().collect();
        let client = match words[..] {
            [] => continue,
            ["host" | "255.255.255.255", address] => Client::parse(address),
            [mask, network] => Client::parse(&format!("{network}/{mask}")),
            _ => Client::Unclear("it is neither a netmask with a network nor a host".into()),
        };
        clients.push((client, line.to_owned(), number));
    }
    clients
}

/// Whether the words of a line are an entry of such a table, and nothing else: a netmask stands in front.
pub(super) fn is_entry(words: &[&str]) -> bool {
    let is_address = |text: &str| text.parse::<IpAddr>().is_ok();
    match *words {
        ["host", address] => is_address(address),
        [mask, network] => {
            let is_mask = mask
                .parse::<Ipv4Addr>()
                .is_ok_and(|mask| ipv4_mask_to_prefix(mask).is_ok_and(|length| length == 0 || length >= 8));
            let is_length = mask.parse::<u8>().is_ok_and(|length| length <= 128);
            (is_mask || is_length) && is_address(network)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_stand_in_front_of_networks() {
        let text = "# NIS\nhost 127.0.0.1\n255.255.255.0\t192.0.2.0 # rack 4\n255.255.255.255 198.51.100.7\n0.0.0.0 0.0.0.0\n\
                    64 2001:db8:40::\nnonsense\n";
        let network = |text: &str| Client::Network(text.parse().unwrap());
        let found = clients(text);
        let expected = [
            network("127.0.0.1/32"),
            network("192.0.2.0/24"),
            network("198.51.100.7/32"),
            Client::Everyone,
            network("2001:db8:40::/64"),
        ];
        assert_eq!(found.iter().map(|(client, ..)| client.clone()).collect::<Vec<_>>()[..5], expected);
        assert!(matches!(&found[5], (Client::Unclear(_), written, 7) if written == "nonsense"), "{found:?}");
    }
}
