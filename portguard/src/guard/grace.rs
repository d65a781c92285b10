//! Waits until each packet that is being judged now has been judged and counted.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::thread;
use std::time::Duration;

use aya::maps::MapData;
use aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_ARRAY;

use crate::error::{Error, Result};
use crate::guard::bpf;

/// A wait that can begin at any time. The kernel waits for running programs whenever a slot of an array of maps is set
/// (`maybe_wait_bpf_programs` in `kernel/bpf/syscall.c`); these maps have no other use.
pub(crate) struct GracePeriod {
    outer: OwnedFd,
    inner: MapData,
}

impl GracePeriod {
    /// Makes the maps that a wait needs.
    pub(crate) fn prepare() -> Result<Self> {
        Self::new().map_err(|error| {
            Error::failed("cannot make the map with which portguard waits for packets").caused_by(error)
        })
    }

    fn new() -> io::Result<Self> {
        const WORD: u32 = size_of::<u32>() as u32;
        let inner = aya_obj::Map::new_from_params(BPF_MAP_TYPE_ARRAY as u32, WORD, WORD, 1, 0);
        let inner = MapData::create(inner, "portguard_wait", None).map_err(io::Error::other)?;
        let outer = bpf::create_array_of_maps(inner.fd().as_fd())?;
        Ok(Self { outer, inner })
    }

    /// Waits until all packets that are being judged now are finished.
    pub(crate) fn wait(&self) {
        if bpf::set_inner_map(self.outer.as_fd(), 0, self.inner.fd().as_fd()).is_err() {
            // An error is not expected, because the maps are there. A packet takes microseconds.
            thread::sleep(Duration::from_millis(100));
        }
    }
}
