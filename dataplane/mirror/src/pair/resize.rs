//! The size of a volume, as an operator says it (row R3): both nodes are asked before either changes.
//!
//! **It grows.** The other node is asked whether it has room, and takes changes of what is new from then on. What is new is copied, so that
//! it is the same on both before a host sees any of it. Then it is stable at the destination that the volume is larger, then here,
//! and then hosts are told.
//!
//! **It shrinks.** The other node is asked, hosts are told, and then it is stable: here, and at the destination.
//!
//! So what a destination has in stable storage is never less than what its source has. In whichever moment either is lost, the
//! destination of the next meeting takes the size that the source has; of what is new to it, it tells that it may have it otherwise.

use mutant::mutant;

use super::source::Step;
use super::{After, Pair, Phase, Unwilling, destination, nature};
use crate::alert::AlertEvent;
use crate::commands::{Meeting, Resize, Role};
use crate::frame::Command;
use crate::parameters::Refusal;
use crate::standing::Wholeness;

use super::orders::Order;

/// How far a volume is on its way to another size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// The other node is asked whether that can be.
    Asks,
    /// It grows: what is new is copied.
    Copies,
    /// It shrinks: hosts are told.
    Tells,
    /// It is about to be stable at the other node.
    IsMadeThere,
    /// It is about to be stable here.
    IsMadeHere,
}

/// A volume of a source that is about to have another size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Resizing {
    len: u64,
    how: How,
}

impl Pair {
    /// An operator says how many bytes the volume is to have, at its source: `None`, as many as this node's device has. `is_named`: what is
    /// behind may be lost. [`Pair::next_outcome`] tells when both nodes agree; that it is so, [`Pair::len`], and an alert.
    ///
    /// # Errors
    /// [`Unwilling`].
    pub fn resize(&mut self, len: Option<u64>, is_named: bool) -> Result<(), Unwilling> {
        let (device, block) = (self.shared.device(), u64::from(self.config.block));
        let len = len.unwrap_or(device / block * block);
        match self.phase {
            _ if self.content.role != Role::Source => Err(Unwilling::NotSource),
            _ if self.content.severed.is_some() => Err(Unwilling::Severed),
            Phase::Source(Step::InSync) if self.is_up => Ok(()),
            _ => Err(Unwilling::NotInSync),
        }?;
        match len {
            _ if self.resizing.is_some() => Err(Unwilling::Resizes),
            _ if !self.shared.verification().is_over() => Err(Unwilling::Verifies),
            _ if len == 0 || !len.is_multiple_of(block) => {
                Err(Unwilling::NotBlocks(self.config.block))
            }
            _ if len == self.config.len => Err(Unwilling::SameSize),
            _ if len > device => Err(Unwilling::DeviceTooSmall(device)),
            _ if len > self.shared.room() => Err(Unwilling::NoRoom(self.shared.room())),
            _ if len < self.config.len && !is_named => Err(Unwilling::NotNamed(len)),
            _ => self.take_order(Order::Resize { len }),
        }
    }

    /// Bytes of the volume, in stable storage.
    pub fn len(&self) -> u64 {
        self.config.len
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.config.len == 0
    }

    /// Bytes that it is about to have.
    pub fn resizes_to(&self) -> Option<u64> {
        self.resizing.map(|resizing| resizing.len)
    }

    /// How far that is, for an operator.
    pub(super) fn resizing_text(&self) -> String {
        let Some(Resizing { len, .. }) = self.resizing else {
            return String::new();
        };
        let left = self.shared.growing();
        format!("; about to have {len} bytes: {left} new granules to be copied")
    }

    /// The size is one that an operator has said.
    pub(super) fn is_sized(&self) -> bool {
        self.config.len != self.shared.device()
    }

    /// Whether the other node's replica can be one of the same volume: it has that size; or one has been resized, and the other one
    /// does not know it yet.
    pub(super) fn fits(&self, theirs: &Meeting) -> bool {
        let (mine, block) = (self.config.len, self.config.block);
        if theirs.block != block || theirs.len == mine {
            return theirs.block == block;
        }
        let is_blank = |wholeness| wholeness == Wholeness::Blank;
        let knows = self.content.peer == Some(theirs.claim.replica);
        let takes = knows || is_blank(self.content.standing.wholeness) && theirs.is_sized;
        let gives = is_blank(theirs.claim.wholeness) && self.is_sized();
        gives || takes && self.has_room_for(theirs.len)
    }

    fn has_room_for(&self, len: u64) -> bool {
        len <= self.shared.device().min(self.shared.room())
            && len.is_multiple_of(self.config.block.into())
    }

    /// Asks the other node, before anything is changed.
    pub(super) fn begin_to_resize(&mut self, len: u64) {
        let how = How::Asks;
        self.resizing = Some(Resizing { len, how });
        self.ask_to_resize(len, false);
    }

    fn ask_to_resize(&mut self, len: u64, is_made: bool) {
        let Some(theirs) = &self.theirs else { return };
        let resize = Resize {
            volume: theirs.number,
            is_made,
            ticket: self.ticket,
            len,
        };
        self.ask(Command::RESIZE, resize.encode(), Vec::new());
    }

