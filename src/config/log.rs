//! `[log]`: where acknowledged writes are until a consistency point.

use std::time::Duration;

use engine::{LogConfig, LogStoreConfig};

use super::reader::{Item, Section};
use super::stores::Stores;
use super::target::{refuse_part, refuse_unknown};

/// Seconds between two consistency points, at most.
const CONSISTENCY_POINT_S: u32 = 10;

pub(super) fn read(root: &Section<'_>, stores: &Stores) -> Option<LogConfig> {
    let section = root.table("log")?;
    let named = |item: &Item<'_>, example: &str| {
        let store = item.string(example)?;
        refuse_unknown(item, store, stores);
        refuse_part(item, store, stores);
        if stores.is_span(store) {
            item.report(
                format!(
                    "store `{store}` lies on several others, and the log on one or two by itself"
                ),
                "name a store that is a device",
            );
        }
        Some(store.to_owned())
    };
    let store = section.require("store", "\"log0\"");
    let store = store.and_then(|item| named(&item, "log0"));
    let mirror = section.get("mirror").and_then(|item| {
        let mirror = named(&item, "log1")?;
        if store.as_ref() == Some(&mirror) {
            item.report(
                "the log's two stores are one",
                "name another store as `mirror`, on another drive, or leave it out",
            );
        }
        Some(mirror)
    });
    let half_mib = (section.get("half_mib")).and_then(|item| item.integer(1u32..=1 << 20, 256));
    let interval = section.integer("consistency_point_s", 1..=3600, CONSISTENCY_POINT_S);
    let through = section.get("after_failure").and_then(|item| {
        let after = item.string("refuse")?;
        if !["refuse", "through"].contains(&after) {
            item.report(
                format!("a log that has failed is not followed by {after:?}"),
                "write \"refuse\", or \"through\"",
            );
        }
        Some(after == "through")
    });
    section.finish();
    let on = |name: String| LogStoreConfig {
        name,
        discard: false,
    };
    Some(LogConfig {
        stores: [store?].into_iter().chain(mirror).map(on).collect(),
        half_len: half_mib.map(|mib| u64::from(mib) << 20),
        interval: Duration::from_secs(interval.into()),
        through_after_failure: through.unwrap_or(false),
    })
}
