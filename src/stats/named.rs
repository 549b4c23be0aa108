//! JSON objects that keep their order.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

/// A JSON object whose order is kept.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Named<T>(pub(crate) Vec<(String, T)>);

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Named<T> {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&T> {
        self.iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value)
    }

    /// Combines each value with the one of the same name here, or with the
    /// default where there is none yet.
    pub(super) fn merge(&mut self, other: &Self, combine: impl Fn(&mut T, &T))
    where
        T: Default,
    {
        for (name, value) in &other.0 {
            let at = self
                .0
                .iter()
                .position(|(known, _)| known == name)
                .unwrap_or_else(|| {
                    self.0.push((name.clone(), T::default()));
                    self.0.len() - 1
                });
            combine(&mut self.0[at].1, value);
        }
    }
}

impl Named<u64> {
    pub(crate) fn sum(&self) -> u64 {
        self.0.iter().map(|(_, value)| value).sum()
    }
}

impl<T: Serialize> Serialize for Named<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de, T: serde::de::DeserializeOwned> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map: Map<String, Value> = Map::deserialize(deserializer)?;
        let value = |(name, value)| {
            let value = serde_json::from_value(value).map_err(serde::de::Error::custom)?;
            Ok((name, value))
        };
        map.into_iter()
            .map(value)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}
