//! All keys of a target, by the identities that hosts may offer.

use std::collections::HashMap;
use std::fmt;

use super::{ConfiguredPsk, Derivation, IdentityVersion, NameTooLong, TlsPsk};

/// Keys of hosts and subsystems. Each has several, by version of the identity and by [`Derivation`]; the candidates of an identity are in
/// the order of [`Derivation::ALL`].
#[derive(Clone, Default)]
pub struct PskTable {
    keys: HashMap<Vec<u8>, Vec<TlsPsk>>,
}

impl PskTable {
    /// No key.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the keys of a host and a subsystem, made of a configured PSK, in each derivation. A host that is given a second one
    /// may use either.
    ///
    /// # Errors
    /// If the names are too long for any identity. If they are for some alone, it can be offered by the others.
    pub fn add(
        &mut self,
        psk: &ConfiguredPsk,
        host: &str,
        subsystem: &str,
    ) -> Result<(), NameTooLong> {
        let mut result = Err(NameTooLong);
        for version in IdentityVersion::ALL {
            for derivation in Derivation::ALL {
                if let Ok(key) = psk.derive(host, subsystem, version, derivation) {
                    let identity = key.identity().to_string().into_bytes();
                    self.keys.entry(identity).or_default().push(key);
                    result = Ok(());
                }
            }
        }
        result
    }

    /// Adds one key.
    pub fn add_key(&mut self, key: TlsPsk) {
        let identity = key.identity().to_string().into_bytes();
        self.keys.entry(identity).or_default().push(key);
    }

    /// The keys of an identity that a client offers; those it may mean, where the identity does not tell.
    pub fn find(&self, identity: &[u8]) -> &[TlsPsk] {
        self.keys.get(identity).map_or(&[], Vec::as_slice)
    }

    /// Whether there is no key at all.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

impl fmt::Debug for PskTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PskTable({} identities)", self.keys.len())
    }
}
