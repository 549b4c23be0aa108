//! Diffie-Hellman groups: those of RFC 7919, and none.

mod primes;

use std::sync::OnceLock;

use crypto_bigint::modular::{BoxedMontyForm, BoxedMontyParams};
use crypto_bigint::{BoxedUint, Odd, Resize};
use zeroize::{Zeroize, Zeroizing};

/// A group (base 2.0, 8.13.5: DHgID).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Group {
    /// No exchange: the response depends on the key alone.
    Null = 0,
    /// 2,048 bits.
    Ffdhe2048 = 1,
    /// 3,072 bits.
    Ffdhe3072 = 2,
    /// 4,096 bits.
    Ffdhe4096 = 3,
    /// 6,144 bits.
    Ffdhe6144 = 4,
    /// 8,192 bits.
    Ffdhe8192 = 5,
}

/// A peer's public value that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadPublic;

impl Group {
    /// All of them, the longest first.
    pub const ALL: [Group; 6] = [
        Group::Ffdhe8192,
        Group::Ffdhe6144,
        Group::Ffdhe4096,
        Group::Ffdhe3072,
        Group::Ffdhe2048,
        Group::Null,
    ];

    /// The group with this identifier.
    pub fn of_id(id: u8) -> Option<Group> {
        Group::ALL.into_iter().find(|group| *group as u8 == id)
    }

    /// Its name, as SPDK and configurations have it.
    pub const fn name(self) -> &'static str {
        match self {
            Group::Null => "null",
            Group::Ffdhe2048 => "ffdhe2048",
            Group::Ffdhe3072 => "ffdhe3072",
            Group::Ffdhe4096 => "ffdhe4096",
            Group::Ffdhe6144 => "ffdhe6144",
            Group::Ffdhe8192 => "ffdhe8192",
        }
    }

    /// The group of this name.
    pub fn of_name(name: &str) -> Option<Group> {
        Group::ALL.into_iter().find(|group| group.name() == name)
    }

    /// Bits of its prime; 0 without one.
    const fn bits(self) -> u32 {
        match self {
            Group::Null => 0,
            Group::Ffdhe2048 => 2048,
            Group::Ffdhe3072 => 3072,
            Group::Ffdhe4096 => 4096,
            Group::Ffdhe6144 => 6144,
            Group::Ffdhe8192 => 8192,
        }
    }

    /// Bits of a private exponent: at least what RFC 7919, 5.2 and appendix A ask for (225, 275, 325, 375, 400), in whole words.
    const fn exponent_bits(self) -> u32 {
        match self {
            Group::Null => 0,
            Group::Ffdhe2048 => 256,
            Group::Ffdhe3072 => 320,
            Group::Ffdhe4096 | Group::Ffdhe6144 => 384,
            Group::Ffdhe8192 => 448,
        }
    }

    /// Bytes of a public value: those of the prime, leading zeros included.
    pub const fn public_len(self) -> usize {
        self.bits() as usize / 8
    }

    /// The prime, prepared for multiplications; once in a process.
    fn params(self) -> Option<&'static BoxedMontyParams> {
        static PARAMS: [OnceLock<BoxedMontyParams>; 6] = [const { OnceLock::new() }; 6];
        let hex = match self {
            Group::Null => return None,
            Group::Ffdhe2048 => primes::FFDHE2048,
            Group::Ffdhe3072 => primes::FFDHE3072,
            Group::Ffdhe4096 => primes::FFDHE4096,
            Group::Ffdhe6144 => primes::FFDHE6144,
            Group::Ffdhe8192 => primes::FFDHE8192,
        };
        Some(PARAMS[self as usize].get_or_init(|| {
            let prime = BoxedUint::from_be_hex(hex, self.bits());
            let prime = prime.into_option().and_then(|p| Odd::new(p).into_option());
            BoxedMontyParams::new(prime.expect("the primes of RFC 7919 are odd numbers"))
        }))
    }

    /// `base` to the power of a private exponent, in a time that depends on neither.
    fn power(self, base: BoxedUint, exponent: &Exponent, params: &BoxedMontyParams) -> Vec<u8> {
        let base = BoxedMontyForm::new(base, params);
        let mut power = base.pow_bounded_exp(&exponent.0, self.exponent_bits());
        let mut plain = power.retrieve();
        let bytes = plain.to_be_bytes().into_vec();
        plain.zeroize();
        power.zeroize();
        bytes
    }
}

