//! The Namespace Globally Unique Identifier of a namespace that is known by its UUID.

/// The octet of a UUID that begins with its variant, `10` (RFC 9562, 4.1), and of an NGUID that
/// begins its OUI.
const OCTET: usize = 8;

/// An NGUID that two namespaces share only if they share a UUID.
///
/// A UUID alone is enough for the specification (base 2.0, 5.17.2.3), not for every host: some
/// know namespaces by NGUID or EUI-64 and leave out those that have neither. Like the UUID it
/// comes of, it is the same after a restart and on whichever node has the namespace, as it has to
/// be for the life of the namespace (NVM 1.0, 4.1.5.1, Figure 97, bytes 119:104).
///
/// There an NGUID is a 16-byte designator: 8 octets of the vendor's, an OUI in octets 8 to 10, 5
/// octets more. A UUID as it is has at octet 8 its variant and random bits, which may
/// well be the OUI of somebody: bits 1:0 of that octet say whether the number is administered locally
/// (U/L) and whether it is a group's (I/G), and both are 0 in what the IEEE assigns. Turned by two
/// bits, the variant `10` comes to lie there and says local and no group, which no assigned OUI
/// says, and not a bit of the UUID is lost.
pub fn nguid_of(uuid: [u8; 16]) -> [u8; 16] {
    let mut nguid = uuid;
    // Whoever wrote a UUID of another variant gets the same two bits.
    nguid[OCTET] = uuid[OCTET].rotate_left(2) & !0b11 | 0b10;
    nguid
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_nguid_is_a_local_designator_and_keeps_every_bit_of_a_uuid() {
        let uuid = 0x6f1b_0c1e_3b5e_4c57_9f1a_0d5f_0a7b_2c11_u128;
        let nguid = 0x6f1b_0c1e_3b5e_4c57_7e1a_0d5f_0a7b_2c11_u128;
        assert_eq!(nguid_of(uuid.to_be_bytes()), nguid.to_be_bytes());
        // The variant's two bits in front, all that may stand behind them: 64 different octets.
        let mut seen = [false; 256];
        for octet in 0x80..=0xbf {
            let mut uuid = [0; 16];
            uuid[8] = octet;
            let nguid = nguid_of(uuid);
            assert_eq!(nguid[8] & 0b11, 0b10, "U/L is 1 and I/G 0");
            assert!(!std::mem::replace(&mut seen[usize::from(nguid[8])], true));
        }
        // Not a variant of RFC 9562, and never no identifier at all.
        for uuid in [[0; 16], [0xff; 16]] {
            assert_eq!(nguid_of(uuid)[8] & 0b11, 0b10);
        }
    }
}
