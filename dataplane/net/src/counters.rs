//! Counters: every drop and every recovery, with its reason.

events::counters! {
    /// What happened since the start. One per stack; plain numbers, read whenever one likes.
    pub struct Counters {
        /// Frames handed to the stack.
        rx_frames,
        /// Bytes of the frames handed to the stack.
        rx_bytes,
        /// Frames the port took.
        tx_frames,
        /// Bytes of the frames the port took, before it cut them to segments.
        tx_bytes,
        /// Times the port had no room.
        tx_port_full,
        /// Frames shorter than their headers say.
        @drop rx_truncated,
        /// Headers that go beyond the frame's first buffer.
        @drop rx_headers_split,
        /// Frames to another station.
        @drop rx_not_for_us,
        /// Frames of another VLAN.
        @drop rx_vlan_mismatch,
        /// Frames of a protocol that the stack does not speak.
        @drop rx_ethertype_unknown,
        /// ARP packets that are malformed.
        @drop arp_malformed,
        /// ARP requests answered.
        arp_answered,
        /// ARP or neighbour solicitations sent.
        neighbor_solicited,
        /// Neighbours that did not answer.
        neighbor_failed,
        /// Neighbours forgotten to make room, or not remembered for want of it.
        neighbor_evicted,
        /// Times another station used one of our addresses, or asked for one that was not in use yet.
        address_conflicts,
        /// IP packets with a malformed header.
        @drop ip_malformed,
        /// IPv4 packets with a wrong header checksum.
        @drop ip_checksum_bad,
        /// IP packets to or from an address that is not ours to take.
        @drop ip_address_bad,
        /// IP packets from an address that no host can have, or that is ours; ARP packets too.
        @drop ip_source_bad,
        /// Fragments, refused by decision.
        @drop ip_fragments_refused,
        /// Packets of a protocol that the stack does not speak.
        @drop ip_protocol_unknown,
        /// IPv6 packets whose extension headers are refused.
        @drop ip_extension_refused,
        /// ICMP messages that are malformed.
        @drop icmp_malformed,
        /// ICMP messages with a wrong checksum.
        @drop icmp_checksum_bad,
        /// Echo requests answered.
        icmp_echo_answered,
        /// Errors sent (port or protocol unreachable).
        icmp_errors_sent,
        /// Replies not sent for their rate or for want of room.
        replies_limited,
        /// Errors about segments that we did not send, or not lately.
        @drop icmp_errors_ignored,
        /// Neighbour discovery messages that are malformed or come from beyond the link.
        @drop nd_malformed,
        /// Neighbour solicitations answered.
        nd_answered,
        /// Path MTUs lowered.
        pmtu_lowered,
        /// Errors about a path whose MTU was lowered already.
        pmtu_known,
        /// Path MTUs lowered because full segments vanished without a word.
        pmtu_black_holes,
        /// Segments with a malformed header.
        @drop tcp_malformed,
        /// Segments with a wrong checksum.
        @drop tcp_checksum_bad,
        /// Segments received for a connection.
        tcp_segments_received,
        /// Segments sent, retransmissions included.
        tcp_segments_sent,
        /// Segments sent without payload: acknowledgments, probes, resets.
        tcp_bare_sent,
        /// Times that output which fills no segment began to wait for more, because the peer was behind.
        tcp_gathered,
        /// Segments that took the short path: in order, nothing unusual.
        tcp_predicted,
        /// Segments that no connection and no listener wants.
        @drop tcp_no_connection,
        /// Resets sent.
        tcp_resets_sent,
        /// Resets accepted.
        tcp_resets_received,
        /// Connections accepted.
        tcp_accepted,
        /// Connections opened by us.
        tcp_connected,
        /// Connections gone.
        tcp_closed,
        /// Connections given up because the peer was silent.
        tcp_timed_out,
        /// SYNs and cookies not served for want of a connection: every slot is kept.
        @drop tcp_no_slot,
        /// Connections that nobody kept, and that gave their slot to newer ones.
        tcp_displaced,
        /// SYNs answered with a cookie.
        tcp_cookies_sent,
        /// Connections made from a cookie.
        tcp_cookies_accepted,
        /// ACKs that look like a cookie and are none.
        @drop tcp_cookies_bad,
        /// Half-open connections given up.
        tcp_half_open_expired,
        /// Challenge ACKs sent (RFC 5961).
        tcp_challenge_acks,
        /// Challenge ACKs not sent for their rate.
        tcp_challenge_acks_limited,
        /// Segments outside the receive window.
        @drop tcp_out_of_window,
        /// Segments with an unacceptable acknowledgment.
        @drop tcp_ack_unacceptable,
        /// Segments refused by their timestamp (PAWS).
        @drop tcp_paws_refused,
        /// Payload segments that arrived out of order and wait.
        tcp_out_of_order,
        /// Segments with nothing new.
        @drop tcp_duplicates_received,
        /// Payload segments dropped because their clusters are beyond the budget.
        @drop tcp_budget_dropped,
        /// Waiting out-of-order slices given up for in-order ones.
        tcp_reneged,
        /// Segments with payload that came after the application closed.
        @drop tcp_data_after_close,
        /// ACKs delayed until the timer.
        tcp_acks_delayed,
        /// Windows of zero advertised.
        tcp_zero_windows_sent,
        /// Probes into a closed window sent.
        tcp_window_probes,
        /// Keep-alive probes sent.
        tcp_keepalive_probes,
        /// Duplicate ACKs received.
        tcp_duplicate_acks,
        /// Segments retransmitted.
        tcp_retransmitted,
        /// Segments taken for lost by RACK or duplicate ACKs.
        tcp_marked_lost,
        /// Times a recovery began.
        tcp_recoveries,
        /// Tail loss probes sent.
        tcp_tail_loss_probes,
        /// Losses repaired by a tail loss probe alone.
        tcp_tail_losses_repaired,
        /// Retransmission timeouts.
        tcp_timeouts,
        /// Recoveries undone: nothing was lost.
        tcp_spurious_recoveries,
        /// Duplicates that the peer reported (D-SACK, RFC 2883).
        tcp_dsacks_received,
        /// SACK blocks ignored: outside what is in flight.
        tcp_sacks_ignored,
        /// SACKed data that the peer dropped after all.
        tcp_sack_reneging,
        /// Windows reduced for a congestion mark.
        tcp_ecn_reductions,
        /// Congestion marks received.
        tcp_ce_received,
        /// Times no record was free for a segment in flight.
        tcp_flight_exhausted,
        /// TIME-WAITs cut short to make room.
        tcp_time_wait_evicted,
        /// TIME-WAITs ended by a new SYN (RFC 6191).
        tcp_time_wait_reused,
    }
}

impl Counters {
    /// A TCP segment of `bytes`, headers included, left.
    #[inline]
    pub(crate) fn count_sent(&mut self, bytes: usize) {
        self.tx_frames += 1;
        self.tx_bytes += bytes as u64;
        self.tcp_segments_sent += 1;
    }
}
