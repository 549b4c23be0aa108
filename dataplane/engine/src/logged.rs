//! The log, before the first request: what it is to be, and its replay.

use std::time::{Duration, Instant};

use block::{Device, Span, VolumeId};
use nvlog::{LogId, PartOf};
use volume::{LogPlan, LogStart, LogStorePlan, ReplayProgress};

use crate::build::secret;
use crate::config::{Config, LogConfig, LogStoreConfig, SpanConfig, StoreConfig};
use crate::error::Error;
use crate::machine::Shard;
use crate::store::Store;

/// How the log is to be, whose shards have opened `stores`.
pub(crate) fn plan(config: &Config, log: &LogConfig, stores: &[Store], spans: &[Span]) -> LogPlan {
    let volume = |(config, store): (&StoreConfig, &Store)| nvlog::Volume {
        name: config.name.clone(),
        identity: store.identity(),
        len: store.geometry().len(),
        block: store.geometry().block_size,
        part_of: None,
    };
    let mut volumes: Vec<_> = config.stores.iter().zip(stores).map(volume).collect();
    for (config, span) in config.spans.iter().zip(spans) {
        add_span(&mut volumes, config, span);
    }
    let store = |log: &LogStoreConfig| LogStorePlan {
        name: log.name.clone(),
        // The configuration was checked to have it.
        volume: config.volume_of(&log.name).unwrap_or(VolumeId(u16::MAX)),
        discard: log.discard,
    };
    let mut id = [0; 16];
    id.copy_from_slice(&secret()[..16]);
    LogPlan {
        shards: config.cores.len(),
        half_len: log.half_len,
        tables_len: crate::pair::tables_len(config, &crate::build::sizes(stores, spans)),
        interval: log.interval,
        through_after_failure: log.through_after_failure,
        max_bytes: config.target.max_io_bytes as usize,
        volumes,
        id: LogId(id),
        stores: log.stores.iter().map(store).collect(),
    }
}

/// How often a replay tells how far it is.
const PROGRESS: Duration = Duration::from_secs(5);

/// Puts a volume that lies on several of `volumes` behind them.
fn add_span(volumes: &mut Vec<nvlog::Volume>, config: &SpanConfig, span: &Span) {
    let number = volumes.len() as u16;
    for (place, volume) in span.volumes().enumerate() {
        volumes[volume.index()].part_of = Some(PartOf {
            span: number,
            place: place as u16,
        });
    }
    volumes.push(nvlog::Volume {
        name: config.name.clone(),
        // What it lies on tells it from others.
        identity: [0; 16],
        len: span.geometry().len(),
        block: span.geometry().block_size,
        part_of: None,
    });
}

/// Replays the log, for all shards, and starts it on this one. `between` is called at each turn, and
/// says whether to go on. `None`: it did not.
pub(crate) fn replay(
    log: &LogConfig,
    plan: LogPlan,
    shard: &mut Shard,
    mut between: impl FnMut() -> bool,
) -> Result<Option<LogStart>, Error> {
    let (began, stores) = (Instant::now(), log.names());
    shard.replay_log(plan);
    let mut tell_at = began + PROGRESS;
    let end = loop {
        if let Some(end) = shard.poll_replay() {
            break end;
        }
        if let Some(ReplayProgress { read, halves }) = shard.replay_progress()
            && Instant::now() >= tell_at
        {
            tell_at += PROGRESS;
            log::info!("replaying the log on store {stores}: {read} of {halves} bytes were read");
        }
        if !between() {
            return Ok(None);
        }
    };
    let start = end.map_err(|why| Error::Log {
        store: stores.clone(),
        why,
    })?;
    for (store, what) in &start.discarded {
        log::warn!("--discard-log: what the log on store {store} had is given up: {what}");
    }
    for what in &start.tables_kept {
        log::warn!("the log on store {stores}: {what}; it is kept as it is");
    }
    let done = &start.replayed;
    log::info!(
        "the log on store {stores}: {} records of {} bytes were replayed, {} bytes of groups that were never acknowledged were dropped; {} bytes of it were read in {:.1} s",
        done.records,
        done.bytes,
        done.torn,
        done.read,
        began.elapsed().as_secs_f64()
    );
    for (store, lacked) in start.stores.iter().zip(done.mended) {
        if lacked > 0 {
            log::warn!(
                "log store {}: {lacked} groups that had been acknowledged were not there, or not as they were, and were read from the other store; look at the drive",
                store.name
            );
        }
        if store.member.is_none() {
            log::warn!(
                "the log is on one of its two stores: {} is not there, or fails. A start with both makes it two again",
                store.name
            );
        }
    }
    shard.start_log(&start);
    Ok(Some(start))
}
