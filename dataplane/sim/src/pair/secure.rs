//! Links in TLS, and an operator who has forgotten it on one of the nodes: that one and the others have nothing to do with each other.

use testkit::Random;

use super::World;
use super::draw::Shape;
use crate::clock::{self, MILLISECOND, SECOND};
use crate::oracle::Violation;
use crate::trace::event;

/// Has other numbers come of a seed.
const TLS: u64 = 0x746c_735f_6c69_6e6b;

/// What links are encrypted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinkTls {
    /// Nothing.
    Off,
    /// TLS.
    Required,
    /// TLS, but that an appliance begins with another configuration.
    RequiredBut(usize),
}

impl LinkTls {
    pub(super) fn is_on(self) -> bool {
        self != Self::Off
    }
}

impl Shape {
    /// By numbers of their own: what is drawn besides stays what it was.
    pub(super) fn draw_tls(&mut self, seed: u64) {
        let mut random = Random::new(seed ^ TLS);
        self.tls = match random.below(4u32) {
            0 | 1 => LinkTls::Off,
            2 => LinkTls::Required,
            _ => LinkTls::RequiredBut(random.below(self.appliances)),
        };
    }
}

impl World {
    /// All appliances have just started. One whose configuration says otherwise than those of the others is refused by them, and refuses them;
    /// then that is corrected.
    pub(super) fn correct_tls(&mut self) -> Result<(), Violation> {
        let LinkTls::RequiredBut(odd) = self.shape.tls else {
            return Ok(());
        };
        let deadline = clock::now() + 10 * SECOND;
        self.run_until("the start", deadline, |world| world.are_on())?;
        let until = clock::now() + self.random.range(100..=2000u64) * MILLISECOND;
        while clock::now() < until {
            self.step()?;
            let lanes = self.appliances[odd].lanes();
            if lanes.iter().any(|lanes| lanes.sessions > 0) {
                return Err(Violation(format!(
                    "appliance {odd} is in the clear, the others are to be in TLS, and there is a link"
                )));
            }
        }
        event!(self.trace, "corrected", [odd], "appliance {odd}");
        self.kill(odd, false)?;
        self.appliances[odd].set_link_tls(true);
        self.start(odd);
        Ok(())
    }
}
