//! The text of an address -> the source that is meant, or what to ask for instead.

use std::net::{IpAddr, SocketAddr};

use crate::error::{Error, Kind, Result};
use crate::printable::printable;

/// How much of a text a message repeats, in characters: any address fits.
const MAX_TEXT: usize = 64;

/// Takes a text as the address of a source.
///
/// # Errors
/// It is none, or one that no packet can have in its header; with what was probably meant.
pub fn parse(text: &str) -> Result<IpAddr> {
    let shown = match text {
        "" => "\"\"".to_owned(),
        text => printable(&text.chars().take(MAX_TEXT).collect::<String>()),
    };
    let wrong = |why: &str, remedy: String| {
        Err(Error::new(Kind::Usage, format!("{shown}: not the address of a source"))
            .because(why)
            .remedy(remedy))
    };
    if let Ok(address) = text.parse::<IpAddr>() {
        return match address.to_canonical() {
            IpAddr::V4(v4) if address.is_ipv6() => wrong(
                "it is an IPv4-mapped address, which no packet header contains",
                format!("IPv4 clients send from IPv4 addresses: portguard explain {v4}"),
            ),
            _ => Ok(address),
        };
    }
    let trimmed = text.trim();
    if let Some((address, interface)) = trimmed.split_once('%')
        && let Ok(address) = address.parse::<IpAddr>()
    {
        return wrong(
            "it has a zone id",
            format!(
                "Name the interface in an option of its own: portguard explain {address} --iface {}",
                printable(interface)
            ),
        );
    }
    if let Some((address, _)) = trimmed.split_once('/') {
        return match address.parse::<IpAddr>() {
            Ok(address) => {
                wrong("it is a prefix", format!("Give one address at a time: portguard explain {address}"))
            }
            Err(_) => wrong("it is not a valid prefix either", one_address()),
        };
    }
    if let Ok(address) = trimmed.parse::<SocketAddr>() {
        return wrong(
            "it has a port",
            format!("Only the address decides, and not the source port: portguard explain {}", address.ip()),
        );
    }
    let bare = trimmed.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse::<IpAddr>() {
        return wrong("it has more than the address", format!("Write: portguard explain {address}"));
    }
    if trimmed.is_empty() {
        return wrong("it is empty", one_address());
    }
    let of_a_name = |character: char| character.is_ascii_alphanumeric() || "-._".contains(character);
    if trimmed.chars().all(of_a_name) && trimmed.contains(|character: char| character.is_ascii_alphabetic()) {
        return wrong(
            "names are not looked up",
            format!("Give its address. Find the address with: getent ahosts {shown}"),
        );
    }
    if trimmed.split('.').any(|part| part.len() > 1 && part.starts_with('0')) {
        return wrong(
            "numbers in it have leading zeros, which some programs read as octal",
            "Write the numbers without them.".to_owned(),
        );
    }
    wrong("it is neither an IPv4 nor an IPv6 address", one_address())
}

fn one_address() -> String {
    "Give one address, like 192.0.2.7 or 2001:db8::7.".to_owned()
}

/// What Linux does with packets from a source that no client has, whatever the guard decides
/// (`ip_route_input_slow` in `net/ipv4/route.c`, `ip6_rcv_core` in `net/ipv6/ip6_input.c`).
pub fn oddity(source: IpAddr) -> Option<&'static str> {
    let zero_network = matches!(source, IpAddr::V4(v4) if v4.octets()[0] == 0);
    let broadcast = matches!(source, IpAddr::V4(v4) if v4.is_broadcast());
    if source.is_loopback() {
        Some("a loopback address: Linux never delivers packets from it that arrive on a network card")
    } else if source.is_multicast() {
        Some("a multicast address: Linux never delivers packets from it")
    } else if broadcast {
        Some("the broadcast address: Linux never delivers packets from it")
    } else if zero_network {
        Some("an address of \"this network\": Linux delivers packets from it only to 255.255.255.255")
    } else if source.is_unspecified() {
        Some("the unspecified address: no host has it, and no reply reaches it")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_as_they_are() {
        for text in ["192.0.2.7", "0.0.0.0", "2001:db8::7", "::", "fe80::1", "::192.0.2.7"] {
            assert_eq!(parse(text).unwrap(), text.parse::<IpAddr>().unwrap());
        }
    }

    #[test]
    fn oddities_are_told_of_sources_that_no_client_has() {
        for text in
            ["127.0.0.1", "::1", "224.0.0.1", "ff02::1", "0.0.0.0", "0.1.2.3", "::", "255.255.255.255"]
        {
            assert!(oddity(text.parse().unwrap()).is_some(), "{text}");
        }
        for text in ["192.0.2.7", "2001:db8::7", "fe80::1", "10.0.0.1", "240.0.0.1"] {
            assert_eq!(oddity(text.parse().unwrap()), None, "{text}");
        }
    }
}
