//! Network devices whose other end is this process.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;

use crate::net::Namespace;
use crate::net::frame::Packet;
use nix::libc;

nix::ioctl_write_ptr_bad!(
    set_interface,
    nix::request_code_write!(b'T', 202, size_of::<libc::c_int>()),
    libc::ifreq
);
nix::ioctl_write_int_bad!(set_link_type, nix::request_code_write!(b'T', 205, size_of::<libc::c_int>()));

/// A tun device: packets without a link header go in, and come out. It goes away with the value.
#[derive(Debug)]
pub struct Tun {
    owner: File,
}

impl Tun {
    /// Its name.
    pub const INTERFACE: &'static str = "tun0";

    /// Makes one, which is down.
    pub fn new(namespace: &Namespace) -> Self {
        Self { owner: open(namespace, Self::INTERFACE, libc::IFF_TUN, false) }
    }

    /// Makes one to which each packet is handed with its ethertype (packet information), by [`Tun::send_as`].
    pub fn with_information(namespace: &Namespace) -> Self {
        Self { owner: open(namespace, Self::INTERFACE, libc::IFF_TUN, true) }
    }

    /// Hands a packet to the kernel as one of this ethertype, if the device takes packet information (`struct tun_pi`).
    pub fn send_as(&self, ethertype: u16, packet: &[u8]) {
        let information = [&[0, 0][..], &ethertype.to_be_bytes()].concat();
        (&self.owner).write_all(&[&information, packet].concat()).expect("a device that is up");
    }

    /// Makes it look like a device of another kind: `ARPHRD_*`.
    pub fn set_link_type(&self, link_type: u16) {
        // SAFETY: the descriptor is open; TUNSETLINK takes an integer.
        unsafe { set_link_type(self.owner.as_raw_fd(), link_type.into()) }.expect("TUNSETLINK");
    }

    /// Hands a packet to the kernel, as if it had come in over the device.
    pub fn send(&self, packet: &Packet) {
        (&self.owner).write_all(packet.bytes()).expect("a device that is up");
    }
}

/// A device as a virtual machine has it: each packet comes with a header that says how it is laid out (`struct virtio_net_hdr`).
#[derive(Debug)]
pub struct Virtual {
    owner: File,
}

/// How a packet is handed over.
#[derive(Debug, Clone, Copy, Default)]
pub struct Layout {
    /// How many of its bytes are in its first buffer, if it has a page or more; the others are in pages.
    pub first_len: u16,
    /// The datagrams that are to be cut out of it, if there are several.
    pub datagrams: Option<Datagrams>,
}

/// UDP datagrams in one packet.
#[derive(Debug, Clone, Copy)]
pub struct Datagrams {
    /// Where the UDP header is.
    pub header_at: u16,
    /// The payload of each in bytes, but of the last one.
    pub size: u16,
}

impl Virtual {
    /// Its name.
    pub const INTERFACE: &'static str = "virtual0";

    /// Makes one, which is down: of Ethernet frames, or of packets without a link header.
    pub fn new(namespace: &Namespace, ethernet: bool) -> Self {
        let kind = if ethernet { libc::IFF_TAP } else { libc::IFF_TUN };
        Self { owner: open(namespace, Self::INTERFACE, kind | libc::IFF_VNET_HDR, false) }
    }

    /// Hands a frame to the kernel, as if it had come in over the device.
    pub fn send(&self, frame: &[u8], layout: Layout) {
        const NEEDS_CHECKSUM: u8 = 1;
        const SEGMENTS_OF_UDP: u8 = 5;
        const CHECKSUM: u16 = 6;
        let (flags, kind, size, start, offset) = match layout.datagrams {
            None => (0, 0, 0, 0, 0),
            Some(Datagrams { header_at, size }) => {
                (NEEDS_CHECKSUM, SEGMENTS_OF_UDP, size, header_at, CHECKSUM)
            }
        };
        let words = [layout.first_len, size, start, offset];
        let header = [&[flags, kind][..], &words.map(u16::to_ne_bytes).concat()].concat();
        (&self.owner).write_all(&[&header, frame].concat()).expect("a device that is up");
    }
}

/// Makes a device of a kind.
fn open(namespace: &Namespace, name: &str, kind: libc::c_int, with_information: bool) -> File {
    let information = if with_information { 0 } else { libc::IFF_NO_PI };
    let open = || File::options().read(true).write(true).open("/dev/net/tun");
    let owner = namespace.run(open).expect("/dev/net/tun (CONFIG_TUN)");
    // SAFETY: all zeroes is a valid value of this plain C struct.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (kind | information) as libc::c_short;
    // SAFETY: the descriptor is open, and the request is what TUNSETIFF takes.
    unsafe { set_interface(owner.as_raw_fd(), &raw const request) }.expect("TUNSETIFF");
    owner
}
