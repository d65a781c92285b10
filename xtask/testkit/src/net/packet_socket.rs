//! Raw Ethernet frames in and out of one interface (packet(7)).

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, getsockopt, recvfrom, send,
    setsockopt, socket, sockopt,
};
use nix::{getsockopt_impl, libc, sockopt_impl};

use super::Namespace;

sockopt_impl!(
    /// Frames seen and frames lost since the last look.
    PacketStatistics,
    GetOnly,
    libc::SOL_PACKET,
    libc::PACKET_STATISTICS,
    libc::tpacket_stats
);

/// The largest frame: an IP packet of 64 KiB, its Ethernet header, some VLAN tags.
const MAX_FRAME: usize = 66_000;
/// Room for some thousand frames, each of which the kernel charges with some kilobytes.
const RECEIVE_BUFFER: usize = 64 << 20;

/// A packet socket on one interface.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
    address: LinkAddr,
}

impl PacketSocket {
    /// Opens it on `interface`. It sees what comes in and what goes out; a frame that XDP drops is not seen.
    pub fn open(namespace: &Namespace, interface: &str) -> Result<Self> {
        let open = || -> Result<Self> {
            let address = link_address(interface)?;
            let fd = socket(
                AddressFamily::Packet,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
                SockProtocol::EthAll,
            )?;
            bind(fd.as_raw_fd(), &address)?;
            setsockopt(&fd, sockopt::RcvBufForce, &RECEIVE_BUFFER)?;
            Ok(Self { fd, address })
        };
        namespace
            .run(open)
            .with_context(|| format!("cannot open a packet socket on {interface} in {}", namespace.name()))
    }

    /// The interface's MAC address.
    pub fn mac(&self) -> [u8; 6] {
        // On Linux there always is one.
        self.address.addr().unwrap_or_default()
    }

    /// Sends one frame as it is.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        loop {
            match send(self.fd.as_raw_fd(), frame, MsgFlags::empty()) {
                Ok(sent) => {
                    ensure!(sent == frame.len(), "only {sent} of {} bytes were sent", frame.len());
                    return Ok(());
                }
                // The queue is full: wait for room.
                Err(Errno::EAGAIN | Errno::ENOBUFS) => {
                    self.poll(PollFlags::POLLOUT, Duration::from_secs(1))?;
                }
                Err(errno) => return Err(errno).context("cannot send a frame"),
            }
        }
    }

    /// The next frame, `None` when none came within `patience`. VLAN tags are not in it: the kernel takes them off.
    pub fn receive(&self, patience: Duration) -> Result<Option<Vec<u8>>> {
        let mut frame = vec![0; MAX_FRAME];
        loop {
            match recvfrom::<LinkAddr>(self.fd.as_raw_fd(), &mut frame) {
                Ok((length, from)) => {
                    // Between socket and bind, it listened to all interfaces.
                    if from.is_none_or(|from| from.ifindex() == self.address.ifindex()) {
                        frame.truncate(length);
                        return Ok(Some(frame));
                    }
                }
                Err(Errno::EAGAIN) => {
                    if !self.poll(PollFlags::POLLIN, patience)? {
                        return Ok(None);
                    }
                }
                Err(errno) => return Err(errno).context("cannot receive a frame"),
            }
        }
    }

    /// Fails when the kernel had to drop frames since the last call, because nobody read them in time.
    pub fn ensure_lossless(&self) -> Result<()> {
        let lost = getsockopt(&self.fd, PacketStatistics)?.tp_drops;
        ensure!(lost == 0, "the packet socket lost {lost} frames: what it counted is too little");
        Ok(())
    }

    fn poll(&self, events: PollFlags, patience: Duration) -> Result<bool> {
        let timeout = PollTimeout::try_from(patience).context("too long a wait")?;
        match poll(&mut [PollFd::new(self.fd.as_fd(), events)], timeout) {
            Ok(ready) => Ok(ready > 0),
            // A signal: the caller's own wait looks at it.
            Err(Errno::EINTR) => Ok(false),
            Err(errno) => Err(errno).context("cannot wait for a frame"),
        }
    }
}

/// Index and MAC address of an interface of the calling thread's network namespace.
fn link_address(interface: &str) -> Result<LinkAddr> {
    getifaddrs()
        .context("cannot list the interfaces")?
        .filter(|entry| entry.interface_name == interface)
        .find_map(|entry| entry.address?.as_link_addr().copied())
        .with_context(|| format!("no interface {interface}"))
}
