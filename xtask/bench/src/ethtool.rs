//! One setting of a network card: GRO, which has a veth take in frames as a card does, by NAPI.

use std::io;
use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, Result};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use portguard_testkit::net::Namespace;

/// `struct ethtool_value` in `include/uapi/linux/ethtool.h`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// Switches generic receive offload on. Without it, or a native XDP program, a veth refuses frames that an XDP program
/// sends.
pub(super) fn switch_gro_on(namespace: &Namespace, interface: &str) -> Result<()> {
    const ETHTOOL_SGRO: u32 = 0x2c;
    namespace
        .run(|| -> Result<()> {
            let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
            let mut value = Value { command: ETHTOOL_SGRO, data: 1 };
            // SAFETY: all zeroes is a valid value of this plain C struct.
            let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
            for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes().take(libc::IFNAMSIZ - 1)) {
                *to = from.cast_signed();
            }
            request.ifr_ifru.ifru_data = (&raw mut value).cast();
            // SAFETY: the request and what it points to are valid for the time of the call.
            let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
            if result < 0 { Err(io::Error::last_os_error().into()) } else { Ok(()) }
        })
        .with_context(|| format!("cannot switch on GRO for {interface} in {}", namespace.name()))
}
