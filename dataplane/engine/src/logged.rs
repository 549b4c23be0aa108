//! The log, before the first request: what it is to be, and its replay.

use std::time::Instant;

use block::Device;
use nvlog::LogId;
use volume::{LogPlan, LogStart};

use crate::build::secret;
use crate::config::{Config, LogConfig, StoreConfig};
use crate::error::Error;
use crate::machine::Shard;
use crate::store::Store;

/// How the log is to be, whose shards have opened `stores`.
pub(crate) fn plan(config: &Config, log: &LogConfig, stores: &[Store]) -> LogPlan {
    let volume = |(config, store): (&StoreConfig, &Store)| nvlog::Volume {
        name: config.name.clone(),
        identity: store.identity(),
        len: store.geometry().len(),
        block: store.geometry().block_size,
    };
    let mut id = [0; 16];
    id.copy_from_slice(&secret()[..16]);
    LogPlan {
        shards: config.cores.len(),
        half_len: log.half_len,
        interval: log.interval,
        max_bytes: config.target.max_io_bytes as usize,
        volumes: config.stores.iter().zip(stores).map(volume).collect(),
        id: LogId(id),
        discard: log.discard,
    }
}

/// Replays the log, for all shards, and starts it on this one. `between` is called at each turn, and
/// says whether to go on. `None`: it did not.
pub(crate) fn replay(
    log: &LogConfig,
    plan: LogPlan,
    shard: &mut Shard,
    mut between: impl FnMut() -> bool,
) -> Result<Option<LogStart>, Error> {
    let began = Instant::now();
    shard.replay_log(plan);
    let end = loop {
        if let Some(end) = shard.poll_replay() {
            break end;
        }
        if !between() {
            return Ok(None);
        }
    };
    let start = end.map_err(|why| Error::Log {
        store: log.store.clone(),
        why,
    })?;
    if let Some(what) = &start.discarded {
        let store = &log.store;
        log::warn!("--discard-log: what the log on store {store} had is given up: {what}");
    }
    let done = &start.replayed;
    log::info!(
        "the log on store {}: {} records of {} bytes were replayed, {} bytes of groups that were never acknowledged were dropped; {} bytes of it were read in {:.1} s",
        log.store,
        done.records,
        done.bytes,
        done.torn,
        done.read,
        began.elapsed().as_secs_f64()
    );
    shard.start_log(&start);
    Ok(Some(start))
}
