//! What one pass of the log's checksum over 4 KiB takes by itself, on memory as the log finds it.

use std::time::Instant;

use nvlog::Crcs;

use crate::load::IO;
use crate::tcp::MSS;

/// Buffers used in turn: more than the caches next to a core hold.
const BUFFERS: usize = 8192;
/// Where the data of an in-capsule write begin in the TCP stream of one command.
const CAPSULE: usize = 72;

/// TSC ticks of one pass, the medians over many batches.
pub struct Pass {
    /// Over 4 KiB that lie in one piece.
    pub whole: f64,
    /// Over 4 KiB in the pieces in which they come off the wire.
    pub pieces: f64,
}

/// Measures both, with `depth` buffers written, as hosts write them, before any is read.
pub fn measure(depth: usize, cold: bool, tsc_hz: u64) -> Pass {
    let mut memory = vec![0u8; BUFFERS * IO];
    let pattern: Vec<u8> = (0..IO).map(|i| (i * 7 + i / 256) as u8).collect();
    let cut = [MSS - CAPSULE, 2 * MSS - CAPSULE];
    let mut batches = [Vec::new(), Vec::new()];
    let (mut crcs, mut sum) = (Crcs::new(0), 0);
    for (number, batch) in memory.chunks_exact_mut(depth * IO).enumerate() {
        for buffer in batch.chunks_exact_mut(IO) {
            buffer.copy_from_slice(&pattern);
            if cold {
                crate::tcp::flush(buffer);
            }
        }
        let begin = Instant::now();
        for buffer in batch.chunks_exact(IO) {
            crcs.begin(0);
            match number % 2 {
                0 => crcs.take(buffer, |crc| sum ^= crc),
                _ => {
                    crcs.take(&buffer[..cut[0]], |crc| sum ^= crc);
                    crcs.take(&buffer[cut[0]..cut[1]], |crc| sum ^= crc);
                    crcs.take(&buffer[cut[1]..], |crc| sum ^= crc);
                }
            }
        }
        let ticks = begin.elapsed().as_secs_f64() * tsc_hz as f64;
        batches[number % 2].push(ticks / depth as f64);
    }
    std::hint::black_box(sum);
    let [whole, pieces] = batches.map(|mut ticks| {
        ticks.sort_by(f64::total_cmp);
        ticks[ticks.len() / 2]
    });
    Pass { whole, pieces }
}
