//! Parses the text of one prefix into an address and a length, or into an error with a suggestion; which prefixes cover others.

use std::collections::HashSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, IpSubnets, Ipv4Subnets, Ipv6Subnets};

use super::text::cut;
use crate::family::Family;
use crate::printable::printable;

/// The most bytes of a prefix that a message repeats: all real prefixes fit.
const MAX_TEXT: usize = 64;

/// The longest name in the DNS, in bytes (RFC 1035, 2.3.4, without the dot at its end).
const MAX_NAME: usize = 253;

/// The most prefixes that a message suggests instead of a range of addresses.
const MAX_COVER: usize = 4;

/// The error of a text that is not what it should be, such as a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The problem.
    pub(super) message: String,
    /// The text to write instead.
    pub(super) help: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.message, self.help)
    }
}

impl std::error::Error for Fault {}

/// Parses `text` as a prefix in CIDR notation, or as a single address.
pub(super) fn parse(text: &str) -> Result<IpNet, Fault> {
    cidr(text).map_err(|blunder| Fault::of(text, as_a_whole(text).unwrap_or(blunder)))
}

/// Reads `text` as a prefix, or says in a sentence why it is none, and what could be meant.
pub(crate) fn read(text: &str) -> Result<IpNet, String> {
    parse(text).map_err(|fault| fault.to_string())
}

fn cidr(text: &str) -> Result<IpNet, Blunder> {
    let (address, length) = split(text);
    // Only addresses of IPv6 have colons, and each of them has.
    let parsed = match address.contains(':') {
        true => address.parse().map(IpAddr::V6),
        false => address.parse().map(IpAddr::V4),
    };
    let Ok(address) = parsed else {
        return Err(no_address(address, length));
    };
    let host = IpNet::from(address);
    let length = length.map_or(Ok(host.max_prefix_len()), |length| parse_length(length, address))?;
    let written = net(address, length);
    let net = written.trunc();
    if net == written { Ok(net) } else { Err(Blunder::HostBits { net, host }) }
}

/// The known mistakes in prefixes.
#[derive(Debug)]
enum Blunder {
    Empty,
    HostBits { net: IpNet, host: IpNet },
    LengthOutOfRange { host: IpNet },
    LengthLeadingZeros { meant: Option<IpNet> },
    BadLength { host: IpNet },
    Netmask { meant: IpNet },
    WildcardMask { meant: IpNet },
    BadNetmask,
    AddressLeadingZeros { meant: Option<IpNet> },
    OctetTooBig,
    TooFewOctets { meant: Option<IpNet> },
    Wildcard { meant: IpNet },
    Padded { meant: IpNet },
    Blanks { meant: IpNet },
    Separator { meant: IpNet },
    Several,
    Trailing { prefix: IpNet },
    Brackets { inner: String },
    Port { address: IpAddr },
    Zone { meant: String },
    Range { cover: Vec<IpNet>, whole: bool },
    Name { name: String },
    Other,
}

