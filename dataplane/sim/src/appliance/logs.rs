//! The stores of a log on two, as whoever runs the appliance has them: one may not be there at a start, or not be
//! configured, and what is done when a start refuses follows from what the appliance has said of them.

use testkit::Random;

/// Stores, and what is known of them.
pub(super) struct Logs {
    /// How many there are.
    pub(super) count: usize,
    /// One lies: the other one is needed, always.
    is_lied_to: bool,
    /// One that is not there.
    pub(super) absent: Option<usize>,
    /// The only one that is configured.
    pub(super) only: Option<usize>,
    /// What the one that is not there has is given up.
    pub(super) discards: bool,
    /// One whose content was given up, and which has not been in step since. It cannot know that the other one went on
    /// without it, and is not used alone.
    given_up: Option<usize>,
    /// What each shard said when it last served: 0, or which store was out, from 1 on.
    said: Vec<u64>,
    /// One of two that failed in the last run.
    failed: Option<usize>,
    /// Since then a start has come to its middle.
    is_blurred: bool,
    /// It stopped as it should.
    is_stopped: bool,
}

/// What to do about a start that refused.
pub(super) enum Remedy {
    /// Another start.
    Again,
    /// Nothing excuses it.
    Never,
}

impl Logs {
    pub(super) fn new(count: usize, is_lied_to: bool) -> Self {
        Self {
            count,
            is_lied_to,
            absent: None,
            only: None,
            discards: false,
            given_up: None,
            said: Vec::new(),
            failed: None,
            is_blurred: false,
            is_stopped: false,
        }
    }

    /// The places of those that are configured.
    pub(super) fn configured(&self) -> Vec<usize> {
        match self.only {
            Some(only) => vec![only],
            None => (0..self.count).collect(),
        }
    }

    /// The appliance served until now, and shards said this; which stores failed.
    pub(super) fn ended(&mut self, said: Vec<u64>, failed: &[bool], is_stopped: bool) {
        self.failed = match failed {
            [true, false] => Some(0),
            [false, true] => Some(1),
            _ => None,
        };
        self.is_stopped = is_stopped;
        // One that is not configured is out, too.
        self.said = match self.only {
            Some(only) => vec![2 - only as u64],
            None => said,
        };
        self.is_blurred = false;
        if self.absent.is_none() && self.are_in_step() {
            self.given_up = None;
        }
    }

    /// A start was interrupted.
    pub(super) fn blur(&mut self) {
        self.is_blurred = true;
    }

    /// A start has come to its end.
    pub(super) fn begun(&mut self) {
        if std::mem::take(&mut self.discards) {
            self.given_up = self.absent;
        }
    }

    /// What the next start finds.
    pub(super) fn draw(&mut self, random: &mut Random) {
        if self.count < 2 || self.is_lied_to || self.discards || self.said.is_empty() {
            return;
        }
        self.absent = None;
        if self.only.is_some() {
            // The other one joins again.
            self.only = self.only.filter(|_| random.chance(1, 2));
        } else if self.is_stopped && !self.is_blurred && self.are_in_step() {
            self.only = random.one_in(3).then(|| random.below(2usize));
        }
        if self.only.is_none() {
            self.absent = match self.failed {
                // Most often the one that had everything.
                Some(failed) if random.chance(3, 4) => match random.chance(3, 4) {
                    true => Some(1 - failed),
                    false => Some(failed),
                },
                _ => random.one_in(4).then(|| random.below(2usize)),
            };
        }
        if let Some(given_up) = self.given_up {
            self.absent = self.absent.filter(|&absent| absent == given_up);
        }
    }

    fn are_in_step(&self) -> bool {
        self.said.iter().all(|&out| out == 0)
    }

    /// Whether everything that was acknowledged is on the other store, as far as was said.
    fn is_dispensable(&self, place: usize) -> bool {
        let is_so = |&out: &u64| out == 0 || out == place as u64 + 1;
        self.said.iter().all(is_so)
    }

    /// The start refused. `had_trouble`: some device had.
    pub(super) fn refused(&mut self, had_trouble: bool, random: &mut Random) -> Remedy {
        let Some(absent) = self.absent else {
            return match had_trouble {
                true => Remedy::Again,
                false => Remedy::Never,
            };
        };
        let is_out = |&out: &u64| out == absent as u64 + 1;
        let is_whole = self.said.iter().all(is_out) && !self.is_blurred;
        if !had_trouble && (self.discards || is_whole) {
            return Remedy::Never;
        }
        match self.is_dispensable(absent) && random.chance(2, 3) {
            true => self.discards = true,
            false if !self.discards => self.absent = None,
            false => {}
        }
        Remedy::Again
    }
}
