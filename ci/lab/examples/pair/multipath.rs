//! A host that knows both nodes, goes to the one that serves, and remembers what was acknowledged.

use std::collections::HashSet;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use lab::config::NQN;
use lab::pair::NODES;
use lab::writer::BLOCK;
use testkit::pattern::Stamp;
use testkit::{Command, Completion, Random};

use crate::lane::{Lane, Work, expect_success, write};
use crate::timeline::Timeline;

/// Blocks of a command for the image, and to read with.
const LARGE: usize = 16;
const DEPTH: usize = 8;
/// Without an answer for so long it looks whether the node is there, as others do by Keep Alive.
const PATIENCE: Duration = Duration::from_millis(500);
/// Between two looks at the nodes when none serves.
const PAUSE: Duration = Duration::from_millis(50);
/// After so long without a node that serves it gives up.
const ENDURANCE: Duration = Duration::from_secs(60);
/// Path Related Status (base 2.0, 4.6.1.2.4): another path may do it.
const PATH_RELATED: u16 = 3;

/// Of the volume: blocks, and what is written to them.
#[derive(Clone, Copy)]
struct Item {
    block: u64,
    blocks: usize,
    /// Of a block of the area; 0: of the image.
    version: u32,
}

/// What the volume is to have: an image, and behind it an area of blocks that are written over and over.
pub struct Contents<'t> {
    image: &'t [u8],
    /// Of each block of the area the version.
    area: Vec<u32>,
    under_way: HashSet<u64>,
    random: Random,
}

impl<'t> Contents<'t> {
    pub fn new(image: &'t [u8], area_blocks: usize) -> Self {
        Self {
            image,
            area: vec![0; area_blocks],
            under_way: HashSet::new(),
            random: Random::new(1),
        }
    }

    fn first_of_area(&self) -> u64 {
        self.image.len().div_ceil(BLOCK) as u64
    }

    /// Bytes from the beginning of the volume to the end of what is written.
    pub fn bytes(&self) -> usize {
        (self.first_of_area() as usize + self.area.len()) * BLOCK
    }

    fn stamp(&self, block: u64, version: u32) -> Vec<u8> {
        let stamp = Stamp {
            volume: 1,
            block,
            version,
        };
        match version {
            0 => vec![0; BLOCK],
            _ => stamp.bytes(BLOCK),
        }
    }

    fn command(&self, item: Item) -> Command {
        let data = match item.version {
            0 => {
                let at = item.block as usize * BLOCK;
                self.image[at..at + item.blocks * BLOCK].to_vec()
            }
            version => self.stamp(item.block, version),
        };
        write(item.block, item.blocks, data)
    }

    /// The next block of the area, and its next version.
    fn next_of_area(&mut self) -> Item {
        let first = self.first_of_area();
        let mut at = self.random.below(self.area.len());
        while self.under_way.contains(&(first + at as u64)) {
            at = (at + 1) % self.area.len();
        }
        self.area[at] += 1;
        self.under_way.insert(first + at as u64);
        Item {
            block: first + at as u64,
            blocks: 1,
            version: self.area[at],
        }
    }

    /// How many blocks of these bytes of the volume are not what was written and acknowledged: of the image, and of the area.
    pub fn differing(&self, volume: &[u8]) -> [usize; 2] {
        let (image, area) = volume.split_at(self.first_of_area() as usize * BLOCK);
        let of_image = differing(image, self.image);
        let of_area = (self.first_of_area()..)
            .zip(&self.area)
            .zip(area.chunks(BLOCK))
            .filter(|((block, version), came)| *came != self.stamp(*block, **version))
            .count();
        [of_image, of_area]
    }
}

/// The host.
pub struct Multipath<'t> {
    pub contents: Contents<'t>,
    timeline: &'t Timeline,
    lane: Option<Lane<Item>>,
    /// The node it uses, or used last.
    node: usize,
}

impl<'t> Multipath<'t> {
    pub fn new(contents: Contents<'t>, timeline: &'t Timeline) -> Self {
        Self {
            contents,
            timeline,
            lane: None,
            node: 0,
        }
    }

    /// Writes the image from its first byte to its last.
    pub fn write_image(&mut self) -> io::Result<()> {
        let blocks = self.contents.image.len() / BLOCK;
        let mut next = (0..blocks as u64).step_by(LARGE);
        self.write(|_| {
            next.next().map(|block| Item {
                block,
                blocks: LARGE.min(blocks - block as usize),
                version: 0,
            })
        })
    }

