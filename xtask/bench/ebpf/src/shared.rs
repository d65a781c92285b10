//! What the kernel programs of the bench and `cargo xtask bench` agree on; both compile this file.

/// Sources to forge, side by side: 16 of IPv4 or 4 of IPv6, as on the wire. One cache line.
pub(crate) type Block = [u8; 64];

/// How a forger goes on; by CPU, each in a cache line of its own.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Course {
    /// The state of xorshift64, which picks the blocks; never zero.
    pub(crate) random: u64,
    /// The offset in the block of the next source; a whole block's length or more: time for another block.
    pub(crate) offset: u32,
    /// The number of the block.
    pub(crate) block: u32,
    /// The number of the block after it.
    pub(crate) next_block: u32,
    /// Up to a cache line.
    pub(crate) padding: [u32; 11],
}

/// What is forged.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Forgery {
    /// The number of blocks, a power of two, less one.
    pub(crate) block_mask: u32,
    /// The sum of the 16-bit words of the IPv4 header as they lie in memory, but for the source and the checksum.
    pub(crate) header_sum: u32,
    /// 1 if blocks come in their order, 0 if they are picked at random.
    pub(crate) in_order: u32,
}
