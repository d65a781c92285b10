//! A client as exports(5) names it -> whom it stands for.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, ipv4_mask_to_prefix};

/// Whom the name of a client stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Client {
    /// The hosts of a network, or one host by its address.
    Network(IpNet),
    /// A host by its name.
    Host(String),
    /// Whoever asks.
    Everyone,
    /// Names that fit a pattern.
    Wildcard,
    /// A group of NIS.
    Netgroup,
    /// Whoever has a ticket of Kerberos.
    Kerberos,
    /// Nobody: it is not written as exports(5) says.
    Unclear(Cow<'static, str>),
}

impl Client {
    /// Takes the text in front of a client's options.
    pub fn parse(text: &str) -> Self {
        if text.is_empty() || text == "*" {
            return Self::Everyone;
        }
        if text.starts_with("gss/") {
            return Self::Kerberos;
        }
        if text.starts_with('@') {
            return Self::Netgroup;
        }
        if is_wildcard(text) {
            return Self::Wildcard;
        }
        if let Some((address, mask)) = text.split_once('/') {
            return network(address, mask);
        }
        match text.parse::<IpAddr>() {
            Ok(address) => Self::Network(address.to_canonical().into()),
            Err(_) => Self::Host(text.to_owned()),
        }
    }

    /// Why such a client cannot be told from others by its address.
    pub fn inexpressible(&self) -> Option<&str> {
        match self {
            Self::Network(_) | Self::Host(_) => None,
            Self::Everyone => Some(
                "it is open to everyone, and an allowlist must not be: write the networks of its clients",
            ),
            Self::Wildcard => Some("a pattern of names: write the addresses of those hosts"),
            Self::Netgroup => Some("a netgroup: write the addresses of its hosts"),
            Self::Kerberos => Some("every client with a Kerberos ticket: write the networks of its clients"),
            Self::Unclear(why) => Some(why),
        }
    }
}

/// Whether a name is a pattern, as exportfs tells: by the first character that makes it one, or a network. A backslash takes the
/// meaning from the next one.
fn is_wildcard(text: &str) -> bool {
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '*' | '?' | '[' => return true,
            '/' => return false,
            '\\' => drop(characters.next()),
            _ => {}
        }
    }
    false
}

/// An address and a netmask, as a length or in dotted form. exports(5) does not mind host bits.
fn network(address: &str, mask: &str) -> Client {
    let Ok(address) = address.parse::<IpAddr>() else {
        return Client::Unclear("the text before the `/` is not an address".into());
    };
    let length = match (address, mask.parse::<Ipv4Addr>()) {
        (IpAddr::V4(_), Ok(mask)) => match ipv4_mask_to_prefix(mask) {
            Ok(length) => Some(length),
            Err(_) => return Client::Unclear("its netmask does not correspond to a prefix length".into()),
        },
        _ => mask.parse().ok(),
    };
    match length.and_then(|length| IpNet::new(address, length).ok()) {
        Some(network) if network.prefix_len() == 0 => Client::Everyone,
        Some(network) => Client::Network(network.trunc()),
        None => Client::Unclear("the text after the `/` is neither a prefix length nor a netmask".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_what_the_manual_says() {
        let network = |text: &str| Client::Network(text.parse().unwrap());
        for (text, expected) in [
            ("192.0.2.7", network("192.0.2.7/32")),
            ("2001:db8::7", network("2001:db8::7/128")),
            ("::ffff:192.0.2.7", network("192.0.2.7/32")),
            ("192.0.2.0/24", network("192.0.2.0/24")),
            ("192.0.2.99/255.255.252.0", network("192.0.0.0/22")),
            ("2001:db8:9:e54::/64", network("2001:db8:9:e54::/64")),
            ("0.0.0.0/0", Client::Everyone),
            ("1.2.3.4/0.0.0.0", Client::Everyone),
            ("::/0", Client::Everyone),
            ("*", Client::Everyone),
            ("", Client::Everyone),
            ("192.0.2.*", Client::Wildcard),
            ("proj*.local.domain", Client::Wildcard),
            ("buildhost[0-9].local.domain", Client::Wildcard),
            ("[2001:db8::7]", Client::Wildcard),
            (r"a\*b", Client::Host(r"a\*b".into())),
            ("@trusted", Client::Netgroup),
            ("gss/krb5i", Client::Kerberos),
            ("master", Client::Host("master".into())),
        ] {
            assert_eq!(Client::parse(text), expected, "{text}");
        }
        for text in [
            "192.0.2.0/33",
            "192.0.2.0/24*",
            "192.0.2.0/255.0.255.0",
            "2001:db8::/255.255.0.0",
            "host/24",
            "192.0.2.0/",
            "/",
        ] {
            assert!(matches!(Client::parse(text), Client::Unclear(_)), "{text}");
        }
    }
}