    /// Writes blocks of the area at random as long as `goes_on` says so.
    pub fn write_area(&mut self, goes_on: impl Fn() -> bool) -> io::Result<()> {
        self.write(|contents| goes_on().then(|| contents.next_of_area()))
    }

    /// Writes all that `more` gives until it gives nothing: to whichever node serves, again what was not acknowledged.
    fn write(&mut self, more: impl FnMut(&mut Contents<'_>) -> Option<Item>) -> io::Result<()> {
        let mut writing = Writing {
            contents: &mut self.contents,
            timeline: self.timeline,
            again: Vec::new(),
            refused: Vec::new(),
            acknowledged: Instant::now(),
            more,
        };
        while writing.acknowledged.elapsed() < ENDURANCE {
            let found = self.lane.take().map_or_else(|| look(self.node), Ok);
            if let Ok(mut lane) = found {
                let is_left = lead_to_the_end(&mut lane, &mut writing)?;
                if !is_left && writing.refused.is_empty() {
                    self.lane = Some(lane);
                    return Ok(());
                }
                writing.again.append(&mut writing.refused);
                writing.again.extend(lane.into_lost());
                thread::sleep(PAUSE);
            }
            self.node = 1 - self.node;
        }
        Err(io::Error::other("no node serves"))
    }
}

/// Does what there is to do, as long as the node is there; whether it is not.
fn lead_to_the_end(lane: &mut Lane<Item>, writing: &mut impl Work<Item>) -> io::Result<bool> {
    loop {
        match lane.run(writing) {
            Ok(()) => return Ok(false),
            Err(error) if is_silence(&error) && lane.is_there() => {}
            Err(error) if error.kind() == io::ErrorKind::Other => return Err(error),
            Err(_) => return Ok(true),
        }
    }
}

/// A node, if it is there.
fn look(node: usize) -> io::Result<Lane<Item>> {
    let lane = Lane::connect(NODES[node], NQN, DEPTH)?;
    lane.set_patience(PATIENCE);
    Ok(lane)
}

/// A write of many items.
struct Writing<'a, 't, F> {
    contents: &'a mut Contents<'t>,
    timeline: &'a Timeline,
    /// What has to be sent again.
    again: Vec<Item>,
    /// What the node did not do, as it does not serve.
    refused: Vec<Item>,
    /// The last time that one was.
    acknowledged: Instant,
    more: F,
}

impl<F: FnMut(&mut Contents<'_>) -> Option<Item>> Work<Item> for Writing<'_, '_, F> {
    fn next(&mut self) -> Option<(Item, Command)> {
        // What a node that serves no more has under way comes to its end first.
        if !self.refused.is_empty() {
            return None;
        }
        let again = self.again.pop();
        let item = again.or_else(|| (self.more)(self.contents))?;
        Some((item, self.contents.command(item)))
    }

    fn ended(&mut self, item: Item, done: Completion, _: Duration) -> io::Result<()> {
        if (done.status >> 8) & 7 == PATH_RELATED {
            self.refused.push(item);
            return Ok(());
        }
        expect_success(&done)?;
        self.acknowledged = Instant::now();
        self.contents.under_way.remove(&item.block);
        self.timeline.acknowledge(item.blocks * BLOCK);
        Ok(())
    }
}

/// How many blocks of what came are not those that were written.
pub fn differing(came: &[u8], written: &[u8]) -> usize {
    let blocks = came.chunks(BLOCK).zip(written.chunks(BLOCK));
    blocks.filter(|(came, written)| came != written).count()
}

fn is_silence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

/// The first so many bytes of the volume, as a node gives them.
pub fn read(node: usize, bytes: usize) -> io::Result<Vec<u8>> {
    let mut reading = Reading {
        volume: vec![0; bytes],
        next: 0,
    };
    Lane::connect(NODES[node], NQN, DEPTH)?.run(&mut reading)?;
    Ok(reading.volume)
}

/// A read of the volume from its beginning, whole blocks.
struct Reading {
    volume: Vec<u8>,
    next: usize,
}

impl Work<usize> for Reading {
    fn next(&mut self) -> Option<(usize, Command)> {
        let at = self.next;
        let bytes = (LARGE * BLOCK).min(self.volume.len() - at);
        if bytes == 0 {
            return None;
        }
        self.next += bytes;
        let (block, blocks) = (at / BLOCK, bytes / BLOCK);
        Some((at, Command::read(1, block as u64, blocks as u32, bytes)))
    }

    fn ended(&mut self, at: usize, done: Completion, _: Duration) -> io::Result<()> {
        expect_success(&done)?;
        self.volume[at..][..done.data.len()].copy_from_slice(&done.data);
        Ok(())
    }
}
