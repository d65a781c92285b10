//! The XDP hook, with the BPF global functions that take its context.
//!
//! The verifier checks a global function once, for any arguments, and not again on each path that calls it. Its variables
//! are on a stack frame of its own.

use core::arch::asm;
use core::ffi::c_void;

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::{bpf_xdp_get_buff_len, bpf_xdp_load_bytes};
use portguard_common::address::{V4, V6};
use portguard_common::cursor::Linear;
use portguard_common::frame::LONGEST_HEADER;
use portguard_common::ipv6::{self, Position};
use portguard_common::verdict::HeaderAt;

use crate::denied::{self, Packet};
use crate::hook::{Hook, Part, SCATTERED};
use crate::packet::AllBuffers;
use crate::{connected, datapath, log};

/// A packet at the hook. `BUFFERS`: whether the interface may deliver packets in several buffers.
#[derive(Clone, Copy)]
pub(crate) struct Xdp<const BUFFERS: bool>(*mut xdp_md);

/// A packet of an interface that delivers each in one buffer.
pub(crate) type OneBuffer = Xdp<false>;
/// A packet in any number of buffers: Linux 5.18 and later.
pub(crate) type Buffers = Xdp<true>;

impl<const BUFFERS: bool> Xdp<BUFFERS> {
    #[inline(always)]
    pub(crate) fn new(ctx: *mut xdp_md) -> Self {
        Self(ctx)
    }

    #[inline(always)]
    fn data(self) -> usize {
        // SAFETY: the context is the kernel's.
        unsafe { (*self.0).data as usize }
    }

    #[inline(always)]
    fn data_end(self) -> usize {
        // SAFETY: the context is the kernel's.
        unsafe { (*self.0).data_end as usize }
    }
}

impl<const BUFFERS: bool> Hook for Xdp<BUFFERS> {
    const PASS: u32 = XDP_PASS;
    const DROP: u32 = XDP_DROP;
    const HAS_BUFFERS: bool = BUFFERS;

    #[inline(always)]
    fn context(self) -> *mut c_void {
        self.0.cast()
    }

    #[inline(always)]
    fn first_buffer<'a>(self) -> Linear<'a> {
        // SAFETY: the kernel keeps this memory readable while the program runs, and nothing here writes to it (the clock
        // program does, and parses nothing).
        unsafe { Linear::from_raw(self.data() as *const u8, self.data_end() as *const u8) }
    }

    #[inline(always)]
    fn first_len(self) -> u64 {
        distance(self.data(), self.data_end())
    }

    #[inline(always)]
    fn len(self) -> u64 {
        if !BUFFERS {
            return self.first_len();
        }
        // SAFETY: the helper takes the context that the kernel has handed to the program.
        unsafe { bpf_xdp_get_buff_len(self.0) }
    }

    #[inline(always)]
    fn copy(self, offset: u32, to: *mut c_void, len: u32) -> bool {
        // SAFETY: the context is the kernel's, and the caller's buffer has this length.
        unsafe { bpf_xdp_load_bytes(self.0, offset, to, len) == 0 }
    }

    #[inline(always)]
    fn interface(self) -> u32 {
        // SAFETY: the context is the kernel's.
        unsafe { (*self.0).ingress_ifindex }
    }

    #[inline(always)]
    fn judge_first_buffer(self) -> u32 {
        if BUFFERS { portguard_any(self.0) } else { portguard_any_in_one_buffer(self.0) }
    }

    #[inline(always)]
    fn judge_scattered(self) -> u32 {
        portguard_scattered(self.0)
    }

    #[inline(always)]
    fn step(self, position: Position, part: Part) -> Position {
        Position(match part {
            Part::FirstBuffer => portguard_step(self.0, position.0),
            Part::AllBuffers => portguard_scattered_step(self.0, position.0),
        })
    }

    #[inline(always)]
    fn is_lookup(self, header_at: HeaderAt, part: Part) -> bool {
        let is_lookup = match part {
            Part::FirstBuffer => portguard_is_lookup(self.0, header_at.0),
            Part::AllBuffers => portguard_scattered_is_lookup(self.0, header_at.0),
        };
        is_lookup != 0
    }

    #[inline(always)]
    fn denied_v4(self, source: V4, packet: Packet) -> u32 {
        portguard_denied_v4(self.0, source, packet.pack())
    }

