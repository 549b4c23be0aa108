//! The program's counters, as `throughline stats --json` gives them.

use serde_json::{Value, json};

use crate::Result;
use crate::failure::OrFail;

/// Counters of a running program.
#[derive(Clone, Debug)]
pub struct Stats(Value);

impl Stats {
    /// What the command printed.
    ///
    /// # Errors
    ///
    /// It is not JSON.
    #[track_caller]
    pub fn parse(text: &str) -> Result<Self> {
        (serde_json::from_str(text).map(Self))
            .or_fail(|error| format!("statistics that are not JSON: {error}: {text}"))
    }

    /// The shards.
    pub fn shards(&self) -> &[Value] {
        self.0["shards"].as_array().map_or(&[], Vec::as_slice)
    }

    /// A counter of each shard: the number at `path` (`counters.tcp.segments`), or the
    /// sum of all numbers below it.
    ///
    /// # Panics
    ///
    /// There is no such counter.
    pub fn each(&self, path: &str) -> Vec<u64> {
        let shards = self.shards();
        assert!(
            !shards.is_empty(),
            "the statistics have no shards: {}",
            self.0
        );
        let found = shards.iter().map(|shard| {
            let value = at(shard, path);
            assert!(!value.is_null(), "the statistics have no `{path}`: {shard}");
            total(value)
        });
        found.collect()
    }

    /// The same of all shards together.
    pub fn sum(&self, path: &str) -> u64 {
        self.each(path).iter().sum()
    }

    /// How much more that is than it was.
    ///
    /// # Panics
    ///
    /// It is less.
    pub fn since(&self, before: &Self, path: &str) -> u64 {
        let (now, then) = (self.sum(path), before.sum(path));
        (now.checked_sub(then)).unwrap_or_else(|| panic!("`{path}` fell from {then} to {now}"))
    }

    /// What is at a path, shard by shard, for a failure or a log.
    pub fn show(&self, path: &str) -> String {
        let parts: Vec<&Value> = (self.shards().iter())
            .map(|shard| at(shard, path))
            .collect();
        json!(parts).to_string()
    }

    /// Requests for the namespaces of a subsystem.
    pub fn requests_of(&self, nqn: &str) -> u64 {
        let namespaces = (self.shards().iter()).filter_map(|shard| shard["namespaces"].as_array());
        let theirs = namespaces
            .flatten()
            .filter(|namespace| namespace["subsystem"] == nqn);
        (theirs.map(|namespace| &namespace["io"]))
            .flat_map(|io| ["reads", "writes", "others"].map(|kind| total(&io[kind])))
            .sum()
    }

    /// What a client takes and gives back: connections, and every pool.
    pub fn lent(&self) -> Value {
        let shards = (self.shards().iter())
            .map(|shard| json!({ "connections": shard["connections"], "pools": shard["pools"] }));
        shards.collect()
    }
}

fn at<'v>(value: &'v Value, path: &str) -> &'v Value {
    path.split('.').fold(value, |value, key| &value[key])
}

fn total(value: &Value) -> u64 {
    match value {
        Value::Array(list) => list.iter().map(total).sum(),
        Value::Object(members) => members.values().map(total).sum(),
        value => value.as_u64().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{"shards": [
        {"connections": 2, "copied_bytes": {"a": 1, "b": 2}, "io": {"reads": 5}, "pools": {"pages": {"size": 8, "free": 4}},
         "namespaces": [{"subsystem": "x", "io": {"reads": 3, "writes": 4, "others": 0, "read_bytes": 99}}]},
        {"connections": 0, "copied_bytes": {"a": 0, "b": 7}, "io": {"reads": 6}, "pools": {"pages": {"size": 8, "free": 8}},
         "namespaces": [{"subsystem": "y", "io": {"reads": 1, "writes": 0, "others": 0}}]}]}"#;

    #[test]
    fn numbers_below_a_path_are_summed() {
        let stats = Stats::parse(TEXT).expect("JSON");
        assert_eq!(stats.each("copied_bytes"), [3, 7]);
        assert_eq!(stats.sum("io.reads"), 11);
        assert_eq!(stats.since(&stats, "io.reads"), 0);
        assert_eq!(stats.requests_of("x"), 7);
        assert_eq!(stats.show("copied_bytes.b"), "[2,7]");
        assert_eq!(stats.lent()[1]["pools"]["pages"]["free"], 8);
    }

    #[test]
    #[should_panic(expected = "the statistics have no `io.writes`")]
    fn a_counter_that_is_not_there_is_no_zero() {
        Stats::parse(TEXT).expect("JSON").sum("io.writes");
    }
}