impl Fault {
    fn of(text: &str, blunder: Blunder) -> Self {
        let text = printable(&cut(text, MAX_TEXT));
        let (message, help) = match blunder {
            Blunder::Empty => (
                "the prefix is empty".to_owned(),
                "write a prefix, like 192.0.2.0/24, or remove the entry".to_owned(),
            ),
            Blunder::HostBits { net, host } => {
                (format!("{text} has host bits set"), format!("did you mean {net} or {host}?"))
            }
            Blunder::LengthOutOfRange { host } => {
                let family = Family::of(host.addr()).name();
                let max = host.max_prefix_len();
                (
                    format!("the prefix length of {text} is out of range"),
                    format!("an {family} prefix length is 0 to {max}; the single address is {host}"),
                )
            }
            Blunder::LengthLeadingZeros { meant } | Blunder::AddressLeadingZeros { meant } => (
                format!("{text} has leading zeros"),
                match meant {
                    Some(meant) => format!("some programs read them as octal; did you mean {meant}?"),
                    None => "some programs read them as octal: write the numbers without them".to_owned(),
                },
            ),
            Blunder::BadLength { host } => (
                format!("{text} is not a prefix: the text after `/` is not a prefix length"),
                format!("write a number from 0 to {} after `/`", host.max_prefix_len()),
            ),
            Blunder::Netmask { meant } => {
                (format!("{text} has a netmask instead of a prefix length"), format!("did you mean {meant}?"))
            }
            Blunder::WildcardMask { meant } => (
                format!("{text} has a wildcard mask instead of a prefix length"),
                format!("did you mean {meant}?"),
            ),
            Blunder::BadNetmask => (
                format!("{text} has a netmask that does not correspond to a prefix length"),
                "write a prefix length after `/`, like 192.0.2.0/24".to_owned(),
            ),
            Blunder::OctetTooBig => (
                format!("{text} is not an IPv4 address: a number in it is above 255"),
                "write four numbers from 0 to 255, like 192.0.2.0/24".to_owned(),
            ),
            Blunder::TooFewOctets { meant } => (
                format!("{text} is not a whole IPv4 address"),
                match meant {
                    Some(meant) => format!("write all four numbers; did you mean {meant}?"),
                    None => "write all four numbers, like 192.0.2.0/24".to_owned(),
                },
            ),
            Blunder::Wildcard { meant } => {
                (format!("{text} is not a prefix"), format!("did you mean {meant}?"))
            }
            Blunder::Padded { meant } => {
                (format!("blanks around {meant}"), format!("write {meant} without them"))
            }
            Blunder::Blanks { meant } => {
                (format!("{text} has blanks in it"), format!("did you mean {meant}?"))
            }
            Blunder::Separator { meant } => (
                format!("{text} ends with a separator"),
                format!("write {meant}: each entry has a line of its own"),
            ),
            Blunder::Several => (
                format!("{text} is not one prefix"),
                "write each prefix on a line of its own, after `- `".to_owned(),
            ),
            Blunder::Trailing { prefix } => (
                format!("{text} is more than a prefix"),
                format!("write {prefix} alone; put a remark after a blank and a `#`, or into a `comment:`"),
            ),
            Blunder::Brackets { inner } => {
                (format!("{text} has brackets around the address"), format!("did you mean {inner}?"))
            }
            Blunder::Port { address } => (
                format!("{text} has a port"),
                format!("every entry is for port 111; did you mean {address}?"),
            ),
            Blunder::Zone { meant } => (
                format!("{text} has a zone id"),
                format!("an allowlist is for a whole interface; did you mean {meant}?"),
            ),
            Blunder::Range { cover, whole } => {
                let more = if whole { "" } else { ", ..." };
                let help = match &*cover.iter().map(ToString::to_string).collect::<Vec<_>>() {
                    [one] => format!("did you mean {one}?"),
                    several => format!("the prefixes that cover it are {}{more}", several.join(", ")),
                };
                (format!("{text} is a range, not a prefix"), help)
            }
            Blunder::Name { name } => (
                format!("{text} is a name, not a prefix"),
                format!("names are not resolved; put its address (see `getent ahosts {name}`)"),
            ),
            Blunder::Other => (
                format!("{text} is not a prefix"),
                "write an address, or an address and a prefix length, like 192.0.2.0/24 or 2001:db8::/32"
                    .to_owned(),
            ),
        };
        Self { message, help }
    }
}

fn split(text: &str) -> (&str, Option<&str>) {
    match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    }
}

