//! A network device whose other end is this process.

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
        let open = || File::options().read(true).write(true).open("/dev/net/tun");
        let owner = namespace.run(open).expect("/dev/net/tun (CONFIG_TUN)");
        // SAFETY: all zeroes is a valid value of this plain C struct.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(Self::INTERFACE.bytes()) {
            *to = from.cast_signed();
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
        // SAFETY: the descriptor is open, and the request is what TUNSETIFF takes.
        unsafe { set_interface(owner.as_raw_fd(), &raw const request) }.expect("TUNSETIFF");
        Self { owner }
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
