//! Where the next command goes.

use crate::Random;

/// How commands spread over the pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Every page as often.
    Uniform,
    /// Few pages get most commands: the one of rank `r` as many as 1 / (r + 1)^0.99 of the first.
    Zipf,
    /// One page after the other, from the beginning again behind the last.
    Sequential,
}

impl Pattern {
    /// As reports have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Zipf => "zipf 0.99",
            Self::Sequential => "sequential",
        }
    }
}

const THETA: f64 = 0.99;

/// Gives pages, one after the other.
#[derive(Debug)]
pub struct Places {
    pattern: Pattern,
    pages: u64,
    random: Random,
    next: u64,
    /// ζ(pages), and what follows from it.
    zeta: f64,
    eta: f64,
}

impl Places {
    /// In a volume of so many pages.
    pub fn new(pattern: Pattern, pages: u64) -> Self {
        let zeta = |n: u64| (1..=n).map(|rank| (rank as f64).powf(-THETA)).sum::<f64>();
        let (zeta, eta) = match pattern {
            Pattern::Zipf => {
                let all = zeta(pages);
                let eta = (1.0 - (2.0 / pages as f64).powf(1.0 - THETA)) / (1.0 - zeta(2) / all);
                (all, eta)
            }
            _ => (0.0, 0.0),
        };
        Self {
            pattern,
            pages,
            random: Random::new(0),
            next: 0,
            zeta,
            eta,
        }
    }

    /// The next one.
    pub fn pick(&mut self) -> u64 {
        match self.pattern {
            Pattern::Uniform => self.random.below(self.pages),
            Pattern::Zipf => {
                // An odd factor: pages that are often written lie apart.
                let rank = self.rank();
                (u128::from(rank) * 0x9e37_79b1 % u128::from(self.pages)) as u64
            }
            Pattern::Sequential => {
                let page = self.next;
                self.next = (page + 1) % self.pages;
                page
            }
        }
    }

    /// Gray et al., "Quickly generating billion-record synthetic databases", 1994, section 4.
    fn rank(&mut self) -> u64 {
        let u = self.random.word() as f64 / 2f64.powi(64);
        let uz = u * self.zeta;
        if uz < 1.0 {
            return 0;
        }
        if uz < 1.0 + 0.5f64.powf(THETA) {
            return 1;
        }
        let alpha = 1.0 / (1.0 - THETA);
        let rank = self.pages as f64 * (self.eta * u - self.eta + 1.0).powf(alpha);
        (rank as u64).min(self.pages - 1)
    }
}
