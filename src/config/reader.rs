//! Reading a parsed TOML tree with its places: every getter names its key, so
//! the keys a table knows are the ones that were asked for.

use std::cell::RefCell;
use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::Problem;

/// Where problems go. Reading goes on after one, to report all of them at once.
#[derive(Default)]
pub(super) struct Sink {
    problems: RefCell<Vec<Problem>>,
}

impl Sink {
    pub(super) fn report(
        &self,
        span: Range<usize>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        let problem = Problem {
            span,
            message: message.into(),
            help: help.into(),
        };
        self.problems.borrow_mut().push(problem);
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems.into_inner()
    }
}

/// A table being read. [`Section::finish`] refuses the keys nobody asked for.
pub(super) struct Section<'t> {
    name: String,
    table: &'t DeTable<'t>,
    pub(super) span: Range<usize>,
    sink: &'t Sink,
    known: RefCell<Vec<&'static str>>,
}

impl<'t> Section<'t> {
    pub(super) fn new(
        name: impl Into<String>,
        table: &'t DeTable<'t>,
        span: Range<usize>,
        sink: &'t Sink,
    ) -> Self {
        Self {
            name: name.into(),
            table,
            span,
            sink,
            known: RefCell::default(),
        }
    }

    pub(super) fn report(
        &self,
        span: Range<usize>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.sink.report(span, message, help);
    }