    /// The other node has answered.
    pub(super) fn resize_answered(&mut self, result: Result<(), Refusal>) {
        let Some(Resizing { len, how }) = self.resizing else {
            return;
        };
        let grows = len > self.config.len;
        match (how, result) {
            (How::Asks, Err(refusal)) => {
                self.resizing = None;
                self.end_order(Err(Unwilling::Refused(refusal.text)));
            }
            (How::Asks, Ok(())) => {
                self.end_order(Ok(()));
                let how = match grows {
                    true => {
                        self.shared.grow(len);
                        How::Copies
                    }
                    false => {
                        self.shared.set_len(len);
                        How::Tells
                    }
                };
                self.resizing = Some(Resizing { len, how });
            }
            (How::IsMadeThere, Ok(())) if grows => self.make_size(len),
            (How::IsMadeThere, Ok(())) => self.is_resized(),
            // What is stable here counts; and the other one takes it when they meet.
            (_, Err(_)) => self.part(),
            _ => {}
        }
    }

    /// What can be done for the size that the volume is about to have.
    pub(super) fn resize_on(&mut self) {
        let Some(Resizing { len, how }) = self.resizing else {
            return;
        };
        let is_copied = self.shared.growing() == 0 && self.shared.changed() == 0;
        match how {
            How::Copies if is_copied || mutant!("pair-growth-uncopied") => {
                let how = How::IsMadeThere;
                self.resizing = Some(Resizing { len, how });
                self.ask_to_resize(len, true);
            }
            How::Tells if self.shared.shown() == len => self.make_size(len),
            _ => {}
        }
    }

    fn make_size(&mut self, len: u64) {
        let how = How::IsMadeHere;
        self.config.len = len;
        self.resizing = Some(Resizing { len, how });
        self.store(After::Resized);
    }

    /// It is stable here.
    pub(super) fn resize_stored(&mut self) {
        let Some(Resizing { len, .. }) = self.resizing else {
            return;
        };
        // Hosts were told, if it is smaller.
        match self.shared.len() == len {
            true => {
                let how = How::IsMadeThere;
                self.resizing = Some(Resizing { len, how });
                self.ask_to_resize(len, true);
            }
            false => self.is_resized(),
        }
    }

    fn is_resized(&mut self) {
        self.resizing = None;
        self.shared.set_len(self.config.len);
        let text = format!(
            "the volume has {} bytes now, on both nodes",
            self.config.len
        );
        self.alert(AlertEvent::Resized, text);
    }

    /// The nodes part, or are about to: the volume has the size that is stable here.
    pub(super) fn cease_to_resize(&mut self) {
        if self.phase == Phase::Source(Step::InSync) {
            return;
        }
        let Some(Resizing { len, .. }) = self.resizing.take() else {
            return;
        };
        self.shared.set_len(self.config.len);
        if self.orders.resizes() {
            return self.end_order(Err(Unwilling::Late));
        }
        let now = self.config.len;
        match now == len {
            true => self.alert(
                AlertEvent::Resized,
                format!("the volume has {now} bytes now; the other node takes that over when they meet"),
            ),
            false => self.alert(
                AlertEvent::NotResized,
                format!("the volume has {now} bytes, and not {len}: the nodes have lost each other before that was so. Say it again when they are in sync"),
            ),
        }
    }

    /// What is in stable storage is what hosts may use, unless they are told something else just now.
    pub(super) fn has_size(&mut self) {
        if self.resizing.is_none() {
            self.shared.set_len(self.config.len);
        }
    }

    /// The source wants the volume to have another size.
    pub(super) fn heard_resize(&mut self, resize: Resize, reply: u64) {
        let is_it = self.phase == Phase::Destination(destination::Step::InSync)
            && resize.ticket == self.ticket;
        if !is_it {
            return self.refuse(reply, nature::STALE, "the meeting is over");
        }
        if !self.has_room_for(resize.len) {
            let text = format!(
                "its device has {} bytes, in blocks of {}, and it has room for a record of {}: make that larger first, or start the program there again",
                self.shared.device(),
                self.config.block,
                self.shared.room()
            );
            return self.refuse(reply, nature::VOLUME, text);
        }
        if !resize.is_made {
            self.shared.let_reach(resize.len);
            return self.answer(reply, Ok(()));
        }
        self.config.len = resize.len;
        self.store(After::Answer(reply, destination::Step::InSync));
    }

    /// A destination takes the size that the source has.
    pub(super) fn take_size(&mut self) {
        let Some(theirs) = self.theirs.filter(|theirs| theirs.len != self.config.len) else {
            return;
        };
        if mutant!("pair-size-untaken") {
            return;
        }
        self.config.len = theirs.len;
        self.shared.grow(theirs.len);
        let text = format!("the volume has {} bytes, as at the source", theirs.len);
        self.alert(AlertEvent::Resized, text);
    }
}
