//! Mirrored pairs: `throughline_pair_report`, and what an operator says of them (row R3).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use engine::{FRAME_BYTES, Handle, LinkSecurity, PairOrder, PairReport, TableLine};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Running;
use super::params::{Params, read};
use crate::config::uuid_text;
use crate::control::ErrorObject;
use crate::text::time_text;

/// How long the program may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// `throughline_pair_report`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Report {}

impl Report {
    pub(super) fn answer(self, handle: &Handle) -> Value {
        let volume = |report: PairReport| {
            json!({
                "store": report.name,
                "peer": uuid_text(report.peer),
                "role": report.role.word(),
                "serves_hosts": report.serves,
                "in_sync": report.is_in_sync,
                "takeover": report.takeover,
                "generation": report.generation.to_string(),
                "bytes": report.bytes,
                "resizes_to": report.resizes_to,
                "kib_to_copy": report.to_copy_bytes() / 1024,
                "verify": report.verification.map(|verify| json!({
                    "text": verify.to_string(),
                    "has_ended": verify.is_over,
                    "is_cut_off": verify.is_cut,
                    "mends": verify.mends,
                    "granules": verify.granules,
                    "compared": verify.compared,
                    "skipped": verify.skipped,
                    "differing_blocks": verify.differing,
                    "differing": verify.found.iter().map(|range| json!({
                        "offset": range.start,
                        "bytes": range.end - range.start,
                    })).collect::<Value>(),
                })),
                "severed_by_operator": report.severed.map(|since| {
                    time_text(UNIX_EPOCH + Duration::from_secs(since))
                }),
                "readable_as_backup": report.is_backup,
                "link": report.link.map(LinkSecurity::name),
                "step": report.step,
                "since_s": report.since.as_secs(),
                "state": report.state,
            })
        };
        handle.pair_reports().into_iter().map(volume).collect()
    }
}

/// What an operator says of a volume.
#[derive(Debug)]
pub(super) struct Order {
    store: String,
    order: PairOrder,
    /// What it is called when it is not carried out.
    not: &'static str,
}

