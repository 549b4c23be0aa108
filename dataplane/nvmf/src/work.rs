//! What commands are about: what a controller makes of them, and a queue sees done.

use block::NamespaceIndex;

use crate::units::{BlockRange, BlockSize, Nsid, Qid};

/// What a command is about, once it is understood.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Work {
    /// Nothing is left to do but to respond.
    Respond,
    Read {
        range: BlockRange,
        fua: bool,
    },
    Write {
        range: BlockRange,
        fua: bool,
    },
    WriteZeroes {
        range: BlockRange,
        fua: bool,
        deallocate: bool,
    },
    Flush,
    /// An asynchronous event request.
    Park,
    Disconnect,
    /// Flushes the namespaces that cache, `next` before others; then the
    /// controller is shut down.
    ShutDown {
        next: Option<Nsid>,
    },
    /// Dataset Management: `next` of `ranges` is the one to hand out.
    Dataset {
        ranges: u16,
        next: u16,
        deallocate: bool,
    },
    Connect {
        qid: Qid,
        sq_size: u16,
        no_flow_control: bool,
        keep_alive_ms: u32,
    },
    Identify {
        cns: u8,
        csi: u8,
    },
    LogPage {
        lid: u8,
        csi: u8,
        /// Log Specific Parameter (LSP).
        specific: u8,
        retain: bool,
        offset: u64,
    },
    /// An Abort, while the queue of the command that it names has not answered.
    Abort {
        id: AbortId,
    },
    /// Get Features of one whose value is data.
    FeatureData {
        fid: u8,
    },
    /// Authentication Send.
    AuthSend,
    /// Authentication Receive.
    AuthReceive,
    /// Set Features of Host Behavior Support, whose value is data.
    SetHostBehavior,
}

impl Work {
    /// Whether its data goes to the host.
    #[inline]
    pub fn is_to_host(&self) -> bool {
        matches!(
            self,
            Work::Read { .. }
                | Work::Identify { .. }
                | Work::LogPage { .. }
                | Work::FeatureData { .. }
                | Work::AuthReceive
        )
    }
}

/// Names an Abort command until its end is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AbortId(pub u8);

/// The namespace that an I/O command is for, as it was when the command came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NamespaceRef {
    pub nsid: Nsid,
    pub index: NamespaceIndex,
    pub block_size: BlockSize,
}