    #[inline(always)]
    fn denied_v6(self, [first, second]: V6, packet: Packet) -> u32 {
        portguard_denied_v6(self.0, first, second, packet.pack())
    }

    #[inline(always)]
    fn log(self, [first, second]: [u64; 2], packed: u64, _packets: u64) {
        portguard_log(self.0, first, second, packed);
    }

    #[inline(always)]
    fn connected(self) {
        portguard_connected(self.0);
    }
}

/// `end - start`, of two pointers into a packet, in one instruction. The compiler does not look into it: otherwise it
/// exchanges the order of several subtractions, and the verifier permits none but this one.
#[inline(always)]
pub(crate) fn distance(start: usize, mut end: usize) -> u64 {
    // SAFETY: the instruction subtracts one register from another.
    unsafe {
        asm!("{end} -= {start}", end = inout(reg) end, start = in(reg) start, options(pure, nomem, nostack));
    }
    end as u64
}

/// [`Hook::judge_first_buffer`] for packets in any number of buffers.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn portguard_any(ctx: *mut xdp_md) -> u32 {
    let hook = Xdp::<true>(ctx);
    if hook.first_len() < LONGEST_HEADER as u64 && hook.goes_on() {
        // Some drivers leave the first buffer empty. It then does not even show whether the packet is IP.
        return SCATTERED;
    }
    datapath::judge(hook, hook.first_buffer(), Part::FirstBuffer)
}

/// [`Hook::judge_first_buffer`] for packets in one buffer.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn portguard_any_in_one_buffer(ctx: *mut xdp_md) -> u32 {
    let hook = Xdp::<false>(ctx);
    datapath::judge(hook, hook.first_buffer(), Part::FirstBuffer)
}

/// [`Hook::judge_scattered`].
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn portguard_scattered(ctx: *mut xdp_md) -> u32 {
    let hook = Xdp::<true>(ctx);
    datapath::judge(hook, AllBuffers::new(hook), Part::AllBuffers)
}

/// [`Hook::step`] in the first buffer. The verifier assumes nothing about the value that it returns: if it were inlined
/// into the walk, the verifier's states of all steps would multiply.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn portguard_step(ctx: *mut xdp_md, position: u64) -> u64 {
    ipv6::walk_on(Xdp::<false>(ctx).first_buffer(), Position(position)).0
}

/// [`Hook::step`] in any buffer.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn portguard_scattered_step(ctx: *mut xdp_md, position: u64) -> u64 {
    ipv6::walk_on(AllBuffers::new(Xdp::<true>(ctx)), Position(position)).0
}

/// [`Hook::is_lookup`] in the first buffer. Returns 0 or 1.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn portguard_is_lookup(ctx: *mut xdp_md, header_at: u64) -> u32 {
    datapath::is_lookup(Xdp::<false>(ctx).first_buffer(), HeaderAt(header_at))
}

/// [`Hook::is_lookup`] in any buffer. Returns 0 or 1.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn portguard_scattered_is_lookup(ctx: *mut xdp_md, header_at: u64) -> u32 {
    datapath::is_lookup(AllBuffers::new(Xdp::<true>(ctx)), HeaderAt(header_at))
}

/// [`Hook::denied_v4`].
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn portguard_denied_v4(ctx: *mut xdp_md, source: V4, packed: u64) -> u32 {
    denied::finish(Xdp::<false>(ctx), source, Packet::unpack(packed, 1))
}

/// [`Hook::denied_v6`]; the halves of the source are two arguments.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn portguard_denied_v6(ctx: *mut xdp_md, first: u64, second: u64, packed: u64) -> u32 {
    denied::finish(Xdp::<false>(ctx), [first, second], Packet::unpack(packed, 1))
}

/// [`Hook::log`]. Returns 0.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn portguard_log(ctx: *mut xdp_md, first: u64, second: u64, packed: u64) -> u32 {
    log::write(Xdp::<false>(ctx), [first, second], packed, 1);
    0
}

/// [`Hook::connected`]. The headers must be in the first buffer; the result means nothing.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn portguard_connected(ctx: *mut xdp_md) -> u32 {
    let hook = Xdp::<false>(ctx);
    connected::witness(hook, hook.first_buffer(), Part::FirstBuffer)
}
