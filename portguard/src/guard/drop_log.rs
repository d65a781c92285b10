//! Reads the drop log: see [`portguard_common::drop_log`].

use std::fmt;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};

use aya::maps::{Map, MapData, RingBuf};
use portguard_common::address::{Address as _, V4};
use portguard_common::drop_log::Event;
use portguard_common::reason::Denial;
use portguard_common::rpc::Request;

use crate::error::{Error, Result};

/// The drop log of a guard. A reader that takes an entry removes it from the log.
pub struct DropLog {
    id: u32,
    ring: RingBuf<MapData>,
}

/// A packet in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoggedDrop {
    /// When the program logged it, in nanoseconds of `CLOCK_MONOTONIC`.
    pub at: u64,
    /// Its source.
    pub source: IpAddr,
    /// Its source port.
    pub port: u16,
    /// The call that it contains.
    pub request: Request,
    /// Its length in bytes, from the IP header on.
    pub bytes: u32,
    /// The index of the interface that received it.
    pub ifindex: u32,
    /// Whether it was dropped; false if it passed in audit mode.
    pub was_dropped: bool,
    /// Why.
    pub reason: Denial,
}

impl DropLog {
    /// Opens a pinned ring.
    pub(super) fn open(ring: MapData) -> Result<Self> {
        let id = id(&ring)?;
        let ring = RingBuf::try_from(Map::RingBuf(ring)).map_err(|error| unreadable().caused_by(error))?;
        Ok(Self { id, ring })
    }

    /// The kernel's number for the ring.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Removes and returns the next entry, if there is one. Entries with an unknown format are skipped.
    pub fn take(&mut self) -> Option<LoggedDrop> {
        loop {
            let item = self.ring.next()?;
            if let Some(drop) = decoded(&item) {
                return Some(drop);
            }
        }
    }
}

/// The kernel's number for a ring.
pub(super) fn id(ring: &MapData) -> Result<u32> {
    Ok(ring.info().map_err(|error| unreadable().caused_by(error))?.id())
}

fn unreadable() -> Error {
    Error::failed("cannot read the log of drops of the guard")
}

impl fmt::Debug for DropLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DropLog").field("id", &self.id).finish_non_exhaustive()
    }
}

impl AsFd for DropLog {
    /// Readable when there are entries.
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the ring keeps its descriptor open for as long as it lives.
        unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) }
    }
}

/// Decodes an entry; `None` if it does not have the format of an [`Event`].
fn decoded(item: &[u8]) -> Option<LoggedDrop> {
    if item.len() != size_of::<Event>() {
        return None;
    }
    // SAFETY: the length is right, and any bytes are a valid `Event`.
    let event = unsafe { item.as_ptr().cast::<Event>().read_unaligned() };
    let source = match event.ip_version {
        4 => V4::try_from(event.source[0]).ok()?.ip(),
        _ => event.source.ip(),
    };
    Some(LoggedDrop {
        at: event.at,
        source,
        port: u16::from_be_bytes(event.port_be),
        request: Request::from_index(event.request),
        bytes: event.bytes,
        ifindex: event.ifindex,
        was_dropped: event.dropped != 0,
        reason: *Denial::ALL.get(usize::from(event.reason))?,
    })
}
