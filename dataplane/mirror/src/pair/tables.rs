//! What both nodes know of a volume, side by side (row R3, *update tables*; row R4). Each tells the other one what its tables say now,
//! and what frames it takes; no meeting begins or ends by that, and hosts are served as before.

use std::fmt;

use super::orders::Order;
use super::{Pair, Unwilling, nature};
use crate::commands::{Meeting, Role};
use crate::frame::Command;
use crate::parameters::Refusal;
use crate::standing::Wholeness;

/// What both nodes know of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tables {
    /// This one.
    pub here: Meeting,
    /// The other one.
    pub there: Meeting,
}

/// A line of both tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableLine {
    /// What it is about.
    pub what: &'static str,
    /// What this node has.
    pub here: String,
    /// What the other one has.
    pub there: String,
    /// Whether it is as it is to be.
    pub is_right: bool,
}

fn data(meeting: &Meeting) -> &'static str {
    match meeting.claim.wholeness {
        Wholeness::Blank => "none",
        Wholeness::Whole => "whole",
        Wholeness::Copying { .. } => "being copied to",
    }
}

impl Tables {
    /// Line by line.
    pub fn lines(&self) -> Vec<TableLine> {
        let Self { here, there } = self;
        let both = [here, there];
        let line = |what, text: &dyn Fn(&Meeting) -> String, is_right: bool| TableLine {
            what,
            here: text(here),
            there: text(there),
            is_right,
        };
        let sources = both.iter().filter(|it| it.role == Role::Source).count();
        let is_whole = both.iter().all(|it| it.claim.wholeness == Wholeness::Whole);
        let severed = |it: &Meeting| match it.severed {
            0 => "no".into(),
            since => format!("since {since}"),
        };
        let replica = |it: &Meeting| {
            let digits = it.claim.replica.0.iter().take(4);
            digits.map(|byte| format!("{byte:02x}")).collect()
        };
        let changed = |it: &Meeting| it.claim.record.map_or(0, |record| record.changed);
        vec![
            line("bytes", &|it| it.len.to_string(), here.len == there.len),
            line(
                "bytes of a block",
                &|it| it.block.to_string(),
                here.block == there.block,
            ),
            line("role", &|it| it.role.word().into(), sources == 1),
            line("data", &|it| data(it).into(), is_whole),
            line(
                "generation",
                &|it| it.claim.generation.to_string(),
                here.claim.generation == there.claim.generation,
            ),
            line(
                "replica",
                &replica,
                here.claim.replica != there.claim.replica,
            ),
            line(
                "granules changed alone",
                &|it| changed(it).to_string(),
                both.iter().all(|it| changed(it) == 0),
            ),
            line(
                "severed by an operator",
                &severed,
                both.iter().all(|it| it.severed == 0),
            ),
            line("bytes of a frame", &|it| it.frame.to_string(), true),
        ]
    }

    /// Whether all of it is as it is to be.
    pub fn are_right(&self) -> bool {
        self.lines().iter().all(|line| line.is_right)
    }
}

impl fmt::Display for TableLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            what, here, there, ..
        } = self;
        write!(f, "{what}: {here} here, {there} there")
    }
}

impl Pair {
    /// An operator wants both nodes' tables compared. [`Pair::next_outcome`] tells when that is done, or why not, and
    /// [`Pair::take_tables`] what they have.
    ///
    /// # Errors
    /// [`Unwilling`].
    pub fn update_tables(&mut self) -> Result<(), Unwilling> {
        if !self.is_up {
            return Err(Unwilling::NotHeard);
        }
        let number = (self.random)().max(1);
        self.take_order(Order::Compare {
            number,
            token: None,
        })
    }

    /// An operator says how many bytes of payload frames to and from the other node have at most; that counts at once, and the other node is
    /// told.
    ///
    /// # Errors
    /// [`Unwilling`]: it takes less.
    pub fn set_frame_size(&mut self, bytes: u32) -> Result<(), Unwilling> {
        let [_, theirs] = self.frame.both();
        if self.is_up && bytes > theirs {
            return Err(Unwilling::FrameTooLong(theirs));
        }
        self.frame.set(bytes);
        if self.is_up {
            self.tell_tables(0, 0);
        }
        Ok(())
    }

    /// The last ones that were compared, once.
    pub fn take_tables(&mut self) -> Option<Tables> {
        self.orders.tables.take()
    }

    /// Tells the other node what this one's tables say: by which token.
    pub(super) fn tell_tables(&mut self, number: u64, answers: u64) -> u64 {
        let meeting = self.my_meeting(self.my_claim(), self.content.role, number, answers);
        self.post(Command::TABLES, meeting.encode(), Vec::new())
    }

    /// The other node does not take them.
    pub(super) fn tables_answered(&mut self, token: u64, result: &Result<(), Refusal>) {
        if let Err(refusal) = result
            && self.orders.compares_by() == Some(token)
        {
            let text = refusal.text.clone();
            self.end_order(Err(Unwilling::Refused(text)));
        }
    }

    /// The other node tells what its tables say: because it asks for those of this one, has been asked, or takes other frames.
    pub(super) fn heard_tables(&mut self, theirs: Meeting, reply: u64) {
        if theirs.volume != self.config.volume {
            return self.refuse(reply, nature::VOLUME, "the volume is not known");
        }
        self.frame.told(theirs.frame);
        self.answer(reply, Ok(()));
        if theirs.answers != 0 {
            if self.orders.compares() == Some(theirs.answers) {
                let here = self.my_meeting(self.my_claim(), self.content.role, 0, 0);
                let there = theirs;
                self.orders.tables = Some(Tables { here, there });
                self.end_order(Ok(()));
            }
        } else if theirs.meeting != 0 {
            self.tell_tables(0, theirs.meeting);
        }
    }
}
