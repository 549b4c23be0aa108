//! Messages, byte by byte (base 2.0, 8.13.3 to 8.13.5). Numbers are little-endian.
//!
//! ```text
//! all       0 AUTH_TYPE  1 AUTH_ID  2 reserved, 2  4 T_ID, 2
//! Negotiate 6 SC_C  7 NAPD  8 descriptors of 64: 0 AuthID (1)  1 reserved  2 HALEN  3 DHLEN  4 HashIDs, 30  34 DHgIDs, 30
//! Challenge 6 HL  7 reserved  8 HashID  9 DHgID  10 DHVLEN, 2  12 SEQNUM, 4  16 C1, HL  … public value, DHVLEN
//! Reply     6 HL  7 reserved  8 CVALID  9 reserved  10 DHVLEN, 2  12 SEQNUM, 4  16 R1, HL  … C2, HL  … public value, DHVLEN
//! Success1  6 HL  7 reserved  8 RVALID  9 reserved, 7  16 R2, HL
//! Success2  6 reserved, 10
//! Failure   6 reason  7 explanation
//! ```

/// AUTH_TYPE of messages that every protocol has.
const COMMON: u8 = 0x00;
/// AUTH_TYPE of DH-HMAC-CHAP.
const DHCHAP: u8 = 0x01;

/// AUTH_ID.
mod id {
    pub(super) const NEGOTIATE: u8 = 0x00;
    pub(super) const CHALLENGE: u8 = 0x01;
    pub(super) const REPLY: u8 = 0x02;
    pub(super) const SUCCESS1: u8 = 0x03;
    pub(super) const SUCCESS2: u8 = 0x04;
    pub(super) const FAILURE2: u8 = 0xf0;
    pub(super) const FAILURE1: u8 = 0xf1;
}

/// AuthID of DH-HMAC-CHAP in a descriptor of a Negotiate.
const PROTOCOL: u8 = 0x01;
/// Bytes of a descriptor.
const DESCRIPTOR_LEN: usize = 64;
/// Most identifiers that a list of a descriptor has room for.
const LIST_LEN: usize = 30;
/// Bytes in front of what differs in length.
const HEAD_LEN: usize = 16;

/// Most bytes of a message that is taken: a Negotiate of sixty protocols fits, and every Reply.
pub const MESSAGE_LEN_MAX: usize = 4096;

/// Why an authentication has failed, by the code that the peer is told (base 2.0, 8.13.4: reason 01h, and an explanation).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Explanation {
    /// Whoever it is does not have the key.
    Failed = 0x01,
    /// None of the protocols is.
    ProtocolNotUsable = 0x02,
    /// A secure channel is wanted by one side, and not by the other.
    SecureChannelMismatch = 0x03,
    /// None of the hash functions is.
    HashNotUsable = 0x04,
    /// None of the groups is.
    GroupNotUsable = 0x05,
    /// A message has a wrong length, or a value that it cannot have.
    IncorrectPayload = 0x06,
    /// Another message was due.
    IncorrectMessage = 0x07,
}

/// Reason: authentication failure; the only one there is.
const REASON: u8 = 0x01;

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Transaction identifier (T_ID): the host's choice.
    pub t_id: u16,
    /// What it says.
    pub body: Body<'a>,
}

/// What a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// The host offers protocols.
    Negotiate {
        /// Secure channel concatenation (SC_C): 0 is none.
        secure_channel: u8,
        /// Identifiers of hash functions and of groups, if DH-HMAC-CHAP is among the protocols.
        offer: Option<Offer<'a>>,
    },
    /// The controller chooses, and wants the host to prove who it is.
    Challenge {
        /// Identifier of a hash function.
        hash: u8,
        /// Identifier of a group.
        group: u8,
        /// S1.
        sequence: u32,
        /// C1.
        challenge: &'a [u8],
        /// The controller's public value.
        public: &'a [u8],
    },
    /// The host proves it, and may want the same of the controller.
    Reply {
        /// S2; 0 where the controller need not.
        sequence: u32,
        /// R1.
        response: &'a [u8],
        /// C2, if the controller is to.
        challenge: Option<&'a [u8]>,
        /// The host's public value.
        public: &'a [u8],
    },
    /// The host is who it says it is.
    Success1 {
        /// Bytes of the hash function's output (HL).
        hash_len: u8,
        /// R2, if the controller was to prove who it is.
        response: Option<&'a [u8]>,
    },
    /// So is the controller.
    Success2,
    /// The controller gives up.
    Failure1(u8),
    /// The host gives up.
    Failure2(u8),
}

