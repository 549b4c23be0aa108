//! CRC32C of what comes in pieces of any length, by carry-less products of 512 bits.
//!
//! Frames cut pages anywhere. A checksum that begins anew at each cut aligns itself, works on its blocks and then on what is left, and
//! all of these loops end where no branch predictor expects it. Here blocks of 64 bytes are those of the whole, whatever
//! the pieces: the block that a cut goes through is put together in a register, and a piece costs one loop.
#![allow(unsafe_code)] // masked loads, and calls of what needs the instructions

use core::arch::x86_64::{
    __m512i, _mm_crc32_u64, _mm_cvtsi128_si64, _mm_extract_epi64, _mm_xor_si128,
    _mm512_castsi512_si128, _mm512_clmulepi64_epi128, _mm512_extracti32x4_epi32,
    _mm512_loadu_si512, _mm512_maskz_loadu_epi8, _mm512_set_epi64, _mm512_setzero_si512,
    _mm512_storeu_si512, _mm512_ternarylogic_epi64, _mm512_xor_si512,
};

use crate::{crc32c, crc32c_append, multiply, power};

/// Bytes of a block.
const BLOCK: usize = 64;
/// Blocks that are worked on side by side: as many as a product takes steps.
const SIDE_BY_SIDE: usize = 4;
/// Their bytes.
const GROUP: usize = SIDE_BY_SIDE * BLOCK;

/// What the lower and the upper half of 128 bits are multiplied by, so that they count for what they are that
/// many bytes before the end (reflected: the product of two stands one bit higher than theirs, and 32 bits
/// of a 64-bit factor are its upper ones).
const fn before(bytes: usize) -> [i64; 2] {
    let bits = 8 * bytes;
    [x_to(bits + 64 - 33), x_to(bits - 33)]
}

/// x^`n` mod P.
const fn x_to(n: usize) -> i64 {
    multiply(power(n / 8), 1 << (31 - n % 8)) as i64
}

const FOLD: [i64; 2] = before(GROUP);
const FOLDS: [[i64; 2]; SIDE_BY_SIDE - 1] = [before(3 * BLOCK), before(2 * BLOCK), before(BLOCK)];
const LANES: [[i64; 2]; 4] = [before(48), before(32), before(16), [0; 2]];

/// The checksum of what was taken so far.
#[derive(Clone, Debug)]
pub(crate) struct Vector {
    /// Of every fourth block; the first is of the one that was longest ago.
    sums: [__m512i; SIDE_BY_SIDE],
    /// The first `filled` bytes of the next block, then zeros; of the very first one, with the start value in it.
    block: __m512i,
    filled: usize,
    /// No block was whole yet.
    is_first: bool,
}

impl Vector {
    /// Of nothing; `None` if the processor lacks an instruction.
    pub(crate) fn new() -> Option<Self> {
        let has_all = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("vpclmulqdq")
            && is_x86_feature_detected!("sse4.2");
        // SAFETY: the processor has the instructions.
        has_all.then(|| unsafe { Self::begin() })
    }

    /// Takes the next bytes.
    #[inline]
    pub(crate) fn take(&mut self, bytes: &[u8]) {
        // SAFETY: there is no `Vector` without the instructions.
        unsafe { self.fold(bytes) }
    }

    /// The checksum; from now on it is of nothing again.
    #[inline]
    pub(crate) fn end(&mut self) -> u32 {
        // SAFETY: there is no `Vector` without the instructions.
        unsafe { self.reduce() }
    }

