//! The addresses that the kernel's NFS server has been told to serve, NFSv3 included: its cache `auth.unix.ip`
//! (`ip_map_show` of net/sunrpc/svcauth_unix.c).

use std::net::IpAddr;

/// Addresses that no export is for have this domain.
const NO_DOMAIN: &str = "-no-domain-";

/// The addresses in the content of the cache: `CLASS ADDRESS DOMAIN`. Entries that are no longer valid begin with `#`.
pub fn addresses(content: &str) -> Vec<IpAddr> {
    let address = |line: &str| {
        let [class, address, domain] = line.split_whitespace().collect::<Vec<_>>().try_into().ok()?;
        let address: IpAddr = address.parse().ok()?;
        (class == "nfsd" && domain != NO_DOMAIN).then(|| address.to_canonical())
    };
    content.lines().filter_map(address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_valid_addresses_with_an_export_count() {
        let content = "#class IP domain\n# nfsd 192.0.2.1 *\nnfsd 192.0.2.7 *\nnfsd 203.0.113.9 -no-domain-\n\
                       nfsd 2001:0db8:0000:0000:0000:0000:0000:0007 10.0.0.0/8,nfs1\nnlm 192.0.2.8 *\nnfsd x y\n";
        let expected: [IpAddr; 2] = ["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()];
        assert_eq!(addresses(content), expected);
    }
}
