//! CRC32C, the digest of NVMe/TCP (3.6.1), iSCSI (RFC 3720) and others.

/// The polynomial 1EDC6F41h, reflected.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// `TABLES[k][byte]`: what `byte` does to the sum when `k` zero bytes follow it.
static TABLES: [[u32; 256]; 8] = tables();

const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut sum = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            sum = sum >> 1 ^ if sum & 1 == 1 { POLYNOMIAL } else { 0 };
            bit += 1;
        }
        tables[0][byte] = sum;
        byte += 1;
    }
    let mut k = 1;
    while k < 8 {
        let mut byte = 0;
        while byte < 256 {
            let sum = tables[k - 1][byte];
            tables[k][byte] = sum >> 8 ^ tables[0][(sum & 0xff) as usize];
            byte += 1;
        }
        k += 1;
    }
    tables
}

/// The CRC32C of `bytes`: eight at a time, by tables, so that a simulation with digests on
/// is not a test of this function; and not the target's implementation.
pub fn crc32c(bytes: &[u8]) -> u32 {
    let mut sum = !0u32;
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        let word = u64::from_le_bytes(*word) ^ u64::from(sum);
        sum = 0;
        for (i, byte) in word.to_le_bytes().into_iter().enumerate() {
            sum ^= TABLES[7 - i][usize::from(byte)];
        }
    }
    for byte in rest {
        sum = sum >> 8 ^ TABLES[0][((sum ^ u32::from(*byte)) & 0xff) as usize];
    }
    !sum
}

#[cfg(test)]
mod tests {
    use super::crc32c;
    use crate::Random;

    /// RFC 3720, appendix B.4.
    #[test]
    fn sums_are_those_of_the_rfc() {
        assert_eq!(crc32c(&[0; 32]).to_le_bytes(), [0xaa, 0x36, 0x91, 0x8a]);
        assert_eq!(crc32c(&[0xff; 32]).to_le_bytes(), [0x43, 0xab, 0xa8, 0x62]);
        let up: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&up).to_le_bytes(), [0x4e, 0x79, 0xdd, 0x46]);
        let down: Vec<u8> = (0..32).rev().collect();
        assert_eq!(crc32c(&down).to_le_bytes(), [0x5c, 0xdb, 0x3f, 0x11]);
    }

    #[test]
    fn every_length_is_summed_as_bit_by_bit() {
        let bytes = Random::new(1).bytes(100);
        for n in 0..bytes.len() {
            let mut sum = !0u32;
            for &byte in &bytes[..n] {
                sum ^= u32::from(byte);
                for _ in 0..8 {
                    sum = sum >> 1 ^ if sum & 1 == 1 { 0x82f6_3b78 } else { 0 };
                }
            }
            assert_eq!(crc32c(&bytes[..n]), !sum, "{n} bytes");
        }
    }
}
