//! The hooks at which the kernel runs the program: what the program knows of a packet, and what it can do with it.
//!
//! The other modules are written for any [`Hook`]. BPF global functions have arguments of fixed types, so each hook has
//! its own, in its module; a hook's methods call them.

use core::ffi::c_void;

use portguard_common::address::{V4, V6};
use portguard_common::cursor::Linear;
use portguard_common::frame::Start;
use portguard_common::ipv6::{ChainStep, Position};
use portguard_common::totals::Count;
use portguard_common::verdict::HeaderAt;

use crate::denied::Packet;
use crate::maps;

/// A packet, as the kernel hands it over at a hook.
pub(crate) trait Hook: Copy {
    /// The action that lets the packet pass.
    const PASS: u32;
    /// The action that drops the packet.
    const DROP: u32;
    /// Whether a packet may continue after its first buffer.
    const HAS_BUFFERS: bool;

    /// The context that the kernel has handed to the program.
    fn context(self) -> *mut c_void;

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

    /// Counts and logs a denied packet from this IPv4 source. Returns the action.
    fn denied_v4(self, source: V4, packet: Packet) -> u32;

    /// Counts and logs a denied packet from this IPv6 source, as [`Hook::denied_v4`].
    fn denied_v6(self, source: V6, packet: Packet) -> u32;

    /// Writes a denied packet into the log: see [`crate::log::write`].
    fn log(self, source: [u64; 2], packed: u64, packets: u64);

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

    /// What the packet begins with.
    #[inline(always)]
    fn start(self) -> Start {
        maps::link_type().into()
    }

    /// The packets that the kernel has merged into this one, if it has.
    #[inline(always)]
    fn merged(self) -> Option<Merged> {
        None
    }

    /// Whether the packet begins where its first buffer does.
    #[inline(always)]
    fn begins_with_buffer(self) -> bool {
        true
    }

    /// Whether the packet continues after the first buffer.
    #[inline(always)]
    fn goes_on(self) -> bool {
        Self::HAS_BUFFERS && self.first_len() < self.len()
    }
}

/// No action of any hook: what decides about a packet is behind its first buffer.
pub(crate) const SCATTERED: u32 = 0x100;

/// Packets of one flow that the kernel has merged into one (GRO), or that it is still to cut out of one (GSO).
#[derive(Clone, Copy)]
pub(crate) struct Merged {
    /// How many there are; 0 if a guest or a card has not said it.
    pub(crate) segments: u32,
    /// How many bytes each of them has behind its headers, but the last one.
    pub(crate) segment_size: u32,
}

impl Merged {
    /// What they count as, all in all; `bytes` are those of the merged packet, and `headers` those of its headers.
    #[inline(always)]
    pub(crate) fn count(self, bytes: u64, headers: u64) -> Count {
        let packets = self.packets(bytes, headers);
        // A record of a packet has 32 bits for them.
        Count { packets, bytes: (bytes + (packets - 1) * headers).min(u32::MAX.into()) }
    }

    /// How many there are, as in [`Merged::count`].
    #[inline(always)]
    pub(crate) fn packets(self, bytes: u64, headers: u64) -> u64 {
        match u64::from(self.segments) {
            // The size is not 0, but the verifier does not know.
            0 => bytes.saturating_sub(headers).div_ceil(u64::from(self.segment_size).max(1)).max(1),
            segments => segments,
        }
    }
}

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
