//! What can go wrong below a door.

use std::fmt;

/// Why an operation failed. Doors make their protocol's status from it: NVMe's
/// are in `nvmf::Status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Something is short for now: the same may succeed when tried again.
    Busy,
    /// The device cannot be reached, or is gone.
    Gone,
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
    /// As a number that [`Fault::from_word`] reads, for rings between shards; never 0.
    pub const fn to_word(self) -> u32 {
        match self {
            Fault::Busy => 1,
            Fault::Gone => 2,
            Fault::NoSpace => 3,
            Fault::ReadError => 4,
            Fault::WriteError => 5,
            Fault::Internal => 6,
            Fault::Device { code_type, code } => 1 << 16 | (code_type as u32) << 8 | code as u32,
        }
    }

    /// The fault of a number that [`Fault::to_word`] made.
    pub const fn from_word(word: u32) -> Fault {
        match word {
            1 => Fault::Busy,
            2 => Fault::Gone,
            3 => Fault::NoSpace,
            4 => Fault::ReadError,
            5 => Fault::WriteError,
            word if word >> 16 == 1 => Fault::Device {
                code_type: (word >> 8) as u8,
                code: word as u8,
            },
            _ => Fault::Internal,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Busy => f.write_str("resources are short for now"),
            Fault::Gone => f.write_str("the device is gone, or cannot be reached"),
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

#[cfg(test)]
mod tests {
    use super::Fault;

    #[test]
    fn faults_cross_rings_as_they_are() {
        let codes = (0..8)
            .flat_map(|code_type| (0..=u8::MAX).map(move |code| Fault::Device { code_type, code }));
        let faults = [
            Fault::Busy,
            Fault::Gone,
            Fault::NoSpace,
            Fault::ReadError,
            Fault::WriteError,
            Fault::Internal,
        ];
        for fault in faults.into_iter().chain(codes) {
            assert_ne!(fault.to_word(), 0);
            assert_eq!(Fault::from_word(fault.to_word()), fault);
        }
    }
}
