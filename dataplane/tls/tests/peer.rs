//! What a peer may send that has the key, and means no good.

mod support;

use support::{Lab, cut, established, feed, pattern};
use tls::{Alert, Failure, Opener, PLAINTEXT_LEN_MAX, Side, Suite};

/// Records of any type: what a hostile peer that has the key may send.
struct Peer {
    lab: Lab,
    opener: Opener,
    key: testpeer::Key,
}

mod testpeer {
    use hkdf::Hkdf;
    use sha2::Sha256;

    /// A second implementation, of RustCrypto's parts, for TLS_AES_128_GCM_SHA256.
    pub struct Key {
        pub secret: Vec<u8>,
        pub sequence: u64,
    }

    pub fn expand(secret: &[u8], label: &str, len: usize) -> Vec<u8> {
        let mut info = vec![0, len as u8, 6 + label.len() as u8];
        info.extend(b"tls13 ");
        info.extend(label.as_bytes());
        info.push(0);
        let mut out = vec![0; len];
        Hkdf::<Sha256>::from_prk(secret)
            .unwrap()
            .expand(&info, &mut out)
            .unwrap();
        out
    }

    impl Key {
        /// A record of this inner plaintext, content type and padding included.
        pub fn seal(&mut self, inner: &[u8]) -> Vec<u8> {
            use aes_gcm::aead::{Aead, Payload};
            use aes_gcm::{Aes128Gcm, KeyInit};
            let (key, iv) = (
                expand(&self.secret, "key", 16),
                expand(&self.secret, "iv", 12),
            );
            let mut nonce: [u8; 12] = iv.try_into().unwrap();
            for (byte, with) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
                *byte ^= with;
            }
            self.sequence += 1;
            let [high, low] = ((inner.len() + 16) as u16).to_be_bytes();
            let header = [23, 3, 3, high, low];
            let cipher = Aes128Gcm::new_from_slice(&key).unwrap();
            let payload = Payload {
                msg: inner,
                aad: &header,
            };
            let sealed = cipher.encrypt(&nonce.into(), payload).unwrap();
            [&header[..], &sealed].concat()
        }

        pub fn update(&mut self) {
            self.secret = expand(&self.secret, "traffic upd", 32);
            self.sequence = 0;
        }
    }
}

impl Peer {
    fn new(side: Side) -> Self {
        Self {
            lab: Lab::new(),
            opener: Opener::new(&established(Suite::Aes128GcmSha256, side, 7)),
            key: testpeer::Key {
                secret: vec![if side == Side::Server { 7 } else { 8 }; 32],
                sequence: 0,
            },
        }
    }

    /// Sends a record of this content, type and padding.
    fn send(&mut self, content: &[u8], kind: u8, padding: usize) -> support::Opened {
        let inner = [content, &[kind], &vec![0; padding]].concat();
        let record = self.key.seal(&inner);
        self.raw(&record)
    }

    fn raw(&mut self, bytes: &[u8]) -> support::Opened {
        feed(
            &mut self.opener,
            &self.lab,
            cut(&self.lab, bytes, &[700, 3]),
        )
    }
}

fn ours(alert: Alert) -> Option<Result<(), Failure>> {
    Some(Err(Failure::Ours(alert)))
}

#[test]
fn padding_is_cut_off() {
    let mut peer = Peer::new(Side::Server);
    for padding in [0, 1, 2, 700, 5000] {
        let opened = peer.send(b"text", 23, padding);
        assert_eq!((&opened.plain[..], opened.end), (&b"text"[..], None));
    }
    assert_eq!(
        peer.send(b"", 0, 3).end,
        ours(Alert::UnexpectedMessage),
        "zeros alone"
    );
}

#[test]
fn the_longest_record_opens_and_a_longer_one_does_not() {
    let mut peer = Peer::new(Side::Server);
    let content = pattern(PLAINTEXT_LEN_MAX);
    assert_eq!(peer.send(&content, 23, 0).plain, content);
    let opened = peer.send(&content, 23, 1);
    assert_eq!(
        (opened.plain.len(), opened.end),
        (0, ours(Alert::RecordOverflow))
    );
    let mut peer = Peer::new(Side::Server);
    assert_eq!(
        peer.raw(&[23, 3, 3, 0x41, 1]).end,
        ours(Alert::RecordOverflow),
        "by its header"
    );
    let mut peer = Peer::new(Side::Server);
    assert_eq!(peer.raw(&[23, 3, 3, 0, 15]).end, ours(Alert::BadRecordMac));
}

#[test]
fn records_are_not_replayed_reordered_or_left_out() {
    for order in [[0, 0], [1, 0], [0, 2]] {
        let mut peer = Peer::new(Side::Server);
        let records: Vec<Vec<u8>> = (0..3).map(|i| peer.key.seal(&[i, 23])).collect();
        let opened = peer.raw(&[&records[order[0]][..], &records[order[1]]].concat());
        assert_eq!(opened.end, ours(Alert::BadRecordMac), "{order:?}");
        let before = usize::from(order[0] == 0);
        assert_eq!(opened.plain, vec![0; before]);
    }
}

