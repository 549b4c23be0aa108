//! What can go wrong below a door.

use std::fmt;

/// Why an operation failed. Doors make their protocol's status from it: NVMe's
/// are in `nvmf::Status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Something is short for now: the same may succeed when tried again.
    Busy,
    /// Whoever asked for it took it back before any of it was done.
    Aborted,
    /// The device cannot be reached, or is gone.
    Gone,
    /// Another node serves it, or is about to: hosts are to ask there.
    Elsewhere,
    /// The device has no room left.
    NoSpace,
    /// The device could not read what it had.
    ReadError,
    /// The device could not write.
    WriteError,
    /// An NVMe device's own status: code type and code (base 2.0, 3.3.3.2.1).
    Device {
        /// Status Code Type, 3 bits.
        code_type: u8,
        /// Status Code.
        code: u8,
    },
    /// Anything else; the log has more.
    Internal,
}

impl Fault {
    /// Whether a device that is asked rightly, and works, would not have said so.
    pub fn is_of_the_device(&self) -> bool {
        /// Status Code Types (base 2.0, 3.3.3.2.1): Generic Command Status, Command Specific Status.
        const GENERIC: u8 = 0;
        const COMMAND_SPECIFIC: u8 = 1;
        /// Internal Error, of the generic ones.
        const INTERNAL_ERROR: u8 = 0x06;
        match *self {
            Fault::Gone | Fault::ReadError | Fault::WriteError | Fault::Internal => true,
            Fault::Busy | Fault::Aborted | Fault::Elsewhere | Fault::NoSpace => false,
            Fault::Device { code_type, code } => match code_type {
                GENERIC => code == INTERNAL_ERROR,
                COMMAND_SPECIFIC => false,
                // Media and data integrity, paths, a vendor's own.
                _ => true,
            },
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Busy => f.write_str("resources are short for now"),
            Fault::Aborted => f.write_str("it was aborted"),
            Fault::Gone => f.write_str("the device is gone, or cannot be reached"),
            Fault::Elsewhere => f.write_str("another node serves it"),
            Fault::NoSpace => f.write_str("the device has no room left"),
            Fault::ReadError => f.write_str("the device could not read"),
            Fault::WriteError => f.write_str("the device could not write"),
            Fault::Device { code_type, code } => {
                write!(f, "the device's status is {code_type:x}h/{code:02x}h")
            }
            Fault::Internal => f.write_str("internal error"),
        }
    }
}

impl std::error::Error for Fault {}
