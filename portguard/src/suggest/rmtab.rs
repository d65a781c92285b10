//! The clients that have mounted over NFSv3, as rpc.mountd(8) writes them down (`/var/lib/nfs/rmtab`): `HOST:PATH:COUNT`, and PATH
//! begins with a slash.

/// The hosts in the text of a table, each once, in its order.
pub fn hosts(text: &str) -> Vec<&str> {
    let mut hosts = Vec::new();
    for (host, _) in text.lines().filter_map(|line| line.split_once(":/")) {
        if !host.is_empty() && !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_in_front_of_the_path() {
        let text = "192.0.2.7:/srv/a:0x00000002\n192.0.2.7:/srv:b:0x00000001\n2001:db8::7:/srv/a:0x00000001\nnfs1:/x:0x1\n\
                    :/x:0x1\nnonsense\n";
        assert_eq!(hosts(text), ["192.0.2.7", "2001:db8::7", "nfs1"]);
    }
}
