//! The NFSv3 servers of this host. They are clients of its port 111: a server looks up lockd there to grant a lock that was waited
//! for, and statd to report its reboot.

use std::net::IpAddr;

/// A server, and where it is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its address.
    pub address: IpAddr,
    /// The mount point, as the kernel writes it.
    pub mounted_on: String,
}

/// The servers in the text of `/proc/mounts` (proc(5), nfs(5)).
pub fn servers(text: &str) -> Vec<Server> {
    let server = |line: &str| {
        let mut fields = line.split_whitespace();
        let (mounted_on, kind, options) = (fields.nth(1)?, fields.next()?, fields.next()?);
        let option =
            |name: &str| options.split(',').find_map(|option| option.strip_prefix(name)?.strip_prefix('='));
        let is_v3 = matches!(option("vers")?, "3" | "2");
        let address: IpAddr = option("addr").or_else(|| option("mountaddr"))?.parse().ok()?;
        let server = Server { address: address.to_canonical(), mounted_on: mounted_on.to_owned() };
        (kind == "nfs" && is_v3).then_some(server)
    };
    text.lines().filter_map(server).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_of_version_4_need_no_portmapper() {
        let text = "proc /proc proc rw 0 0\n\
             nas:/vol /mnt/a nfs rw,relatime,vers=3,proto=tcp,mountaddr=192.0.2.9,mountvers=3,addr=192.0.2.9 0 0\n\
             nas:/vol /mnt/b\\040c nfs ro,vers=3,proto=tcp6,mountaddr=2001:db8::9,addr=2001:db8::9 0 0\n\
             nas:/vol /mnt/d nfs4 rw,vers=4.2,addr=192.0.2.10 0 0\nnas:/ /mnt/e nfs rw,vers=4.1,addr=192.0.2.11 0 0\n";
        let found: Vec<_> =
            servers(text).into_iter().map(|it| (it.address.to_string(), it.mounted_on)).collect();
        assert_eq!(
            found,
            [("192.0.2.9".into(), "/mnt/a".into()), ("2001:db8::9".into(), r"/mnt/b\040c".to_owned())]
        );
    }
}
