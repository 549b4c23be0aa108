//! TCP headers and options: a view of what arrived, and the writing of what leaves.

use smoltcp::wire::{TcpOption, TcpPacket, TcpSeqNumber};

use crate::tcp::seq::Seq;

pub(crate) const HEADER_LEN: usize = 20;
/// Most SACK blocks an option can hold (RFC 2018, section 3).
pub(crate) const SACKS_MAX: usize = 4;
/// Bytes of a timestamp option with its padding (RFC 7323, appendix A).
pub(crate) const TIMESTAMP_LEN: usize = 12;

/// Control bits (RFC 9293, section 3.1).
pub(crate) mod flag {
    pub(crate) const FIN: u8 = 0x01;
    pub(crate) const SYN: u8 = 0x02;
    pub(crate) const RST: u8 = 0x04;
    pub(crate) const PSH: u8 = 0x08;
    pub(crate) const ACK: u8 = 0x10;
    pub(crate) const ECE: u8 = 0x40;
    pub(crate) const CWR: u8 = 0x80;
}

/// A received segment's header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
    pub(crate) seq: Seq,
    pub(crate) ack: Seq,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    pub(crate) header_len: usize,
    /// Payload bytes.
    pub(crate) len: u32,
    /// TSval and TSecr (RFC 7323, section 3.2).
    pub(crate) timestamp: Option<(u32, u32)>,
    /// The packet was marked on its way (RFC 3168).
    pub(crate) ce: bool,
    pub(crate) sacks: [(Seq, Seq); SACKS_MAX],
    pub(crate) sack_count: u8,
    /// Options of a SYN.
    pub(crate) mss: Option<u16>,
    pub(crate) window_scale: Option<u8>,
    pub(crate) sack_permitted: bool,
}

/// The fourth word of a header that has a timestamp for its only option: eight words
/// long, ACK alone, and the window.
#[inline]
pub(crate) fn plain_word(window: u16) -> u32 {
    0x8010_0000 | u32::from(window)
}

impl Segment {
    /// Reads the header at the front of `bytes`, of a segment of `l4_len` bytes in all.
    ///
    /// Options after a malformed one are ignored (RFC 9293, 3.2: MUST-7 asks
    /// only not to crash).
    #[inline]
    pub(crate) fn parse(bytes: &[u8], l4_len: usize) -> Option<Self> {
        let packet = TcpPacket::new_checked(bytes).ok()?;
        let header_len = packet.header_len() as usize;
        if header_len > l4_len {
            return None;
        }
        let mut segment = Self {
            source_port: packet.src_port(),
            destination_port: packet.dst_port(),
            seq: Seq(packet.seq_number().0 as u32),
            ack: Seq(packet.ack_number().0 as u32),
            flags: bytes[13],
            window: packet.window_len(),
            header_len,
            len: (l4_len - header_len) as u32,
            timestamp: None,
            ce: false,
            sacks: [(Seq(0), Seq(0)); SACKS_MAX],
            sack_count: 0,
            mss: None,
            window_scale: None,
            sack_permitted: false,
        };
        if header_len > HEADER_LEN {
            segment.parse_options(&bytes[HEADER_LEN..header_len]);
        }
        // RFC 9293, 3.1: port zero is nobody's.
        (segment.source_port != 0 && segment.destination_port != 0).then_some(segment)
    }

