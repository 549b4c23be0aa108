//! A tap for operators: every frame, received and sent, in the format of
//! libpcap (draft-ietf-opsawg-pcap), with nanoseconds.

use crate::time::Instant;

/// Which way a frame went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the port.
    Received,
    /// To the port, before it completes checksums and cuts large segments.
    Sent,
}

/// Is shown every frame of a stack.
pub trait Tap {
    /// A frame of which `head` is the first part and `rest` the others.
    fn frame<'a>(
        &mut self,
        now: Instant,
        direction: Direction,
        head: &'a [u8],
        rest: &mut dyn Iterator<Item = &'a [u8]>,
    );
}

/// Where a [`PcapTap`] puts its bytes; writing them anywhere is the sink's business.
pub trait Sink {
    /// Takes the next bytes of the capture.
    fn write(&mut self, bytes: &[u8]);
}

impl Sink for Vec<u8> {
    fn write(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Writes a capture file's bytes into a [`Sink`].
pub struct PcapTap<S> {
    sink: S,
    snap_len: usize,
    /// Nanoseconds of the Unix epoch at the stack's time zero.
    epoch_ns: u64,
    scratch: Vec<u8>,
}

/// The magic number of captures with nanoseconds.
const MAGIC: u32 = 0xa1b2_3c4d;
const LINKTYPE_ETHERNET: u32 = 1;
const RECORD_HEADER: usize = 16;

/// What a file with the first `snap_len` bytes of every frame begins with (section 4).
pub fn pcap_header(snap_len: usize) -> [u8; 24] {
    let mut header = [0; 24];
    header[..4].copy_from_slice(&MAGIC.to_le_bytes());
    header[4..6].copy_from_slice(&2u16.to_le_bytes());
    header[6..8].copy_from_slice(&4u16.to_le_bytes());
    header[16..20].copy_from_slice(&(snap_len as u32).to_le_bytes());
    header[20..24].copy_from_slice(&LINKTYPE_ETHERNET.to_le_bytes());
    header
}

/// What comes before the `captured` bytes of a frame of `len` (section 5), so
/// many nanoseconds after 1970 began.
pub fn pcap_record(unix_ns: u64, captured: usize, len: usize) -> [u8; RECORD_HEADER] {
    let words = [
        (unix_ns / 1_000_000_000) as u32,
        (unix_ns % 1_000_000_000) as u32,
        captured as u32,
        len as u32,
    ];
    let mut header = [0; RECORD_HEADER];
    for (place, word) in header.chunks_exact_mut(4).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    header
}

/// Appends the first `snap_len` bytes of a frame to `out`; how long the frame is.
pub fn pcap_bytes<'a>(
    out: &mut Vec<u8>,
    snap_len: usize,
    head: &'a [u8],
    rest: &mut dyn Iterator<Item = &'a [u8]>,
) -> usize {
    let (end, mut len) = (out.len() + snap_len, 0);
    for part in std::iter::once(head).chain(rest) {
        let room = end - out.len();
        out.extend_from_slice(&part[..part.len().min(room)]);
        len += part.len();
    }
    len
}

impl<S: Sink> PcapTap<S> {
    /// Begins a capture of the first `snap_len` bytes of every frame.
    /// `epoch_ns` is the wall clock, in nanoseconds since 1970, at [`Instant::ZERO`].
    pub fn new(mut sink: S, snap_len: usize, epoch_ns: u64) -> Self {
        sink.write(&pcap_header(snap_len));
        Self {
            sink,
            snap_len,
            epoch_ns,
            scratch: Vec::with_capacity(RECORD_HEADER + snap_len),
        }
    }

    /// The sink, with what it has so far.
    pub fn sink(&self) -> &S {
        &self.sink
    }
}

impl<S: Sink> Tap for PcapTap<S> {
    fn frame<'a>(
        &mut self,
        now: Instant,
        _direction: Direction,
        head: &'a [u8],
        rest: &mut dyn Iterator<Item = &'a [u8]>,
    ) {
        self.scratch.clear();
        self.scratch.resize(RECORD_HEADER, 0);
        let len = pcap_bytes(&mut self.scratch, self.snap_len, head, rest);
        let captured = self.scratch.len() - RECORD_HEADER;
        let header = pcap_record(self.epoch_ns + now.as_nanos(), captured, len);
        self.scratch[..RECORD_HEADER].copy_from_slice(&header);
        self.sink.write(&self.scratch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capture_has_the_bytes_that_readers_expect() {
        let mut tap = PcapTap::new(Vec::new(), 6, 1_000_000_000);
        let mut rest = [&[4u8, 5][..], &[6, 7, 8]].into_iter();
        tap.frame(Instant(7), Direction::Sent, &[1, 2, 3], &mut rest);
        let bytes = tap.sink();
        assert_eq!(bytes[..4], [0x4d, 0x3c, 0xb2, 0xa1]);
        assert_eq!(bytes.len(), 24 + 16 + 6);
        assert_eq!(
            bytes[24..40],
            [1, 0, 0, 0, 7, 0, 0, 0, 6, 0, 0, 0, 8, 0, 0, 0]
        );
        assert_eq!(bytes[40..], [1, 2, 3, 4, 5, 6]);
    }
}
