//! Which log it is that one or two stores are of, and what of each counts.
//!
//! A store that was out is never taken for whole. Of two that were in step, one alone is taken only if the other
//! one is given up by name, or if the log is closed and configured to be on one: it cannot be told from its own
//! superblocks that the other one has not gone on without it.

use mutant::mutant;

use super::begin::PARTED;
use super::look::View;
use super::{Highest, Opened, Refusal, STORES_MAX};
use crate::superblock::{Members, RegionSuperblock, Superblock};

/// How a store was found.
#[derive(Clone, Debug)]
pub enum Found {
    /// It is not there, or cannot be read.
    Absent,
    /// It is there, and so it looks.
    Seen(View),
    /// What it has is given up. How it looks, if it is there.
    GivenUp(Option<View>),
}

impl Found {
    /// A store whose content counts.
    fn seen(&self) -> Option<&View> {
        match self {
            Found::Seen(view) => Some(view),
            Found::Absent | Found::GivenUp(_) => None,
        }
    }

    fn view(&self) -> Option<&View> {
        match self {
            Found::GivenUp(view) => view.as_ref(),
            _ => self.seen(),
        }
    }
}

/// What stores agree on.
#[derive(Clone, Debug)]
pub struct Agreed {
    /// The log that they are of. `None`: they are blank, or given up, and a new one begins.
    pub opened: Option<Opened>,
    /// Which of the log's stores each is, or is to be.
    pub(super) members: [u8; STORES_MAX],
    /// Those that have less than the log: they begin first.
    pub(super) behind: [bool; STORES_MAX],
    /// Those that have nothing of it.
    pub(super) are_new: [bool; STORES_MAX],
    /// Bytes of the tables area of those that have all of the tables; else 0.
    pub(super) tables: [u64; STORES_MAX],
    /// One that was in step with the other goes on without it.
    pub(super) is_parted: bool,
    pub(super) highest: Highest,
    /// Regions that a store had at most: what it says of each is over when the log begins anew.
    pub(super) regions_ever: [usize; STORES_MAX],
    /// Copies of superblocks that a crash, or a write that failed, has left otherwise than two others.
    pub(super) unlike: [Vec<(u64, Vec<u8>)>; STORES_MAX],
}

/// What the stores, as they were found in the order of the configuration, agree on.
///
/// # Errors
/// No log can begin on them, or be replayed: which store is why, and why.
///
/// # Panics
/// If there are none, or more than [`STORES_MAX`].
pub fn agree<E>(found: &[Found]) -> Result<Agreed, (usize, Refusal<E>)> {
    assert!((1..=STORES_MAX).contains(&found.len()), "one store, or two");
    let seen = || {
        (0..)
            .zip(found)
            .filter_map(|(i, found)| Some((i, found.seen()?)))
    };
    for (i, view) in seen().filter(|(_, view)| view.superblock().is_some()) {
        view.fits().map_err(|refusal| (i, refusal))?;
    }
    // What a log that never began has left may be written again as it was.
    let views = found.iter().filter_map(Found::view);
    let highest = views
        .filter(|view| !view.is_blank)
        .fold(Highest::default(), |sum, view| sum.max(view.highest()));
    let known = seen().filter_map(|(i, view)| Some((i, view.superblock()?)));
    let Some((lead, superblock)) = known.max_by_key(|(_, superblock)| superblock.generation) else {
        return begins(found, highest);
    };
    let mut members = [superblock.member; STORES_MAX];
    members[1 - lead] = 1 - superblock.member;
    let mut there = [false; STORES_MAX];
    there[lead] = true;
    if let Some((other, view)) = seen().find(|&(i, _)| i != lead) {
        there[other] = belongs(view, &superblock).map_err(|refusal| (other, refusal))?;
    }
    let mut agreed = Agreed {
        opened: None,
        members,
        behind: there.map(|is_there| !is_there),
        are_new: there.map(|is_there| !is_there),
        tables: [0; STORES_MAX],
        is_parted: false,
        highest,
        regions_ever: regions_ever(found),
        unlike: [0, 1].map(|i: usize| match found.get(i).and_then(Found::seen) {
            Some(view) if there[i] => view.unlike(),
            _ => Vec::new(),
        }),
    };
    let (mut regions, mut readers) = (Vec::new(), Vec::<[bool; STORES_MAX]>::new());
    for region in 0..superblock.layout.regions as usize {
        let voices = |i: usize| Some((i, found[i].seen().filter(|_| there[i])?));
        let voices: Vec<_> = (0..found.len()).filter_map(voices).collect();
        let newest = newest_of(&voices, region, lead)?;
        let reads = [0, 1].map(|i: usize| there[i] && newest.members.has(members[i]));
        let are_missing = newest.members == Members::BOTH && reads != [true; STORES_MAX];
        if are_missing || reads == [false; STORES_MAX] {
            let other = found.get(1 - lead);
            let is_given_up = matches!(other, Some(Found::GivenUp(_)));
            // Of a log that was being made, and never began.
            let is_first = newest.is_closed && newest.generation == 1;
            let is_left = found.len() == 1 && newest.is_closed && !is_first;
            let is_blank = matches!(other, Some(Found::Seen(view)) if view.is_blank);
            let is_trusted = is_given_up || is_left || is_first && is_blank;
            let is_trusted = is_trusted || mutant!("log-two-stale-trusted");
            if !is_trusted || reads == [false; STORES_MAX] {
                let is_closed = newest.is_closed && !is_first;
                return Err((lead, Refusal::OneOfTwo { is_closed }));
            }
            agreed.is_parted = true;
        }
        for (behind, reads) in agreed.behind.iter_mut().zip(reads) {
            *behind |= !reads;
        }
        regions.push(newest);
        readers.push(reads);
    }
    // Each has made its own area ready before it said so.
    let has_tables = |i: usize| found.get(i)?.seen()?.voice();
    agreed.tables = [0, 1].map(|i: usize| match has_tables(i) {
        Some(superblock) if readers[0][i] => superblock.layout.tables_len,
        _ => 0,
    });
    agreed.opened = Some(Opened {
        superblock,
        regions,
        readers,
    });
    Ok(agreed)
}