/// The volume alone.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Volume {
    store: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Promote {
    store: String,
    /// Whatever the arbiter says.
    #[serde(default)]
    force: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Verify {
    store: String,
    /// What differs is copied to the other node.
    #[serde(default)]
    mend: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Discard {
    store: String,
    /// The same once more: what is lost was not named by mistake.
    volume_name: String,
    /// Whatever the other node is, and whether it is there.
    #[serde(default)]
    force: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Frames {
    store: String,
    /// KiB of payload of a frame at most.
    kib: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Resize {
    store: String,
    /// None: as many as the device of this node has.
    bytes: Option<u64>,
    /// The store once more: what is behind may be lost.
    volume_name: Option<String>,
}

impl Order {
    fn of(params: Params, order: PairOrder, not: &'static str) -> Result<Self, ErrorObject> {
        let Volume { store } = read(params)?;
        Ok(Self { store, order, not })
    }

    /// `throughline_pair_promote`
    pub(super) fn promote(params: Params) -> Result<Self, ErrorObject> {
        let Promote { store, force } = read(params)?;
        let order = PairOrder::Promote { is_forced: force };
        let not = "promoted";
        Ok(Self { store, order, not })
    }

    /// `throughline_pair_demote`
    pub(super) fn demote(params: Params) -> Result<Self, ErrorObject> {
        Self::of(params, PairOrder::Demote, "demoted")
    }

    /// `throughline_pair_verify`
    pub(super) fn verify(params: Params) -> Result<Self, ErrorObject> {
        let Verify { store, mend } = read(params)?;
        let order = PairOrder::Verify { mends: mend };
        let not = "verified";
        Ok(Self { store, order, not })
    }

    /// `throughline_pair_establish`
    pub(super) fn establish(params: Params) -> Result<Self, ErrorObject> {
        Self::of(params, PairOrder::Establish, "established")
    }

    /// `throughline_pair_sever`
    pub(super) fn sever(params: Params) -> Result<Self, ErrorObject> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default().as_secs();
        Self::of(params, PairOrder::Sever { now }, "severed")
    }

    /// `throughline_pair_reestablish`
    pub(super) fn reestablish(params: Params) -> Result<Self, ErrorObject> {
        Self::of(params, PairOrder::Reestablish, "reestablished")
    }

    /// `throughline_pair_discard`
    pub(super) fn discard(params: Params) -> Result<Self, ErrorObject> {
        let Discard {
            store,
            volume_name,
            force,
        } = read(params)?;
        if volume_name != store {
            return Err(ErrorObject::invalid_params(&format!(
                "What this node has of {store:?} would be lost: `volume_name` is to be {store:?}, and is {volume_name:?}"
            )));
        }
        let order = PairOrder::Discard { is_forced: force };
        let not = "discarded";
        Ok(Self { store, order, not })
    }

    /// `throughline_pair_resize`
    pub(super) fn resize(params: Params) -> Result<Self, ErrorObject> {
        let Resize {
            store,
            bytes,
            volume_name,
        } = read(params)?;
        if let Some(name) = volume_name.as_ref().filter(|&name| *name != store) {
            return Err(ErrorObject::invalid_params(&format!(
                "What {store:?} has behind its new size would be lost: `volume_name` is to be {store:?}, and is {name:?}"
            )));
        }
        let is_named = volume_name.is_some();
        let order = PairOrder::Resize { bytes, is_named };
        let not = "resized";
        Ok(Self { store, order, not })
    }

    /// `throughline_pair_update_tables`
    pub(super) fn update_tables(params: Params) -> Result<Self, ErrorObject> {
        Self::of(params, PairOrder::UpdateTables, "compared")
    }

    /// `throughline_pair_set_frame_size`
    pub(super) fn set_frame_size(params: Params) -> Result<Self, ErrorObject> {
        let Frames { store, kib } = read(params)?;
        let bytes = kib
            .checked_mul(1024)
            .filter(|bytes| FRAME_BYTES.contains(bytes));
        let Some(bytes) = bytes else {
            let [least, most] = [FRAME_BYTES.start(), FRAME_BYTES.end()].map(|bytes| bytes / 1024);
            return Err(ErrorObject::invalid_params(&format!(
                "`kib` is {kib}: frames have {least} to {most} KiB of payload"
            )));
        };
        let order = PairOrder::SetFrameSize { bytes };
        let not = "set";
        Ok(Self { store, order, not })
    }

    pub(super) fn answer(self, handle: &Handle, running: &Running) -> Result<Value, ErrorObject> {
        match self.order {
            PairOrder::SetFrameSize { bytes } => {
                running.set_frame_size(&self.store, bytes, || self.give(handle).map(drop))?;
                Ok(Value::Bool(true))
            }
            _ => self.give(handle),
        }
    }

    fn give(&self, handle: &Handle) -> Result<Value, ErrorObject> {
        let outcome = handle.order_pair(&self.store, self.order, ANSWER);
        let not = |why| ErrorObject::internal(format!("Not {}: {why}", self.not));
        Ok(outcome.map_err(not)?.map_or(Value::Bool(true), |tables| {
            let line = |line: TableLine| {
                json!({
                    "what": line.what,
                    "here": line.here,
                    "there": line.there,
                    "is_right": line.is_right,
                })
            };
            tables.lines().into_iter().map(line).collect()
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r04_what_cannot_be_done_with_a_pair_is_said() {
        type Read = fn(Params) -> Result<Order, ErrorObject>;
        let orders: [(Read, &str, &str); 7] = [
            (Order::promote, "force", "promoted"),
            (Order::demote, "", "demoted"),
            (Order::verify, "mend", "verified"),
            (Order::establish, "", "established"),
            (Order::sever, "", "severed"),
            (Order::reestablish, "", "reestablished"),
            (Order::update_tables, "", "compared"),
        ];
        for (read, option, not) in orders {
            let read = |params: Value| read(params.as_object().unwrap().clone());
            let told = read(json!({})).unwrap_err().message;
            assert!(told.contains("`store` is missing"), "{told}");
            let mut params = json!({ "store": "data" });
            if !option.is_empty() {
                params[option] = true.into();
            }
            let told = read(params.clone()).unwrap().give(&Handle::new());
            let told = told.unwrap_err().message;
            let expected = format!("Not {not}: there is no pair");
            assert!(told.starts_with(&expected), "{told}");
            params["other"] = true.into();
            assert!(read(params).is_err(), "{not}");
        }
    }

    #[test]
    fn r03_frames_that_cannot_be_are_refused() {
        let read = |params: Value| Order::set_frame_size(params.as_object().unwrap().clone());
        for kib in [0, 3, 4097, u32::MAX] {
            let told = read(json!({ "store": "data", "kib": kib })).unwrap_err();
            assert!(told.message.contains("4 to 4096 KiB"), "{}", told.message);
        }
        for kib in [4, 4096] {
            let order = read(json!({ "store": "data", "kib": kib })).unwrap();
            let bytes = kib * 1024;
            assert_eq!(order.order, PairOrder::SetFrameSize { bytes });
        }
    }

    /// What is behind a smaller size is lost, and named twice.
    #[test]
    fn r03_a_size_is_read_with_what_may_be_lost() {
        let read = |params: Value| Order::resize(params.as_object().unwrap().clone());
        let order = |params| read(params).unwrap().order;
        let grows = json!({ "store": "data" });
        let expected = PairOrder::Resize {
            bytes: None,
            is_named: false,
        };
        assert_eq!(order(grows.clone()), expected);
        let shrinks = json!({ "store": "data", "bytes": 4096, "volume_name": "data" });
        let expected = PairOrder::Resize {
            bytes: Some(4096),
            is_named: true,
        };
        assert_eq!(order(shrinks), expected);
        let other = json!({ "store": "data", "bytes": 4096, "volume_name": "date" });
        let told = read(other).unwrap_err().message;
        assert!(told.contains("is to be \"data\""), "{told}");
        assert!(read(json!({ "store": "data", "bytes": -1 })).is_err());
        let told = read(grows).unwrap().give(&Handle::new()).unwrap_err();
        assert!(told.message.starts_with("Not resized: there is no pair"));
    }

    /// What is lost is named twice.
    #[test]
    fn r03_what_is_given_up_is_named_twice() {
        let read = |params: Value| Order::discard(params.as_object().unwrap().clone());
        let told = read(json!({ "store": "data" })).unwrap_err().message;
        assert!(told.contains("`volume_name` is missing"), "{told}");
        let other = json!({ "store": "data", "volume_name": "date" });
        let told = read(other).unwrap_err().message;
        assert!(told.contains("is to be \"data\""), "{told}");
        let same = json!({ "store": "data", "volume_name": "data", "force": true });
        let told = read(same).unwrap().give(&Handle::new()).unwrap_err();
        assert!(told.message.starts_with("Not discarded: there is no pair"));
    }
}
