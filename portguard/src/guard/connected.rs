//! Who has asked over a connection of TCP while a guard was in audit mode, as its program has noted it
//! (`portguard-ebpf/src/connected.rs`). An instance need not have the map.

use std::net::IpAddr;
use std::path::Path;

use aya::maps::{HashMap, Map, MapError};
use portguard_common::address::{Address as _, V6};
use portguard_common::names;

use super::instance::{broken, open_map};
use crate::error::Result;

/// How many sources are remembered: some 400 kB.
pub(super) const MAX_CONNECTED: u32 = 4096;

/// Whether an instance has the map.
pub(super) fn is_in(directory: &Path) -> bool {
    directory.join(names::CONNECTED).exists()
}

/// The sources that an instance knows, in order.
pub(super) fn sources(directory: &Path) -> Result<Vec<IpAddr>> {
    if !is_in(directory) {
        return Ok(Vec::new());
    }
    let unreadable = |error: MapError| broken(directory, names::CONNECTED).caused_by(error);
    let map = Map::LruHashMap(open_map(directory, names::CONNECTED)?);
    let map = HashMap::<_, V6, u64>::try_from(map).map_err(unreadable)?;
    // If a key goes meanwhile, the kernel begins again: it is not followed for ever.
    let keys = map.keys().take(2 * MAX_CONNECTED as usize);
    let mut sources: Vec<IpAddr> =
        keys.map(|key| Ok(key.map_err(unreadable)?.ip().to_canonical())).collect::<Result<_>>()?;
    sources.sort_unstable();
    sources.dedup();
    Ok(sources)
}
