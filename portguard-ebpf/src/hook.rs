//! The hooks at which the kernel runs the program: what the program knows of a packet, and what it can do with it.
//!
//! The other modules are written for any [`Hook`]. BPF global functions have arguments of fixed types, so each hook has
//! its own, in its module; a hook's methods call them.

use core::ffi::c_void;

use portguard_common::address::{V4, V6};
use portguard_common::cursor::Linear;
use portguard_common::ipv6::{ChainStep, Position};
use portguard_common::verdict::HeaderAt;

/// A packet, as the kernel hands it over at a hook.
pub(crate) trait Hook: Copy {
    /// The action that lets the packet pass.
    const PASS: u32;
    /// The action that drops the packet.
    const DROP: u32;
    /// Whether a packet may continue after its first buffer.
    const HAS_BUFFERS: bool;

    /// The first buffer of the packet. It is all of the packet, except for jumbo frames and large receive offload.
    fn first_buffer<'a>(self) -> Linear<'a>;

    /// The number of bytes in the first buffer.
    fn first_len(self) -> u64;

    /// The number of bytes in all buffers.
    fn len(self) -> u64;

    /// Copies `len` bytes that begin `offset` bytes into the packet, from any buffer; false if the packet ends before
    /// that.
    fn copy(self, offset: u32, to: *mut c_void, len: u32) -> bool;

    /// The index of the interface that received the packet.
    fn interface(self) -> u32;

    /// Judges a packet by its first buffer, where the headers of most are. Returns the action, or [`SCATTERED`].
    fn judge_first_buffer(self) -> u32;

    /// Judges a packet whose headers continue after its first buffer.
    fn judge_scattered(self) -> u32;

    /// A step along the extension headers, in the first buffer or in any.
    fn step(self, position: Position, part: Part) -> Position;

    /// Whether the UDP datagram whose header is there in a part of the packet is one whole lookup
    /// ([`portguard_common::calls::is_lookup`]), and no fragment.
    fn is_lookup(self, header_at: HeaderAt, part: Part) -> bool;

    /// Counts and logs a denied packet from this IPv4 source; the last argument is a packed
    /// [`crate::denied::Packet`]. Returns the action.
    fn denied_v4(self, source: V4, packed: u64) -> u32;

    /// Counts and logs a denied packet from this IPv6 source, as [`Hook::denied_v4`].
    fn denied_v6(self, source: V6, packed: u64) -> u32;

    /// Writes a denied packet into the log: see [`crate::log::write`].
    fn log(self, source: [u64; 2], packed: u64);

    /// Remembers the source of a TCP segment that belongs to a connection: see [`crate::connected`].
    fn connected(self);

    /// Judges any packet. It is here that all buffers are looked at, and not in the function that has looked at the first one: the stack of each
    /// function adds up along a chain of calls, rounded up to 32 bytes by kernels such as 6.1, and 512 bytes are the most.
    #[inline(always)]
    fn judge(self) -> u32 {
        match self.judge_first_buffer() {
            SCATTERED if Self::HAS_BUFFERS => self.judge_scattered(),
            action => action,
        }
    }

    /// Whether the packet continues after the first buffer.
    #[inline(always)]
    fn goes_on(self) -> bool {
        Self::HAS_BUFFERS && self.first_len() < self.len()
    }
}

/// No action of any hook: what decides about a packet is behind its first buffer.
pub(crate) const SCATTERED: u32 = 0x100;

/// The part of a packet that the parser reads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Its first buffer. Headers that are not in it may be in the next one.
    FirstBuffer,
    /// All of it, in any number of buffers.
    AllBuffers,
}

/// A step along the extension headers of a packet.
pub(crate) struct Step<H> {
    pub(crate) hook: H,
    pub(crate) part: Part,
}

impl<H: Hook> ChainStep for Step<H> {
    #[inline(always)]
    fn step(&self, position: Position) -> Position {
        self.hook.step(position, self.part)
    }
}
