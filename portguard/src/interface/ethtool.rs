//! Information from drivers: `SIOCETHTOOL` (`include/uapi/linux/ethtool.h`).

use std::ffi::CStr;
use std::os::fd::AsRawFd as _;

use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::name_bytes;

const GET_DRIVER: u32 = 0x03;
const GET_FLAGS: u32 = 0x25;
const GET_CHANNELS: u32 = 0x3c;
/// `ETH_FLAG_LRO`.
const LARGE_RECEIVE_OFFLOAD: u32 = 1 << 15;

/// The information from a driver, as far as the driver supports the requests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Driver {
    /// Its name.
    pub(crate) name: Option<String>,
    /// Whether it merges received packets.
    pub(crate) large_receive_offload: bool,
    /// The number of receive queues in use, and the largest number of them.
    pub(crate) channels: Option<(u32, u32)>,
}

/// `struct ethtool_drvinfo`.
#[repr(C)]
struct DriverInfo {
    command: u32,
    driver: [u8; 32],
    rest: [u8; 160],
}

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    value: u32,
}

/// `struct ethtool_channels`.
#[repr(C)]
struct Channels {
    command: u32,
    /// Receive, transmit, other and combined.
    most: [u32; 4],
    in_use: [u32; 4],
}

impl Driver {
    /// Sends the requests to the driver of an interface of this network namespace.
    pub(crate) fn of(interface: &str) -> Self {
        let mut info = DriverInfo { command: GET_DRIVER, driver: [0; 32], rest: [0; 160] };
        let mut flags = Value { command: GET_FLAGS, value: 0 };
        let mut channels = Channels { command: GET_CHANNELS, most: [0; 4], in_use: [0; 4] };
        let name = ask(interface, &mut info).and_then(|()| {
            let name = CStr::from_bytes_until_nul(&info.driver).ok()?;
            Some(name.to_string_lossy().into_owned())
        });
        Self {
            name,
            large_receive_offload: ask(interface, &mut flags).is_some()
                && flags.value & LARGE_RECEIVE_OFFLOAD != 0,
            channels: ask(interface, &mut channels).map(|()| {
                let [rx, _, _, combined] = channels.in_use;
                let [most_rx, _, _, most_combined] = channels.most;
                (rx + combined, most_rx.max(most_combined))
            }),
        }
    }
}

/// Lets the driver fill in a request, which begins with its command. `None` if the driver does not support it.
fn ask<T>(interface: &str, request: &mut T) -> Option<()> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).ok()?;
    // SAFETY: all zeroes is a valid value of this plain C struct.
    let mut message: libc::ifreq = unsafe { std::mem::zeroed() };
    let name = name_bytes(interface);
    // One byte remains zero, to end the name.
    if name.len() >= message.ifr_name.len() {
        return None;
    }
    for (to, from) in message.ifr_name.iter_mut().zip(name) {
        *to = from as libc::c_char;
    }
    message.ifr_ifru.ifru_data = std::ptr::from_mut(request).cast();
    // SAFETY: the request is one of the structs above, each of which is as large as the data that the kernel writes for
    // its command. The request and the message outlive the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut message) };
    (result == 0).then_some(())
}

const _: () = assert!(size_of::<DriverInfo>() == 196 && size_of::<Channels>() == 36);
