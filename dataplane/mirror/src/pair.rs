//! One volume of a pair, as one of its two nodes sees it: what is done when the nodes meet, lose each other, and when an
//! operator says which one serves (rows R4, R6, R7, S8). Sans I/O: what comes in, what is stable and time are arguments;
//! what is to be done are [`Action`]s.
//!
//! **A meeting.** Each node tells the other what its replica knows ([`Command::CLAIM`]), with a number of its own; a claim
//! that answers the other one's number tells it that both speak of the same meeting. Both decide the same ([`meet`]). The
//! destination shuts its door, waits until nothing of before is under way, tells which granules it may have otherwise, and
//! says that it is ready; the source makes all that may differ part of its record, which is stable before the copy begins. From
//! then on each change goes to both, while the copy of what is marked goes on.
//!
//! **Nothing one-sided becomes truth.** What a node has in its log when it ends counts as what may differ, and so does what
//! it did for the other one that the other one has not confirmed. Those granules have the same at the end of the next
//! meeting. A source serves alone after its *generation* is another one, in stable storage.

mod backup;
mod content;
mod destination;
mod failed;
mod leases;
mod meeting;
mod orders;
mod resize;
mod roles;
mod source;
mod tables;
mod watch;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::alert::{Alert, AlertEvent};
use crate::arbiter::Question;
use crate::commands::{BadParameters, Copying, Differing, Intent, Meeting, Ready, Resize, Role};
use crate::frame::Command;
use crate::lanes::FrameSize;
use crate::mirrored::{Mirrored, Mode};
use crate::parameters::Refusal;
use crate::record::Changed;
use crate::standing::{Claim, Refused, Standing, Verdict};

pub use content::{BadContent, Content};
pub use roles::Unwilling;
pub use tables::{TableLine, Tables};

/// The number of a volume's record, of which there is one.
pub const RECORD: u64 = 0;
/// How long after one that failed the next try to store is made.
const RETRY: Duration = Duration::from_secs(1);

/// Natures of refusals.
pub mod nature {
    /// The volume is not one of the receiver's, or is another one there.
    pub const VOLUME: u16 = 1;
    /// What is asked for is of a meeting that is over.
    pub const STALE: u16 = 2;
    /// Parameters that cannot be.
    pub const PARAMETERS: u16 = 3;
    /// A device of the receiver's failed.
    pub const DEVICE: u16 = 4;
    /// The receiver has something else.
    pub const DIFFERS: u16 = 5;
    /// The receiver has no memory for it now: it may be asked again.
    pub const BUSY: u16 = 6;
    /// The receiver is not the source, or is about to give up what it has.
    pub const SOURCE: u16 = 7;
    /// In a greeting: the lane is at another shard of the receiver's, and another connection is to be opened.
    pub const ELSEWHERE: u16 = 8;
}

/// A volume of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairConfig {
    /// Its name on both nodes.
    pub volume: [u8; 16],
    /// This node's number of it.
    pub number: u16,
    /// Bytes, as this node's tables have it; without tables those of the device.
    pub len: u64,
    /// Bytes of a block.
    pub block: u32,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// To ask the other node; [`Pair::answered`] follows, or [`Pair::lost`].
    Ask {
        /// What for.
        command: Command,
        /// How.
        parameters: Vec<u8>,
        /// With what.
        payload: Vec<u8>,
        /// To be given back.
        token: u64,
    },
    /// To answer what was [heard](Pair::heard).
    Answer {
        /// That.
        reply: u64,
        /// Executed, or why not.
        result: Result<(), Refusal>,
    },
    /// To write what is to be known after a restart, and pages of the record; [`Pair::stored`] follows when all is stable.
    Store {
        /// [`Content`], encoded.
        content: Vec<u8>,
        /// What may differ.
        differing: Changed,
        /// Pages of that to be written, in order.
        pages: Vec<u64>,
        /// To be given back.
        token: u64,
    },
    /// To ask the arbiter; [`Pair::arbitrated`] follows.
    Arbitrate {
        /// What for.
        question: Question,
        /// To be given back.
        token: u64,
    },
    /// The operator is to know (row R6).
    Alert(Alert),
}

