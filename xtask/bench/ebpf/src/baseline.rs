//! What a guard is like that is written down from the kernel's manual: an LPM trie for the list, an LRU hash for the
//! sources. It reads no more headers than it has to: one VLAN tag, IPv4 with options, IPv6 without extension headers.

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::btf_maps::{LpmTrie, LruPerCpuHashMap};
use aya_ebpf::programs::XdpContext;

use crate::maps::{BASELINE_LIST_V4, BASELINE_LIST_V6, BASELINE_SOURCES_V4, BASELINE_SOURCES_V6};
use crate::packet::read;

const PORT: [u8; 2] = 111_u16.to_be_bytes();
const ETHERTYPE_OFFSET: usize = 12;
const TAG_LEN: usize = 4;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// What the baseline knows about a source.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Tally {
    /// Dropped packets.
    pub(crate) packets: u64,
    /// Their bytes, link header and all.
    pub(crate) bytes: u64,
}

/// Only reads the source.
pub(crate) const PARSE: u8 = 0;
/// Looks the source up, too.
pub(crate) const LOOK_UP: u8 = 1;
/// Counts the sources that are not on the list, too.
pub(crate) const COUNT: u8 = 2;

/// Lets port 111 hear from the sources on the list only, if its `STEPS` go so far.
#[inline(always)]
pub(crate) fn judge<const STEPS: u8>(ctx: &XdpContext) -> u32 {
    try_judge::<STEPS>(ctx).unwrap_or(XDP_PASS)
}

#[inline(always)]
fn try_judge<const STEPS: u8>(ctx: &XdpContext) -> Option<u32> {
    let mut network = ETHERTYPE_OFFSET + 2;
    let mut ethertype: [u8; 2] = read(ctx, ETHERTYPE_OFFSET)?;
    if ethertype == [0x81, 0x00] || ethertype == [0x88, 0xa8] {
        ethertype = read(ctx, ETHERTYPE_OFFSET + TAG_LEN)?;
        network += TAG_LEN;
    }
    match ethertype {
        [0x08, 0x00] => {
            let first: u8 = read(ctx, network)?;
            let protocol: u8 = read(ctx, network + 9)?;
            let transport = network + usize::from(first & 0x0f) * 4;
            if !is_guarded(ctx, protocol, transport)? {
                return Some(XDP_PASS);
            }
            let source: [u8; 4] = read(ctx, network + 12)?;
            Some(settle::<_, STEPS>(ctx, source, 32, &BASELINE_LIST_V4, &BASELINE_SOURCES_V4))
        }
        [0x86, 0xdd] => {
            let next: u8 = read(ctx, network + 6)?;
            if !is_guarded(ctx, next, network + 40)? {
                return Some(XDP_PASS);
            }
            let source: [u8; 16] = read(ctx, network + 8)?;
            Some(settle::<_, STEPS>(ctx, source, 128, &BASELINE_LIST_V6, &BASELINE_SOURCES_V6))
        }
        _ => Some(XDP_PASS),
    }
}

#[inline(always)]
fn is_guarded(ctx: &XdpContext, protocol: u8, transport: usize) -> Option<bool> {
    if protocol != TCP && protocol != UDP {
        return Some(false);
    }
    let port: [u8; 2] = read(ctx, transport + 2)?;
    Some(port == PORT)
}

/// A value with its address at a multiple of eight bytes: the verifier wants that on the stack.
#[repr(C, align(8))]
struct OnStack<T>(T);

/// A key with the part that is loaded in one piece at such an address.
#[repr(C, align(8))]
struct StackKey<A> {
    _offset: u32,
    key: Key<A>,
}

#[inline(always)]
fn settle<A: Copy, const STEPS: u8>(
    ctx: &XdpContext,
    source: A,
    bits: u32,
    list: &LpmTrie<A, u32, 1>,
    sources: &LruPerCpuHashMap<A, Tally, 65_536>,
) -> u32 {
    let on_stack = StackKey { _offset: 0, key: Key::new(bits, source) };
    if STEPS == PARSE {
        // The compiler must not leave out what is only read.
        return if core::hint::black_box(&on_stack.key).prefix_len == bits { XDP_PASS } else { XDP_DROP };
    }
    if list.get(&on_stack.key).is_some() {
        return XDP_PASS;
    }
    if STEPS == LOOK_UP {
        return XDP_DROP;
    }
    let bytes = (ctx.data_end() - ctx.data()) as u64;
    let on_stack = OnStack(source);
    let key = &on_stack.0;
    match sources.get_ptr_mut(key) {
        Some(tally) => {
            // SAFETY: the value is this CPU's, and nothing else runs on it meanwhile.
            let tally = unsafe { &mut *tally };
            tally.packets += 1;
            tally.bytes += bytes;
        }
        None => {
            // A full map makes room by itself.
            let _ = sources.insert(key, Tally { packets: 1, bytes }, 0);
        }
    }
    XDP_DROP
}