/// A private exponent; zeroed after use.
pub(crate) struct Exponent(BoxedUint);

impl Drop for Exponent {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl Exponent {
    /// A fresh one for `group`.
    pub fn random(group: Group, random: &mut dyn FnMut(&mut [u8])) -> Self {
        let bits = group.exponent_bits().max(64);
        let mut bytes = Zeroizing::new(vec![0; bits as usize / 8]);
        random(&mut bytes);
        Self(BoxedUint::from_be_slice_truncated(&bytes, bits))
    }

    /// 2 to its power: what the peer gets; empty in the group that is none.
    pub fn public(&self, group: Group) -> Vec<u8> {
        let Some(params) = group.params() else {
            return Vec::new();
        };
        let two = BoxedUint::from(2u8).resize(group.bits());
        group.power(two, self, params)
    }

    /// The peer's `public` to its power, as long as the prime: what both have.
    ///
    /// # Errors
    /// If `public` is not in [2, p - 2] (RFC 7919, 5.1). The primes are safe and exponents are used once, so that there is no
    /// small subgroup to learn anything from.
    pub fn shared(&self, group: Group, public: &[u8]) -> Result<Zeroizing<Vec<u8>>, BadPublic> {
        let params = group.params().ok_or(BadPublic)?;
        let public = BoxedUint::from_be_slice(public, group.bits()).map_err(|_| BadPublic)?;
        let two = BoxedUint::from(2u8).resize(group.bits());
        let highest = params.modulus().as_ref().wrapping_sub(&two);
        if public < two || public > highest {
            return Err(BadPublic);
        }
        Ok(Zeroizing::new(group.power(public, self, params)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counting() -> impl FnMut(&mut [u8]) {
        let mut next = 0u8;
        move |bytes| {
            for byte in bytes {
                next = next.wrapping_mul(31).wrapping_add(17);
                *byte = next;
            }
        }
    }

    #[test]
    fn both_sides_have_the_same_secret() {
        let mut random = counting();
        for group in Group::ALL.into_iter().filter(|group| *group != Group::Null) {
            let (a, b) = (
                Exponent::random(group, &mut random),
                Exponent::random(group, &mut random),
            );
            let (for_b, for_a) = (a.public(group), b.public(group));
            assert_eq!(for_a.len(), group.public_len(), "{group:?}");
            let secret = a.shared(group, &for_a).unwrap();
            assert_eq!(secret, b.shared(group, &for_b).unwrap(), "{group:?}");
            assert_eq!(secret.len(), group.public_len());
            assert_ne!(*secret, for_a);
        }
    }

    #[test]
    fn what_is_no_public_value_is_refused() {
        let own = Exponent::random(Group::Ffdhe2048, &mut counting());
        let shared = |public: &[u8]| own.shared(Group::Ffdhe2048, public);
        let prime: Vec<u8> = (0..256)
            .map(|i| u8::from_str_radix(&primes::FFDHE2048[2 * i..2 * i + 2], 16).unwrap())
            .collect();
        let less = |by: u8| {
            let mut bytes = prime.clone();
            bytes[255] -= by;
            bytes
        };
        for bad in [
            &[][..],
            &[0],
            &[1],
            &prime,
            &less(1),
            &[0xff; 256],
            &[1; 257],
        ] {
            assert_eq!(shared(bad), Err(BadPublic), "{} bytes", bad.len());
        }
        assert!(shared(&[2]).is_ok() && shared(&less(2)).is_ok());
        let none = Exponent::random(Group::Null, &mut counting());
        assert_eq!(none.shared(Group::Null, &[2]), Err(BadPublic));
        assert!(none.public(Group::Null).is_empty());
    }

    #[test]
    fn names_and_identifiers_lead_back() {
        for group in Group::ALL {
            assert_eq!(Group::of_id(group as u8), Some(group));
            assert_eq!(Group::of_name(group.name()), Some(group));
        }
        assert_eq!((Group::of_id(6), Group::of_name("modp2048")), (None, None));
    }
}
