//! What the log has goes to its drives: `throughline_consistency_point`.

use std::time::Duration;

use engine::Handle;
use serde::Deserialize;
use serde_json::{Value, json};

use super::params::{Params, Within, read};
use crate::control::ErrorObject;

/// Longest wait in seconds.
const SECONDS_MAX: u64 = 3600;
/// How long it may take when nobody says otherwise, in seconds: longer than a slow drive takes for a half.
pub(crate) const POINT_SECONDS: u64 = 60;

/// `throughline_consistency_point`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConsistencyPoint {
    seconds: Option<Within<1, SECONDS_MAX>>,
}

impl ConsistencyPoint {
    pub(super) fn read(params: Params) -> Result<Self, ErrorObject> {
        read(params)
    }

    pub(super) fn answer(self, handle: &Handle) -> Result<Value, ErrorObject> {
        let seconds = self.seconds.map_or(POINT_SECONDS, |seconds| seconds.0);
        let done = handle
            .consistency_point(Duration::from_secs(seconds))
            .map_err(|error| ErrorObject::internal(format!("No consistency point: {error}")))?;
        Ok(json!({ "shards": done.shards, "log_bytes": done.log_bytes }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s04_a_consistency_point_has_a_time_and_says_why_there_is_none() {
        let read = |params: Value| {
            let read = ConsistencyPoint::read(params.as_object().unwrap().clone());
            read.map_err(|error| error.message)
        };
        let told = read(json!({ "seconds": 0 })).unwrap_err();
        assert!(told.contains("1 to 3600"), "{told}");
        let point = read(json!({ "seconds": 1 })).unwrap();
        let told = point.answer(&Handle::new()).unwrap_err().message;
        assert_eq!(
            told,
            "No consistency point: the program does not serve yet, or no more"
        );
    }
}