fn regions_ever(found: &[Found]) -> [usize; STORES_MAX] {
    [0, 1].map(|i: usize| {
        let view = found.get(i).and_then(Found::view);
        view.map_or(0, View::regions_ever)
    })
}

/// A new log: all stores that are not given up are there, and blank.
fn begins<E>(found: &[Found], highest: Highest) -> Result<Agreed, (usize, Refusal<E>)> {
    for (i, found) in found.iter().enumerate() {
        match found {
            Found::Absent => return Err((i, Refusal::Missing)),
            Found::Seen(view) if !view.is_blank => return Err((i, view.why())),
            _ => {}
        }
    }
    Ok(Agreed {
        opened: None,
        members: [0, 1],
        behind: [false; STORES_MAX],
        are_new: [true; STORES_MAX],
        tables: [0; STORES_MAX],
        is_parted: false,
        highest,
        regions_ever: regions_ever(found),
        unlike: Default::default(),
    })
}

/// Whether a store is the other one of the log that `superblock` is of; if not, it is blank.
fn belongs<E>(view: &View, superblock: &Superblock) -> Result<bool, Refusal<E>> {
    match view.voice() {
        Some(other) if other.log == superblock.log => match other.member == superblock.member {
            true => Err(Refusal::Twice),
            false => Ok(true),
        },
        _ if view.is_blank => Ok(false),
        Some(_) if view.superblock().is_some() => Err(Refusal::OtherLog),
        _ => Err(view.why()),
    }
}

/// The newest superblock of a region that a store has, of `views` with their places.
fn newest_of<E>(
    views: &[(usize, &View)],
    region: usize,
    lead: usize,
) -> Result<RegionSuperblock, (usize, Refusal<E>)> {
    let damaged = |store| {
        let region = Some(region);
        (store, Refusal::Superblocks { region })
    };
    if !views.iter().any(|(_, view)| view.region(region).is_some()) {
        return Err(damaged(lead));
    }
    let mut voices = Vec::new();
    for &(store, view) in views {
        match view.region_voice(region) {
            Some(voice) => voices.push(voice),
            // It may have said that it went on alone.
            None if !view.is_region_blank(region) => return Err(damaged(store)),
            None => {}
        }
    }
    if let [a, b] = &voices[..]
        && [a, b].iter().all(|voice| voice.members != Members::BOTH)
        && a.members != b.members
        // Else what one has was given up, or replayed, when the other one was let go on.
        && a.generation.abs_diff(b.generation) < PARTED / 2
    {
        return Err((lead, Refusal::Diverged));
    }
    // A store that joins begins with generation 1: so may the log that it joins.
    let key = |voice: &RegionSuperblock| (voice.generation, voice.members != Members::BOTH);
    let newest = voices.into_iter().max_by_key(key);
    newest.ok_or_else(|| damaged(lead))
}