/// How far the two nodes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// They do not know of each other.
    Apart,
    /// They are alike, or one is better, and neither is the source.
    Sourceless,
    Refused(Refused),
    Source(source::Step),
    Destination(destination::Step),
    /// An operator has said that it is the source.
    Promoting,
    /// An operator has severed the pair at the source: it stays so until one says otherwise.
    Severed,
    /// This node gives up what it has.
    Discarding,
    /// This node was the source, and its log has failed: the other one goes on without it.
    Failed,
    /// The other node was, and this one takes over when the arbiter has taken note.
    TakingOver,
}

/// What follows a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Nothing,
    /// What an operator has asked for is done.
    Ordered,
    Alone,
    Yielding,
    Resized,
    Source(source::Step),
    Quiet,
    /// A message of the source is answered, and the destination is so far.
    Answer(u64, destination::Step),
}

/// A volume of a pair.
pub struct Pair {
    config: PairConfig,
    shared: Arc<Mirrored>,
    content: Content,
    phase: Phase,
    /// The number of this meeting, and what the other one has said of it.
    mine: u64,
    theirs: Option<Meeting>,
    /// What of ours the other node was told, with the number that this answered; and whether it has said that it has it.
    claimed: Option<(u64, Claim, Role)>,
    has_claimed: bool,
    is_up: bool,
    /// The message that has no answer.
    asked: Option<(u64, Command)>,
    heard: VecDeque<(Command, Vec<u8>, Vec<u8>, u64)>,
    storing: Option<(u64, After, Vec<u64>)>,
    /// What could not be stored, and when it is tried again.
    again: Option<(Duration, After)>,
    /// What the destination has told.
    told: Option<Changed>,
    verdict: Verdict,
    ticket: u64,
    /// The next page to tell.
    page: u64,
    /// The pair is to be severed when that is possible.
    severs: bool,
    /// The arbiter has taken note of it.
    severs_now: bool,
    is_stopping: bool,
    /// It was the source when its log failed: it is none any more in this run.
    has_failed: bool,
    /// If there is an arbiter.
    leases: Option<leases::Leases>,
    orders: orders::Orders,
    /// The size that the volume is about to have.
    resizing: Option<resize::Resizing>,
    /// Since when the other node was not heard, if this one did not act by itself since.
    unheard: Option<Duration>,
    frame: Arc<FrameSize>,
    /// The last comparison whose end was told.
    verified: u64,
    tokens: u64,
    random: Box<dyn FnMut() -> u64 + Send>,
    actions: VecDeque<Action>,
    now: Duration,
    /// Since when it is in the phase.
    since: Duration,
}

impl Pair {
    /// As it was when it was last stored; `changed`: the pages that were; `random`: numbers that nobody guesses.
    pub fn new(
        config: PairConfig,
        content: Content,
        changed: Option<&Changed>,
        shared: Arc<Mirrored>,
        mut random: impl FnMut() -> u64 + Send + 'static,
        now: Duration,
    ) -> Self {
        if let Some(changed) = changed {
            shared.join(changed);
        }
        // Nobody else has later data that were acknowledged. One that has never met another one cannot know that: its tables may be
        // new, and the other one's not.
        if content.role == Role::Source && content.is_alone() {
            shared.set_mode(Mode::Alone);
        }
        Self {
            config,
            shared,
            content,
            phase: Phase::Apart,
            mine: random(),
            theirs: None,
            claimed: None,
            has_claimed: false,
            is_up: false,
            asked: None,
            heard: VecDeque::new(),
            storing: None,
            again: None,
            told: None,
            verdict: Verdict::InSync,
            ticket: 0,
            page: 0,
            severs: false,
            severs_now: false,
            is_stopping: false,
            has_failed: false,
            leases: None,
            orders: orders::Orders::default(),
            resizing: None,
            unheard: None,
            frame: Arc::default(),
            verified: 0,
            tokens: 0,
            random: Box::new(random),
            actions: VecDeque::new(),
            now,
            since: now,
        }
    }

    /// How long frames to the other node are, as its lanes have it.
    pub fn set_frames(&mut self, frame: &Arc<FrameSize>) {
        self.frame = Arc::clone(frame);
    }

    /// What all shards share of it.
    pub fn shared(&self) -> &Arc<Mirrored> {
        &self.shared
    }

    /// What it knows.
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// Whether both have the same, or will when what is under way is done: hosts' changes go to both.
    pub fn is_in_sync(&self) -> bool {
        matches!(
            self.phase,
            Phase::Source(source::Step::InSync) | Phase::Destination(destination::Step::InSync)
        )
    }

