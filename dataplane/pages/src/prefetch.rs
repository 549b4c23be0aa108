//! Asking for memory before it is needed: the one place that does.
#![allow(unsafe_code)]

/// Bytes of a cache line.
const LINE: usize = 64;

/// Begins to bring all of `value` into the caches, and waits for none of it.
///
/// For what many connections have one each of: the state of the next can be on its way
/// while the last one's is worked on. It changes nothing but how long later uses take.
#[inline(always)]
pub fn prefetch<T>(value: &T) {
    let first = std::ptr::from_ref(value).cast::<i8>();
    // The last line too, wherever in its first the value begins.
    let end = first.addr() % LINE + size_of::<T>();
    for at in (0..end).step_by(LINE) {
        prefetch_line(first.wrapping_add(at));
    }
}

/// As [`prefetch`], of a value that is no longer than a line, and lies in one: the line in which it begins.
#[inline(always)]
pub(crate) fn prefetch_small<T>(value: &T) {
    const { assert!(size_of::<T>() <= LINE) };
    prefetch_line(std::ptr::from_ref(value).cast());
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline(always)]
fn prefetch_line(address: *const i8) {
    use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: every x86-64 has the instruction, and it faults for no address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(address) };
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
#[inline(always)]
fn prefetch_line(_address: *const i8) {}
