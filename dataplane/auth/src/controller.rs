//! The controller's side of a transaction.

use std::sync::Arc;

use mutant::mutant;
use zeroize::Zeroizing;

use crate::group::{Exponent, Group};
use crate::hash::{DIGEST_LEN_MAX, Hash};
use crate::key::Key;
use crate::message::{Body, Explanation, Message, Offer};
use crate::transcript::{Names, Side, Transcript};

/// The keys of a host with a subsystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostKeys {
    /// What the host proves that it has.
    pub host: Key,
    /// What the controller proves that it has, to hosts that ask for it.
    pub controller: Option<Key>,
}

/// Which hash functions and groups are good enough, the best first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Hash functions.
    pub hashes: Vec<Hash>,
    /// Groups.
    pub groups: Vec<Group>,
}

impl Default for Policy {
    /// All of them. Longer groups than 3,072 bits (RFC 7919, 5.2: about 125 bits of strength) are for hosts that offer nothing else:
    /// every queue of every host is an exchange. None at all is the last choice: who has heard a conversation can try keys on it.
    fn default() -> Self {
        Self {
            hashes: Hash::ALL.to_vec(),
            groups: vec![
                Group::Ffdhe3072,
                Group::Ffdhe4096,
                Group::Ffdhe6144,
                Group::Ffdhe8192,
                Group::Ffdhe2048,
                Group::Null,
            ],
        }
    }
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The host has the key, and has got of the controller what it wanted.
    Authenticated,
    /// It has not, or the host has given up.
    Failed,
}

/// What a message of the host leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// A message for the host, to be received by it before anything else.
    pub message: Option<Vec<u8>>,
    /// The end, once the host has the message.
    pub verdict: Option<Verdict>,
}

impl Step {
    fn goes_on(message: Vec<u8>) -> Self {
        Self {
            message: Some(message),
            verdict: None,
        }
    }

    fn ends(message: Option<Vec<u8>>, verdict: Verdict) -> Self {
        Self {
            message,
            verdict: Some(verdict),
        }
    }
}

/// One transaction, as the controller sees it.
///
/// ```text
/// Negotiate ──▶ Challenged ──▶ Over                 host alone
///                   │
///                   └────────▶ Answered ──▶ Over    both
/// ```
/// From anywhere a message that is not due, or not right, leads to `Over`.
pub struct Controller {
    names: Names,
    keys: Arc<HostKeys>,
    policy: Arc<Policy>,
    t_id: u16,
    state: State,
}

enum State {
    /// Negotiate is due.
    Begun,
    /// Reply is due.
    Challenged(Box<Challenged>),
    /// The host looks at our response: Success2 is due.
    Answered,
    /// There is a verdict.
    Over,
}

/// What was asked of the host.
struct Challenged {
    hash: Hash,
    group: Group,
    exponent: Exponent,
    challenge: Zeroizing<[u8; DIGEST_LEN_MAX]>,
    sequence: u32,
}

impl Controller {
    /// A transaction that the host is about to begin.
    pub fn new(names: Names, keys: Arc<HostKeys>, policy: Arc<Policy>) -> Self {
        Self {
            names,
            keys,
            policy,
            t_id: 0,
            state: State::Begun,
        }
    }

    /// Takes a message of the host. All the arithmetic is done here.
    pub fn take(&mut self, bytes: &[u8], random: &mut dyn FnMut(&mut [u8])) -> Step {
        let taken = match Message::read(bytes) {
            Ok(Message {
                body: Body::Failure2(_),
                ..
            }) => {
                self.state = State::Over;
                return Step::ends(None, Verdict::Failed);
            }
            Ok(message) => self.step(message, random),
            Err(malformed) => {
                if let State::Begun = self.state {
                    self.t_id = malformed.t_id;
                }
                Err(malformed.explanation)
            }
        };
        taken.unwrap_or_else(|explanation| {
            self.state = State::Over;
            let body = Body::Failure1(explanation as u8);
            Step::ends(Some(self.message(body)), Verdict::Failed)
        })
    }