/// What a host offers for DH-HMAC-CHAP, by identifiers, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer<'a> {
    /// HashIDs.
    pub hashes: &'a [u8],
    /// DHgIDs.
    pub groups: &'a [u8],
}

/// A message that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// What the peer is told.
    pub explanation: Explanation,
    /// Transaction identifier, as far as there is one.
    pub t_id: u16,
}

impl<'a> Message<'a> {
    /// Decodes it. Reserved fields may hold anything, and so may what is behind messages that hosts receive.
    ///
    /// # Errors
    /// If it is of no known type, or not as long as it says.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let t_id = array(bytes, 4).map_or(0, u16::from_le_bytes);
        let malformed = |explanation| Malformed { explanation, t_id };
        let payload = || malformed(Explanation::IncorrectPayload);
        let &[auth_type, auth_id, ..] = bytes else {
            return Err(payload());
        };
        let body = match (auth_type, auth_id) {
            (COMMON, id::NEGOTIATE) => negotiate(bytes),
            (COMMON, id::FAILURE1) => failure(bytes).map(Body::Failure1),
            (COMMON, id::FAILURE2) => failure(bytes).map(Body::Failure2),
            (DHCHAP, id::CHALLENGE) => challenge(bytes),
            (DHCHAP, id::REPLY) => reply(bytes),
            (DHCHAP, id::SUCCESS1) => success1(bytes),
            (DHCHAP, id::SUCCESS2) => (bytes.len() == HEAD_LEN).then_some(Body::Success2),
            _ => return Err(malformed(Explanation::IncorrectMessage)),
        };
        let body = body.ok_or_else(payload)?;
        Ok(Self { t_id, body })
    }

    /// Encodes it.
    ///
    /// # Panics
    /// If a list, a challenge or a public value is longer than its field can say.
    pub fn write(&self) -> Vec<u8> {
        let (auth_type, auth_id) = match self.body {
            Body::Negotiate { .. } => (COMMON, id::NEGOTIATE),
            Body::Challenge { .. } => (DHCHAP, id::CHALLENGE),
            Body::Reply { .. } => (DHCHAP, id::REPLY),
            Body::Success1 { .. } => (DHCHAP, id::SUCCESS1),
            Body::Success2 => (DHCHAP, id::SUCCESS2),
            Body::Failure1(_) => (COMMON, id::FAILURE1),
            Body::Failure2(_) => (COMMON, id::FAILURE2),
        };
        let mut bytes = vec![auth_type, auth_id, 0, 0];
        bytes.extend(self.t_id.to_le_bytes());
        self.body.write(&mut bytes);
        bytes
    }
}

