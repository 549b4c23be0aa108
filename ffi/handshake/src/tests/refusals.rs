//! Who does not come in, and what is said of it.

use openssl::asn1::Asn1Time;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::PKey;
use openssl::ssl::{SslConnector, SslContextBuilder, SslMethod, SslVerifyMode, SslVersion};
use openssl::x509::{X509, X509NameBuilder};

use super::*;

fn failed(progress: Progress) -> HandshakeFailure {
    match progress {
        Progress::Failed(failure) => failure,
        other => panic!("{other:?}"),
    }
}

/// A key that the server has not.
fn stranger(host: &str) -> TlsPsk {
    (psk(8, Hash::Sha256).derive(host, DISK, IdentityVersion::Zero, Derivation::Rfc8446)).unwrap()
}

#[test]
fn a_wrong_key_and_an_unknown_name_get_the_same_answer() {
    let mut answers = Vec::new();
    for (host, reason) in [
        (HOST, HandshakeReason::WrongKey),
        (
            "nqn.2026-01.com.example:host1",
            HandshakeReason::UnknownIdentity,
        ),
    ] {
        let mut peer = Peer::new(Side::Client, &Contexts::new().unwrap(), &stranger(host));
        let mut server = ours(Side::Server, Hash::Sha256);
        let step = server.advance(&peer.sent());
        answers.push(step.send);
        let failure = failed(step.progress);
        assert_eq!(failure.reason, reason);
        assert!(failure.identity.as_ref().unwrap().contains(host));
        let again = server.advance(b"more");
        assert_eq!((failed(again.progress), again.send.len()), (failure, 0));
    }
    assert_eq!(answers[0], [21, 3, 3, 0, 2, 2, Alert::DecryptError as u8]);
    assert_eq!(answers[0], answers[1]);
}

#[test]
fn a_client_does_not_believe_a_server_without_its_key() {
    // It says it has the key, and has another one: it cannot even read the hello, and says so.
    let peer = Peer::new(Side::Server, &Contexts::new().unwrap(), &stranger(HOST));
    let mut client = OpenSsl::new().unwrap().connect(
        &(psk(7, Hash::Sha256).derive(HOST, DISK, IdentityVersion::Zero, Derivation::Rfc8446))
            .unwrap(),
    );
    let (progress, _) = shake(client.as_mut(), peer, 1000);
    assert!(matches!(failed(progress).reason, HandshakeReason::Alert(_)));
}

/// A server with a certificate, which takes no PSK.
fn with_certificate() -> SslContextBuilder {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_text("CN", "disk0").unwrap();
    let name = name.build();
    let mut certificate = X509::builder().unwrap();
    certificate.set_subject_name(&name).unwrap();
    certificate.set_issuer_name(&name).unwrap();
    certificate.set_pubkey(&key).unwrap();
    certificate
        .set_not_before(&Asn1Time::days_from_now(0).unwrap())
        .unwrap();
    certificate
        .set_not_after(&Asn1Time::days_from_now(9).unwrap())
        .unwrap();
    certificate.sign(&key, MessageDigest::sha256()).unwrap();
    let mut context = SslContextBuilder::new(SslMethod::tls_server()).unwrap();
    context.set_certificate(&certificate.build()).unwrap();
    context.set_private_key(&key).unwrap();
    context
}

#[test]
fn a_certificate_is_not_a_key() {
    let ssl = Ssl::new(&with_certificate().build()).unwrap();
    let peer = Peer::of(ssl.accept(Pipe::default()));
    let (progress, _) = shake(ours(Side::Client, Hash::Sha256).as_mut(), peer, 1000);
    assert!(failed(progress).alert.is_some());
    // Not even if nobody looks at certificates.
    let contexts = Contexts::with(16_385, |context| {
        context.set_verify(SslVerifyMode::NONE);
        Ok(())
    });
    let mut client = Handshake::new(
        &Arc::new(contexts.unwrap()),
        Stage::Begin(key(Hash::Sha256)),
    );
    let ssl = Ssl::new(&with_certificate().build()).unwrap();
    let (progress, _) = shake(&mut client, Peer::of(ssl.accept(Pipe::default())), 1000);
    let failure = failed(progress);
    assert_eq!(failure.reason, HandshakeReason::NothingInCommon);
}

