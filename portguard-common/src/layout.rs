//! Marker traits for types whose bytes cross a boundary: from the wire, or through a map.

/// A header as it stands on the wire: any bytes are a valid value, at any address.
///
/// Copies of a header that are long enough have an alignment of their own, for the kernel's stack, where the verifier
/// wants each access aligned.
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
