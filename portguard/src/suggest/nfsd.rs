//! What the kernel's NFS server tells of a client that is connected (`/proc/fs/nfsd/clients/*/info`, Linux 5.3 and
//! later) -> its address. These are clients of NFSv4; those of NFSv3 are in [`super::auth_cache`].

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

/// The address in the text of an `info`: `address: "192.0.2.7:850"` (`%pISpc` of printk).
pub fn address(info: &str) -> Option<IpAddr> {
    let quoted = info.lines().find_map(|line| line.trim().strip_prefix("address:"))?;
    let text = quoted.trim().trim_matches('"');
    let address = match text.parse::<SocketAddr>() {
        Ok(address) => address.ip(),
        // With the index of an interface, the address of a link.
        Err(_) => {
            let (address, rest) = text.split_once('%')?;
            let (_, port) = rest.split_once(']')?;
            format!("{address}]{port}").parse::<SocketAddrV6>().ok()?.ip().to_owned().into()
        }
    };
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found() {
        let info = |address: &str| {
            format!(
                "clientid: 0x2e6f4c9a5e1f1c0d\naddress: \"{address}\"\nstatus: confirmed\n\
                 seconds from last renew: 5\nname: \"Linux NFSv4.2 nfs1 address: \\\"10.9.9.9:1\\\"\"\n\
                 minor version: 2\nImplementation domain: \"kernel.org\"\n"
            )
        };
        for (text, expected) in [
            ("192.0.2.7:850", "192.0.2.7"),
            ("[2001:db8::7]:850", "2001:db8::7"),
            ("[::ffff:192.0.2.7]:850", "192.0.2.7"),
            ("[fe80::7%2]:850", "fe80::7"),
        ] {
            assert_eq!(address(&info(text)), expected.parse().ok(), "{text}");
        }
        for text in
            ["", "address:", "address: \"\"", "address: \"host:1\"", "address: \"fe80::7%2\"", "name: \"x\""]
        {
            assert_eq!(address(text), None, "{text}");
        }
    }
}
