//! The files of this host in which clients are written down.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::client::Client;
use super::exports::{self, Export};
use super::mounts::Server;
use super::{auth_cache, hosts_allow, mounts, nfsd, rmtab, securenets};

/// No such file is larger, in bytes; what is, is read up to here.
const MAX_SIZE: u64 = 16 << 20;

const EXPORTS: &str = "etc/exports";
const MORE_EXPORTS: &str = "etc/exports.d";
/// What exportfs(8) has made of the tables.
const ETAB: &str = "var/lib/nfs/etab";
const RMTAB: &str = "var/lib/nfs/rmtab";
const NFSD_CLIENTS: &str = "proc/fs/nfsd/clients";
const AUTH_CACHE: &str = "proc/net/rpc/auth.unix.ip/content";
const MOUNTS: &str = "proc/mounts";
const HOSTS_ALLOW: &str = "etc/hosts.allow";
const SECURENETS: [&str; 2] = ["var/yp/securenets", "etc/ypserv.securenets"];
/// Where statd notes the hosts that it watches: on Debian and on Red Hat.
const STATD: [&str; 2] = ["var/lib/nfs/sm", "var/lib/nfs/statd/sm"];

/// A client that is named in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Whom it stands for.
    pub client: Client,
    /// As it is written.
    pub written: String,
    /// Where: the same words for the same place.
    pub place: String,
    /// What else is known of it.
    pub detail: Option<String>,
}

/// What the files say.
#[derive(Debug, Default)]
pub struct Files {
    /// The tables of exports, by path.
    pub exports: Vec<(PathBuf, Vec<Export>)>,
    /// The addresses of clients that are connected to the NFS server.
    pub nfsd: Vec<IpAddr>,
    /// The clients in other tables: those that have mounted, of rpcbind, of NIS.
    pub named: Vec<Named>,
    /// The addresses that the NFS server was told to serve.
    pub served: Vec<IpAddr>,
    /// The NFSv3 servers of this host.
    pub servers: Vec<Server>,
    /// The files of statd, each of which is called as the host that it watches.
    pub statd: Vec<PathBuf>,
    /// What could not be read, and why.
    pub problems: Vec<String>,
}

impl Files {
    /// Reads them, below a directory that is the root of a file system.
    pub fn read(root: &Path) -> Self {
        let mut files = Self::default();
        let mut tables = vec![root.join(EXPORTS)];
        // What exportfs(8) reads: the others may be copies that editors have left.
        tables.extend(files.list(&root.join(MORE_EXPORTS)).into_iter().filter(|path| {
            let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            !hidden && path.extension().is_some_and(|extension| extension == "exports")
        }));
        for path in tables {
            if let Some(text) = files.text(&path) {
                files.exports.push((path, exports::parse(&text)));
            }
        }
        files.read_etab(root);
        for client in files.list(&root.join(NFSD_CLIENTS)) {
            let path = client.join("info");
            if let Some(text) = files.text(&path) {
                match nfsd::address(&text) {
                    Some(address) => files.nfsd.push(address),
                    None => files.problems.push(format!("cannot find an address in {}", path.display())),
                }
            }
        }
        files.read_tables(root);
        for directory in STATD {
            let watched = files.list(&root.join(directory));
            // Such as NAME.new, which is on its way to become NAME.
            files.statd.extend(
                watched
                    .into_iter()
                    .filter(|path| path.extension().is_none_or(|extension| extension != "new")),
            );
        }
        files
    }

    /// The NFSv3 servers of this host alone. If they cannot be read, there are none.
    pub fn read_servers(root: &Path) -> Vec<Server> {
        Self::default().mounted(root)
    }

    fn mounted(&mut self, root: &Path) -> Vec<Server> {
        self.text(&root.join(MOUNTS)).as_deref().map(mounts::servers).unwrap_or_default()
    }

    /// What exportfs(8) was told, and no table says: the others are there already.
    fn read_etab(&mut self, root: &Path) {
        let path = root.join(ETAB);
        let Some(text) = self.text(&path) else { return };
        let mut exported = exports::parse_state(&text);
        let tables: Vec<&Export> = self.exports.iter().flat_map(|(_, exports)| exports).collect();
        exported.retain(|export| !tables.iter().any(|written| written.is_same(export)));
        self.exports.push((path, exported));
    }

    fn read_tables(&mut self, root: &Path) {
        let path = root.join(RMTAB);
        if let Some(text) = self.text(&path) {
            let place = format!("has mounted, {}", path.display());
            self.named.extend(rmtab::hosts(&text).into_iter().map(|host| Named {
                client: Client::parse(host),
                written: host.to_owned(),
                place: place.clone(),
                detail: None,
            }));
        }
        if let Some(text) = self.text(&root.join(AUTH_CACHE)) {
            self.served = auth_cache::addresses(&text);
        }
        self.servers = self.mounted(root);
        let tables = [(HOSTS_ALLOW, hosts_allow::clients as fn(&str) -> Vec<hosts_allow::Written>)]
            .into_iter()
            .chain(SECURENETS.map(|path| (path, securenets::clients as fn(&str) -> _)));
        for (path, clients) in tables {
            let path = root.join(path);
            let Some(text) = self.text(&path) else { continue };
            self.named.extend(clients(&text).into_iter().map(|(client, written, line)| Named {
                client,
                written,
                place: format!("{}, line {line}", path.display()),
                detail: None,
            }));
        }
    }

    /// The text of a file; none if it is not there, or cannot be read.
    fn text(&mut self, path: &Path) -> Option<String> {
        let read = || -> io::Result<Vec<u8>> {
            // Without waiting for the other end of a FIFO.
            let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
            let mut bytes = Vec::new();
            file.take(MAX_SIZE).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        match read() {
            Ok(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) => self.unreadable(path, &error),
        }
    }

    /// The files in a directory, by name; none if it is not there, or cannot be read.
    fn list(&mut self, path: &Path) -> Vec<PathBuf> {
        let list = || fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>();
        match list() {
            Ok(mut paths) => {
                paths.sort_unstable();
                paths
            }
            Err(error) => self.unreadable(path, &error).unwrap_or_default(),
        }
    }

    fn unreadable<T>(&mut self, path: &Path, error: &io::Error) -> Option<T> {
        if error.kind() != io::ErrorKind::NotFound {
            self.problems.push(format!("cannot read {}: {error}", path.display()));
        }
        None
    }
}
