//! What is known of losses: the variables of loss recovery, and what one ACK adds to them.

use crate::tcp::header::SACKS_MAX;
use crate::tcp::seq::Seq;
use crate::tcp::shared::NEVER;
use crate::time::Instant;

/// What one ACK told.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    /// Bytes newly known to have arrived.
    pub(crate) delivered: u32,
    /// SND.UNA moved.
    pub(crate) advanced: bool,
    /// When the oldest segment that it acknowledges and that was sent once was sent.
    pub(crate) oldest: Option<Instant>,
    /// The same for the newest.
    pub(crate) newest: Option<Instant>,
    /// It reports a duplicate (RFC 2883), by its first block.
    pub(crate) duplicate: Option<(Seq, Seq)>,
    /// New blocks were SACKed.
    pub(crate) sacked: bool,
    /// It acknowledges something that was sent again.
    pub(crate) resent: bool,
    /// A classical duplicate ACK (RFC 5681, section 2).
    pub(crate) repeated: bool,
    /// The peer echoes a congestion mark.
    pub(crate) echoed: bool,
    pub(crate) echo: Option<u32>,
}

/// What the sender is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing is known to be lost.
    Open,
    /// Repairing losses that acknowledgments told of.
    Recovery,
    /// Repairing after a timeout.
    Loss,
}

/// What to go back to if nothing was lost after all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Undo {
    pub(crate) cwnd: u32,
    pub(crate) ssthresh: u32,
    /// SND.UNA when the window was reduced.
    pub(crate) marker: Seq,
    /// Segments sent again since, less those the peer reported as duplicates.
    pub(crate) resent: u32,
    /// The timestamp of the first of them (Eifel, RFC 3522).
    pub(crate) stamp: Option<u32>,
}

/// A tail loss probe that is out (RFC 8985, 7.1).
#[derive(Clone, Copy, Debug)]
pub(crate) struct TailProbe {
    pub(crate) end: Seq,
    pub(crate) resent: bool,
}

/// The variables of loss recovery.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recovery {
    pub(crate) phase: Phase,
    /// SND.NXT when it began: RecoveryPoint.
    pub(crate) point: Seq,
    pub(crate) undo: Option<Undo>,
    /// RFC 8985, 5.2: the segment sent last of all that arrived.
    pub(crate) rack_sent: Instant,
    pub(crate) rack_end: Seq,
    pub(crate) rack_rtt: u64,
    /// Highest sequence number that arrived: RACK.fack.
    pub(crate) forward: Seq,
    pub(crate) reordering: bool,
    pub(crate) reo_mult: u16,
    pub(crate) reo_persist: u8,
    /// When to look for losses again (RFC 8985, 6.2, step 5).
    pub(crate) look_again: Instant,
    /// The end of the round in which the last D-SACK counted.
    pub(crate) dsack_round: Option<Seq>,
    pub(crate) tail: Option<TailProbe>,
    /// RFC 6937.
    pub(crate) prr_flight: u32,
    pub(crate) prr_delivered: u32,
    pub(crate) prr_out: u32,
    /// The SACK blocks of the last ACK: nothing new if they come again.
    pub(crate) blocks: [(Seq, Seq); SACKS_MAX],
    /// Duplicate ACKs, for peers without SACK.
    pub(crate) repeated: u32,
    /// One reduction per window for congestion marks (RFC 3168, 6.1.2).
    pub(crate) ecn_point: Seq,
}

impl Recovery {
    /// For a connection whose first sequence number is `iss`.
    pub(crate) fn new(iss: Seq) -> Self {
        Self {
            phase: Phase::Open,
            point: iss,
            undo: None,
            rack_sent: Instant::ZERO,
            rack_end: iss,
            rack_rtt: 0,
            forward: iss,
            reordering: false,
            reo_mult: 1,
            reo_persist: 0,
            look_again: NEVER,
            dsack_round: None,
            tail: None,
            prr_flight: 0,
            prr_delivered: 0,
            prr_out: 0,
            blocks: [(Seq(0), Seq(0)); SACKS_MAX],
            repeated: 0,
            ecn_point: iss,
        }
    }

    pub(crate) fn knows_block(&self, from: Seq, to: Seq) -> bool {
        self.blocks.contains(&(from, to))
    }

    pub(crate) fn remember_blocks(&mut self, blocks: &[(Seq, Seq)]) {
        self.blocks = [(Seq(0), Seq(0)); SACKS_MAX];
        self.blocks[..blocks.len()].copy_from_slice(blocks);
    }

    pub(crate) fn tail_probe_is_out(&self) -> bool {
        self.tail.is_some()
    }

    /// Repairs up to `point` without a reduction of the window.
    pub(crate) fn repair(&mut self, point: Seq) {
        self.phase = Phase::Loss;
        self.point = point;
        self.undo = None;
    }

    /// Bytes that left during recovery, for proportional rate reduction.
    pub(crate) fn note_sent(&mut self, bytes: u32) {
        if self.phase == Phase::Recovery {
            self.prr_out = self.prr_out.saturating_add(bytes);
        }
    }
}