    #[target_feature(enable = "avx512f,avx512bw,vpclmulqdq,sse4.2")]
    fn begin() -> Self {
        Self {
            sums: [_mm512_setzero_si512(); SIDE_BY_SIDE],
            block: start_value(),
            filled: 0,
            is_first: true,
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,vpclmulqdq,sse4.2")]
    fn fold(&mut self, bytes: &[u8]) {
        let missing = BLOCK - self.filled;
        // The first byte stands behind those that the block has.
        let begun = bytes.as_ptr().wrapping_sub(self.filled).cast();
        if bytes.len() < missing {
            let mask = (1u64 << bytes.len()).wrapping_sub(1) << self.filled;
            // SAFETY: the mask lets through what lies in `bytes` alone; nothing else is accessed.
            let part = unsafe { _mm512_maskz_loadu_epi8(mask, begun) };
            self.block = _mm512_xor_si512(self.block, part);
            self.filled += bytes.len();
            return;
        }
        // SAFETY: as above: the mask leaves out what is before `bytes`, of which there are enough.
        let part = unsafe { _mm512_maskz_loadu_epi8(u64::MAX << self.filled, begun) };
        let by = _mm512_set_epi64(
            FOLD[1], FOLD[0], FOLD[1], FOLD[0], FOLD[1], FOLD[0], FOLD[1], FOLD[0],
        );
        let [a, b, c, d] = self.sums;
        let block = _mm512_xor_si512(self.block, part);
        let (mut a, mut b, mut c, mut d) = (b, c, d, fold(a, by, block));
        let (groups, rest) = bytes[missing..].as_chunks::<GROUP>();
        for group in groups {
            let at = group.as_ptr();
            // SAFETY: it is 256 bytes, which need no alignment.
            let blocks = unsafe {
                [
                    _mm512_loadu_si512(at.cast()),
                    _mm512_loadu_si512(at.add(BLOCK).cast()),
                    _mm512_loadu_si512(at.add(2 * BLOCK).cast()),
                    _mm512_loadu_si512(at.add(3 * BLOCK).cast()),
                ]
            };
            a = fold(a, by, blocks[0]);
            b = fold(b, by, blocks[1]);
            c = fold(c, by, blocks[2]);
            d = fold(d, by, blocks[3]);
        }
        let (blocks, rest) = rest.as_chunks::<BLOCK>();
        for block in blocks {
            // SAFETY: it is 64 bytes, which need no alignment.
            let block = unsafe { _mm512_loadu_si512(block.as_ptr().cast()) };
            (a, b, c, d) = (b, c, d, fold(a, by, block));
        }
        self.sums = [a, b, c, d];
        let mask = (1u64 << rest.len()) - 1;
        // SAFETY: the mask lets through what lies in `rest` alone.
        self.block = unsafe { _mm512_maskz_loadu_epi8(mask, rest.as_ptr().cast()) };
        (self.filled, self.is_first) = (rest.len(), false);
    }

    #[target_feature(enable = "avx512f,avx512bw,vpclmulqdq,sse4.2")]
    fn reduce(&mut self) -> u32 {
        let [a, b, c, d] = self.sums;
        let (block, filled, is_first) = (self.block, self.filled, self.is_first);
        *self = Self::begin();
        let mut tail = [0; BLOCK];
        if is_first {
            let block = _mm512_xor_si512(block, start_value());
            // SAFETY: there is room for 64 bytes.
            unsafe { _mm512_storeu_si512(tail.as_mut_ptr().cast(), block) };
            return crc32c(&tail[..filled]);
        }
        let mut sum = d;
        for (old, by) in [a, b, c].into_iter().zip(FOLDS) {
            let by = _mm512_set_epi64(by[1], by[0], by[1], by[0], by[1], by[0], by[1], by[0]);
            sum = fold(old, by, sum);
        }
        let [p, q, r, s] = LANES;
        let by = _mm512_set_epi64(s[1], s[0], r[1], r[0], q[1], q[0], p[1], p[0]);
        let lanes = fold(sum, by, _mm512_setzero_si512());
        let lanes = [
            _mm512_castsi512_si128(lanes),
            _mm512_extracti32x4_epi32::<1>(lanes),
            _mm512_extracti32x4_epi32::<2>(lanes),
            _mm512_extracti32x4_epi32::<3>(sum),
        ];
        let [p, q, r, s] = lanes;
        let last = _mm_xor_si128(_mm_xor_si128(p, q), _mm_xor_si128(r, s));
        let crc = _mm_crc32_u64(0, _mm_cvtsi128_si64(last) as u64);
        let crc = !(_mm_crc32_u64(crc, _mm_extract_epi64::<1>(last) as u64) as u32);
        if filled == 0 {
            return crc;
        }
        // SAFETY: there is room for 64 bytes.
        unsafe { _mm512_storeu_si512(tail.as_mut_ptr().cast(), block) };
        crc32c_append(crc, &tail[..filled])
    }
}

/// The start value of CRC32C, where the first 32 bits are.
#[target_feature(enable = "avx512f")]
fn start_value() -> __m512i {
    _mm512_set_epi64(0, 0, 0, 0, 0, 0, 0, 0xffff_ffff)
}

/// `sum` brought forward by what `by` is for, and `block` added.
#[target_feature(enable = "avx512f,vpclmulqdq")]
fn fold(sum: __m512i, by: __m512i, block: __m512i) -> __m512i {
    let low = _mm512_clmulepi64_epi128::<0x00>(sum, by);
    let high = _mm512_clmulepi64_epi128::<0x11>(sum, by);
    // The sum of three.
    _mm512_ternarylogic_epi64::<0x96>(low, high, block)
}