    /// A segment of an established connection as nearly all of them are: no
    /// options, or just a timestamp in its recommended place (RFC 7323,
    /// appendix A). `tcp` is the whole of it; `None` if it is another kind.
    #[inline]
    pub(crate) fn parse_plain(tcp: &[u8]) -> Option<Self> {
        let fixed = tcp.first_chunk::<HEADER_LEN>()?;
        let word = |at: usize| {
            u32::from_be_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]])
        };
        let (header_len, timestamp) = match fixed[12] {
            0x80 => match tcp.get(HEADER_LEN..HEADER_LEN + TIMESTAMP_LEN)? {
                &[1, 1, 8, 10, a, b, c, d, e, f, g, h] => {
                    let value = u32::from_be_bytes([a, b, c, d]);
                    let echo = u32::from_be_bytes([e, f, g, h]);
                    (HEADER_LEN + TIMESTAMP_LEN, Some((value, echo)))
                }
                _ => return None,
            },
            0x50 => (HEADER_LEN, None),
            _ => return None,
        };
        Some(Self {
            source_port: u16::from_be_bytes([fixed[0], fixed[1]]),
            destination_port: u16::from_be_bytes([fixed[2], fixed[3]]),
            seq: Seq(word(4)),
            ack: Seq(word(8)),
            flags: fixed[13],
            window: u16::from_be_bytes([fixed[14], fixed[15]]),
            header_len,
            len: (tcp.len() - header_len) as u32,
            timestamp,
            ce: false,
            sacks: [(Seq(0), Seq(0)); SACKS_MAX],
            sack_count: 0,
            mss: None,
            window_scale: None,
            sack_permitted: false,
        })
    }

    #[inline]
    fn parse_options(&mut self, options: &[u8]) {
        // RFC 7323, appendix A: nearly every segment has just this.
        if let Ok(&[1, 1, 8, 10, a, b, c, d, e, f, g, h]) =
            <&[u8; TIMESTAMP_LEN]>::try_from(options)
        {
            let value = u32::from_be_bytes([a, b, c, d]);
            let echo = u32::from_be_bytes([e, f, g, h]);
            self.timestamp = Some((value, echo));
            return;
        }
        self.parse_options_slowly(options);
    }

    fn parse_options_slowly(&mut self, mut options: &[u8]) {
        let syn = self.has(flag::SYN);
        while !options.is_empty() {
            if options[0] == 5 {
                // smoltcp reads three blocks of SACK; there can be four.
                options = self.parse_sacks(options);
                continue;
            }
            let Ok((rest, option)) = TcpOption::parse(options) else {
                return;
            };
            match option {
                TcpOption::EndOfList => return,
                TcpOption::TimeStamp { tsval, tsecr } => self.timestamp = Some((tsval, tsecr)),
                TcpOption::MaxSegmentSize(mss) if syn => self.mss = Some(mss),
                // RFC 7323, 2.3: a shift beyond 14 is taken for 14.
                TcpOption::WindowScale(shift) if syn => self.window_scale = Some(shift.min(14)),
                TcpOption::SackPermitted if syn => self.sack_permitted = true,
                _ => {}
            }
            options = rest;
        }
    }

    fn parse_sacks<'a>(&mut self, option: &'a [u8]) -> &'a [u8] {
        let len = option.get(1).copied().unwrap_or(0) as usize;
        let Some(blocks) = option.get(2..len) else {
            return &[];
        };
        for block in blocks.chunks_exact(8).take(SACKS_MAX) {
            let word = |at: usize| {
                let bytes = [block[at], block[at + 1], block[at + 2], block[at + 3]];
                Seq(u32::from_be_bytes(bytes))
            };
            self.sacks[self.sack_count as usize % SACKS_MAX] = (word(0), word(4));
            self.sack_count = (self.sack_count + 1).min(SACKS_MAX as u8);
        }
        &option[len..]
    }

    #[inline]
    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Sequence numbers the segment takes up: SEG.LEN of RFC 9293.
    #[inline]
    pub(crate) fn seq_len(&self) -> u32 {
        self.len + u32::from(self.has(flag::SYN)) + u32::from(self.has(flag::FIN))
    }

    pub(crate) fn sacks(&self) -> &[(Seq, Seq)] {
        &self.sacks[..self.sack_count as usize]
    }
}

