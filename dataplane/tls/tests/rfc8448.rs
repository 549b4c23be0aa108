//! Records of RFC 8448, 3 (simple 1-RTT handshake), from its traffic secrets on.

mod support;

use pages::{Chunk, Inline};
use support::{Lab, cut, drain, established, feed};
use tls::{Alert, Established, Opener, Sealer, Secret, Side, Suite};

const CLIENT_SECRET: &str = "9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5";
const SERVER_SECRET: &str = "a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643";
const CLIENT_DATA: &str = "1703030043a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f2b9819a8a5b46b395bd54a9a20441e2b62974e1f5a6292a2977014bd1e3deae63aeebb21694915e4";
const SERVER_DATA: &str = "17030300432e937e11ef4ac740e538ad36005fc4a46932fc3225d05f82aa1b36e30efaf97d90e6dffc602dcb501a59a8fcc49c4bf2e5f0a21c0047c2abf332540dd032e167c2955d";
const CLIENT_FAREWELL: &str = "1703030013c9872760655666b74d7ff1153efd6db6d0b0e3";
const SERVER_FAREWELL: &str = "1703030013b58fd67166ebf599d24720cfbe7efa7a8864a9";

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2)
        .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
        .collect()
}

/// A side as the handshake of the RFC leaves it; the server has sent a ticket, the record before its data.
fn side(side: Side) -> Established {
    let secret = |hex| Secret::new(&bytes(hex)).unwrap();
    let (client, server) = (secret(CLIENT_SECRET), secret(SERVER_SECRET));
    let is_client = side == Side::Client;
    Established {
        read_secret: if is_client {
            server.clone()
        } else {
            client.clone()
        },
        write_secret: if is_client { client } else { server },
        read_sequence: is_client.into(),
        write_sequence: (!is_client).into(),
        ..established(Suite::Aes128GcmSha256, side, 0)
    }
}

#[test]
fn its_records_are_opened_and_sealed() {
    let lab = Lab::new();
    let data: Vec<u8> = (0..50).collect();
    for (from, to, record, farewell) in [
        (Side::Client, Side::Server, CLIENT_DATA, CLIENT_FAREWELL),
        (Side::Server, Side::Client, SERVER_DATA, SERVER_FAREWELL),
    ] {
        let mut sealer = Sealer::new(&side(from));
        for part in data.chunks(20) {
            let chunk = Chunk::Inline(Inline::new(part).unwrap());
            sealer.push(chunk, 0, lab.memory()).unwrap();
        }
        sealer.flush();
        assert_eq!(drain(&mut sealer, &lab), bytes(record));
        sealer.alert(Alert::CloseNotify);
        assert_eq!(drain(&mut sealer, &lab), bytes(farewell));
        let mut opener = Opener::new(&side(to));
        let stream = [bytes(record), bytes(farewell)].concat();
        let opened = feed(&mut opener, &lab, cut(&lab, &stream, &[30]));
        assert_eq!((opened.plain, opened.end), (data.clone(), Some(Ok(()))));
    }
}
