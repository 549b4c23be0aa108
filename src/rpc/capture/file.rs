//! The file of a capture: whole records, whatever its disk takes.

use std::fs::File;
use std::io::{self, ErrorKind, Write};

/// Bytes that are written at a time, about.
const CHUNK: usize = 1 << 20;

/// What records are written to.
pub(super) trait Disk: Write {
    /// Makes it `len` bytes long.
    fn cut(&mut self, len: u64) -> io::Result<()>;
}

impl Disk for File {
    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }
}

/// Takes whole pieces, a header and then records, one with each `write`. When its disk
/// takes no more it is cut back to the last whole one.
pub(super) struct Pieces<D> {
    disk: D,
    /// Bytes that the disk has, in whole pieces.
    len: u64,
    waiting: Vec<u8>,
    /// Where each piece of `waiting` ends.
    ends: Vec<usize>,
    /// Pieces that the disk has.
    pub(super) count: u64,
    has_failed: bool,
}

impl<D: Disk> Pieces<D> {
    pub(super) fn new(disk: D) -> Self {
        Self {
            disk,
            len: 0,
            waiting: Vec::with_capacity(CHUNK),
            ends: Vec::new(),
            count: 0,
            has_failed: false,
        }
    }

    /// Hands over what waits; says how much of it the disk took if it did not take all.
    fn hand_over(&mut self) -> Result<(), (usize, io::Error)> {
        let mut done = 0;
        while done < self.waiting.len() {
            match self.disk.write(&self.waiting[done..]) {
                Ok(0) => return Err((done, ErrorKind::WriteZero.into())),
                Ok(count) => done += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err((done, error)),
            }
        }
        Ok(())
    }
}

impl<D: Disk> Write for Pieces<D> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.waiting.extend_from_slice(piece);
        self.ends.push(self.waiting.len());
        if self.waiting.len() >= CHUNK {
            self.flush()?;
        }
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.has_failed {
            return Err(ErrorKind::StorageFull.into());
        }
        let handed = self.hand_over();
        let done = handed
            .as_ref()
            .map_or_else(|(done, _)| *done, |()| self.waiting.len());
        let whole = self.ends.partition_point(|&end| end <= done);
        self.count += whole as u64;
        self.len += whole.checked_sub(1).map_or(0, |last| self.ends[last]) as u64;
        self.waiting.clear();
        self.ends.clear();
        handed.map_err(|(_, error)| {
            self.has_failed = true;
            if let Err(why) = self.disk.cut(self.len) {
                log::warn!("a capture's file cannot be cut back to its last whole frame: {why}");
            }
            error
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk with so much room.
    struct Small {
        bytes: Vec<u8>,
        room: usize,
    }

    impl Write for Small {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.room - self.bytes.len());
            if count == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            self.bytes.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Disk for Small {
        fn cut(&mut self, len: u64) -> io::Result<()> {
            self.bytes.truncate(len as usize);
            Ok(())
        }
    }

    #[test]
    fn k06_a_full_disk_keeps_whole_frames() {
        // Room for `most` whole frames of 30 bytes after a header of 24, and part of another.
        for (room, most) in [(24 + 7 * 30, 7), (24 + 7 * 30 + 29, 7), (24, 0), (53, 0)] {
            let bytes = Vec::new();
            let mut file = Pieces::new(Small { bytes, room });
            file.write_all(&[1; 24]).unwrap();
            let mut failed = false;
            for frame in 0..20 {
                file.write_all(&[frame; 30]).unwrap();
                // Three at a time.
                failed |= frame % 3 == 2 && file.flush().is_err();
            }
            assert!(failed);
            assert_eq!(file.count, 1 + most);
            assert_eq!(file.disk.bytes.len(), 24 + 30 * most as usize);
        }
    }

    #[test]
    fn k06_a_disk_without_room_for_a_head_is_left_empty() {
        let bytes = Vec::new();
        let mut file = Pieces::new(Small { bytes, room: 23 });
        file.write_all(&[1; 24]).unwrap();
        assert!(file.flush().is_err());
        assert_eq!((file.count, file.disk.bytes.len()), (0, 0));
    }
}
