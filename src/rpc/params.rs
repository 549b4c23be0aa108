//! Parameters of requests: read into a value whole, or refused with what is
//! wrong and what to write instead.

use std::fmt;

use serde::de::{DeserializeOwned, Error as _, Unexpected};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::config::values;
use crate::control::ErrorObject;

/// The discovery service's NQN (base 2.0, 4.5).
pub(super) const DISCOVERY: &str = "nqn.2014-08.org.nvmexpress.discovery";

/// The parameters of a method.
pub(super) type Params = Map<String, Value>;

/// Reads a request whose fields are those of `T`.
pub(super) fn read<T: DeserializeOwned>(params: Params) -> Result<T, ErrorObject> {
    serde_path_to_error::deserialize(Value::Object(params)).map_err(|error| {
        let place = error.path().to_string();
        let why = sentence(&place, &error.inner().to_string());
        ErrorObject::invalid_params(&why)
    })
}

/// What serde says of a value at a place (`.` is the parameters themselves), as a sentence.
fn sentence(place: &str, said: &str) -> String {
    let inside = |key: &str| match place {
        "." => key.to_owned(),
        place => format!("{place}.{key}"),
    };
    let quoted = |text: &str| text.split('`').nth(1).unwrap_or_default().to_owned();
    if said.starts_with("missing field") {
        return format!("`{}` is missing", inside(&quoted(said)));
    }
    if let Some(rest) = said.strip_prefix("unknown field") {
        let place = place.rsplit_once('.').map_or(".", |(parent, _)| parent);
        let who = if place.is_empty() || place == "." {
            "this method".to_owned()
        } else {
            format!("`{place}`")
        };
        return match rest.split_once(", expected ") {
            Some((key, known)) => {
                let known = known.trim_start_matches("one of ");
                format!("{who} knows {known}, not {}", key.trim())
            }
            None => format!("{who} takes none, not `{}`", quoted(rest)),
        };
    }
    let mismatch = ["invalid type: ", "invalid value: ", "invalid length: "];
    let mismatch = mismatch.iter().find_map(|kind| said.strip_prefix(kind));
    match mismatch.and_then(|rest| rest.rsplit_once(", expected ")) {
        Some((found, wanted)) => format!("`{place}` is {wanted}, not {found}"),
        None => format!("`{place}`: {said}"),
    }
}

/// Takes a parameter out that SPDK has and Throughline has not, if its value means
/// what happens here anyway.
///
/// # Errors
/// Any other value is refused; `why` says how it is here.
pub(super) fn without(
    params: &mut Params,
    key: &str,
    harmless: &[Value],
    why: &str,
) -> Result<(), ErrorObject> {
    match params.remove(key) {
        Some(value) if value != Value::Null && !harmless.contains(&value) => {
            let why = format!("`{key}` is a parameter of SPDK's; {why}: leave it out");
            Err(ErrorObject::invalid_params(&why))
        }
        _ => Ok(()),
    }
}

/// `tgt_name`, which SPDK's methods of the target have.
pub(super) fn without_target(params: &mut Params) -> Result<(), ErrorObject> {
    let names = [Value::from("nvmf_tgt")];
    without(
        params,
        "tgt_name",
        &names,
        "here is one target, without a name",
    )
}

/// A request without parameters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

/// A number within bounds, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(super) struct Within<const LEAST: u64, const MOST: u64>(pub(super) u64);

impl<'de, const LEAST: u64, const MOST: u64> Deserialize<'de> for Within<LEAST, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bounds(u64, u64);
        impl serde::de::Expected for Bounds {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a number from {} to {}", self.0, self.1)
            }
        }
        let bounds = Bounds(LEAST, MOST);
        let value = Value::deserialize(deserializer)?;
        match value.as_u64() {
            Some(number) if (LEAST..=MOST).contains(&number) => Ok(Self(number)),
            _ => {
                let found = value.to_string();
                Err(D::Error::invalid_value(Unexpected::Other(&found), &bounds))
            }
        }
    }
}

