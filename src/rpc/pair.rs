//! Mirrored pairs: `throughline_pair_report`, `throughline_pair_promote`, `throughline_pair_demote` and `throughline_pair_verify`
//! (row R3).

use std::time::Duration;

use engine::{Handle, PairOrder, PairReport};
use serde::Deserialize;
use serde_json::{Value, json};

use super::params::{Params, read};
use crate::control::ErrorObject;

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
                "role": report.role.word(),
                "serves_hosts": report.serves,
                "in_sync": report.is_in_sync,
                "takeover": report.takeover,
                "generation": report.generation.to_string(),
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
                "step": report.step,
                "since_s": report.since.as_secs(),
                "state": report.state,
            })
        };
        handle.pair_reports().into_iter().map(volume).collect()
    }
}

/// `throughline_pair_promote`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Promote {
    store: String,
    /// Whatever the arbiter says.
    #[serde(default)]
    force: bool,
}

impl Promote {
    pub(super) fn read(params: Params) -> Result<Self, ErrorObject> {
        read(params)
    }

    pub(super) fn answer(self, handle: &Handle) -> Result<Value, ErrorObject> {
        let order = PairOrder::Promote {
            is_forced: self.force,
        };
        handle
            .order_pair(&self.store, order, ANSWER)
            .map_err(|why| ErrorObject::internal(format!("Not promoted: {why}")))?;
        Ok(Value::Bool(true))
    }
}

/// `throughline_pair_demote`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Demote {
    store: String,
}

impl Demote {
    pub(super) fn read(params: Params) -> Result<Self, ErrorObject> {
        read(params)
    }

    pub(super) fn answer(self, handle: &Handle) -> Result<Value, ErrorObject> {
        handle
            .order_pair(&self.store, PairOrder::Demote, ANSWER)
            .map_err(|why| ErrorObject::internal(format!("Not demoted: {why}")))?;
        Ok(Value::Bool(true))
    }
}

/// `throughline_pair_verify`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Verify {
    store: String,
    /// What differs is copied to the other node.
    #[serde(default)]
    mend: bool,
}

impl Verify {
    pub(super) fn read(params: Params) -> Result<Self, ErrorObject> {
        read(params)
    }

    pub(super) fn answer(self, handle: &Handle) -> Result<Value, ErrorObject> {
        let order = PairOrder::Verify { mends: self.mend };
        handle
            .order_pair(&self.store, order, ANSWER)
            .map_err(|why| ErrorObject::internal(format!("Not verified: {why}")))?;
        Ok(Value::Bool(true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r04_what_cannot_be_done_with_a_pair_is_said() {
        let read = |params: Value| Promote::read(params.as_object().unwrap().clone());
        let told = read(json!({})).unwrap_err().message;
        assert!(told.contains("`store` is missing"), "{told}");
        let told = read(json!({ "store": "data" }))
            .unwrap()
            .answer(&Handle::new());
        let told = told.unwrap_err().message;
        assert!(told.starts_with("Not promoted: there is no pair"), "{told}");
        let params = json!({ "store": "data" }).as_object().unwrap().clone();
        let told = Demote::read(params).unwrap().answer(&Handle::new());
        let told = told.unwrap_err().message;
        assert!(told.starts_with("Not demoted: there is no pair"), "{told}");
        let params = json!({ "store": "data", "mend": true })
            .as_object()
            .unwrap()
            .clone();
        let told = Verify::read(params).unwrap().answer(&Handle::new());
        let told = told.unwrap_err().message;
        assert!(told.starts_with("Not verified: there is no pair"), "{told}");
    }
}