/// A header to write.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outgoing {
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
    pub(crate) seq: Seq,
    pub(crate) ack: Seq,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    pub(crate) timestamp: Option<(u32, u32)>,
    pub(crate) sacks: [(Seq, Seq); SACKS_MAX],
    pub(crate) sack_count: usize,
    /// Options of a SYN.
    pub(crate) mss: Option<u16>,
    pub(crate) window_scale: Option<u8>,
    pub(crate) sack_permitted: bool,
}

impl Outgoing {
    pub(crate) fn new(source_port: u16, destination_port: u16, seq: Seq, flags: u8) -> Self {
        Self {
            source_port,
            destination_port,
            seq,
            ack: Seq(0),
            flags,
            window: 0,
            timestamp: None,
            sacks: [(Seq(0), Seq(0)); SACKS_MAX],
            sack_count: 0,
            mss: None,
            window_scale: None,
            sack_permitted: false,
        }
    }

    /// Blocks of SACK that fit beside the other options.
    fn sacks_that_fit(&self) -> usize {
        let room = if self.timestamp.is_some() { 3 } else { 4 };
        self.sack_count.min(room)
    }

    /// Length in bytes, options included: a multiple of four.
    pub(crate) fn len(&self) -> usize {
        let mut len = HEADER_LEN;
        if self.timestamp.is_some() {
            len += TIMESTAMP_LEN;
        }
        if self.mss.is_some() {
            len += 4;
        }
        if self.window_scale.is_some() {
            len += 4;
        }
        // In a SYN it takes the place of the timestamp's padding.
        if self.sack_permitted && self.timestamp.is_none() {
            len += 4;
        }
        match self.sacks_that_fit() {
            0 => len,
            blocks => len + 4 + 8 * blocks,
        }
    }

    /// Writes the header into `bytes`, which has just its length; the checksum stays zero.
    #[inline]
    pub(crate) fn emit(&self, bytes: &mut [u8]) {
        let len = bytes.len();
        let mut packet = TcpPacket::new_unchecked(&mut *bytes);
        packet.set_src_port(self.source_port);
        packet.set_dst_port(self.destination_port);
        packet.set_seq_number(TcpSeqNumber(self.seq.0 as i32));
        packet.set_ack_number(TcpSeqNumber(self.ack.0 as i32));
        packet.set_window_len(self.window);
        packet.set_checksum(0);
        packet.set_urgent_at(0);
        bytes[12] = ((len / 4) << 4) as u8;
        bytes[13] = self.flags;
        if let Some((value, echo)) = self.timestamp
            && len == HEADER_LEN + TIMESTAMP_LEN
            && !self.sack_permitted
        {
            let options = &mut bytes[HEADER_LEN..];
            options[..4].copy_from_slice(&[1, 1, 8, 10]);
            options[4..8].copy_from_slice(&value.to_be_bytes());
            options[8..].copy_from_slice(&echo.to_be_bytes());
        } else if len > HEADER_LEN {
            self.emit_options(&mut bytes[HEADER_LEN..]);
        }
    }

