//! The handshake of simulations, and records behind it.

mod support;

use std::sync::Arc;

use support::{Lab, cut, feed, seal};
use tls::testing::Exchange;
use tls::{
    ConfiguredPsk, Derivation, Established, HandshakeFailure, HandshakeReason, Handshakes, Hash,
    IdentityVersion, Opener, Progress, PskTable, Sealer, Secret, Step, TlsPsk,
};

const HOST: &str = "nqn.2026-01.com.example:host0";
const DISK: &str = "nqn.2026-01.com.example:disk0";

fn key(fill: u8, hash: Hash) -> TlsPsk {
    ConfiguredPsk::new(&vec![fill; hash.len()], Some(hash))
        .unwrap()
        .derive(HOST, DISK, IdentityVersion::One, Derivation::Rfc8446)
        .unwrap()
}

fn table(key: TlsPsk) -> Arc<PskTable> {
    let mut table = PskTable::new();
    table.add_key(key);
    Arc::new(table)
}

type Ends = (
    Result<Established, HandshakeFailure>,
    Result<Established, HandshakeFailure>,
);

/// Lets a client and a server talk in cuts of so many bytes, until both are done.
fn talk(client: &TlsPsk, server: Arc<PskTable>, cut: usize) -> Ends {
    let (mut one, mut other) = (Exchange::new(1), Exchange::new(2));
    let mut sides = [one.connect(client), other.accept(server)];
    let mut ends = [None, None];
    let mut to_feed = [Vec::new(), Vec::new()];
    for _ in 0..1000 {
        for side in 0..2 {
            let n = cut.min(to_feed[side].len());
            let bytes: Vec<u8> = to_feed[side].drain(..n).collect();
            if ends[side].is_some() {
                continue;
            }
            let Step { send, progress } = sides[side].advance(&bytes);
            to_feed[1 - side].extend(send);
            ends[side] = match progress {
                Progress::Wants => None,
                Progress::Done(established) => Some(Ok(*established)),
                Progress::Failed(failure) => Some(Err(failure)),
            };
        }
    }
    let [client, server] = ends;
    (client.expect("an end"), server.expect("an end"))
}

fn bytes(secret: &Secret) -> &[u8] {
    secret.bytes()
}

#[test]
fn both_sides_have_the_same_secrets_and_records_pass() {
    let lab = Lab::new();
    for hash in Hash::ALL {
        let key = key(1, hash);
        for by in [1, 10, 1000] {
            let (client, server) = talk(&key, table(key.clone()), by);
            let (client, server) = (client.unwrap(), server.unwrap());
            assert_eq!(bytes(&client.read_secret), bytes(&server.write_secret));
            assert_eq!(bytes(&client.write_secret), bytes(&server.read_secret));
            assert_ne!(bytes(&client.write_secret), bytes(&client.read_secret));
            assert_eq!(client.identity, server.identity);
            assert_eq!(client.suite, hash.suite());
            let (mut sealer, mut opener) = (Sealer::new(&client), Opener::new(&server));
            let stream = seal(&mut sealer, &lab, b"a command");
            let opened = feed(&mut opener, &lab, cut(&lab, &stream, &[7]));
            assert_eq!(opened.plain, b"a command");
        }
    }
}

#[test]
fn who_has_not_the_key_comes_no_further() {
    let right = key(1, Hash::Sha256);
    let mut wrong = ConfiguredPsk::new(&[2; 32], Some(Hash::Sha256))
        .unwrap()
        .derive(HOST, DISK, IdentityVersion::Zero, Derivation::Rfc8446)
        .unwrap();
    let (client, server) = talk(&wrong, table(right), 100);
    assert_eq!(client.unwrap_err().reason, HandshakeReason::Alert(51));
    assert_eq!(server.unwrap_err().reason, HandshakeReason::UnknownIdentity);
    let named = ConfiguredPsk::new(&[1; 32], Some(Hash::Sha256))
        .unwrap()
        .derive(HOST, DISK, IdentityVersion::Zero, Derivation::Rfc8446)
        .unwrap();
    let (client, server) = talk(&wrong, table(named.clone()), 100);
    assert_eq!(
        client.unwrap_err().reason,
        HandshakeReason::WrongKey,
        "the server's proof"
    );
    assert_eq!(server.unwrap_err().reason, HandshakeReason::Alert(51));
    wrong = named;
    let (client, server) = talk(&wrong, table(wrong.clone()), 100);
    assert!(client.is_ok() && server.is_ok());
}

#[test]
fn what_is_no_exchange_is_refused() {
    for bytes in [
        &b"GET / HTTP/1.1\r\n"[..],
        &[0; 128],
        &[22, 3, 3, 0, 2, 1, 2],
    ] {
        let mut server = Exchange::new(1).accept(Arc::default());
        let Step { send, progress } = server.advance(bytes);
        assert!(matches!(progress, Progress::Failed(_)));
        assert_eq!(send[..6], [21, 3, 3, 0, 2, 2]);
        let again = server.advance(&[]);
        assert!(matches!(again.progress, Progress::Failed(_)) && again.send.is_empty());
    }
}
