//! Data digests of what is received (NVMe/TCP 3.3.2.2), made of the checksums of pages: the log stores those, and
//! needs no pass of its own.

use pages::{PAGE_SIZE, PageRun};

use crate::bytes::crc32c;

/// The digest of one PDU's data, as they come.
#[derive(Clone, Copy, Debug)]
pub(super) struct DataDigest {
    /// Of the data before the last border of a page.
    before: u32,
    /// Of the data since then.
    since: u32,
    since_len: u32,
    /// Offset in its page of the next byte.
    at: u32,
}

impl DataDigest {
    /// Of data for `run`, of which it has `moved` bytes already.
    pub fn new(run: Option<&PageRun>, moved: u32) -> Self {
        let offset = run.map_or(0, PageRun::offset) + u64::from(moved);
        Self {
            before: 0,
            since: 0,
            since_len: 0,
            at: (offset % PAGE_SIZE as u64) as u32,
        }
    }

    /// Takes the next bytes. `run`, if there still is one, is told the checksums of its pages.
    pub fn take(&mut self, mut bytes: &[u8], mut run: Option<&mut PageRun>) {
        while !bytes.is_empty() {
            let n = bytes.len().min(PAGE_SIZE - self.at as usize);
            self.since = crc32c(self.since, &bytes[..n]);
            self.since_len += n as u32;
            self.at += n as u32;
            bytes = &bytes[n..];
            if self.at as usize == PAGE_SIZE {
                self.end_of_page(run.as_deref_mut());
            }
        }
    }

    /// The digest, when all data were taken.
    pub fn end(mut self, run: Option<&mut PageRun>) -> u32 {
        if self.since_len > 0 {
            self.end_of_page(run);
        }
        self.before
    }

    /// A page ends, or the data do.
    fn end_of_page(&mut self, run: Option<&mut PageRun>) {
        let len = self.since_len as usize;
        self.before = checksum::crc32c_combine(self.before, self.since, len);
        if let Some(run) = run {
            let checksums = run.checksums_mut();
            match checksums.last_mut() {
                // The page began in a PDU before this one.
                Some(last) if self.at as usize != len => {
                    *last = checksum::crc32c_combine(*last, self.since, len);
                }
                _ => checksums.push(self.since),
            }
        }
        (self.since, self.since_len) = (0, 0);
        self.at %= PAGE_SIZE as u32;
    }
}

#[cfg(test)]
mod tests {
    use pages::RunPool;

    use super::*;

    /// Data of several PDUs, each with its own digest, in slices of several lengths, for runs that begin anywhere:
    /// digests and pages' checksums are those of another implementation.
    #[test]
    fn k05_digests_are_made_of_the_checksums_of_pages() {
        let mut random = testkit::Random::new(5);
        let pool = RunPool::new(1, 64 << 10);
        for _ in 0..400 {
            let mut run = pool.take().expect("a run");
            let offset = 512 * u64::from(random.below(40u32));
            let len = 512 * (1 + random.below(60u32) as usize);
            run.begin(offset, len).expect("no longer than the run");
            let data: Vec<u8> = (0..len).map(|_| random.below(256u32) as u8).collect();
            let mut moved = 0;
            while moved < len {
                let pdu = (4 * (1 + random.below(4096u32) as usize)).min(len - moved);
                let pdu = &data[moved..moved + pdu];
                let mut digest = DataDigest::new(Some(&run), moved as u32);
                let mut rest = pdu;
                while !rest.is_empty() {
                    let n = (1 + random.below(1448u32) as usize).min(rest.len());
                    digest.take(&rest[..n], Some(&mut run));
                    rest = &rest[n..];
                }
                assert_eq!(digest.end(Some(&mut run)), testkit::crc32c(pdu));
                moved += pdu.len();
            }
            let extents = run.pages().iter().map(pages::LogicalPage::extent);
            let mut at = 0;
            let expected: Vec<u32> = extents
                .map(|extent| {
                    at += extent.len();
                    testkit::crc32c(&data[at - extent.len()..at])
                })
                .collect();
            assert_eq!(run.checksums(), expected, "{len} bytes at {offset}");
            pool.put(run);
        }
    }

    #[test]
    fn k05_data_for_nobody_have_a_digest_too() {
        let mut digest = DataDigest::new(None, 0);
        digest.take(&[7; 5000], None);
        assert_eq!(digest.end(None), testkit::crc32c(&[7; 5000]));
    }
}
