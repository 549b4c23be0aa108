//! What a connection that is encrypted binds: the names of the PSK that its handshake was made with (NVMe/TCP 3.6.1.3).

use std::sync::Arc;

use mutant::mutant;

use crate::command::ConnectData;
use crate::status::Status;
use crate::subsystem::Subsystem;

/// The names in the identity of the PSK that a connection is encrypted by: those of its Connect have to be the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PskNames {
    /// NQN of the host.
    pub host: String,
    /// NQN of the subsystem, or of the discovery service.
    pub subsystem: String,
}

/// Who is on the other end of a connection, as far as that is known before Connect; none of one in the clear.
pub(crate) type Security = Option<Arc<PskNames>>;

/// Whether Connect may name these on such a connection: the host has proved that it has the PSK of just them, or there is none
/// for them.
pub(crate) fn check(
    security: &Security,
    data: &ConnectData<'_>,
    subsystem: Option<&Subsystem>,
) -> Result<(), Status> {
    let is_theirs = match security {
        Some(names) => {
            names.host == data.host && names.subsystem == data.subsystem
                || mutant!("tls-names-unbound")
        }
        None => {
            !subsystem.is_some_and(|subsystem| subsystem.has_psk(data.host))
                || mutant!("tls-host-in-clear")
        }
    };
    is_theirs.then_some(()).ok_or(Status::CONNECT_INVALID_HOST)
}

/// Whether an I/O queue may be one of a controller whose Admin Queue is encrypted, or is not.
pub(crate) fn check_io(security: &Security, is_admin_secure: bool) -> Result<(), Status> {
    let is_same = security.is_some() == is_admin_secure || mutant!("tls-io-queue-clear");
    is_same.then_some(()).ok_or(Status::CONNECT_INVALID_HOST)
}
