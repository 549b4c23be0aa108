//! Clusters as the currency of receive windows (row Z12).
//!
//! Every connection has a *grant*: clusters set aside for the bytes that its
//! advertised window may still bring. Accepting a segment spends as many as it
//! has clusters, however few bytes it carries; a window is only widened by
//! taking from what is free. So the sum of what peers were promised never
//! exceeds what there is, and a peer that sends one-byte segments uses up its
//! own grant and nobody else's.
//!
//! Windows are told in bytes, and a peer may bring them in commands of 72 bytes as well
//! as in full segments. While there are plenty of clusters a window is backed as its
//! connection uses it now. When they are short, a connection that uses a few at a
//! time is backed for these, and as many again: thousands of them share what all
//! windows, filled at once with the smallest segments, would never fit. A part of the
//! pool is set aside for nobody, so that who brings more than before can be served.
//!
//! A grant is a lease. When clusters are short, connections that have been
//! silent for a while lose theirs: their windows keep their face value, for a
//! window that was told is not taken back (RFC 9293, 3.8.6: SHLD-14), but what
//! comes is paid from what is free then, or dropped. Else a few thousand idle
//! connections would keep everybody's windows shut.

/// The shard's clusters, as far as receiving is concerned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    unheld: u32,
    headroom: u32,
    granted: u32,
}

impl Budget {
    pub(crate) fn new(unheld: usize, headroom: usize) -> Self {
        Self {
            unheld: unheld as u32,
            headroom: headroom as u32,
            granted: 0,
        }
    }

    /// What the pool says it has.
    pub(crate) fn set_unheld(&mut self, unheld: usize) {
        self.unheld = unheld.min(u32::MAX as usize) as u32;
    }

    /// Clusters that nobody holds and nobody was promised.
    #[inline]
    pub(crate) fn free(&self) -> u32 {
        self.unheld.saturating_sub(self.headroom + self.granted)
    }

    /// Whether so little is free that silent connections should give up theirs.
    pub(crate) fn is_short(&self) -> bool {
        self.free() < self.unheld / 8
    }

    pub(crate) fn granted(&self) -> u32 {
        self.granted
    }

    /// What is set aside for nobody: it pays for what comes beyond a grant.
    fn common(&self) -> u32 {
        self.unheld / 16
    }

    /// What can be set aside for somebody.
    pub(crate) fn left(&self) -> u32 {
        self.free().saturating_sub(self.common())
    }

    /// Whether some of the common part is left, though nothing may be left to set aside.
    pub(crate) fn can_lend(&self) -> bool {
        self.free() > self.common() / 2
    }

    /// Brings `grant` up or down to `wanted`, as far as there is any to set aside.
    #[inline]
    pub(crate) fn adjust(&mut self, grant: &mut u32, wanted: u32) {
        if wanted <= *grant {
            self.granted -= *grant - wanted;
            *grant = wanted;
        } else {
            let more = (wanted - *grant).min(self.left());
            self.granted += more;
            *grant += more;
        }
    }

    /// Spends `clusters` of `grant`, or of what is free beyond it. Whether there were enough.
    #[inline]
    pub(crate) fn spend(&mut self, grant: &mut u32, clusters: u32) -> bool {
        let own = clusters.min(*grant);
        if clusters - own > self.free() {
            return false;
        }
        *grant -= own;
        self.granted -= own;
        self.unheld = self.unheld.saturating_sub(clusters);
        true
    }

    /// Spends `clusters` of the headroom, of which half stays for frames on their way. Whether there were enough.
    pub(crate) fn spend_headroom(&mut self, clusters: u32) -> bool {
        let enough = self.unheld >= self.headroom / 2 + clusters;
        self.unheld -= if enough { clusters } else { 0 };
        enough
    }

    /// Spends one cluster of a `grant` that has one.
    #[inline]
    pub(crate) fn spend_one(&mut self, grant: &mut u32) {
        debug_assert!(*grant > 0);
        *grant -= 1;
        self.granted -= 1;
        self.unheld = self.unheld.saturating_sub(1);
    }

    /// Clusters that were spent have gone back to the pool.
    pub(crate) fn refund(&mut self, clusters: u32) {
        self.unheld += clusters;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn z12_promises_never_exceed_what_there_is() {
        let mut budget = Budget::new(100, 20);
        let (mut a, mut b) = (0, 0);
        budget.adjust(&mut a, 50);
        budget.adjust(&mut b, 50);
        assert_eq!((a, b, budget.free()), (50, 24, 6), "six are nobody's");
        assert!((0..30).all(|_| budget.spend(&mut b, 1)));
        assert!(!budget.spend(&mut b, 1), "another's grant is not touched");
        assert!(budget.spend(&mut a, 4));
        budget.set_unheld(100);
        budget.adjust(&mut a, 0);
        assert_eq!((budget.free(), budget.granted()), (80, 0));
    }
}