/// The prefix around `address`, host bits included; `length` is in range.
fn net(address: IpAddr, length: u8) -> IpNet {
    let host = IpNet::from(address);
    IpNet::new(address, length).unwrap_or(host)
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn has_leading_zeros(number: &str) -> bool {
    number.len() > 1 && number.starts_with('0')
}

/// `number` without leading zeros.
fn strip_zeros(number: &str) -> &str {
    let stripped = number.trim_start_matches('0');
    if stripped.is_empty() && !number.is_empty() { "0" } else { stripped }
}

fn parse_length(length: &str, address: IpAddr) -> Result<u8, Blunder> {
    let host = IpNet::from(address);
    if digits(length) {
        // A number that is too large without its leading zeros is out of range.
        let number = strip_zeros(length).parse().ok().filter(|number| *number <= host.max_prefix_len());
        return match number {
            Some(number) if !has_leading_zeros(length) => Ok(number),
            Some(number) => Err(Blunder::LengthLeadingZeros { meant: Some(net(address, number).trunc()) }),
            None => Err(Blunder::LengthOutOfRange { host }),
        };
    }
    match length.parse::<IpAddr>() {
        Ok(mask) if mask.is_ipv4() == address.is_ipv4() => {
            Err(masked(address, mask).unwrap_or(Blunder::BadNetmask))
        }
        _ => Err(Blunder::BadLength { host }),
    }
}

/// An address with a netmask (`255.255.255.0`), or with a wildcard mask as access lists of routers have (`0.0.0.255`).
fn masked(address: IpAddr, mask: IpAddr) -> Option<Blunder> {
    if let Ok(length) = ipnet::ip_mask_to_prefix(mask) {
        return Some(Blunder::Netmask { meant: net(address, length).trunc() });
    }
    let IpAddr::V4(mask) = mask else { return None };
    let length = ipnet::ipv4_mask_to_prefix(Ipv4Addr::from(!u32::from(mask))).ok()?;
    Some(Blunder::WildcardMask { meant: net(address, length).trunc() })
}

/// `10.0.0.0 255.0.0.0`, `10.0.0.0 /8`, `10.0.0.0/8,`
fn with_blanks(text: &str) -> Option<Blunder> {
    if let Ok(meant) = cidr(text.trim_end_matches([',', ';', ' '])) {
        return Some(Blunder::Separator { meant });
    }
    let (first, second) = text.split_once([' ', '\t'])?;
    let second = second.trim();
    if let (Ok(address), Ok(mask)) = (first.parse::<IpAddr>(), second.parse::<IpAddr>())
        && address.is_ipv4()
        && mask.is_ipv4()
        && let Some(blunder) = masked(address, mask)
        && !matches!(blunder, Blunder::Netmask { meant } if meant.prefix_len() == 0)
    {
        return Some(blunder);
    }
    let joined: String = text.split([' ', '\t']).collect();
    let is_split_at_the_slash = first.ends_with('/') || second.starts_with('/');
    cidr(&joined).ok().filter(|_| is_split_at_the_slash).map(|meant| Blunder::Blanks { meant })
}

/// The mistake in the whole of `text`, which is not a prefix, before its parts are checked.
fn as_a_whole(text: &str) -> Option<Blunder> {
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Some(Blunder::Empty);
    }
    if trimmed != text
        && let Ok(meant) = cidr(trimmed)
    {
        return Some(Blunder::Padded { meant });
    }
    if let Some(blunder) = with_blanks(trimmed) {
        return Some(blunder);
    }
    let mut parts = text.split([',', ';', '#', ' ', '\t', '\n']).filter(|part| !part.is_empty());
    let first = cidr(parts.next()?).ok()?;
    range(text).or_else(|| {
        let others: Vec<_> = parts.map(cidr).collect();
        match (others.is_empty(), others.iter().all(Result::is_ok)) {
            (true, _) => None,
            (false, true) => Some(Blunder::Several),
            (false, false) => Some(Blunder::Trailing { prefix: first }),
        }
    })
}

/// The mistake in `address`, which is not an address. `length` is the text after a `/`, if there is one.
fn no_address(address: &str, length: Option<&str>) -> Blunder {
    range(address)
        .or_else(|| brackets(address, length))
        .or_else(|| zone(address, length))
        .or_else(|| port(address))
        .or_else(|| ipv4(address, length))
        .or_else(|| name(address))
        .unwrap_or(Blunder::Other)
}

