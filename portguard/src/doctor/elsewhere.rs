//! Interfaces that sit on one in another network namespace, and the guards there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::thread;

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::SockProtocol;

use super::coverage;
use super::guards::{Guarded, Guards};
use crate::interface::{self, Interface};
use crate::netlink::{self, Attributes, u32_at};

/// `RTM_GETNSID` and its reply, `RTM_NEWNSID`; `struct rtgenmsg` with its padding.
const GET_ID: u16 = 90;
const NEW_ID: u16 = 88;
const HEADER_LEN: usize = 4;
/// `NETNSA_NSID` and `NETNSA_FD`.
const ID: u16 = 1;
const FD: u16 = 3;
/// Where `ip netns` keeps namespaces.
const NAMED: &str = "/run/netns";

/// How well the interfaces are guarded that sit on one in another network namespace, by their index; of those whose
/// namespace cannot be entered, nothing.
pub(super) fn guarded(all: &[Interface]) -> BTreeMap<u32, Guarded> {
    let away: Vec<&Interface> = all.iter().filter(|it| coverage::sits_elsewhere(it)).collect();
    if away.is_empty() {
        return BTreeMap::new();
    }
    let namespaces: Vec<(i32, File)> = namespaces();
    let guarded = |it: &Interface| {
        let (_, namespace) = namespaces.iter().find(|(id, _)| Some(*id) == it.link_namespace)?;
        Some((it.index, guarded_in(namespace, it.lower?)?))
    };
    away.into_iter().filter_map(guarded).collect()
}

/// The other network namespaces that can be found, with the number that this one has for each.
fn namespaces() -> Vec<(i32, File)> {
    let of_processes =
        fs::read_dir("/proc").into_iter().flatten().flatten().map(|it| it.path().join("ns/net"));
    let named = fs::read_dir(NAMED).into_iter().flatten().flatten().map(|it| it.path());
    let paths: Vec<PathBuf> = of_processes.chain(named).collect();
    let mut seen = BTreeSet::new();
    let mut namespaces = Vec::new();
    for path in paths {
        let Ok(file) = File::open(path) else { continue };
        let Ok(metadata) = file.metadata() else { continue };
        if seen.insert(metadata.ino())
            && let Some(id) = id_of(&file)
        {
            namespaces.push((id, file));
        }
    }
    namespaces
}

/// The number that this network namespace has for another one.
fn id_of(namespace: &File) -> Option<i32> {
    let attribute =
        [&8_u16.to_ne_bytes()[..], &FD.to_ne_bytes(), &namespace.as_raw_fd().to_ne_bytes()].concat();
    let request = [&[0; HEADER_LEN][..], &attribute].concat();
    let reply = netlink::request(SockProtocol::NetlinkRoute, GET_ID, &request, NEW_ID).ok()?;
    let id = Attributes::new(reply.get(HEADER_LEN..)?).flatten().find(|(kind, _)| *kind == ID)?;
    // -1: it has none.
    i32::try_from(u32_at(id.1, 0)?).ok()
}

/// How well an interface of another network namespace is guarded. A thread goes there, and ends there.
fn guarded_in(namespace: &File, index: u32) -> Option<Guarded> {
    let there = || {
        setns(namespace, CloneFlags::CLONE_NEWNET).ok()?;
        let (all, guards) = (interface::all().ok()?, Guards::gather());
        let interface = all.iter().find(|it| it.index == index)?;
        let guarded = coverage::guarded(interface, &all, &guards);
        (guarded != Guarded::Unknown).then_some(guarded)
    };
    thread::scope(|scope| scope.spawn(there).join()).ok().flatten()
}
