//! The names of programs: rpc(5).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};

/// Where the system has them.
const FILE: &str = "/etc/rpc";
/// It has two kilobytes.
const LARGEST: u64 = 1 << 20;

/// Those that one meets, for systems without the file. The names are those of Debian's.
const WELL_KNOWN: [(u32, &str); 14] = [
    (100_000, "portmapper"),
    (100_001, "rstatd"),
    (100_002, "rusersd"),
    (100_003, "nfs"),
    (100_004, "ypserv"),
    (100_005, "mountd"),
    (100_007, "ypbind"),
    (100_008, "walld"),
    (100_009, "yppasswdd"),
    (100_011, "rquotad"),
    (100_021, "nlockmgr"),
    (100_024, "status"),
    (100_069, "ypxfrd"),
    (100_227, "nfs_acl"),
];

/// Names by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programs(BTreeMap<u32, String>);

impl Programs {
    /// Those that this system knows; without its file, the well-known ones.
    pub fn of_this_host() -> Self {
        let read = || -> io::Result<String> {
            let mut bytes = Vec::new();
            File::open(FILE)?.take(LARGEST).read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        read().map_or_else(|_| Self::well_known(), |text| Self::parse(&text))
    }

    /// The well-known ones.
    pub fn well_known() -> Self {
        Self(WELL_KNOWN.into_iter().map(|(number, name)| (number, name.to_owned())).collect())
    }

    /// A name, a number and other names a line; `#` begins a comment. Of two names for a number, the first counts.
    fn parse(text: &str) -> Self {
        let mut names = BTreeMap::new();
        for line in text.lines() {
            let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
            if let (Some(name), Some(Ok(number))) = (words.next(), words.next().map(str::parse)) {
                names.entry(number).or_insert_with(|| name.to_owned());
            }
        }
        Self(names)
    }

    /// The name of a program.
    pub fn name(&self, program: u32) -> Option<&str> {
        self.0.get(&program).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_the_manual_says() {
        let programs = Programs::parse(
            "# comment\nportmapper\t100000\tportmap sunrpc rpcbind\n\nnfs 100003 # nfsprog\n\
             other 100000\nhalf\nword number\n#status 100024\nbwnfsd          788585389",
        );
        assert_eq!(programs.name(100_000), Some("portmapper"));
        assert_eq!(programs.name(100_003), Some("nfs"));
        assert_eq!(programs.name(100_024), None);
        assert_eq!(programs.name(788_585_389), Some("bwnfsd"));
        assert_eq!(programs.0.len(), 3);
        assert_eq!(Programs::well_known().name(100_005), Some("mountd"));
    }
}