/// `10.0.0.1-10.0.0.9`
fn range(text: &str) -> Option<Blunder> {
    let (first, last) = text.split_once('-')?;
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    let mut subnets = match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) if first <= last => {
            IpSubnets::V4(Ipv4Subnets::new(first, last, 0))
        }
        (IpAddr::V6(first), IpAddr::V6(last)) if first <= last => {
            IpSubnets::V6(Ipv6Subnets::new(first, last, 0))
        }
        _ => return None,
    };
    let cover = subnets.by_ref().take(MAX_COVER).collect();
    Some(Blunder::Range { cover, whole: subnets.next().is_none() })
}

/// `[::1]`, `[2001:db8::]/32`
fn brackets(address: &str, length: Option<&str>) -> Option<Blunder> {
    let (inner, _port) = address.strip_prefix('[')?.split_once(']')?;
    Some(Blunder::Brackets { inner: meant(inner, length)? })
}

/// `fe80::1%eth0`
fn zone(address: &str, length: Option<&str>) -> Option<Blunder> {
    let (address, _zone) = address.split_once('%')?;
    Some(Blunder::Zone { meant: meant(address, length)? })
}

/// The intended text, if it is a prefix.
fn meant(address: &str, length: Option<&str>) -> Option<String> {
    let text = length.map_or_else(|| address.to_owned(), |length| format!("{address}/{length}"));
    cidr(&text).is_ok().then_some(text)
}

/// `nfs1.example.com`
fn name(address: &str) -> Option<Blunder> {
    let of_a_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let name = (1..=MAX_NAME).contains(&address.len())
        && address.bytes().all(of_a_name)
        && address.bytes().any(|byte| byte.is_ascii_alphabetic());
    name.then(|| Blunder::Name { name: address.to_owned() })
}

/// `192.0.2.1:111`
fn port(address: &str) -> Option<Blunder> {
    let (address, port) = address.split_once(':')?;
    let address: Ipv4Addr = address.parse().ok()?;
    digits(port).then_some(Blunder::Port { address: address.into() })
}

/// Dotted numbers that are not an IPv4 address.
fn ipv4(address: &str, length: Option<&str>) -> Option<Blunder> {
    let parts: Vec<&str> = address.split('.').collect();
    let numbers: Vec<&str> = parts.iter().copied().take_while(|part| digits(part)).collect();
    let wildcards = &parts[numbers.len()..];
    let too_big = numbers.iter().any(|number| strip_zeros(number).parse::<u8>().is_err());
    if parts.len() > 4 || numbers.is_empty() || wildcards.iter().any(|part| *part != "*") {
        return None;
    }
    if too_big {
        return Some(Blunder::OctetTooBig);
    }
    // Missing numbers on the right are zero. Without a given length, the suggested prefix covers all values of them.
    let whole = numbers
        .iter()
        .map(|number| strip_zeros(number))
        .chain(["0"; 4])
        .take(4)
        .collect::<Vec<_>>()
        .join(".");
    let covered = |count: usize| format!("{whole}/{}", count * 8);
    if !wildcards.is_empty() {
        let meant = cidr(&covered(numbers.len())).ok()?;
        return length.is_none().then_some(Blunder::Wildcard { meant });
    }
    let meant = parse(
        &length.map_or_else(|| covered(numbers.len()), |length| format!("{whole}/{}", strip_zeros(length))),
    );
    let meant = meant.ok();
    if numbers.len() < 4 {
        Some(Blunder::TooFewOctets { meant })
    } else {
        Some(Blunder::AddressLeadingZeros { meant })
    }
}
/// Whether one of these prefixes is this one, or around it.
pub fn is_covered(prefix: IpNet, by: &HashSet<IpNet>) -> bool {
    std::iter::successors(Some(prefix), IpNet::supernet).any(|around| by.contains(&around))
}
