//! The host's side of a transaction: for tests, and for hosts of ours.

use std::sync::Arc;

use zeroize::Zeroizing;

use crate::controller::{HostKeys, nonzero};
use crate::group::{Exponent, Group};
use crate::hash::{DIGEST_LEN_MAX, Digest, Hash};
use crate::message::{Body, Explanation, Message, Offer};
use crate::transcript::{Names, Side, Transcript};

/// What a host does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostStep {
    /// It sends a message, and receives one.
    Send(Vec<u8>),
    /// It sends the last message, and is done.
    SendLast(Vec<u8>),
    /// It is done.
    Done,
    /// The controller has refused it, for this reason.
    Refused(u8),
    /// It refuses the controller, with this message.
    Refuse(Vec<u8>),
}

/// One transaction, as the host sees it. It asks the controller for a proof if it has a key for that.
pub struct Host {
    names: Names,
    keys: Arc<HostKeys>,
    t_id: u16,
    hashes: Vec<u8>,
    groups: Vec<u8>,
    /// The controller's response that is due.
    due: Option<Digest>,
    hash: Option<Hash>,
}

impl Host {
    /// A transaction that is about to begin, with the number `t_id`.
    pub fn new(
        names: Names,
        keys: Arc<HostKeys>,
        hashes: &[Hash],
        groups: &[Group],
        t_id: u16,
    ) -> Self {
        Self {
            names,
            keys,
            t_id,
            hashes: hashes.iter().map(|hash| *hash as u8).collect(),
            groups: groups.iter().map(|group| *group as u8).collect(),
            due: None,
            hash: None,
        }
    }

    /// The first message.
    pub fn negotiate(&self) -> Vec<u8> {
        self.message(Body::Negotiate {
            secure_channel: 0,
            offer: Some(Offer {
                hashes: &self.hashes,
                groups: &self.groups,
            }),
        })
    }

    /// Takes a message of the controller.
    pub fn take(&mut self, bytes: &[u8], random: &mut dyn FnMut(&mut [u8])) -> HostStep {
        let taken = match Message::read(bytes) {
            Ok(Message {
                body: Body::Failure1(explanation),
                ..
            }) => return HostStep::Refused(explanation),
            Ok(message) if message.t_id != self.t_id => Err(Explanation::IncorrectPayload),
            Ok(message) => self.step(message.body, random),
            Err(malformed) => Err(malformed.explanation),
        };
        taken.unwrap_or_else(|explanation| {
            HostStep::Refuse(self.message(Body::Failure2(explanation as u8)))
        })
    }

    fn step(
        &mut self,
        body: Body<'_>,
        random: &mut dyn FnMut(&mut [u8]),
    ) -> Result<HostStep, Explanation> {
        match (self.hash, body) {
            (
                None,
                Body::Challenge {
                    hash,
                    group,
                    sequence,
                    challenge,
                    public,
                },
            ) => {
                let hash = Some(hash).filter(|hash| self.hashes.contains(hash));
                let hash = hash.and_then(Hash::of_id);
                let hash = hash.ok_or(Explanation::HashNotUsable)?;
                let group = Some(group).filter(|group| self.groups.contains(group));
                let group = group.and_then(Group::of_id);
                let group = group.ok_or(Explanation::GroupNotUsable)?;
                self.hash = Some(hash);
                if public.len() != group.public_len() {
                    return Err(Explanation::IncorrectPayload);
                }
                self.reply(hash, group, (challenge, sequence), public, random)
            }
            (Some(hash), Body::Success1 { hash_len, response }) => {
                if usize::from(hash_len) != hash.len() {
                    return Err(Explanation::HashNotUsable);
                }
                match (&self.due, response) {
                    (None, _) => Ok(HostStep::Done),
                    (Some(due), Some(response)) if due.is(response) => {
                        Ok(HostStep::SendLast(self.message(Body::Success2)))
                    }
                    _ => Err(Explanation::Failed),
                }
            }
            _ => Err(Explanation::IncorrectMessage),
        }
    }

    fn reply(
        &mut self,
        hash: Hash,
        group: Group,
        (challenge, sequence): (&[u8], u32),
        public: &[u8],
        random: &mut dyn FnMut(&mut [u8]),
    ) -> Result<HostStep, Explanation> {
        if challenge.len() != hash.len() {
            return Err(Explanation::IncorrectPayload);
        }
        let exponent = Exponent::random(group, random);
        let session = match group {
            Group::Null => None,
            _ => {
                let shared = exponent.shared(group, public);
                Some(hash.digest(&shared.map_err(|_| Explanation::IncorrectPayload)?))
            }
        };
        let transcript = Transcript {
            names: &self.names,
            hash,
            session: session.as_ref(),
            t_id: self.t_id,
        };
        let response = transcript.response(Side::Host, &self.keys.host, challenge, sequence);
        let mut theirs = Zeroizing::new([0; DIGEST_LEN_MAX]);
        let theirs = &mut theirs[..hash.len()];
        let mut own_sequence = 0;
        let mut due = None;
        if let Some(key) = &self.keys.controller {
            random(theirs);
            own_sequence = nonzero(random);
            due = Some(transcript.response(Side::Controller, key, theirs, own_sequence));
        }
        let message = self.message(Body::Reply {
            sequence: own_sequence,
            response: response.bytes(),
            challenge: due.is_some().then_some(theirs),
            public: &exponent.public(group),
        });
        self.due = due;
        Ok(HostStep::Send(message))
    }

    fn message(&self, body: Body<'_>) -> Vec<u8> {
        let t_id = self.t_id;
        Message { t_id, body }.write()
    }
}