#[test]
fn what_is_in_the_clear_is_no_record() {
    for record in [
        &[20, 3, 3, 0, 1, 1][..],
        &[21, 3, 3, 0, 2, 2, 40],
        &[22, 3, 3, 0, 4, 0, 0, 0, 0],
    ] {
        let mut peer = Peer::new(Side::Server);
        assert_eq!(peer.raw(record).end, ours(Alert::UnexpectedMessage));
    }
}

#[test]
fn alerts_end_it() {
    for (content, end) in [
        (&[1, 0][..], Some(Ok(()))),
        (&[2, 0], Some(Ok(()))),
        (&[1, 90], None),
        (&[2, 40], Some(Err(Failure::Theirs(40)))),
        (&[1, 40], Some(Err(Failure::Theirs(40)))),
        (&[2, 255], Some(Err(Failure::Theirs(255)))),
        (&[], ours(Alert::UnexpectedMessage)),
        (&[2], ours(Alert::DecodeError)),
        (&[1, 0, 1, 0], ours(Alert::DecodeError)),
    ] {
        let mut peer = Peer::new(Side::Server);
        assert_eq!(peer.send(content, 21, 0).end, end, "{content:?}");
        if end.is_some() {
            let behind = peer.send(b"text", 23, 0);
            assert_eq!(
                (behind.plain, behind.end),
                (vec![], end),
                "nothing comes behind it"
            );
        }
    }
}

#[test]
fn messages_behind_the_handshake() {
    let update = |request| [24, 0, 0, 1, request];
    for (content, updates, end) in [
        (&update(0)[..], 0, None),
        (&update(1), 1, None),
        (&update(2), 0, ours(Alert::IllegalParameter)),
        (&[24, 0, 0, 2, 0, 0], 0, ours(Alert::DecodeError)),
        (
            &[24, 0, 0, 1, 0, 24, 0, 0, 1, 0],
            0,
            ours(Alert::UnexpectedMessage),
        ),
        (&[], 0, ours(Alert::UnexpectedMessage)),
        (&[4, 0, 0, 1, 7], 0, ours(Alert::UnexpectedMessage)),
        (&[1, 0, 0, 0], 0, ours(Alert::UnexpectedMessage)),
        (&[13, 0, 0, 0], 0, ours(Alert::UnexpectedMessage)),
    ] {
        let mut peer = Peer::new(Side::Server);
        let opened = peer.send(content, 22, 0);
        assert_eq!(
            (opened.key_updates, opened.end),
            (updates, end),
            "{content:?}"
        );
        if end.is_none() {
            peer.key.update();
            assert_eq!(
                peer.send(b"text", 23, 0).plain,
                b"text",
                "under the new key"
            );
        }
    }
}

#[test]
fn messages_are_cut_by_records_and_nothing_comes_between() {
    let mut peer = Peer::new(Side::Server);
    for byte in [24, 0, 0, 1, 1] {
        assert_eq!(peer.send(&[byte], 22, 1).end, None);
    }
    peer.key.update();
    assert_eq!(peer.send(b"text", 23, 0).plain, b"text");
    assert_eq!(peer.send(&[24, 0], 22, 0).end, None);
    assert_eq!(
        peer.send(b"text", 23, 0).end,
        ours(Alert::UnexpectedMessage)
    );
}

#[test]
fn tickets_are_let_pass_by_a_client() {
    let mut peer = Peer::new(Side::Client);
    let ticket = [&[4, 0, 0x20, 0][..], &[9; 0x2000]].concat();
    assert_eq!(
        peer.send(&[&ticket[..], &ticket[..50]].concat(), 22, 0).end,
        None
    );
    assert_eq!(peer.send(&ticket[50..], 22, 0).end, None);
    assert_eq!(peer.send(b"text", 23, 0).plain, b"text");
}

#[test]
fn a_flood_of_nothing_ends_it() {
    let mut peer = Peer::new(Side::Server);
    for (round, kind) in [23, 22, 23].into_iter().cycle().take(300).enumerate() {
        let is_data = round % 20 == 0;
        let opened = match (kind, is_data) {
            (_, true) => peer.send(b"text", 23, 0),
            (22, _) => {
                let opened = peer.send(&[24, 0, 0, 1, 1], 22, 0);
                peer.key.update();
                opened
            }
            _ => peer.send(b"", 23, 9),
        };
        assert_eq!(opened.end, None);
    }
    for i in 0.. {
        assert!(i < 100);
        if let Some(end) = peer.send(b"", 23, 0).end {
            assert_eq!(Some(end), ours(Alert::UnexpectedMessage));
            break;
        }
    }
}
