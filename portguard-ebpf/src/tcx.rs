//! The hook tcx (Linux 6.6), on the way in: behind XDP and the merging of packets (GRO), and in front of everything else. As in `xdp.rs`,
//! with the BPF global functions that take its context.
//!
//! The kernel has taken off the outer VLAN tag, and the data may continue in other memory. On a device without Ethernet, the data begins
//! with whatever the device has left in front of the packet (`skb->mac_len` bytes, which a program is not told). So the packet is read from its
//! network header on. The only helper for that reads the first buffer; if that does not decide, more of the packet is moved there.

use core::ffi::c_void;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{bpf_skb_load_bytes, bpf_skb_load_bytes_relative, bpf_skb_pull_data};
use portguard_common::address::{V4, V6};
use portguard_common::cursor::Linear;
use portguard_common::frame::{self, EtherType, LONGEST_HEADER, LinkType, MAX_VLAN_TAGS, Start};
use portguard_common::ipv6::{self, Position};
use portguard_common::reason::DropReason;
use portguard_common::totals::Count;
use portguard_common::verdict::{Fault, HeaderAt};

use crate::accounting::Account;
use crate::denied::{self, Packet};
use crate::hook::{Hook, Merged, Part, SCATTERED};
use crate::packet::AllBuffers;
use crate::xdp::distance;
use crate::{connected, datapath, log, maps};

/// `enum tcx_action_base` of `include/uapi/linux/bpf.h`: on to the next program, and then to the stack. (`TCX_PASS` would leave out the
/// programs behind this one.)
const TCX_NEXT: u32 = -1_i32 as u32;
/// The same: nobody sees the packet any more.
const TCX_DROP: u32 = 2;
/// `BPF_HDR_START_NET` of the same file.
const FROM_NETWORK_HEADER: u32 = 1;

/// The shortest headers of a packet with a payload: IPv4 and UDP.
const SHORTEST_HEADERS: u32 = 28;
/// So much must be in the first buffer for tags to be read there.
const TAGS: u32 = (MAX_VLAN_TAGS * 4) as u32;

/// A packet at the hook.
#[derive(Clone, Copy)]
pub(crate) struct Tcx(*mut __sk_buff);

impl Tcx {
    #[inline(always)]
    pub(crate) fn new(ctx: *mut __sk_buff) -> Self {
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

    /// What the kernel takes the packet for.
    #[inline(always)]
    fn protocol(self) -> EtherType {
        // SAFETY: the context is the kernel's.
        EtherType(unsafe { (*self.0).protocol } as u16)
    }

    /// Moves the packet into its first buffer. The kernel has no memory for it if that fails.
    ///
    /// Of a merged packet, it is no more than what came first: the others may be kept as packets of their own (`skb_shinfo(skb)->frag_list`), and
    /// Linux cannot cut those out again of which a part is gone.
    #[inline(always)]
    fn pull(self) -> bool {
        let len = self.len() as u32;
        let len = match self.merged() {
            Some(merged) => len.min(SHORTEST_HEADERS.saturating_add(merged.segment_size)),
            None => len,
        };
        // SAFETY: the context is the kernel's, and nobody uses an address within the packet from before.
        unsafe { bpf_skb_pull_data(self.0, len) == 0 }
    }

    /// Counts and drops a packet that cannot be read: it may be for the port. Returns the action.
    #[inline(always)]
    fn drop_unreadable(self) -> u32 {
        let mut account = Account::open(Count::packet(self.len()));
        account.dropped(DropReason::Fault(Fault::Truncated));
        datapath::refuse::<Self>(account)
    }
}

impl Hook for Tcx {
    const PASS: u32 = TCX_NEXT;
    const DROP: u32 = TCX_DROP;
    const HAS_BUFFERS: bool = true;

    #[inline(always)]
    fn context(self) -> *mut c_void {
        self.0.cast()
    }

    #[inline(always)]
    fn first_buffer<'a>(self) -> Linear<'a> {
        // SAFETY: the kernel keeps this memory readable while the program runs, and nothing here writes to it.
        unsafe { Linear::from_raw(self.data() as *const u8, self.data_end() as *const u8) }
    }

    #[inline(always)]
    fn first_len(self) -> u64 {
        distance(self.data(), self.data_end())
    }

    #[inline(always)]
    fn len(self) -> u64 {
        // SAFETY: the context is the kernel's.
        unsafe { (*self.0).len.into() }
    }

    #[inline(always)]
    fn copy(self, offset: u32, to: *mut c_void, len: u32) -> bool {
        let ctx = self.0.cast_const().cast();
        // SAFETY: the context is the kernel's, and the caller's buffer has this length.
        let error = unsafe {
            if self.begins_with_buffer() {
                bpf_skb_load_bytes(ctx, offset, to, len)
            } else {
                bpf_skb_load_bytes_relative(ctx, offset, to, len, FROM_NETWORK_HEADER)
            }
        };
        error == 0
    }

    #[inline(always)]
    fn interface(self) -> u32 {
        // SAFETY: the context is the kernel's.
        unsafe { (*self.0).ifindex }
    }

    #[inline(always)]
    fn start(self) -> Start {
        // SAFETY: the context is the kernel's.
        let tags_taken_off = unsafe { (*self.0).vlan_present } as usize & 1;
        if self.begins_with_buffer() {
            Start::Ethernet { tags_taken_off }
        } else {
            Start::Told { ethertype: self.protocol(), tags_taken_off }
        }
    }

    #[inline(always)]
    fn merged(self) -> Option<Merged> {
        // SAFETY: the context is the kernel's.
        let (segments, segment_size) = unsafe { ((*self.0).gso_segs, (*self.0).gso_size) };
        (segment_size != 0).then_some(Merged { segments, segment_size })
    }