    fn step(
        &mut self,
        message: Message<'_>,
        random: &mut dyn FnMut(&mut [u8]),
    ) -> Result<Step, Explanation> {
        let state = std::mem::replace(&mut self.state, State::Over);
        if let State::Begun = state {
            self.t_id = message.t_id;
        }
        let same = || match message.t_id == self.t_id {
            true => Ok(()),
            false => Err(Explanation::IncorrectPayload),
        };
        match (state, message.body) {
            (
                State::Begun,
                Body::Negotiate {
                    secure_channel,
                    offer,
                },
            ) => self.challenge(secure_channel, offer, random),
            (
                State::Challenged(asked),
                Body::Reply {
                    sequence,
                    response,
                    challenge,
                    public,
                },
            ) => {
                same()?;
                let asked_back = challenge.map(|challenge| (challenge, sequence));
                self.verify(&asked, response, asked_back, public)
            }
            (State::Answered, Body::Success2) => {
                same()?;
                Ok(Step::ends(None, Verdict::Authenticated))
            }
            _ => Err(Explanation::IncorrectMessage),
        }
    }

    /// The host has said what it can do.
    fn challenge(
        &mut self,
        secure_channel: u8,
        offer: Option<Offer<'_>>,
        random: &mut dyn FnMut(&mut [u8]),
    ) -> Result<Step, Explanation> {
        if secure_channel != 0 {
            return Err(Explanation::SecureChannelMismatch);
        }
        let offer = offer.ok_or(Explanation::ProtocolNotUsable)?;
        let mut hashes = self.policy.hashes.iter();
        let hash = hashes.find(|hash| offer.hashes.contains(&(**hash as u8)));
        let hash = *hash.ok_or(Explanation::HashNotUsable)?;
        let mut groups = self.policy.groups.iter();
        let group = groups.find(|group| offer.groups.contains(&(**group as u8)));
        let group = *group.ok_or(Explanation::GroupNotUsable)?;
        let mut asked = Box::new(Challenged {
            hash,
            group,
            exponent: Exponent::random(group, random),
            challenge: Zeroizing::new([0; DIGEST_LEN_MAX]),
            sequence: 0,
        });
        if !mutant!("chap-challenge-repeated") {
            random(&mut asked.challenge[..hash.len()]);
        }
        asked.sequence = nonzero(random);
        if mutant!("chap-challenge-repeated") {
            asked.sequence = 1;
        }
        let message = self.message(Body::Challenge {
            hash: hash as u8,
            group: group as u8,
            sequence: asked.sequence,
            challenge: &asked.challenge[..hash.len()],
            public: &asked.exponent.public(group),
        });
        self.state = State::Challenged(asked);
        Ok(Step::goes_on(message))
    }

    /// The host has answered; what it asks back is a challenge and its sequence number.
    fn verify(
        &mut self,
        asked: &Challenged,
        response: &[u8],
        asked_back: Option<(&[u8], u32)>,
        public: &[u8],
    ) -> Result<Step, Explanation> {
        let Challenged { hash, group, .. } = *asked;
        if response.len() != hash.len() || public.len() != group.public_len() {
            return Err(Explanation::IncorrectPayload);
        }
        let session = match group {
            Group::Null => None,
            _ => {
                let shared = asked.exponent.shared(group, public);
                Some(hash.digest(&shared.map_err(|_| Explanation::IncorrectPayload)?))
            }
        };
        let challenge = &asked.challenge[..hash.len()];
        let transcript = Transcript {
            names: &self.names,
            hash,
            session: session.as_ref(),
            t_id: self.t_id,
        };
        let due = transcript.response(Side::Host, &self.keys.host, challenge, asked.sequence);
        if !due.is(response) && !mutant!("chap-response-ignored") {
            return Err(Explanation::Failed);
        }
        let Some((theirs, sequence)) = asked_back else {
            let body = Body::Success1 {
                hash_len: hash.len() as u8,
                response: None,
            };
            return Ok(Step::ends(Some(self.message(body)), Verdict::Authenticated));
        };
        // Ours sent back proves nothing, and 0 says that nothing is asked.
        if sequence == 0 {
            return Err(Explanation::IncorrectPayload);
        }
        if theirs == challenge {
            return Err(Explanation::Failed);
        }
        let key = self.keys.controller.as_ref().ok_or(Explanation::Failed)?;
        let own = transcript.response(Side::Controller, key, theirs, sequence);
        let body = Body::Success1 {
            hash_len: hash.len() as u8,
            response: Some(own.bytes()),
        };
        let message = self.message(body);
        self.state = State::Answered;
        Ok(Step::goes_on(message))
    }

    fn message(&self, body: Body<'_>) -> Vec<u8> {
        let t_id = self.t_id;
        Message { t_id, body }.write()
    }
}

/// A sequence number: 0 says that there is none.
pub(crate) fn nonzero(random: &mut dyn FnMut(&mut [u8])) -> u32 {
    let mut bytes = [0; 4];
    random(&mut bytes);
    u32::from_le_bytes(bytes).max(1)
}
