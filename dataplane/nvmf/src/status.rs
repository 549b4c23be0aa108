//! Completion status: Status Code Type, Status Code and Do Not Retry.
//!
//! Source: NVM Express Base Specification 2.0, 3.3.3.2.1 (Status Field);
//! NVM Command Set Specification 1.0, 4.1.

use std::fmt;

use block::Fault;

/// What a command ended with.
///
/// Held as the Status Field without its Phase Tag: Status Code in bits 7:0,
/// Status Code Type in bits 10:8, Command Retry Delay in bits 12:11, Do Not
/// Retry in bit 14.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Status(u16);

/// Status Code Type: Generic Command Status.
const GENERIC: u16 = 0;
/// Status Code Type: Command Specific Status.
const SPECIFIC: u16 = 1;
/// Status Code Type: Media and Data Integrity Errors.
const MEDIA: u16 = 2;
/// Status Code Type: Path Related Status.
const PATH: u16 = 3;

const fn code(sct: u16, sc: u16) -> Status {
    Status(sct << 8 | sc)
}

/// The same, and repeating the command would give the same again.
const fn final_code(sct: u16, sc: u16) -> Status {
    Status(1 << 14 | sct << 8 | sc)
}

impl Status {
    /// The command completed without error.
    pub const SUCCESS: Status = code(GENERIC, 0x00);
    /// The opcode is reserved or not supported.
    pub const INVALID_OPCODE: Status = final_code(GENERIC, 0x01);
    /// A reserved or unsupported value in a defined field.
    pub const INVALID_FIELD: Status = final_code(GENERIC, 0x02);
    /// The data transfer failed.
    pub const DATA_TRANSFER_ERROR: Status = code(GENERIC, 0x04);
    /// The device failed in a way that has no status of its own.
    pub const INTERNAL_ERROR: Status = code(GENERIC, 0x06);
    /// The command was aborted on the host's request.
    pub const ABORT_REQUESTED: Status = code(GENERIC, 0x07);
    /// The namespace or its format is invalid.
    pub const INVALID_NAMESPACE: Status = final_code(GENERIC, 0x0b);
    /// A command out of its order, such as before Connect.
    pub const COMMAND_SEQUENCE_ERROR: Status = final_code(GENERIC, 0x0c);
    /// The SGL describes fewer or more bytes than the command transfers.
    pub const DATA_SGL_LENGTH_INVALID: Status = final_code(GENERIC, 0x0f);
    /// An SGL descriptor of a type that is not supported.
    pub const SGL_DESCRIPTOR_TYPE_INVALID: Status = final_code(GENERIC, 0x11);
    /// An in-capsule SGL offset outside the capsule.
    pub const SGL_OFFSET_INVALID: Status = final_code(GENERIC, 0x16);
    /// The Host Identifier is not that of the association.
    pub const HOST_IDENTIFIER_INCONSISTENT: Status = final_code(GENERIC, 0x18);
    /// Write-protected namespace.
    pub const NAMESPACE_WRITE_PROTECTED: Status = final_code(GENERIC, 0x20);
    /// Nothing is wrong but resources are short: the host retries.
    pub const COMMAND_INTERRUPTED: Status = code(GENERIC, 0x21);
    /// The transport failed for this command alone, such as a data digest error.
    pub const TRANSIENT_TRANSPORT_ERROR: Status = code(GENERIC, 0x22);
    /// The range goes beyond the namespace.
    pub const LBA_OUT_OF_RANGE: Status = final_code(GENERIC, 0x80);
    /// The volume has no room left.
    pub const CAPACITY_EXCEEDED: Status = final_code(GENERIC, 0x81);
    /// The namespace cannot be reached now: the host retries.
    pub const NAMESPACE_NOT_READY: Status = code(GENERIC, 0x82);

    /// Abort: the host has as many of them under way as it may (ACL).
    pub const ABORT_LIMIT_EXCEEDED: Status = code(SPECIFIC, 0x03);
    /// Asynchronous Event Request: too many are parked.
    pub const ASYNC_EVENT_LIMIT_EXCEEDED: Status = code(SPECIFIC, 0x05);
    /// Get Log Page: no such log.
    pub const INVALID_LOG_PAGE: Status = final_code(SPECIFIC, 0x09);
    /// Set Features: the value cannot be saved across resets.
    pub const FEATURE_NOT_SAVEABLE: Status = final_code(SPECIFIC, 0x0d);
    /// Set Features: the feature cannot be changed.
    pub const FEATURE_NOT_CHANGEABLE: Status = final_code(SPECIFIC, 0x0e);
    /// Set Features: the feature belongs to the controller, not to a namespace.
    pub const FEATURE_NOT_NAMESPACE_SPECIFIC: Status = final_code(SPECIFIC, 0x0f);
    /// Connect: the record format is not supported.
    pub const CONNECT_INCOMPATIBLE_FORMAT: Status = final_code(SPECIFIC, 0x80);
    /// Connect: the controller, or the room for another, is in use.
    pub const CONNECT_CONTROLLER_BUSY: Status = code(SPECIFIC, 0x81);
    /// Connect: a parameter is invalid; the response says which.
    pub const CONNECT_INVALID_PARAMETERS: Status = final_code(SPECIFIC, 0x82);
    /// Connect: the host may not use this subsystem.
    pub const CONNECT_INVALID_HOST: Status = final_code(SPECIFIC, 0x84);
    /// Disconnect: the queue type is wrong.
    pub const INVALID_QUEUE_TYPE: Status = final_code(SPECIFIC, 0x85);

