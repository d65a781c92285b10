//! The address and the port at which metrics are served. A user may leave out one of them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The port if the user gives no port.
pub(crate) const DEFAULT_PORT: u16 = 9111;

/// Parses `PORT`, `:PORT`, `ADDR` or `ADDR:PORT`. Without an address, only this host can reach the port.
///
/// # Errors
/// The text has none of these forms.
pub(crate) fn parse(text: &str) -> Result<SocketAddr, String> {
    if let Ok(whole) = text.parse() {
        return Ok(whole);
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(SocketAddr::new(address, DEFAULT_PORT));
    }
    let port = text.strip_prefix(':').unwrap_or(text);
    match port.parse() {
        Ok(port) if port_is_plain(text) => Ok(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)),
        _ => {
            Err("not PORT, ADDR or ADDR:PORT, such as 9111, 192.0.2.1 or [2001:db8::1]:9111; names are not \
                  resolved"
                .to_owned())
        }
    }
}

/// Whether a port has digits only: the parser of integers also accepts a sign.
fn port_is_plain(text: &str) -> bool {
    text.trim_start_matches(':').bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_address_it_is_this_host_alone() {
        for (text, expected) in [
            ("9112", "127.0.0.1:9112"),
            (":9112", "127.0.0.1:9112"),
            ("0.0.0.0", "0.0.0.0:9111"),
            ("192.0.2.1", "192.0.2.1:9111"),
            ("192.0.2.1:80", "192.0.2.1:80"),
            ("::", "[::]:9111"),
            ("[::1]", "[::1]:9111"),
            ("[2001:db8::1]:9112", "[2001:db8::1]:9112"),
        ] {
            assert_eq!(parse(text).map(|address| address.to_string()).as_deref(), Ok(expected), "{text}");
        }
        for text in ["", ":", "+80", "65536", "localhost:9111", "eth0", "192.0.2.1:", "192.0.2:80", "::9112:"]
        {
            assert!(parse(text).is_err(), "{text}: {:?}", parse(text));
        }
    }
}
