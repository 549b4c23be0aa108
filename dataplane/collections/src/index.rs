//! Indexes of fixed tables, a type for each table: one table's are not taken for another's.

use std::marker::PhantomData;
use std::ops::{Index, IndexMut};

/// Names an element of a table, or none of them. Made by [`table_index!`](crate::table_index).
pub trait TableIndex: Copy + Eq {
    /// No element.
    const NONE: Self;

    /// Of the element at a place of the table, which has fewer than the type has numbers for.
    fn new(place: usize) -> Self;

    /// The element's place in the table; of [`NONE`](TableIndex::NONE) one that no table has.
    fn place(self) -> usize;

    /// It, unless it is none.
    #[inline]
    fn some(self) -> Option<Self> {
        (self != Self::NONE).then_some(self)
    }
}

/// Makes a type for the indexes of one table.
///
/// ```
/// use collections::{IndexTable, TableIndex, table_index};
///
/// table_index! {
///     /// Names a seat.
///     struct SeatIndex(u32);
/// }
/// let rows = IndexTable::new(3, |seat: SeatIndex| seat.place() as u32 * 10);
/// assert_eq!(rows[SeatIndex::new(2)], 20);
/// assert_eq!(rows.get(SeatIndex::NONE), None);
/// assert_eq!(size_of::<SeatIndex>(), 4);
/// ```
#[macro_export]
macro_rules! table_index {
    ($(#[$about:meta])* $visibility:vis struct $Name:ident($Integer:ty);) => {
        $(#[$about])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        $visibility struct $Name($Integer);

        impl $crate::TableIndex for $Name {
            const NONE: Self = Self(<$Integer>::MAX);

            #[inline]
            fn new(place: usize) -> Self {
                Self(place as $Integer)
            }

            #[inline]
            fn place(self) -> usize {
                self.0 as usize
            }
        }
    };
}

/// Elements by indexes of their own; as many as there were at the start.
#[derive(Debug)]
pub struct IndexTable<I, T> {
    elements: Box<[T]>,
    index: PhantomData<fn(I)>,
}

impl<I: TableIndex, T> IndexTable<I, T> {
    /// A table of `len` elements, each made of its index.
    pub fn new(len: usize, element: impl FnMut(I) -> T) -> Self {
        Self {
            elements: (0..len).map(I::new).map(element).collect(),
            index: PhantomData,
        }
    }

    /// How many elements it has.
    #[inline]
    pub fn len(&self) -> usize {
        self.elements.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }

    /// The element with an index, if there is one.
    #[inline]
    pub fn get(&self, index: I) -> Option<&T> {
        self.elements.get(index.place())
    }

    /// As [`IndexTable::get`], to be changed.
    #[inline]
    pub fn get_mut(&mut self, index: I) -> Option<&mut T> {
        self.elements.get_mut(index.place())
    }

    /// The indexes of all elements, in their order.
    pub fn indexes(&self) -> impl DoubleEndedIterator<Item = I> + use<I, T> {
        (0..self.elements.len()).map(I::new)
    }

    /// The index that comes so many `steps` after `index`; after the last comes the first again.
    #[inline]
    pub fn after(&self, index: I, steps: usize) -> I {
        I::new((index.place() + steps) % self.elements.len())
    }

    /// All elements.
    #[inline]
    pub fn iter(&self) -> std::slice::Iter<'_, T> {
        self.elements.iter()
    }

    /// All elements, to be changed.
    #[inline]
    pub fn iter_mut(&mut self) -> std::slice::IterMut<'_, T> {
        self.elements.iter_mut()
    }

    /// The index of the first element that `is_it` says is the one.
    pub fn position(&self, is_it: impl FnMut(&T) -> bool) -> Option<I> {
        self.elements.iter().position(is_it).map(I::new)
    }
}

/// A table's elements, looked up once: steps that follow links write to elements, and where these
/// are would be read again after each.
pub(crate) struct Elements<'a, I, T> {
    elements: &'a mut [T],
    index: PhantomData<fn(I)>,
}

impl<I: TableIndex, T> IndexTable<I, T> {
    #[inline]
    pub(crate) fn elements(&mut self) -> Elements<'_, I, T> {
        Elements {
            elements: &mut self.elements,
            index: PhantomData,
        }
    }
}

impl<I: TableIndex, T> Index<I> for Elements<'_, I, T> {
    type Output = T;
    #[inline]
    fn index(&self, index: I) -> &T {
        &self.elements[index.place()]
    }
}

impl<I: TableIndex, T> IndexMut<I> for Elements<'_, I, T> {
    #[inline]
    fn index_mut(&mut self, index: I) -> &mut T {
        &mut self.elements[index.place()]
    }
}

impl<I: TableIndex, T> Index<I> for IndexTable<I, T> {
    type Output = T;
    #[inline]
    fn index(&self, index: I) -> &T {
        &self.elements[index.place()]
    }
}

impl<I: TableIndex, T> IndexMut<I> for IndexTable<I, T> {
    #[inline]
    fn index_mut(&mut self, index: I) -> &mut T {
        &mut self.elements[index.place()]
    }
}