    /// The host has yet to prove who it is.
    pub const AUTHENTICATION_REQUIRED: Status = final_code(SPECIFIC, 0x91);

    /// The device could not write.
    pub const WRITE_FAULT: Status = code(MEDIA, 0x80);
    /// The device could not read what it had.
    pub const UNRECOVERED_READ_ERROR: Status = code(MEDIA, 0x81);
    /// Blocks that were deallocated or never written.
    pub const DEALLOCATED_BLOCK: Status = final_code(MEDIA, 0x87);

    /// The controller does not reach the namespace, and never will again.
    ///
    /// Do Not Retry stays clear in all three: it would say that no controller of the subsystem can do what
    /// this one cannot (base 3.3.3.2.1), and hosts give a command up for it that another path would take.
    pub const ASYMMETRIC_ACCESS_PERSISTENT_LOSS: Status = code(PATH, 0x01);
    /// The controller does not reach the namespace; another may.
    pub const ASYMMETRIC_ACCESS_INACCESSIBLE: Status = code(PATH, 0x02);
    /// How the controller reaches the namespace is being changed.
    pub const ASYMMETRIC_ACCESS_TRANSITION: Status = code(PATH, 0x03);

    /// The status whose Status Field, without the Phase Tag, is `field`.
    /// Bits that this type does not hold are dropped.
    pub const fn from_field(field: u16) -> Status {
        Status(field & 0x5fff)
    }

    /// The same, to be retried after the first Command Retry Delay Time
    /// (CRDT1 of Identify Controller).
    pub const fn with_retry_delay(self) -> Status {
        Status(self.0 | 1 << 11)
    }

    /// What a host is told of a request that ended so. The one place where NVMe's
    /// statuses are made from what went wrong below.
    pub const fn of(result: Result<(), Fault>) -> Status {
        match result {
            Ok(()) => Status::SUCCESS,
            Err(Fault::Busy) => Status::COMMAND_INTERRUPTED,
            Err(Fault::Aborted) => Status::ABORT_REQUESTED,
            Err(Fault::Gone) => Status::NAMESPACE_NOT_READY,
            // What its ANA group says, or is about to (base 8.1.3).
            Err(Fault::Elsewhere) => Status::ASYMMETRIC_ACCESS_INACCESSIBLE,
            Err(Fault::NoSpace) => Status::CAPACITY_EXCEEDED,
            Err(Fault::ReadError) => Status::UNRECOVERED_READ_ERROR,
            Err(Fault::WriteError) => Status::WRITE_FAULT,
            Err(Fault::Internal) => Status::INTERNAL_ERROR,
            // Aborted by whoever reset the device (base 2.0, figure 94: Command Abort Requested, Command
            // Aborted due to SQ Deletion), not by the host: it is to try again.
            Err(Fault::Device {
                code_type: 0,
                code: 0x07 | 0x08,
            }) => Status::COMMAND_INTERRUPTED,
            Err(Fault::Device { code_type, code }) => {
                Status::from_field((code_type as u16 & 7) << 8 | code as u16)
            }
        }
    }

    /// The Status Field without its Phase Tag: 15 bits.
    pub const fn field(self) -> u16 {
        self.0
    }

    /// Whether the command succeeded.
    pub const fn is_success(self) -> bool {
        self.0 & 0x7ff == 0
    }

    /// Status Code Type, 3 bits.
    pub const fn code_type(self) -> u8 {
        (self.0 >> 8 & 7) as u8
    }

    /// Status Code.
    pub const fn code(self) -> u8 {
        self.0 as u8
    }

    /// Whether the host should not send the command again (DNR).
    pub const fn is_final(self) -> bool {
        self.0 >> 14 & 1 == 1
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dnr = if self.is_final() { " dnr" } else { "" };
        write!(f, "Status({:x}/{:02x}{dnr})", self.code_type(), self.code())
    }
}
