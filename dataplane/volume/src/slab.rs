//! Things under way, each with a number while it is.

/// Room for a fixed number of things: nothing is allocated after the start.
pub(crate) struct Slab<T> {
    slots: Box<[Option<T>]>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    pub(crate) fn new(len: usize) -> Self {
        Self {
            slots: (0..len).map(|_| None).collect(),
            free: (0..len as u32).rev().collect(),
        }
    }

    /// A number for `thing`; gives it back if there is no room.
    pub(crate) fn insert(&mut self, thing: T) -> Result<u32, T> {
        let Some(id) = self.free.pop() else {
            return Err(thing);
        };
        self.slots[id as usize] = Some(thing);
        Ok(id)
    }

    pub(crate) fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        self.slots.get_mut(id as usize)?.as_mut()
    }

    pub(crate) fn remove(&mut self, id: u32) -> Option<T> {
        let thing = self.slots.get_mut(id as usize)?.take()?;
        self.free.push(id);
        Some(thing)
    }

    /// Things in it.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}
