//! Marker traits for types whose bytes cross a boundary: from the wire, or through a map.

/// A header in its layout on the wire. Any bytes at any address are a valid value.
///
/// The longer headers set an alignment (`repr(align)`), which applies to their copies: these lie on the kernel's stack,
/// where the verifier requires that each access is aligned.
///
/// # Safety
///
/// The type must be `repr(C)`, made of bytes and byte arrays only, without padding.
pub unsafe trait Wire: Copy {}

/// A record in a map that the kernel program and the loader share.
///
/// # Safety
///
/// The type must be `repr(C)`, made of integers and arrays of them only, without padding; zeroes must be its empty value.
pub unsafe trait Shared: Copy {}

// SAFETY: integers have no padding, and zero is one of them.
unsafe impl Shared for u8 {}
// SAFETY: as above.
unsafe impl Shared for u32 {}
// SAFETY: as above.
unsafe impl Shared for u64 {}
// SAFETY: an array has no padding that its elements do not have.
unsafe impl<T: Shared, const N: usize> Shared for [T; N] {}
