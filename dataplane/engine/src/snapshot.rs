//! Counters as a value: what `throughline stats` prints.

/// A stage of the path a frame takes, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Stage {
    /// Taking frames from the port.
    Receive,
    /// TCP and below.
    Tcp,
    /// PDUs.
    Protocol,
    /// Logical pages.
    Assemble,
    /// Handing lists to the device.
    Submit,
    /// Taking completions from the device.
    Complete,
    /// Building segments and handing frames to the port.
    Transmit,
}

impl Stage {
    /// Every stage, in order.
    pub const ALL: [Stage; 7] = [
        Stage::Receive,
        Stage::Tcp,
        Stage::Protocol,
        Stage::Assemble,
        Stage::Submit,
        Stage::Complete,
        Stage::Transmit,
    ];

    /// The name statistics use.
    pub const fn name(self) -> &'static str {
        match self {
            Stage::Receive => "receive",
            Stage::Tcp => "tcp",
            Stage::Protocol => "protocol",
            Stage::Assemble => "assemble",
            Stage::Submit => "submit",
            Stage::Complete => "complete",
            Stage::Transmit => "transmit",
        }
    }
}

/// The counters of a whole engine.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// TSC ticks per second.
    pub tsc_hz: u64,
    /// One per shard.
    pub shards: Vec<ShardSnapshot>,
}

/// The counters of one shard, since it started.
#[derive(Clone, Debug, Default)]
pub struct ShardSnapshot {
    /// The core it polls on.
    pub core: u32,
    /// Polls of the loop, and those that found work.
    pub polls: u64,
    /// Polls that found work.
    pub polls_busy: u64,
    /// TSC ticks since the loop began.
    pub cycles_total: u64,
    /// TSC ticks by stage, in the order of [`Stage::ALL`]; idle polls are left out.
    pub cycles_by_stage: [u64; Stage::ALL.len()],
    /// Completed commands and bytes by kind.
    pub io: IoCounters,
    /// Logical pages written, by number of segments: 1, 2, 3, 4.
    pub pages_by_segments: [u64; 4],
    /// Bytes the CPU copied, by reason.
    pub copied_bytes: Vec<(&'static str, u64)>,
    /// Pools: name, size, free.
    pub pools: Vec<PoolSnapshot>,
    /// TCP connections open now.
    pub connections: u64,
    /// Counters with names of their own, by layer (`tcp`, `nvmf`, `port`, ...).
    pub counters: Vec<(&'static str, Vec<(String, u64)>)>,
}

/// Completed commands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoCounters {
    /// Reads completed.
    pub reads: u64,
    /// Writes completed.
    pub writes: u64,
    /// Flushes, write-zeroes and deallocations completed.
    pub others: u64,
    /// Commands completed with an error status.
    pub errors: u64,
    /// Payload bytes read.
    pub read_bytes: u64,
    /// Payload bytes written.
    pub written_bytes: u64,
}

/// A fixed pool.
#[derive(Clone, Debug, Default)]
pub struct PoolSnapshot {
    /// What it holds.
    pub name: &'static str,
    /// How many there are.
    pub size: u64,
    /// How many are free now.
    pub free: u64,
}
