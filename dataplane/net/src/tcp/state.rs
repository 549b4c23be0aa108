//! The connection states and the only ways between them (RFC 9293, section 3.3.2, figure 5).
//!
//! LISTEN is a listener, TIME-WAIT an entry in a table of its own, CLOSED no
//! connection at all; they are states here so that the table is whole.

/// A state of RFC 9293, section 3.3.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum State {
    Closed,
    Listen,
    SynSent,
    SynReceived,
    Established,
    FinWait1,
    FinWait2,
    CloseWait,
    Closing,
    LastAck,
    TimeWait,
}

/// What moves a connection from one state to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(
    not(test),
    expect(
        dead_code,
        reason = "the table is whole; TIME-WAIT times out in its own table"
    )
)]
pub(crate) enum Input {
    /// The application connects.
    Connect,
    /// A SYN without an acknowledgment of ours arrived.
    Syn,
    /// A SYN with the acknowledgment of ours arrived.
    SynAck,
    /// Our SYN was acknowledged.
    AckOfSyn,
    /// The application closes.
    Close,
    /// The peer's FIN is next in order.
    Fin,
    /// Our FIN was acknowledged.
    AckOfFin,
    /// A reset, an abort, or a peer given up.
    Reset,
    /// Twice the maximum segment lifetime is over.
    Timeout,
}

impl State {
    /// The state after `input`, or `None` if it changes nothing here.
    pub(crate) const fn next(self, input: Input) -> Option<State> {
        use Input as I;
        use State as S;
        Some(match (self, input) {
            (S::Closed, I::Connect) => S::SynSent,
            (S::Listen, I::Syn) => S::SynReceived,
            (S::SynSent, I::SynAck) => S::Established,
            // Simultaneous open (RFC 9293, figure 8).
            (S::SynSent, I::Syn) => S::SynReceived,
            (S::SynReceived, I::AckOfSyn) => S::Established,
            (S::SynReceived, I::Close) => S::FinWait1,
            (S::SynReceived, I::Fin) => S::CloseWait,
            (S::Established, I::Close) => S::FinWait1,
            (S::Established, I::Fin) => S::CloseWait,
            (S::FinWait1, I::AckOfFin) => S::FinWait2,
            // Simultaneous close (RFC 9293, figure 13).
            (S::FinWait1, I::Fin) => S::Closing,
            (S::FinWait2, I::Fin) => S::TimeWait,
            (S::CloseWait, I::Close) => S::LastAck,
            (S::Closing, I::AckOfFin) => S::TimeWait,
            (S::LastAck, I::AckOfFin) => S::Closed,
            (S::TimeWait, I::Timeout) => S::Closed,
            // Nothing to reset where nothing is.
            (S::Closed | S::Listen, I::Reset) => return None,
            (_, I::Reset) => S::Closed,
            (S::SynSent, I::Close) => S::Closed,
            _ => return None,
        })
    }

    /// Both sides know each other's initial sequence number (RFC 9293, 3.10.7.4).
    pub(crate) const fn is_synchronized(self) -> bool {
        !matches!(self, State::Closed | State::Listen | State::SynSent)
    }

    /// New data can be queued.
    pub(crate) const fn can_send(self) -> bool {
        matches!(
            self,
            State::SynSent | State::SynReceived | State::Established | State::CloseWait
        )
    }

    /// The peer can still send data.
    pub(crate) const fn can_receive(self) -> bool {
        matches!(
            self,
            State::SynReceived | State::Established | State::FinWait1 | State::FinWait2
        )
    }

    /// Queued data may leave, and our FIN after it.
    pub(crate) const fn transmits(self) -> bool {
        matches!(
            self,
            State::Established
                | State::CloseWait
                | State::FinWait1
                | State::Closing
                | State::LastAck
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [State; 11] = [
        State::Closed,
        State::Listen,
        State::SynSent,
        State::SynReceived,
        State::Established,
        State::FinWait1,
        State::FinWait2,
        State::CloseWait,
        State::Closing,
        State::LastAck,
        State::TimeWait,
    ];
    const INPUTS: [Input; 9] = [
        Input::Connect,
        Input::Syn,
        Input::SynAck,
        Input::AckOfSyn,
        Input::Close,
        Input::Fin,
        Input::AckOfFin,
        Input::Reset,
        Input::Timeout,
    ];

    /// The whole table, as figure 5 draws it.
    #[test]
    fn rfc9293_3_3_2_the_transitions_are_those_of_figure_5() {
        let mut lines = Vec::new();
        for state in STATES {
            for input in INPUTS {
                if let Some(next) = state.next(input) {
                    lines.push(format!("{state:?} + {input:?} -> {next:?}"));
                }
            }
        }
        let expected = "\
            Closed + Connect -> SynSent\n\
            Listen + Syn -> SynReceived\n\
            SynSent + Syn -> SynReceived\n\
            SynSent + SynAck -> Established\n\
            SynSent + Close -> Closed\n\
            SynSent + Reset -> Closed\n\
            SynReceived + AckOfSyn -> Established\n\
            SynReceived + Close -> FinWait1\n\
            SynReceived + Fin -> CloseWait\n\
            SynReceived + Reset -> Closed\n\
            Established + Close -> FinWait1\n\
            Established + Fin -> CloseWait\n\
            Established + Reset -> Closed\n\
            FinWait1 + Fin -> Closing\n\
            FinWait1 + AckOfFin -> FinWait2\n\
            FinWait1 + Reset -> Closed\n\
            FinWait2 + Fin -> TimeWait\n\
            FinWait2 + Reset -> Closed\n\
            CloseWait + Close -> LastAck\n\
            CloseWait + Reset -> Closed\n\
            Closing + AckOfFin -> TimeWait\n\
            Closing + Reset -> Closed\n\
            LastAck + AckOfFin -> Closed\n\
            LastAck + Reset -> Closed\n\
            TimeWait + Reset -> Closed\n\
            TimeWait + Timeout -> Closed";
        assert_eq!(lines.join("\n"), expected);
    }
}
