//! What lanes count.

events::counters! {
    /// What a shard's lanes have done: those that it opens to other nodes, and those that came in.
    pub struct LaneCounters {
        /// Lanes to other nodes that the shard opens.
        @gauge lanes,
        /// Lanes to other nodes that have a session: over them the shard asks.
        @gauge lanes_up,
        /// Lanes of other nodes that have a session here: over them they ask.
        @gauge lanes_in_up,
        /// Lanes to other nodes that have a session, encrypted.
        @gauge lanes_encrypted,
        /// Sessions that began, either way.
        sessions,
        /// Sessions that ended, either way.
        sessions_ended,
        /// Times that a lane was given up: too many tries, or no session for too long.
        given_up,
        /// Frames sent, answers included.
        frames_sent,
        /// Bytes of frames sent, headers included, those of TCP aside.
        bytes_sent,
        /// Frames received, answers included.
        frames_received,
        /// Bytes of frames received, headers included, those of TCP aside.
        bytes_received,
        /// Frames that came damaged, or behind one that did: the other node was asked for them again.
        frames_damaged,
        /// Messages sent.
        messages_sent,
        /// Messages sent again: they had no answer in time or over their session, or came damaged.
        messages_resent,
        /// Messages that the other node refused.
        messages_refused,
        /// Messages of the other node that are there, intact.
        messages_received,
        /// Messages without an answer now.
        @gauge messages_unanswered,
        /// Changes in messages to the other node.
        changes_sent,
        /// Bytes of payload in changes to the other node.
        change_bytes_sent,
        /// Changes that wait now until fewer messages are without an answer.
        @gauge changes_waiting,
    }
}

impl LaneCounters {
    /// A frame of so many bytes was sent.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.frames_sent += 1;
        self.bytes_sent += bytes as u64;
    }
}