    fn emit_options(&self, mut room: &mut [u8]) {
        if let Some(mss) = self.mss {
            room = TcpOption::MaxSegmentSize(mss).emit(room);
        }
        if let Some((tsval, tsecr)) = self.timestamp {
            if self.sack_permitted {
                room = TcpOption::SackPermitted.emit(room);
            } else {
                room = TcpOption::NoOperation.emit(room);
                room = TcpOption::NoOperation.emit(room);
            }
            room = TcpOption::TimeStamp { tsval, tsecr }.emit(room);
        } else if self.sack_permitted {
            room = TcpOption::NoOperation.emit(room);
            room = TcpOption::NoOperation.emit(room);
            room = TcpOption::SackPermitted.emit(room);
        }
        if let Some(shift) = self.window_scale {
            room = TcpOption::NoOperation.emit(room);
            room = TcpOption::WindowScale(shift).emit(room);
        }
        let blocks = self.sacks_that_fit();
        if blocks > 0 {
            room = TcpOption::NoOperation.emit(room);
            room = TcpOption::NoOperation.emit(room);
            room[0] = 5;
            room[1] = 2 + 8 * blocks as u8;
            for (at, (from, to)) in room[2..].chunks_exact_mut(8).zip(&self.sacks[..blocks]) {
                at[..4].copy_from_slice(&from.0.to_be_bytes());
                at[4..].copy_from_slice(&to.0.to_be_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn option_of<T: std::fmt::Debug>(
        some: impl Strategy<Value = T>,
    ) -> impl Strategy<Value = Option<T>> {
        prop::option::of(some)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            ports in (1u16.., 1u16..), seq in any::<u32>(), ack in any::<u32>(), flags in any::<u8>(),
            window in any::<u16>(), timestamp in option_of(any::<(u32, u32)>()),
            mss in option_of(any::<u16>()), shift in option_of(0u8..15), sack_permitted in any::<bool>(),
            sacks in prop::collection::vec(any::<(u32, u32)>(), 0..=4),
        ) {
            let syn = flags & flag::SYN != 0;
            let mut out = Outgoing::new(ports.0, ports.1, Seq(seq), flags);
            out.ack = Seq(ack);
            out.window = window;
            out.timestamp = timestamp;
            if syn {
                out.mss = mss;
                out.window_scale = shift;
                out.sack_permitted = sack_permitted;
            } else {
                out.sack_count = sacks.len();
                for (slot, (from, to)) in out.sacks.iter_mut().zip(&sacks) {
                    *slot = (Seq(*from), Seq(*to));
                }
            }
            let mut bytes = vec![0; out.len()];
            prop_assert!(bytes.len() <= 60);
            out.emit(&mut bytes);
            let read = Segment::parse(&bytes, bytes.len() + 9).unwrap();
            prop_assert_eq!((read.source_port, read.destination_port), ports);
            prop_assert_eq!((read.seq, read.ack, read.flags), (Seq(seq), Seq(ack), flags));
            prop_assert_eq!((read.window, read.timestamp, read.len), (window, timestamp, 9));
            if syn {
                prop_assert_eq!((read.mss, read.window_scale), (mss, shift));
                prop_assert_eq!(read.sack_permitted, sack_permitted);
            } else {
                prop_assert_eq!(read.sacks(), &out.sacks[..out.sacks_that_fit()]);
            }
        }

        /// The short way reads what the long way reads, or nothing.
        #[test]
        fn plain_segments_are_read_the_same(
            mut bytes in prop::collection::vec(any::<u8>(), 20..60), timestamp in any::<bool>(),
        ) {
            bytes[12] = if timestamp { 0x80 } else { 0x50 };
            if timestamp && bytes.len() >= 32 {
                bytes[20..24].copy_from_slice(&[1, 1, 8, 10]);
            }
            if let Some(plain) = Segment::parse_plain(&bytes) {
                bytes[0] |= 1;
                bytes[2] |= 1;
                let again = Segment::parse_plain(&bytes).map(|s| format!("{s:?}"));
                let whole = Segment::parse(&bytes, bytes.len()).map(|s| format!("{s:?}"));
                prop_assert_eq!(again, whole);
                prop_assert!(plain.timestamp.is_some() == timestamp);
            }
        }

        #[test]
        fn rfc9293_3_2_any_options_are_survived(mut bytes in prop::collection::vec(any::<u8>(), 20..80)) {
            bytes[12] |= 0x50;
            let _ = Segment::parse(&bytes, bytes.len());
        }
    }

    #[test]
    fn rfc7323_2_3_a_shift_beyond_14_is_14() {
        let mut bytes = [0; 24];
        bytes[..4].copy_from_slice(&[1, 1, 2, 2]);
        bytes[12] = 6 << 4;
        bytes[13] = flag::SYN;
        bytes[20..].copy_from_slice(&[1, 3, 3, 77]);
        assert_eq!(Segment::parse(&bytes, 24).unwrap().window_scale, Some(14));
    }
}
