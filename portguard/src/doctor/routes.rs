//! The routes of this network namespace, as attributes of messages.

use nix::libc;
use nix::sys::socket::SockProtocol;

use crate::netlink::{self, Attributes, Failure, malformed, u16_at};

/// `struct rtmsg` and `struct rtnexthop`.
const HEADER_LEN: usize = 12;
const NEXT_HOP_LEN: usize = 8;

/// The attributes of each route of an address family (`AF_INET`, `AF_INET6`), in any table.
pub(super) fn attributes(family: i32) -> Result<Vec<Vec<u8>>, Failure> {
    let mut request = vec![0; HEADER_LEN];
    request.splice(..1, [family as u8]);
    let routes = netlink::dump(SockProtocol::NetlinkRoute, libc::RTM_GETROUTE, &request, libc::RTM_NEWROUTE)?;
    let attributes = |route: Vec<u8>| {
        let attributes =
            route.get(HEADER_LEN..).ok_or_else(|| malformed("the message of a route is cut off"))?;
        Ok(attributes.to_vec())
    };
    routes.into_iter().map(attributes).collect()
}

/// The next hops of a route of several (`RTA_MULTIPATH`): the interface of each, by index, and its attributes.
pub(super) fn next_hops(mut hops: &[u8]) -> Result<Vec<(u32, Attributes<'_>)>, Failure> {
    let mut found = Vec::new();
    // Each begins with its length.
    while let Some(length) = u16_at(hops, 0) {
        let hop = hops.get(..length.into()).and_then(|hop| {
            let interface = netlink::u32_at(hop, 4)?;
            Some((interface, Attributes::new(hop.get(NEXT_HOP_LEN..)?)))
        });
        found.push(hop.ok_or_else(|| malformed("the next hop of a route is cut off"))?);
        hops = hops.get(usize::from(length).next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(found)
}
