//! Orders conflicting writes to the device below.
//!
//! A write of a part of a block reads the block, changes it and writes all of it. Another write of that block in between would be
//! undone, so a write of a part has exclusive access to its block. Writes of whole blocks wait only for writes of parts.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Writes that are below, and those that wait for them.
#[derive(Default)]
pub(crate) struct Exclusion(Mutex<State>);

#[derive(Default)]
struct State {
    held: Vec<(u64, Claim)>,
    waiting: VecDeque<(Claim, Job)>,
    /// Number of holds so far.
    count: u64,
    /// A thread is beginning jobs. It checks for further jobs before it stops, so other threads need not begin them.
    is_beginning: bool,
}

/// The blocks of a write, by their numbers.
struct Claim {
    blocks: Range<u64>,
    /// No other write may have any of these blocks at the same time.
    alone: bool,
}

type Job = Box<dyn FnOnce(Hold) + Send>;

impl Claim {
    fn excludes(&self, other: &Self) -> bool {
        let overlaps = self.blocks.start < other.blocks.end && other.blocks.start < self.blocks.end;
        overlaps && (self.alone || other.alone)
    }
}

/// The right to write some blocks, until it is dropped.
pub(crate) struct Hold {
    of: Arc<Exclusion>,
    number: u64,
}

impl Exclusion {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `job` with the right to write `blocks`: now, or when the conflicting writes have ended. Conflicting jobs begin in
    /// the order of the calls.
    pub(crate) fn enter(
        self: &Arc<Self>,
        blocks: Range<u64>,
        alone: bool,
        job: impl FnOnce(Hold) + Send + 'static,
    ) {
        let claim = Claim { blocks, alone };
        let mut state = self.lock();
        let held = state.held.iter().map(|(_, held)| held);
        if held.chain(state.waiting.iter().map(|(waiting, _)| waiting)).any(|other| other.excludes(&claim)) {
            state.waiting.push_back((claim, Box::new(job)));
            return;
        }
        let hold = self.hold(&mut state, claim);
        drop(state);
        job(hold);
    }

    fn hold(self: &Arc<Self>, state: &mut State, claim: Claim) -> Hold {
        state.count += 1;
        state.held.push((state.count, claim));
        Hold { of: self.clone(), number: state.count }
    }

    /// The longest waiting job that conflicts with no other write any more.
    fn next(self: &Arc<Self>, state: &mut State) -> Option<(Job, Hold)> {
        let may_begin = |index: usize| {
            let claim = &state.waiting[index].0;
            let held = state.held.iter().map(|(_, held)| held);
            let before = state.waiting.iter().take(index).map(|(waiting, _)| waiting);
            !held.chain(before).any(|other| other.excludes(claim))
        };
        let index = (0..state.waiting.len()).find(|index| may_begin(*index))?;
        let (claim, job) = state.waiting.remove(index)?;
        Some((job, self.hold(state, claim)))
    }

    /// Drops the waiting jobs.
    pub(crate) fn close(&self) {
        let waiting = std::mem::take(&mut self.lock().waiting);
        drop(waiting);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = self.of.lock();
        state.held.retain(|(number, _)| *number != self.number);
        // A job may end within the call that begins it. The outer loop then begins the next job, so the stack does not get
        // deeper.
        if std::mem::replace(&mut state.is_beginning, true) {
            return;
        }
        while let Some((job, hold)) = self.of.next(&mut state) {
            drop(state);
            job(hold);
            state = self.of.lock();
        }
        state.is_beginning = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Log = Arc<Mutex<Vec<u64>>>;
    type Holds = Arc<Mutex<Vec<(u64, Hold)>>>;

    /// Enters with a number, and keeps the hold.
    fn enter(exclusion: &Arc<Exclusion>, holds: &Holds, number: u64, blocks: Range<u64>, alone: bool) {
        let holds = holds.clone();
        exclusion.enter(blocks, alone, move |hold| holds.lock().unwrap().push((number, hold)));
    }

    fn running(holds: &Holds) -> Vec<u64> {
        holds.lock().unwrap().iter().map(|(number, _)| *number).collect()
    }

    fn end(holds: &Holds, number: u64) {
        let mut all = holds.lock().unwrap();
        let index = all.iter().position(|(held, _)| *held == number).unwrap();
        let hold = all.remove(index);
        drop(all);
        drop(hold);
    }

    #[test]
    fn a_part_has_its_block_alone_and_others_go_on() {
        let (exclusion, holds) = (Arc::<Exclusion>::default(), Holds::default());
        enter(&exclusion, &holds, 1, 0..10, false);
        enter(&exclusion, &holds, 2, 5..20, false);
        enter(&exclusion, &holds, 3, 7..8, true);
        enter(&exclusion, &holds, 4, 30..31, true);
        enter(&exclusion, &holds, 5, 7..8, true);
        // No running write conflicts with 6, but 6 waits behind 3, which waits.
        enter(&exclusion, &holds, 6, 7..9, false);
        enter(&exclusion, &holds, 7, 8..9, false);
        assert_eq!(running(&holds), [1, 2, 4, 7]);
        end(&holds, 1);
        assert_eq!(running(&holds), [2, 4, 7]);
        end(&holds, 2);
        assert_eq!(running(&holds), [4, 7, 3]);
        end(&holds, 3);
        assert_eq!(running(&holds), [4, 7, 5]);
        end(&holds, 5);
        assert_eq!(running(&holds), [4, 7, 6]);
    }

    #[test]
    fn many_that_end_at_once_need_no_deep_stack_and_keep_their_order() {
        let (exclusion, holds, log) = (Arc::<Exclusion>::default(), Holds::default(), Log::default());
        enter(&exclusion, &holds, 0, 3..4, true);
        for number in 0..100_000 {
            let log = log.clone();
            exclusion.enter(3..4, true, move |hold| {
                log.lock().unwrap().push(number);
                drop(hold);
            });
            // The search through the waiting jobs is meant for few jobs, so the waiting jobs are begun every 1000 jobs.
            if number % 1000 == 999 {
                end(&holds, number / 1000);
                enter(&exclusion, &holds, number / 1000 + 1, 3..4, true);
            }
        }
        assert_eq!(*log.lock().unwrap(), (0..100_000).collect::<Vec<_>>());
    }

    #[test]
    fn what_waits_is_dropped_when_it_is_closed() {
        let (exclusion, holds) = (Arc::<Exclusion>::default(), Holds::default());
        enter(&exclusion, &holds, 1, 0..1, true);
        let kept = Arc::new(());
        let weak = Arc::downgrade(&kept);
        exclusion.enter(0..1, true, move |_| drop(kept));
        exclusion.close();
        assert!(weak.upgrade().is_none());
        end(&holds, 1);
    }
}
