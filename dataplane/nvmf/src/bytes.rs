//! Little-endian fields at fixed offsets of fixed-size arrays and of slices
//! whose length was checked before.

/// The 16-bit field at `at`.
#[inline]
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array_at(bytes, at))
}

/// The 32-bit field at `at`.
#[inline]
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

/// The 64-bit field at `at`.
#[inline]
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}

/// The `N` bytes at `at`.
#[inline]
pub(crate) fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

/// CRC32C of what gave `crc`, and `bytes` behind it. A call, never inlined: its code is
/// long, and those who have no digests run past it all the time.
#[inline(never)]
pub(crate) fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
    checksum::crc32c_append(crc, bytes)
}

/// Writes `field` at `at`; numbers come as `to_le_bytes`.
#[inline]
pub(crate) fn put(bytes: &mut [u8], at: usize, field: impl AsRef<[u8]>) {
    let field = field.as_ref();
    bytes[at..at + field.len()].copy_from_slice(field);
}

/// Writes `text` at `at`, padded with `pad` to `len` bytes; what is longer is cut.
pub(crate) fn put_text(bytes: &mut [u8], at: usize, len: usize, text: &str, pad: u8) {
    let n = text.len().min(len);
    bytes[at..at + n].copy_from_slice(&text.as_bytes()[..n]);
    bytes[at + n..at + len].fill(pad);
}