#[test]
fn who_offers_no_key_is_refused() {
    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        let mut connector = SslConnector::builder(SslMethod::tls_client()).unwrap();
        connector.set_max_proto_version(Some(version)).unwrap();
        let ssl = connector
            .build()
            .configure()
            .unwrap()
            .into_ssl("disk0")
            .unwrap();
        let mut peer = Peer::of(ssl.connect(Pipe::default()));
        let step = ours(Side::Server, Hash::Sha256).advance(&peer.sent());
        assert_eq!(
            step.send,
            [21, 3, 3, 0, 2, 2, Alert::HandshakeFailure as u8]
        );
        assert_eq!(
            failed(step.progress).reason,
            HandshakeReason::NothingInCommon
        );
    }
}

#[test]
fn what_is_no_handshake_is_refused() {
    for bytes in [
        &b"\0\0\x80\0\x80\0\0\0"[..],
        b"GET / HTTP/1.1\r\n\r\n",
        &[22, 3, 1, 0, 0],
        &[22, 3, 1, 0xff, 0xff, 1],
        &[22, 3, 1, 0, 4, 2, 0, 0, 0],
        &[22, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff],
        &[22, 3, 1, 0, 5, 1, 0, 0, 1, 0],
    ] {
        let step = ours(Side::Server, Hash::Sha256).advance(bytes);
        let failure = failed(step.progress);
        assert_eq!(failure.reason, HandshakeReason::Malformed, "{bytes:?}");
        assert_eq!(step.send, [21, 3, 3, 0, 2, 2, Alert::DecodeError as u8]);
    }
}

#[test]
fn more_than_a_handshake_needs_is_refused() {
    // A hello that is never whole, and a client that says nothing new after it.
    let mut server = ours(Side::Server, Hash::Sha256);
    let mut hello = vec![22, 3, 1, 0, 5, 1, 0, 0x40, 0, 0];
    hello.extend([22, 3, 1, 0, 1, 0].repeat(10_000));
    let end = (hello.chunks(100)).find_map(|bytes| match server.advance(bytes).progress {
        Progress::Failed(failure) => Some(failure),
        _ => None,
    });
    assert_eq!(end.unwrap().reason, HandshakeReason::TooMuch);
    let mut server = ours(Side::Server, Hash::Sha256);
    let mut peer = Peer::new(Side::Client, &Contexts::new().unwrap(), &key(Hash::Sha256));
    let _ = server.advance(&peer.sent());
    let end = (0..100).find_map(|_| match server.advance(&[20, 3, 3, 0, 1, 1]).progress {
        Progress::Failed(failure) => Some(failure),
        _ => None,
    });
    assert_eq!(end.unwrap().reason, HandshakeReason::TooMuch);
}

#[test]
fn a_finished_that_is_not_right_is_refused() {
    for hash in Hash::ALL {
        let mut server = ours(Side::Server, hash);
        let mut peer = Peer::new(Side::Client, &Contexts::new().unwrap(), &key(hash));
        let step = server.advance(&peer.sent());
        peer = peer.advance(&step.send);
        let mut finished = peer.sent();
        *finished.last_mut().unwrap() ^= 1;
        let step = server.advance(&finished);
        let failure = failed(step.progress);
        assert_eq!(failure.alert, Some(Alert::BadRecordMac));
        assert!(!step.send.is_empty());
        assert!(!format!("{failure} {failure:?}").contains("0707"));
    }
}

#[test]
fn a_hello_is_bound_to_all_it_says() {
    // The suites of a hello that is right, changed on its way: the binder is wrong.
    let mut peer = Peer::new(Side::Client, &Contexts::new().unwrap(), &key(Hash::Sha256));
    let hello = peer.sent();
    for at in [20, 60, 100] {
        let mut changed = hello.clone();
        changed[at] ^= 1;
        let step = ours(Side::Server, Hash::Sha256).advance(&changed);
        let reason = failed(step.progress).reason;
        assert!(
            matches!(
                reason,
                HandshakeReason::WrongKey | HandshakeReason::Malformed
            ),
            "{at}: {reason:?}"
        );
    }
}
