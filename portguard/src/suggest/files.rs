//! The files of this host in which clients are written down.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::exports::{self, Export};
use super::nfsd;

/// No such file is larger, in bytes; what is, is read up to here.
const MAX_SIZE: u64 = 16 << 20;

const EXPORTS: &str = "etc/exports";
const MORE_EXPORTS: &str = "etc/exports.d";
const NFSD_CLIENTS: &str = "proc/fs/nfsd/clients";
/// Where statd notes the hosts that it watches: on Debian and on Red Hat.
const STATD: [&str; 2] = ["var/lib/nfs/sm", "var/lib/nfs/statd/sm"];

/// What the files say.
#[derive(Debug, Default)]
pub struct Files {
    /// The tables of exports, by path.
    pub exports: Vec<(PathBuf, Vec<Export>)>,
    /// The addresses of clients that are connected to the NFS server.
    pub nfsd: Vec<IpAddr>,
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
        for client in files.list(&root.join(NFSD_CLIENTS)) {
            let path = client.join("info");
            if let Some(text) = files.text(&path) {
                match nfsd::address(&text) {
                    Some(address) => files.nfsd.push(address),
                    None => files.problems.push(format!("cannot find an address in {}", path.display())),
                }
            }
        }
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