/// Reads a string by one of the configuration's small languages.
fn parsed<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    parse: impl Fn(&str) -> Result<T, values::Wrong>,
) -> Result<T, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).map_err(|wrong| D::Error::custom(format!("{}: {}", wrong.message, wrong.help)))
}

/// NQN of a subsystem or a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Nqn(pub(super) String);

impl<'de> Deserialize<'de> for Nqn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer, |text| {
            values::nqn(text).map(|()| Self(text.to_owned()))
        })
    }
}

/// An identify string of at most `MOST` characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identify<const MOST: usize>(pub(super) String);

impl<'de, const MOST: usize> Deserialize<'de> for Identify<MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer, |text| {
            values::identify_string(text, MOST).map(|()| Self(text.to_owned()))
        })
    }
}

/// A UUID as it is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Uuid(pub(super) [u8; 16]);

impl<'de> Deserialize<'de> for Uuid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer, |text| values::uuid(text).map(Self))
    }
}

/// An NGUID: 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Nguid(pub(super) [u8; 16]);

impl<'de> Deserialize<'de> for Nguid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer, |text| values::nguid(text).map(Self))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Outer {
        name: String,
        #[serde(default)]
        count: Option<Within<1, 8>>,
        inner: Option<Inner>,
        nqn: Option<Nqn>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Inner {
        flag: bool,
    }

    fn told(params: Value) -> String {
        let Value::Object(params) = params else {
            unreachable!("parameters are an object");
        };
        match read::<Outer>(params) {
            Ok(_) => "fine".into(),
            Err(error) => {
                assert_eq!(error.code, ErrorObject::INVALID_PARAMS);
                error.message.replace("Invalid parameters: ", "")
            }
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (params, said) in [
            (json!({ "name": "a", "count": null }), "fine"),
            (json!({}), "`name` is missing"),
            (json!({ "name": 1 }), "`name` is a string, not integer `1`"),
            (
                json!({ "name": "a", "x": 1 }),
                "this method knows `name`, `count`, `inner`, `nqn`, not `x`",
            ),
            (
                json!({ "name": "a", "count": 9 }),
                "`count` is a number from 1 to 8, not 9",
            ),
            (
                json!({ "name": "a", "count": "1" }),
                "`count` is a number from 1 to 8, not \"1\"",
            ),
            (
                json!({ "name": "a", "inner": {} }),
                "`inner.flag` is missing",
            ),
            (
                json!({ "name": "a", "inner": { "flag": 1 } }),
                "`inner.flag` is a boolean, not integer `1`",
            ),
            (
                json!({ "name": "a", "inner": { "flag": true, "x": 1 } }),
                "`inner` knows `flag`, not `x`",
            ),
            (
                json!({ "name": "a", "nqn": "disk0" }),
                "`nqn`: `disk0` is not an NVMe qualified name: write nqn.<year>-<month>.<your domain \
                reversed>:<name>, such as \"nqn.2026-01.com.example:disk0\"",
            ),
        ] {
            assert_eq!(told(params.clone()), said, "{params}");
        }
        let some = Params::from_iter([("x".to_owned(), json!(1))]);
        let told = read::<Nothing>(some).unwrap_err().message;
        assert_eq!(told, "Invalid parameters: this method takes none, not `x`");
    }

    #[test]
    fn a_parameter_of_spdks_may_say_what_is_so_anyway() {
        let taken = |value: Value| {
            let mut params = Params::from_iter([("ana_reporting".to_owned(), value)]);
            without(
                &mut params,
                "ana_reporting",
                &[json!(false)],
                "there is no ANA",
            )
            .map(|()| params.len())
            .map_err(|error| error.message)
        };
        assert_eq!(taken(json!(false)), Ok(0));
        assert_eq!(taken(Value::Null), Ok(0));
        assert_eq!(
            taken(json!(true)).unwrap_err(),
            "Invalid parameters: `ana_reporting` is a parameter of SPDK's; there is no ANA: leave it out"
        );
    }
}
