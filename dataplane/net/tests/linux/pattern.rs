//! What streams are made of: bytes that say where in which stream they belong.

/// Prime: a run of bytes in the wrong place does not look right.
const PERIOD: usize = 65_521;

/// The bytes of all streams.
#[derive(Clone)]
pub struct Pattern(std::sync::Arc<[u8]>);

impl Pattern {
    pub fn new() -> Self {
        let mut x = 0x9e37_79b9_7f4a_7c15u64;
        let period: Vec<u8> = (0..PERIOD)
            .map(|_| {
                x ^= x << 13;
                x ^= x >> 7;
                x ^= x << 17;
                (x >> 32) as u8
            })
            .collect();
        Self([&period[..], &period[..]].concat().into())
    }

    /// The bytes of `stream` at `at`: at least one, at most `len`.
    pub fn bytes(&self, stream: u64, at: u64, len: usize) -> &[u8] {
        let from = ((at + stream * 7919) % PERIOD as u64) as usize;
        &self.0[from..from + len.min(PERIOD)]
    }

    /// Compares what was received with what the stream has there.
    pub fn check(&self, stream: u64, mut at: u64, mut bytes: &[u8]) -> Result<(), String> {
        while !bytes.is_empty() {
            let right = self.bytes(stream, at, bytes.len());
            if right != &bytes[..right.len()] {
                let off = right.iter().zip(bytes).take_while(|(a, b)| a == b).count();
                return Err(format!(
                    "stream {stream} is wrong at byte {}",
                    at + off as u64
                ));
            }
            at += right.len() as u64;
            bytes = &bytes[right.len()..];
        }
        Ok(())
    }
}