impl Body<'_> {
    fn write(&self, bytes: &mut Vec<u8>) {
        match *self {
            Body::Negotiate {
                secure_channel,
                offer,
            } => {
                bytes.extend([secure_channel, offer.iter().len() as u8]);
                if let Some(Offer { hashes, groups }) = offer {
                    assert!(hashes.len().max(groups.len()) <= LIST_LEN);
                    bytes.extend([PROTOCOL, 0, hashes.len() as u8, groups.len() as u8]);
                    for list in [hashes, groups] {
                        bytes.extend(list);
                        bytes.resize(bytes.len() + LIST_LEN - list.len(), 0);
                    }
                }
            }
            Body::Challenge {
                hash,
                group,
                sequence,
                challenge,
                public,
            } => {
                bytes.extend([len8(challenge), 0, hash, group]);
                bytes.extend(len16(public));
                bytes.extend(sequence.to_le_bytes());
                bytes.extend(challenge);
                bytes.extend(public);
            }
            Body::Reply {
                sequence,
                response,
                challenge,
                public,
            } => {
                bytes.extend([len8(response), 0, challenge.is_some().into(), 0]);
                bytes.extend(len16(public));
                bytes.extend(sequence.to_le_bytes());
                bytes.extend(response);
                match challenge {
                    Some(challenge) => bytes.extend(challenge),
                    None => bytes.resize(bytes.len() + response.len(), 0),
                }
                bytes.extend(public);
            }
            Body::Success1 { hash_len, response } => {
                bytes.extend([hash_len, 0, response.is_some().into()]);
                bytes.resize(HEAD_LEN, 0);
                match response {
                    Some(response) => bytes.extend(response),
                    // Hosts read as much as HL says, whether it counts or not.
                    None => bytes.resize(HEAD_LEN + usize::from(hash_len), 0),
                }
            }
            Body::Success2 => bytes.resize(HEAD_LEN, 0),
            Body::Failure1(explanation) | Body::Failure2(explanation) => {
                bytes.extend([REASON, explanation]);
            }
        }
    }
}

fn negotiate(bytes: &[u8]) -> Option<Body<'_>> {
    let &[secure_channel, count] = bytes.get(6..8)? else {
        return None;
    };
    let descriptors = &bytes[8..];
    if count == 0 || descriptors.len() != usize::from(count) * DESCRIPTOR_LEN {
        return None;
    }
    let mut chap = descriptors.chunks_exact(DESCRIPTOR_LEN);
    let offer = match chap.find(|descriptor| descriptor[0] == PROTOCOL) {
        None => None,
        Some(descriptor) => {
            let (hashes, groups) = (descriptor[2].into(), descriptor[3].into());
            let lists = descriptor[4..].split_at(LIST_LEN);
            Some(Offer {
                hashes: lists.0.get(..hashes)?,
                groups: lists.1.get(..groups)?,
            })
        }
    };
    Some(Body::Negotiate {
        secure_channel,
        offer,
    })
}

fn challenge(bytes: &[u8]) -> Option<Body<'_>> {
    let (head, rest) = bytes.split_at_checked(HEAD_LEN)?;
    let (challenge, rest) = rest.split_at_checked(head[6].into())?;
    Some(Body::Challenge {
        hash: head[8],
        group: head[9],
        sequence: u32::from_le_bytes(array(head, 12)?),
        challenge,
        // What is received may have zeros behind it: as much as there was room for.
        public: rest.get(..public_len(head)?)?,
    })
}

fn reply(bytes: &[u8]) -> Option<Body<'_>> {
    let (head, rest) = bytes.split_at_checked(HEAD_LEN)?;
    let (response, rest) = rest.split_at_checked(head[6].into())?;
    // There is room for C2 whether it counts or not.
    let (challenge, public) = rest.split_at_checked(head[6].into())?;
    let is_valid = head[8] & 1 == 1;
    (public.len() == public_len(head)?).then_some(Body::Reply {
        sequence: u32::from_le_bytes(array(head, 12)?),
        response,
        challenge: is_valid.then_some(challenge),
        public,
    })
}

fn success1(bytes: &[u8]) -> Option<Body<'_>> {
    let (head, rest) = bytes.split_at_checked(HEAD_LEN)?;
    let hash_len = head[6];
    let is_valid = head[8] & 1 == 1;
    let response = match is_valid {
        true => Some(rest.get(..hash_len.into())?),
        false => None,
    };
    Some(Body::Success1 { hash_len, response })
}

fn failure(bytes: &[u8]) -> Option<u8> {
    bytes.get(7).copied()
}

fn public_len(head: &[u8]) -> Option<usize> {
    Some(u16::from_le_bytes(array(head, 10)?).into())
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

fn len8(bytes: &[u8]) -> u8 {
    u8::try_from(bytes.len()).expect("a challenge is as long as a hash")
}

fn len16(bytes: &[u8]) -> [u8; 2] {
    let len = u16::try_from(bytes.len()).expect("public values have 1024 bytes at most");
    len.to_le_bytes()
}
