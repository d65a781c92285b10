//! Writes another source into each packet, from a table of sources that was drawn in advance.
//!
//! xorshift picks a block of sources, which is used up from front to back, and the one after it, which is loaded
//! meanwhile. So the order is random, and yet no packet has to wait for its source. Sources that must not come again soon
//! are taken in their order instead.

use aya_ebpf::helpers::generated::bpf_get_smp_processor_id;
use aya_ebpf::programs::XdpContext;

use crate::maps::{COURSES, FORGERY, SOURCES};
use crate::packet::at;
use crate::shared::{Block, Forgery};

/// Of the IPv4 header in an Ethernet frame without tags.
const V4_CHECKSUM: usize = 14 + 10;
const V4_SOURCE: usize = 14 + 12;
const V6_SOURCE: usize = 14 + 8;

/// Forges the source of an IPv4 packet, and mends the header's checksum.
#[inline(always)]
pub(crate) fn forge_v4(ctx: &XdpContext) -> Option<()> {
    let forgery = FORGERY.get(0)?;
    // SAFETY: a source is four bytes.
    let source = unsafe { next(forgery, 4)?.cast::<u32>().read_unaligned() };
    let sum = forgery.header_sum + (source & 0xffff) + (source >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    // SAFETY: the bytes are there, and packet memory is writable.
    unsafe {
        at::<u32>(ctx, V4_SOURCE)?.write_unaligned(source);
        at::<u16>(ctx, V4_CHECKSUM)?.write_unaligned(!sum as u16);
    }
    Some(())
}

/// Forges the source of an IPv6 packet. Its header has no checksum, and that of UDP is for who receives it.
#[inline(always)]
pub(crate) fn forge_v6(ctx: &XdpContext) -> Option<()> {
    let source = next(FORGERY.get(0)?, 16)?.cast::<u64>();
    // SAFETY: the bytes are there, a source is 16 bytes, and packet memory is writable. In two steps, because the
    // compiler would make a call of one.
    unsafe {
        at::<[u64; 2]>(ctx, V6_SOURCE)?;
        at::<u64>(ctx, V6_SOURCE)?.write_unaligned(source.read_unaligned());
        at::<u64>(ctx, V6_SOURCE + 8)?.write_unaligned(source.add(1).read_unaligned());
    }
    Some(())
}

/// The next source in the table, of so many bytes.
#[inline(always)]
fn next(forgery: &Forgery, len: u32) -> Option<*const u8> {
    let last = size_of::<Block>() as u32 - len;
    // SAFETY: the helper has no preconditions.
    let course = COURSES.get_ptr_mut(unsafe { bpf_get_smp_processor_id() })?;
    // SAFETY: no other CPU uses this CPU's course.
    let course = unsafe { &mut *course };
    if course.offset > last {
        course.random ^= course.random << 13;
        course.random ^= course.random >> 7;
        course.random ^= course.random << 17;
        course.block = course.next_block;
        let picked = if forgery.in_order == 0 { (course.random >> 32) as u32 } else { course.block + 1 };
        course.next_block = picked & forgery.block_mask;
        course.offset = 0;
        // Nobody waits for this load: it brings the next block into the cache.
        // SAFETY: the block is there.
        unsafe { SOURCES.get_ptr(course.next_block)?.cast::<u8>().read_volatile() };
    }
    let offset = course.offset;
    course.offset += len;
    if offset > last {
        return None;
    }
    // SAFETY: the source lies within the block.
    Some(unsafe { SOURCES.get_ptr(course.block)?.cast::<u8>().add(offset as usize) })
}