    /// Not behind a device without Ethernet. The packet of such a device can also be redirected to one with Ethernet: then what stands there
    /// is no Ethernet header.
    #[inline(always)]
    fn begins_with_buffer(self) -> bool {
        maps::link_type() == LinkType::Ethernet
            && frame::ethertype(self.first_buffer()) == Some(self.protocol())
    }

    #[inline(always)]
    fn judge_first_buffer(self) -> u32 {
        portguard_tcx_any(self.0)
    }

    #[inline(always)]
    fn judge_scattered(self) -> u32 {
        match portguard_tcx_scattered(self.0, 0) {
            SCATTERED if self.pull() => portguard_tcx_scattered(self.0, 1),
            SCATTERED => self.drop_unreadable(),
            action => action,
        }
    }

    #[inline(always)]
    fn step(self, position: Position, part: Part) -> Position {
        Position(match part {
            Part::FirstBuffer => portguard_tcx_step(self.0, position.0),
            Part::AllBuffers => portguard_tcx_scattered_step(self.0, position.0),
        })
    }

    #[inline(always)]
    fn is_lookup(self, header_at: HeaderAt, part: Part) -> bool {
        let is_lookup = match part {
            Part::FirstBuffer => portguard_tcx_is_lookup(self.0, header_at.0),
            Part::AllBuffers => portguard_tcx_scattered_is_lookup(self.0, header_at.0),
        };
        is_lookup != 0
    }

    #[inline(always)]
    fn denied_v4(self, source: V4, packet: Packet) -> u32 {
        portguard_tcx_denied_v4(self.0, source, packet.pack(), packet.count.packets)
    }

    #[inline(always)]
    fn denied_v6(self, [first, second]: V6, packet: Packet) -> u32 {
        portguard_tcx_denied_v6(self.0, first, second, packet.pack(), packet.count.packets)
    }

    #[inline(always)]
    fn log(self, [first, second]: [u64; 2], packed: u64, packets: u64) {
        portguard_tcx_log(self.0, first, second, packed, packets);
    }

    #[inline(always)]
    fn connected(self) {
        portguard_tcx_connected(self.0);
    }
}

/// [`Hook::judge_first_buffer`].
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn portguard_tcx_any(ctx: *mut __sk_buff) -> u32 {
    let hook = Tcx(ctx);
    if !hook.begins_with_buffer() || (hook.first_len() < LONGEST_HEADER as u64 && hook.goes_on()) {
        return SCATTERED;
    }
    datapath::judge(hook, hook.first_buffer(), Part::FirstBuffer)
}

/// Judges a packet in several buffers, or one that does not begin where its first buffer does. Returns the action; or [`SCATTERED`], unless it
/// `is_last`, if a packet of the second kind is to be moved into its first buffer.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn portguard_tcx_scattered(ctx: *mut __sk_buff, is_last: u32) -> u32 {
    let hook = Tcx(ctx);
    let is_last = is_last != 0 || hook.begins_with_buffer();
    let mut last_of_tags = 0_u8;
    if !is_last && hook.goes_on() && !hook.copy(TAGS - 1, (&raw mut last_of_tags).cast(), 1) {
        return SCATTERED;
    }
    datapath::judge_any_buffer(hook, AllBuffers::new(hook), is_last)
}

/// [`Hook::step`] in the first buffer.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn portguard_tcx_step(ctx: *mut __sk_buff, position: u64) -> u64 {
    ipv6::walk_on(Tcx(ctx).first_buffer(), Position(position)).0
}

/// [`Hook::step`] in any buffer.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn portguard_tcx_scattered_step(ctx: *mut __sk_buff, position: u64) -> u64 {
    ipv6::walk_on(AllBuffers::new(Tcx(ctx)), Position(position)).0
}

/// [`Hook::is_lookup`] in the first buffer. Returns 0 or 1.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn portguard_tcx_is_lookup(ctx: *mut __sk_buff, header_at: u64) -> u32 {
    datapath::is_lookup(Tcx(ctx).first_buffer(), HeaderAt(header_at))
}

/// [`Hook::is_lookup`] in any buffer. Returns 0 or 1.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn portguard_tcx_scattered_is_lookup(ctx: *mut __sk_buff, header_at: u64) -> u32 {
    datapath::is_lookup(AllBuffers::new(Tcx(ctx)), HeaderAt(header_at))
}

/// [`Hook::denied_v4`]; the packet is packed, without its number of packets.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn portguard_tcx_denied_v4(
    ctx: *mut __sk_buff,
    source: V4,
    packed: u64,
    packets: u64,
) -> u32 {
    denied::finish(Tcx(ctx), source, Packet::unpack(packed, packets))
}

/// [`Hook::denied_v6`]; the halves of the source are two arguments, and the packet is as in [`portguard_tcx_denied_v4`].
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn portguard_tcx_denied_v6(
    ctx: *mut __sk_buff,
    first: u64,
    second: u64,
    packed: u64,
    packets: u64,
) -> u32 {
    denied::finish(Tcx(ctx), [first, second], Packet::unpack(packed, packets))
}

/// [`Hook::log`]. Returns 0.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn portguard_tcx_log(
    ctx: *mut __sk_buff,
    first: u64,
    second: u64,
    packed: u64,
    packets: u64,
) -> u32 {
    log::write(Tcx(ctx), [first, second], packed, packets);
    0
}

/// [`Hook::connected`]. The result means nothing.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn portguard_tcx_connected(ctx: *mut __sk_buff) -> u32 {
    let hook = Tcx(ctx);
    if hook.begins_with_buffer() {
        connected::witness(hook, hook.first_buffer(), Part::FirstBuffer)
    } else {
        connected::witness(hook, AllBuffers::new(hook), Part::AllBuffers)
    }
}
