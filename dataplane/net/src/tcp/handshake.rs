//! Numbers that only we can make: initial sequence numbers (RFC 6528),
//! timestamp offsets, and SYN cookies (RFC 4987, 3.6; Bernstein, 1996).

use crate::tcp::header::{Outgoing, Segment, flag};
use crate::tcp::key::FlowKey;
use crate::tcp::seq::Seq;
use crate::time::Instant;
use crate::util::siphash::SipKey;

/// MSS values that a cookie can carry in three bits.
const MSS: [u16; 8] = [536, 1220, 1300, 1440, 1452, 1460, 4312, 8960];
/// A cookie's clock ticks every 64 s and is believed for one or two ticks.
const TICK_SECONDS: u64 = 64;
const TICK_MASK: u32 = 0x1f;
/// Low bits of the timestamp of a cookie's SYN-ACK: window shift, SACK, ECN.
const OPTION_BITS: u32 = 6;
const NO_SCALING: u32 = 15;

/// The secrets behind the numbers.
#[derive(Clone, Copy)]
pub(crate) struct Numbers {
    key: SipKey,
}

/// What a cookie that came back says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cookie {
    pub(crate) mss: u16,
    pub(crate) window_scale: Option<u8>,
    pub(crate) sack: bool,
    pub(crate) ecn: bool,
}

impl Numbers {
    pub(crate) fn new(key: SipKey) -> Self {
        Self { key }
    }

    /// RFC 6528, section 3: ISN = M + F(localip, localport, remoteip, remoteport, secretkey),
    /// with M a clock of four microseconds and F a keyed pseudorandom function.
    pub(crate) fn iss(&self, key: &FlowKey, now: Instant) -> Seq {
        let clock = (now.0 / 4_000) as u32;
        Seq((key.secret(self.key, 1) as u32).wrapping_add(clock))
    }

    /// RFC 7323, 7.1: timestamps start at a number of their own for each connection.
    pub(crate) fn ts_offset(&self, key: &FlowKey) -> u32 {
        key.secret(self.key, 2) as u32
    }

    /// Where the search for a port begins (RFC 6056, 3.3.3).
    pub(crate) fn port_offset(&self, key: &FlowKey) -> u32 {
        key.secret(self.key, 3) as u32
    }

    fn mac(&self, key: &FlowKey, tick: u32, irs: Seq) -> u32 {
        let extra = u64::from(irs.0) << 32 | u64::from(tick) << 8 | 4;
        key.secret(self.key, extra) as u32 & 0x00ff_ffff
    }

    fn tick(now: Instant) -> u32 {
        (now.0 / 1_000_000_000 / TICK_SECONDS) as u32
    }

    /// The SYN-ACK that carries everything it would take to remember the SYN.
    pub(crate) fn cookie(
        &self,
        key: &FlowKey,
        syn: &Segment,
        own_mss: u16,
        window_shift: u8,
        now: Instant,
    ) -> Outgoing {
        let mss = syn.mss.unwrap_or(536);
        let index = MSS.iter().rposition(|&m| m <= mss).unwrap_or(0) as u32;
        let tick = Self::tick(now);
        let mac = self.mac(key, tick, syn.seq);
        let iss = (tick & TICK_MASK) << 27 | index << 24 | mac;
        let mut header = Outgoing::new(
            key.local_port(),
            key.remote_port(),
            Seq(iss),
            flag::SYN | flag::ACK,
        );
        header.ack = syn.seq + 1;
        header.mss = Some(own_mss);
        if let Some((value, _)) = syn.timestamp {
            let ecn = syn.flags & (flag::ECE | flag::CWR) == flag::ECE | flag::CWR;
            let shift = syn.window_scale.map_or(NO_SCALING, u32::from);
            let options = shift | u32::from(syn.sack_permitted) << 4 | u32::from(ecn) << 5;
            let clock = (now.as_millis() as u32).wrapping_add(self.ts_offset(key));
            let mut stamp = clock >> OPTION_BITS << OPTION_BITS | options;
            if stamp.wrapping_sub(clock) as i32 > 0 {
                stamp = stamp.wrapping_sub(1 << OPTION_BITS);
            }
            header.timestamp = Some((stamp, value));
            header.window_scale = syn.window_scale.map(|_| window_shift);
            header.sack_permitted = syn.sack_permitted;
            header.flags |= if ecn { flag::ECE } else { 0 };
        }
        header
    }

