//! `[log]`: where acknowledged writes are until a consistency point.

use std::time::Duration;

use engine::LogConfig;

use super::reader::Section;
use super::stores::Stores;
use super::target::refuse_unknown;

/// Seconds between two consistency points, at most.
const CONSISTENCY_POINT_S: u32 = 10;

pub(super) fn read(root: &Section<'_>, stores: &Stores) -> Option<LogConfig> {
    let section = root.table("log")?;
    let store = section.require("store", "\"log0\"").and_then(|item| {
        let store = item.string("log0")?;
        refuse_unknown(&item, store, stores);
        Some(store.to_owned())
    });
    let half_mib = (section.get("half_mib")).and_then(|item| item.integer(1u32..=1 << 20, 256));
    let interval = section.integer("consistency_point_s", 1..=3600, CONSISTENCY_POINT_S);
    section.finish();
    Some(LogConfig {
        store: store?,
        half_len: half_mib.map(|mib| u64::from(mib) << 20),
        interval: Duration::from_secs(interval.into()),
        discard: false,
    })
}
