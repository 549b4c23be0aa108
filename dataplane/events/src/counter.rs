//! Counters: plain numbers with a name and a sentence.

/// A counter's value, with what there is to say about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counter {
    /// Its name: lower case, words joined by `_`.
    pub name: &'static str,
    /// What it counts, in a sentence.
    pub help: &'static str,
    /// How its numbers behave.
    pub kind: Kind,
    /// The number now.
    pub value: u64,
}

/// How a counter's numbers behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Count,
    /// It only grows; what it counts was dropped.
    Drop,
    /// It goes up and down.
    Gauge,
}

/// Declares a struct of counters: `name,` counts, `@drop name,` counts what was
/// dropped, `@gauge name,` goes up and down. The comment of each is its help.
///
/// ```
/// events::counters! {
///     /// What a door saw.
///     pub struct Door {
///         /// Guests that came in.
///         guests,
///         /// Guests turned away for want of a chair.
///         @drop full,
///     }
/// }
/// let door = Door { guests: 2, full: 1 };
/// let shown: Vec<_> = door.iter().map(|c| (c.name, c.help, c.value)).collect();
/// assert_eq!(shown[1], ("full", "Guests turned away for want of a chair.", 1));
/// ```
#[macro_export]
macro_rules! counters {
    (
        $(#[$outer:meta])*
        $vis:vis struct $Name:ident {
            $($(#[doc = $doc:literal])+ $(@$kind:ident)? $field:ident,)*
        }
    ) => {
        $(#[$outer])*
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        $vis struct $Name {
            $($(#[doc = $doc])+ pub $field: u64,)*
        }

        impl $Name {
            /// Every counter, in the order of their declaration.
            $vis fn iter(&self) -> impl Iterator<Item = $crate::Counter> + use<> {
                [$($crate::Counter {
                    name: stringify!($field),
                    help: const { concat!($($doc),+).trim_ascii() },
                    kind: $crate::counter_kind!($($kind)?),
                    value: self.$field,
                }),*]
                .into_iter()
            }

            /// Combines each counter with another's: sums, differences.
            #[allow(dead_code)] // not every list needs it
            $vis fn combine(&mut self, other: &Self, mut combine: impl FnMut(&mut u64, &u64)) {
                $(combine(&mut self.$field, &other.$field);)*
            }
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! counter_kind {
    () => {
        $crate::Kind::Count
    };
    (drop) => {
        $crate::Kind::Drop
    };
    (gauge) => {
        $crate::Kind::Gauge
    };
}

/// Counts a drop, and tells the tracepoint of drops its name:
/// `dropped!(self.counters, ip_malformed)`.
#[macro_export]
macro_rules! dropped {
    ($counters:expr, $name:ident) => {{
        $counters.$name += 1;
        $crate::tracepoint::dropped(
            const { $crate::tracepoint::Name::new(concat!(stringify!($name), "\0")) },
        );
    }};
}
