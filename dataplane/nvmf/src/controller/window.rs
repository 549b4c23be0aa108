//! A part of a data structure under construction.

/// Bytes `offset..offset + out.len()` of a structure that is written field by
/// field as if it were all there; what falls outside is dropped.
///
/// Log pages are read in parts of the host's choice, and a page at a time:
/// this way none of them is ever built whole, nor allocated.
pub(super) struct Window<'a> {
    offset: u64,
    out: &'a mut [u8],
}

impl<'a> Window<'a> {
    /// A window at `offset` of the structure, all zeros.
    pub fn new(offset: u64, out: &'a mut [u8]) -> Self {
        out.fill(0);
        Self { offset, out }
    }

    /// Writes `field` at `at`; numbers come as `to_le_bytes`.
    pub fn put(&mut self, at: u64, field: impl AsRef<[u8]>) {
        let mut field = field.as_ref();
        let mut at = at;
        if at < self.offset {
            let before = usize::try_from(self.offset - at).unwrap_or(usize::MAX);
            field = field.get(before..).unwrap_or_default();
            at = self.offset;
        }
        let Ok(at) = usize::try_from(at - self.offset) else {
            return;
        };
        if let Some(room) = self.out.get_mut(at..) {
            let n = room.len().min(field.len());
            room[..n].copy_from_slice(&field[..n]);
        }
    }

    /// Writes `text`, padded with `pad` to `len` bytes; what is longer is cut.
    pub fn put_text(&mut self, at: u64, len: usize, text: &str, pad: u8) {
        let text = &text.as_bytes()[..text.len().min(len)];
        self.put(at, text);
        for i in text.len()..len {
            self.put(at + i as u64, [pad]);
        }
    }

    /// Whether any of the `len` bytes at `at` is in the window.
    pub fn sees(&self, at: u64, len: u64) -> bool {
        at < self.offset + self.out.len() as u64 && at + len > self.offset
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_cut_at_both_edges() {
        let whole = |w: &mut Window<'_>| {
            w.put(0, [1, 2, 3, 4]);
            w.put(6, 0x0b0a_0908_u32.to_le_bytes());
            w.put_text(10, 4, "ab", b' ');
        };
        let mut all = [0xff; 14];
        whole(&mut Window::new(0, &mut all));
        assert_eq!(all, *b"\x01\x02\x03\x04\0\0\x08\x09\x0a\x0bab  ");
        for from in 0..14 {
            for to in from..=14 {
                let mut part = vec![0xff; to - from];
                whole(&mut Window::new(from as u64, &mut part));
                assert_eq!(part, all[from..to]);
            }
        }
    }
}
