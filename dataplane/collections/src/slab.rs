//! Values under way, each with a number while it is.

/// Room for a fixed number of values.
#[derive(Debug)]
pub struct Slab<T> {
    slots: Box<[Option<T>]>,
    /// Numbers not in use, last freed on top.
    free: Vec<u32>,
}

impl<T> Slab<T> {
    /// Room for `len` values, which have the numbers below `len`.
    pub fn new(len: usize) -> Self {
        Self {
            slots: (0..len).map(|_| None).collect(),
            free: (0..len as u32).rev().collect(),
        }
    }

    /// Takes `value` in and gives it a number.
    ///
    /// # Errors
    /// The value comes back if there is no room.
    #[inline]
    pub fn insert(&mut self, value: T) -> Result<u32, T> {
        let Some(id) = self.free.pop() else {
            return Err(value);
        };
        self.slots[id as usize] = Some(value);
        Ok(id)
    }

    /// The value with number `id`, if there is one.
    #[inline]
    pub fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        self.slots.get_mut(id as usize)?.as_mut()
    }

    /// Takes out the value with number `id`, if there is one.
    #[inline]
    pub fn remove(&mut self, id: u32) -> Option<T> {
        let value = self.slots.get_mut(id as usize)?.take()?;
        // Room for every number was reserved at the start: no allocation.
        self.free.push(id);
        Some(value)
    }

    /// Takes out every value, lowest number first.
    pub fn drain(&mut self) -> impl Iterator<Item = T> {
        (0..self.slots.len() as u32).filter_map(|id| self.remove(id))
    }

    /// Every value, lowest number first.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.slots.iter_mut().flatten()
    }

    /// How many more values there is room for.
    #[inline]
    pub fn room(&self) -> usize {
        self.free.len()
    }

    /// Whether there is room for one more.
    #[inline]
    pub fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    /// How many values there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// How many values there are, and how many more there is room for.
    pub fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is no value.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_a_values_own_until_it_is_taken_out() {
        let mut slab = Slab::new(3);
        let [a, b, c] = ["a", "b", "c"].map(|value| slab.insert(value).unwrap());
        assert_eq!((slab.insert("d"), slab.room()), (Err("d"), 0));
        assert_eq!(slab.remove(b), Some("b"));
        assert!(slab.remove(b).is_none() && slab.get_mut(b).is_none());
        assert_eq!((slab.len(), slab.has_room()), (2, true));
        assert_eq!(slab.insert("e"), Ok(b), "the number last freed");
        *slab.get_mut(c).unwrap() = "f";
        assert!(slab.get_mut(3).is_none() && slab.remove(u32::MAX).is_none());
        let mut left: Vec<_> = slab.drain().collect();
        left.sort_unstable();
        assert_eq!(left, ["a", "e", "f"]);
        assert!(slab.is_empty() && slab.room() == 3 && a != c);
    }
}