    /// The value of `key`, if it is there.
    pub(super) fn get(&self, key: &'static str) -> Option<Item<'t>> {
        if !self.known.borrow().contains(&key) {
            self.known.borrow_mut().push(key);
        }
        let value = self.table.get(key)?;
        Some(Item {
            name: key,
            value: value.get_ref(),
            span: value.span(),
            within: self.name.clone(),
            element: false,
            sink: self.sink,
        })
    }

    /// The value of `key`, reported as missing when it is not there.
    pub(super) fn require(&self, key: &'static str, example: &str) -> Option<Item<'t>> {
        let item = self.get(key);
        if item.is_none() {
            self.report(
                self.span.clone(),
                format!("`{key}` is missing in {}", self.name),
                format!("add `{key} = {example}`"),
            );
        }
        item
    }

    /// An integer within `range`, or `default` when it is absent or wrong.
    pub(super) fn integer<T>(&self, key: &'static str, range: RangeInclusive<T>, default: T) -> T
    where
        T: TryFrom<i128> + Into<i128> + Copy,
    {
        self.get(key)
            .and_then(|item| item.integer(range, default))
            .unwrap_or(default)
    }

    pub(super) fn boolean(&self, key: &'static str, default: bool) -> bool {
        let Some(item) = self.get(key) else {
            return default;
        };
        match item.value {
            DeValue::Boolean(value) => *value,
            _ => {
                item.mismatch("`true` or `false`", &default.to_string());
                default
            }
        }
    }

    /// The tables of `[[key]]`, each under the name `[[key]]`.
    pub(super) fn tables(&self, key: &'static str) -> Vec<Section<'t>> {
        let Some(item) = self.get(key) else {
            return Vec::new();
        };
        let name = format!("[[{key}]]");
        let DeValue::Array(items) = item.value else {
            let help = format!("write `[[{key}]]` on a line of its own, once for each");
            self.report(item.span, format!("`{key}` must be a list of tables"), help);
            return Vec::new();
        };
        let element = |value: &'t Spanned<DeValue<'t>>| match value.get_ref() {
            DeValue::Table(table) => {
                Some(Section::new(name.clone(), table, value.span(), self.sink))
            }
            _ => {
                let help = format!("write `[[{key}]]` on a line of its own, once for each");
                self.report(
                    value.span(),
                    format!("`{key}` must be a list of tables"),
                    help,
                );
                None
            }
        };
        items.iter().filter_map(element).collect()
    }

    /// The table `[key]`, if it is there.
    pub(super) fn table(&self, key: &'static str) -> Option<Section<'t>> {
        let item = self.get(key)?;
        match item.value {
            DeValue::Table(_) => item.table(format!("[{key}]")),
            _ => {
                let help = format!("write `[{key}]` on a line of its own");
                self.report(item.span, format!("`{key}` must be a table"), help);
                None
            }
        }
    }

    /// A table, or a list of them.
    pub(super) fn one_or_more(&self, key: &'static str) -> Vec<Section<'t>> {
        match self.get(key).map(|item| item.value) {
            Some(DeValue::Table(_)) => self.table(key).into_iter().collect(),
            _ => self.tables(key),
        }
    }

    /// Refuses every key that no getter named.
    pub(super) fn finish(self) {
        let mut known = self.known.into_inner();
        known.sort_unstable();
        for key in self.table.keys() {
            let name = key.get_ref().as_ref();
            if known.contains(&name) {
                continue;
            }
            let help = match nearest(name, &known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known here: {}", known.join(", ")),
            };
            let message = format!("unknown key `{name}` in {}", self.name);
            self.sink.report(key.span(), message, help);
        }
    }
}

/// One value being read.
#[derive(Clone)]
pub(super) struct Item<'t> {
    name: &'static str,
    value: &'t DeValue<'t>,
    pub(super) span: Range<usize>,
    within: String,
    /// It is an element of the array of that name.
    element: bool,
    sink: &'t Sink,
}

impl<'t> Item<'t> {
    pub(super) fn report(&self, message: impl Into<String>, help: impl Into<String>) {
        self.sink.report(self.span.clone(), message, help);
    }

    fn mismatch(&self, wanted: &str, example: &str) {
        let found = self.value.type_str();
        let article = if found.starts_with(['a', 'i']) {
            "an"
        } else {
            "a"
        };
        let (subject, help) = if self.element {
            (
                format!("an element of `{}`", self.name),
                format!("write {example}"),
            )
        } else {
            (
                format!("`{}`", self.name),
                format!("write `{} = {example}`", self.name),
            )
        };
        let within = &self.within;
        self.report(
            format!("{subject} in {within} must be {wanted}, not {article} {found}"),
            help,
        );
    }

    pub(super) fn is_empty_array(&self) -> bool {
        self.value.as_array().is_some_and(|items| items.is_empty())
    }

    pub(super) fn is_table(&self) -> bool {
        self.value.is_table()
    }

    pub(super) fn string(&self, example: &str) -> Option<&'t str> {
        match self.value {
            DeValue::String(text) => Some(text.as_ref()),
            _ => {
                self.mismatch("a string", &format!("\"{example}\""));
                None
            }
        }
    }

    pub(super) fn integer<T>(&self, range: RangeInclusive<T>, example: T) -> Option<T>
    where
        T: TryFrom<i128> + Into<i128> + Copy,
    {
        let (low, high): (i128, i128) = ((*range.start()).into(), (*range.end()).into());
        let example: i128 = example.into();
        let DeValue::Integer(digits) = self.value else {
            self.mismatch("a whole number", &example.to_string());
            return None;
        };
        let value = i128::from_str_radix(digits.as_str(), digits.radix()).ok();
        let value = value.filter(|value| (low..=high).contains(value));
        let value = value.and_then(|value| T::try_from(value).ok());
        if value.is_none() {
            self.report(
                format!("`{}` in {} is out of range", self.name, self.within),
                format!("write a number from {low} to {high}"),
            );
        }
        value
    }

    /// The elements of an array, each under the array's name.
    pub(super) fn elements(&self, example: &str) -> Vec<Item<'t>> {
        let DeValue::Array(items) = self.value else {
            self.mismatch("an array", example);
            return Vec::new();
        };
        let item = |value: &'t Spanned<DeValue<'t>>| Item {
            name: self.name,
            value: value.get_ref(),
            span: value.span(),
            within: self.within.clone(),
            element: true,
            sink: self.sink,
        };
        items.iter().map(item).collect()
    }

    /// The value as a table, called `name` in messages.
    pub(super) fn table(&self, name: impl Into<String>) -> Option<Section<'t>> {
        match self.value {
            DeValue::Table(table) => Some(Section::new(name, table, self.span.clone(), self.sink)),
            _ => {
                self.mismatch("a table", "{ … }");
                None
            }
        }
    }
}

/// The known word a typing error most likely meant.
pub(super) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let word = word.to_lowercase();
    if word.len() > 64 {
        return None;
    }
    known
        .iter()
        .map(|&candidate| (distance(&word, candidate), candidate))
        .filter(|&(distance, candidate)| {
            distance <= 1 + candidate.len().min(word.len()) / 3
                || (word.len() >= 3 && candidate.contains(&word))
        })
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k06_the_nearest_known_key_is_named() {
        let known = ["addresses", "device", "mtu", "name", "routes", "vlan"];
        assert_eq!(nearest("adresses", &known), Some("addresses"));
        assert_eq!(nearest("address", &known), Some("addresses"));
        assert_eq!(nearest("MTU", &known), Some("mtu"));
        assert_eq!(nearest("dev", &known), Some("device"));
        assert_eq!(nearest("colour", &known), None);
        assert_eq!(nearest("", &known), None);
        assert_eq!(nearest("é", &[]), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