    /// What the cookie says that `ack` acknowledges, if it is one of ours.
    pub(crate) fn open(&self, key: &FlowKey, ack: &Segment, now: Instant) -> Option<Cookie> {
        let iss = (ack.ack - 1).0;
        let irs = ack.seq - 1;
        let current = Self::tick(now);
        let tick = [current, current.wrapping_sub(1)]
            .into_iter()
            .find(|tick| tick & TICK_MASK == iss >> 27)?;
        if self.mac(key, tick, irs) != iss & 0x00ff_ffff {
            return None;
        }
        let mss = MSS[(iss >> 24 & 7) as usize];
        let Some((_, echo)) = ack.timestamp else {
            return Some(Cookie {
                mss,
                window_scale: None,
                sack: false,
                ecn: false,
            });
        };
        let shift = echo & 15;
        Some(Cookie {
            mss,
            window_scale: (shift != NO_SCALING).then_some(shift.min(14) as u8),
            sack: echo & 1 << 4 != 0,
            ecn: echo & 1 << 5 != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn flow(remote: &str) -> FlowKey {
        FlowKey::of("192.0.2.1:4420".parse().unwrap(), remote.parse().unwrap())
    }

    fn numbers() -> Numbers {
        Numbers::new(SipKey::new(&[7; 16]))
    }

    #[test]
    fn rfc6528_3_numbers_grow_with_time_and_differ_by_peer() {
        let (numbers, a) = (numbers(), flow("198.51.100.2:50000"));
        let start = Instant::from_millis(500);
        let first = numbers.iss(&a, start);
        let later = numbers.iss(&a, start + Duration::from_secs(1));
        assert_eq!(later.since(first), 250_000);
        assert_ne!(first, numbers.iss(&flow("198.51.100.2:50001"), start));
    }

    #[test]
    fn rfc4987_3_6_a_cookie_comes_back_with_the_options() {
        let (numbers, key) = (numbers(), flow("198.51.100.2:50000"));
        let now = Instant::from_millis(1_000_000);
        let mut bytes = [0; 44];
        let mut syn = Outgoing::new(50000, 4420, Seq(77), flag::SYN);
        syn.mss = Some(1460);
        syn.window_scale = Some(9);
        syn.sack_permitted = true;
        syn.timestamp = Some((5, 0));
        let len = syn.len();
        syn.emit(&mut bytes[..len]);
        let syn = Segment::parse(&bytes[..len], len).unwrap();
        let answer = numbers.cookie(&key, &syn, 1460, 7, now);
        assert_eq!(
            (answer.window_scale, answer.sack_permitted),
            (Some(7), true)
        );

        let mut ack = syn;
        ack.flags = flag::ACK;
        ack.seq = Seq(78);
        ack.ack = answer.seq + 1;
        ack.timestamp = answer.timestamp.map(|(stamp, _)| (6, stamp));
        let opened = numbers.open(&key, &ack, now + Duration::from_secs(60));
        let expected = Cookie {
            mss: 1460,
            window_scale: Some(9),
            sack: true,
            ecn: false,
        };
        assert_eq!(opened, Some(expected));
        // Neither another's, nor a guess, nor one that is too old.
        assert_eq!(numbers.open(&flow("198.51.100.3:50000"), &ack, now), None);
        assert_eq!(
            numbers.open(&key, &ack, now + Duration::from_secs(200)),
            None
        );
        ack.ack += 1;
        assert_eq!(numbers.open(&key, &ack, now), None);
    }
}
