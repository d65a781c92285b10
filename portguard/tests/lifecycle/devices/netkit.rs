//! Makes a pair of netkit devices, which the `ip` of Debian 12 cannot: `drivers/net/netkit.c`.

use std::io;
use std::os::fd::AsRawFd as _;

use nix::libc;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, socket,
};

/// `include/uapi/linux/if_link.h`.
const IFLA_NETKIT_PEER_INFO: u16 = 1;
const IFLA_NETKIT_MODE: u16 = 5;
/// `struct ifinfomsg`.
const IFINFOMSG: [u8; 16] = [0; 16];

/// `enum netkit_mode`: with Ethernet headers, or without.
#[derive(Debug, Clone, Copy)]
pub(super) enum Mode {
    L2 = 0,
    L3 = 1,
}

/// Makes a pair in the network namespace of this thread.
pub(super) fn make(name: &str, peer: &str, mode: Mode) -> io::Result<()> {
    let name_of = |name: &str| attribute(libc::IFLA_IFNAME, &[name.as_bytes(), &[0]].concat());
    let peer = attribute(IFLA_NETKIT_PEER_INFO, &[&IFINFOMSG[..], &name_of(peer)].concat());
    let data = [attribute(IFLA_NETKIT_MODE, &(mode as u32).to_ne_bytes()), peer].concat();
    let info =
        [attribute(libc::IFLA_INFO_KIND, b"netkit\0"), attribute(libc::IFLA_INFO_DATA, &data)].concat();
    let body = [&IFINFOMSG[..], &name_of(name), &attribute(libc::IFLA_LINKINFO, &info)].concat();
    let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    let mut message = (16 + body.len() as u32).to_ne_bytes().to_vec();
    message.extend(libc::RTM_NEWLINK.to_ne_bytes());
    message.extend((flags as u16).to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);

    let protocol = Some(SockProtocol::NetlinkRoute);
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    send(socket.as_raw_fd(), &message, MsgFlags::empty())?;
    let mut reply = [0; 4096];
    recv(socket.as_raw_fd(), &mut reply, MsgFlags::empty())?;
    // `struct nlmsgerr` behind the header begins with the error.
    let error = i32::from_ne_bytes(reply[16..20].try_into().expect("four bytes"));
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-error)) }
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut attribute = (4 + value.len() as u16).to_ne_bytes().to_vec();
    attribute.extend(kind.to_ne_bytes());
    attribute.extend(value);
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    attribute
}
