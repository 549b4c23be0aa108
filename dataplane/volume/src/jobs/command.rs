//! The next command of a job.

use block::{Buffers, Command, Device, Geometry, Op};
use pages::PAGE_SIZE;
use sgl::{Element, Refused};

use super::Job;
use crate::backing::Backing;

/// Blocks that one command can name: a range of Dataset Management (NVM 3.2.3.1), and Write Zeroes (NVM 3.2.8).
const DEALLOCATED_BLOCKS: u64 = u32::MAX as u64;
const ZEROED_BLOCKS: u64 = 1 << 16;

/// The next command of a read or write: its list is made of the run's segments.
pub(super) fn data_command<D: Device, T>(
    job: &mut Job<T>,
    backing: &Backing<D>,
    list: &mut [Element],
) -> Result<(Command, usize), Refused> {
    let run = job.run.as_deref().ok_or(Refused::ChainTooShort)?;
    backing.data_command(job.op, &mut job.state, run, list)
}

/// The next command of a job without data. A device that cannot write zeros
/// itself is given lists of the page of zeros.
pub(super) fn range_command<T>(
    job: &mut Job<T>,
    geometry: &Geometry,
    list: &mut [Element],
    buffers: &Buffers,
) -> (Command, usize) {
    let size = u64::from(geometry.block_size);
    let block = (job.state.remote() + job.state.formatted()) / size;
    let rest = job.state.remaining();
    let command = |op, len: u64| Command {
        op,
        block,
        blocks: len / size,
    };
    let most = match job.op {
        Op::Deallocate => Some(DEALLOCATED_BLOCKS),
        _ => geometry.write_zeroes.then_some(ZEROED_BLOCKS),
    };
    if let Some(most) = most {
        let len = rest.min(most * size);
        job.state.skip(len);
        return (command(job.op, len), 0);
    }
    let page = PAGE_SIZE as u64;
    let most = (list.len() as u64 * page)
        .min(u64::from(geometry.max_bytes))
        .min(u64::from(geometry.max_elements) * page);
    let len = rest.min(most / size * size);
    let elements = len.div_ceil(page) as usize;
    let zeros = buffers.zero_page.address().as_ptr() as u64;
    for (i, element) in list[..elements].iter_mut().enumerate() {
        *element = Element::new(zeros, (len - i as u64 * page).min(page));
    }
    job.state.skip(len);
    (command(Op::Write, len), elements)
}