    /// What is to be done next.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    fn token(&mut self) -> u64 {
        self.tokens += 1;
        self.tokens
    }

    fn enter(&mut self, phase: Phase) {
        let before = std::mem::replace(&mut self.phase, phase);
        self.cease_to_resize();
        self.since = self.now;
        self.forget_unanswered();
        self.entered(before);
        if phase == Phase::Source(source::Step::InSync) {
            self.arbitrate_now();
        }
    }

    fn ask(&mut self, command: Command, parameters: Vec<u8>, payload: Vec<u8>) {
        let token = self.post(command, parameters, payload);
        self.asked = Some((token, command));
    }

    /// Asks for what nothing waits for: by which token.
    fn post(&mut self, command: Command, parameters: Vec<u8>, payload: Vec<u8>) -> u64 {
        let token = self.token();
        self.actions.push_back(Action::Ask {
            command,
            parameters,
            payload,
            token,
        });
        token
    }

    fn answer(&mut self, reply: u64, result: Result<(), Refusal>) {
        self.actions.push_back(Action::Answer { reply, result });
    }

    fn refuse(&mut self, reply: u64, nature: u16, text: impl Into<String>) {
        let text = text.into();
        self.answer(reply, Err(Refusal { nature, text }));
    }

    fn store(&mut self, after: After) {
        let pages = self.shared.begins_to_store(self.config.len);
        let token = self.token();
        self.actions.push_back(Action::Store {
            content: self.content.encode(self.config.len),
            differing: self.shared.differing(self.config.len),
            pages: pages.clone(),
            token,
        });
        self.storing = Some((token, after, pages));
    }

    /// What was to be stored is stable, or could not be written.
    pub fn stored(&mut self, token: u64, is_good: bool) {
        let Some((_, after, pages)) = self.storing.take_if(|storing| storing.0 == token) else {
            return;
        };
        self.shared.stored(&pages, is_good);
        if !is_good && self.is_stopping {
            // Whoever waits for it need not.
            return self.suspend();
        }
        if !is_good {
            self.again = Some((self.now + RETRY, after));
            return;
        }
        self.has_size();
        match after {
            After::Nothing => {}
            After::Resized => self.resize_stored(),
            After::Ordered => self.order_stored(),
            After::Alone => self.is_alone(),
            After::Yielding => self.yields(),
            After::Source(step) => self.source_stored(step),
            After::Quiet => self.tell(),
            After::Answer(reply, step) => {
                self.answer(reply, Ok(()));
                // Another meeting may have begun.
                if matches!(self.phase, Phase::Destination(_)) {
                    self.enter(Phase::Destination(step));
                }
            }
        }
    }

    /// There is a session to ask the other node over. `anew`: the other one has forgotten what it was asked before, or this one has.
    pub fn up(&mut self, anew: bool) {
        self.is_up = true;
        self.forget_arbiter();
        if self.phase == Phase::TakingOver {
            // It may be another run of the other one, which serves.
            self.begin_anew();
        }
        if anew {
            // What was claimed may have gone to a run that is over.
            self.claimed = None;
        }
    }

    /// There is none.
    pub fn down(&mut self) {
        self.is_up = false;
    }

    /// The program stops: nothing is asked of anybody any more.
    pub fn stop(&mut self) {
        self.is_stopping = true;
        let is_in_vain = self.again.take().is_some();
        if is_in_vain || self.waits_for_arbiter() {
            self.suspend();
        }
    }

    /// Nobody knows what became of a message, or none arrives.
    pub fn lost(&mut self, token: u64) {
        self.renewed(token, false);
        if self.asked.take_if(|asked| asked.0 == token).is_some() {
            self.part();
        }
    }

    /// The other node was not heard for too long.
    pub fn gave_up(&mut self) {
        self.is_up = false;
        self.forget_renewal();
        self.alert_lost();
        if self.asked.take().is_some() || matches!(self.phase, Phase::Source(_)) {
            self.part();
        }
    }

    /// A message of ours was answered.
    pub fn answered(&mut self, token: u64, result: Result<(), Refusal>) {
        self.renewed(token, result.is_ok());
        self.tables_answered(token, &result);
        let Some((_, command)) = self.asked.take_if(|asked| asked.0 == token) else {
            return;
        };
        match (command, result) {
            (Command::CLAIM, Ok(())) => self.has_claimed = true,
            (Command::CLAIM, Err(refusal)) => {
                let text = format!("the other node refuses the volume: {refusal}");
                self.alert(AlertEvent::PeerRefuses, text);
                self.is_up = false;
            }
            (Command::DISCARD | Command::ESTABLISH, result) => self.is_let(result),
            (Command::RESIZE, result) => self.resize_answered(result),
            (_, Err(refusal)) if refusal.nature == nature::STALE => self.part(),
            (_, Err(refusal)) => {
                let text = format!("the other node refuses: {refusal}");
                self.alert(AlertEvent::PeerRefuses, text);
                self.part();
            }
            (Command::DIFFERING, Ok(())) => self.tell(),
            (Command::READY, Ok(())) => {}
            (_, Ok(())) => self.source_answered(command),
        }
    }

    /// The meeting is over; another one is to begin.
    fn part(&mut self) {
        match self.phase {
            Phase::Source(step) if step.forwards() => self.severs = true,
            _ => self.begin_anew(),
        }
    }

    fn begin_anew(&mut self) {
        self.shared.let_in(0);
        self.shared.crop();
        self.mine = (self.random)();
        (self.claimed, self.has_claimed) = (None, false);
        self.asked = None;
        (self.told, self.ticket) = (None, 0);
        self.enter(Phase::Apart);
    }

    /// A message of the other node is there; looked at when nothing is being stored.
    pub fn heard(&mut self, command: Command, parameters: Vec<u8>, payload: Vec<u8>, reply: u64) {
        self.heard.push_back((command, parameters, payload, reply));
    }

    fn hear(&mut self, command: Command, parameters: &[u8], payload: &[u8], reply: u64) {
        let result = match command {
            Command::CLAIM => {
                Meeting::decode(parameters).map(|theirs| self.heard_claim(theirs, reply))
            }
            Command::DIFFERING => {
                Differing::decode(parameters).map(|it| self.heard_differing(it, payload, reply))
            }
            Command::READY => Ready::decode(parameters).map(|ready| self.heard_ready(ready, reply)),
            Command::COPY => {
                Copying::decode(parameters).map(|copying| self.heard_copy(copying, reply))
            }
            Command::COPIED => {
                Copying::decode(parameters).map(|copying| self.heard_copied(copying, reply))
            }
            Command::TABLES => {
                Meeting::decode(parameters).map(|theirs| self.heard_tables(theirs, reply))
            }
            Command::DISCARD => {
                Intent::decode(parameters).map(|discard| self.heard_discard(discard, reply))
            }
            Command::ESTABLISH => {
                Intent::decode(parameters).map(|establish| self.heard_establish(establish, reply))
            }
            Command::RESIZE => {
                Resize::decode(parameters).map(|resize| self.heard_resize(resize, reply))
            }
            Command::RENEW => {
                Copying::decode(parameters).map(|copying| self.heard_renewal(copying, reply))
            }
            _ => Err(BadParameters("a command is not known")),
        };
        if let Err(bad) = result {
            self.refuse(reply, nature::PARAMETERS, bad.to_string());
        }
    }

    fn heard_claim(&mut self, theirs: Meeting, reply: u64) {
        let config = &self.config;
        if theirs.volume != config.volume {
            return self.refuse(reply, nature::VOLUME, "the volume is not known");
        }
        if !self.fits(&theirs) {
            let text = format!(
                "the volume has {} bytes in blocks of {} here, and {} in blocks of {} there: make both alike",
                config.len, config.block, theirs.len, theirs.block
            );
            self.alert(AlertEvent::VolumesDiffer, text.clone());
            return self.refuse(reply, nature::VOLUME, text);
        }
        self.frame.told(theirs.frame);
        self.answer(reply, Ok(()));
        let before = self.theirs.replace(theirs);
        let is_same = before.is_some_and(|before| before.meeting == theirs.meeting);
        // What was agreed on in the one before is over for the other one.
        if !is_same && self.phase != Phase::Apart {
            self.part();
        }
    }

    fn my_claim(&self) -> Claim {
        let mut claim = self.content.standing.claim();
        // What a replica that did not go on alone has marked may differ, and is no newer than what the other one has.
        let is_alone = self.content.is_alone();
        if let Some(record) = &mut claim.record {
            record.changed = if is_alone { self.shared.changed() } else { 0 };
        }
        claim
    }

    fn my_meeting(&self, claim: Claim, role: Role, meeting: u64, answers: u64) -> Meeting {
        Meeting {
            volume: self.config.volume,
            number: self.config.number,
            role,
            is_sized: self.is_sized(),
            len: self.config.len,
            block: self.config.block,
            frame: self.frame.both()[0],
            claim,
            differing: self.shared.differing(self.config.len).count(),
            meeting,
            answers,
            severed: self.severed_at(role),
            has_failed: self.has_failed && role == Role::Source,
        }
    }

    /// Whether the first change that this node answers alone came behind its claim, which says that there is none.
    fn has_changed_since(&self) -> bool {
        let changed = |claim: &Claim| claim.record.is_some_and(|record| record.changed > 0);
        let claimed = self.claimed.as_ref();
        self.content.role == Role::Source
            && claimed.is_some_and(|(_, claim, _)| !changed(claim))
            && changed(&self.my_claim())
    }

    /// Looks at what can be done; to be called every few milliseconds.
    pub fn advance(&mut self, now: Duration) {
        self.now = now;
        self.keep_lease();
        self.keep_backup();
        self.tell_of_verification();
        self.look_at_log();
        if self.shared.take_broken() && matches!(self.phase, Phase::Source(step) if step.forwards())
        {
            self.severs = true;
        }
        if let Some((at, after)) = self.again {
            if now >= at {
                self.again = None;
                self.store(after);
            }
            // One whose log has failed waits for nothing to be stable.
            if !self.has_failed {
                return self.listen_in_vain();
            }
        }
        self.hear_all();
        if self.storing.is_some() {
            return;
        }
        if std::mem::take(&mut self.severs_now) {
            return self.go_alone();
        }
        if std::mem::take(&mut self.severs) {
            self.orders.is_overtaken();
            return self.go_on_without();
        }
        self.arbitrate();
        if self.waits_for_arbiter() || self.carries_out_order() {
            return;
        }
        match self.phase {
            Phase::Apart => self.meet(),
            Phase::Source(step) => self.source_advances(step),
            Phase::Destination(step) => self.destination_advances(step),
            Phase::Promoting => self.promote_on(),
            Phase::Sourceless
            | Phase::Refused(_)
            | Phase::Severed
            | Phase::Discarding
            | Phase::Failed
            | Phase::TakingOver => {}
        }
        let can_store = self.storing.is_none() && self.again.is_none();
        if can_store && self.shared.wants_to_be_stored() {
            self.store(After::Nothing);
        }
    }

    /// As long as nothing is to be stable before.
    fn hear_all(&mut self) {
        while self.storing.is_none()
            && let Some((command, parameters, payload, reply)) = self.heard.pop_front()
        {
            self.hear(command, &parameters, &payload, reply);
        }
    }

    /// Tells the other one, and decides when both know of each other.
    fn meet(&mut self) {
        let still_serves = self.has_failed && !self.shared.is_settled();
        if !self.is_up || self.asked.is_some() || still_serves {
            return;
        }
        let answers = self.theirs.map_or(0, |theirs| theirs.meeting);
        if self
            .claimed
            .is_none_or(|(answered, ..)| answered != answers)
        {
            let (claim, role) = match self.claimed {
                Some((_, claim, role)) => (claim, role),
                None => (self.my_claim(), self.content.role),
            };
            self.claimed = Some((answers, claim, role));
            self.has_claimed = false;
            let meeting = self.my_meeting(claim, role, self.mine, answers);
            return self.ask(Command::CLAIM, meeting.encode(), Vec::new());
        }
        if let (Some(theirs), Some((_, claim, role))) = (self.theirs, self.claimed)
            && self.has_claimed
            && theirs.answers == self.mine
        {
            if self.has_changed_since() {
                return self.begin_anew();
            }
            self.decide(&claim, role, &theirs);
        }
    }

    /// The standing, and what it has recorded.
    fn standing(&self) -> Standing {
        let mut standing = self.content.standing.clone();
        if let Some(record) = &mut standing.record {
            record.changed = self.shared.lacking(self.config.len);
        }
        standing
    }
}
