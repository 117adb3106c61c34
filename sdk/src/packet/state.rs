//! The state word: access to a packet's header, and which party frees it.
//!
//! ```text
//!  63    43 42        37     36          35       34      33      32    31     0
//! ┌────────┬────────────┬───────────┬─────────┬───────┬───────┬───────┬────────┐
//! │ SPLITS │ GENERATION │ CANCELLED │ WATCHED │ GROUP │ OWNER │ WAKER │ COUNT  │
//! └────────┴────────────┴───────────┴─────────┴───────┴───────┴───────┴────────┘
//! ```
//!
//! | bits  | true means |
//! |-------|------------|
//! | COUNT | number of views in flight |
//! | WAKER | the waker slot is full, and belongs to the party that clears this bit or brings COUNT to 0 while the bit is set |
//! | OWNER | the owner (the future, the handle) is alive |
//! | GROUP | the views, taken together, may still touch the header |
//! | WATCHED | an output gets each segment before its view finishes |
//! | CANCELLED | the owner does not want the result any more; a device may check the bit, and need not |
//!
//! SPLITS counts the splits of a request, for its report; nothing depends on it, and it may overflow.
//!
//! GENERATION counts the requests of a header, modulo 64. Each view carries the generation of its request. A view of another
//! generation was answered before, by wrong unsafe code. The answer of such a view ends the process, before the answer reaches
//! another request.
//!
//! # Access rules
//!
//! 1. **Header.** The header lives while OWNER or GROUP is set. The party that clears the second of the two frees the header.
//! 2. **Bytes.** A view may touch its own range until the view finishes. The bytes of a range that was done may be read by the
//!    code that its output informed, until the packet is bound again. The owner may touch the bytes while COUNT is 0.
//! 3. **Waker slot.** While WAKER is clear and COUNT is not 0, the slot belongs to the owner. While WAKER is set, no party
//!    touches it; clearing WAKER with COUNT not 0 gives it to the owner, bringing COUNT to 0 gives it to the last view.
//! 4. **Failures.** Pushed by views that have not finished, read by the owner while COUNT is 0.
//! 5. **Everything else** is written before the first view exists and only read while COUNT is not 0.
//!
//! # Valid states
//!
//! | COUNT | GROUP | OWNER | meaning |
//! |-------|-------|-------|---------|
//! | 0     | 0     | 1     | idle: the owner is alone and may reuse or free the packet |
//! | > 0   | 1     | 1     | in flight |
//! | > 0   | 1     | 0     | in flight, detached: the last view frees |
//! | 0     | 1     | 0, 1  | complete, the last view is about to leave |
//!
//! # Transitions
//!
//! | function | from | to | returns |
//! |----------|------|----|---------|
//! | [`submit`](StateWord::submit) | idle | 1 view, GROUP, perhaps WATCHED, the next GENERATION | the generation |
//! | [`done_at_once`](StateWord::done_at_once) | idle | idle, the next GENERATION, no SPLITS | |
//! | [`split`](StateWord::split) | COUNT ≥ 1 | COUNT + 1, SPLITS + 1 | refusal close to overflow |
//! | [`finish_only`](StateWord::finish_only) | 1 view, no WAKER, WATCHED or CANCELLED, no splits, OWNER | idle | whether the word was in that state |
//! | [`finish`](StateWord::finish) | COUNT ≥ 1 | COUNT − 1 | the next step of the view |
//! | [`leave_group`](StateWord::leave_group) | COUNT 0, GROUP | GROUP cleared | whether the caller frees |
//! | [`poll`](StateWord::poll) | OWNER | WAKER cleared, unless COUNT is 0 | ready, or the slot to fill |
//! | [`arm`](StateWord::arm) | OWNER, slot full | WAKER set | pending, or too late |
//! | [`disarm`](StateWord::disarm) | OWNER | WAKER cleared | whether the slot holds a waker to drop |
//! | [`cancel`](StateWord::cancel) | OWNER | CANCELLED set | |
//! | [`leave_owner`](StateWord::leave_owner) | OWNER | OWNER cleared | whether the caller frees |

use core::fmt;

use super::mutant;
use crate::sync::{AtomicU64, Ordering};

const VIEW: u64 = 1;
const COUNT: u64 = 0xffff_ffff;
const WAKER: u64 = 1 << 32;
const OWNER: u64 = 1 << 33;
const GROUP: u64 = 1 << 34;
const WATCHED: u64 = 1 << 35;
const CANCELLED: u64 = 1 << 36;
/// The lowest bit of GENERATION.
const NEXT: u64 = 1 << 37;
const GENERATION: u64 = NEXT * Generation::COUNT as u64 - NEXT;
const SPLIT: u64 = GENERATION + NEXT;

/// Splits are refused from this COUNT on. The distance to the WAKER bit is larger than the number of threads that can be between
/// the addition and its undoing.
const MAX_VIEWS: u64 = 1 << 31;

/// Ends the process, since a view has finished twice, which only wrong unsafe code can do. The header may belong to another
/// request by now, so the process could hand out invalid bytes if it continued.
#[cold]
fn finished_twice() -> ! {
    const TEXT: &str =
        "a view of a packet was answered twice, which only wrong unsafe code can do; the process ends";
    #[cfg(all(feature = "plugin", not(any(pactio_loom, pactio_shuttle))))]
    {
        let plugin = crate::origin::own_id().map_or(String::new(), |id| format!(" in the plugin '{id}'"));
        std::eprintln!("pactio{plugin}: {TEXT}");
        std::process::abort();
    }
    #[cfg(not(all(feature = "plugin", not(any(pactio_loom, pactio_shuttle)))))]
    {
        // A second panic, while the first one unwinds, aborts.
        struct Twice;
        impl Drop for Twice {
            fn drop(&mut self) {
                panic!("{TEXT}");
            }
        }
        let _twice = Twice;
        panic!("{TEXT}");
    }
}

/// The number of a request among the requests of its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Generation(u64);

impl Generation {
    /// Number of generations: the numbers fit into the bits that the alignment of packets leaves free in an address.
    pub(crate) const COUNT: usize = 64;
    /// The generation of a header that no request has used.
    pub(crate) const FIRST: Self = Self(0);

    /// The generation in the lowest bits of a number.
    #[inline(always)]
    pub(crate) fn from_number(number: usize) -> Self {
        Self((number % Self::COUNT) as u64 * NEXT)
    }

    #[inline(always)]
    pub(crate) fn to_number(self) -> usize {
        (self.0 / NEXT) as usize
    }

    #[inline(always)]
    fn of(word: u64) -> Self {
        Self(word & GENERATION)
    }

    #[inline(always)]
    fn next(self) -> Self {
        Self((self.0 + NEXT) & GENERATION)
    }
}

/// Too many views of one packet exist.
#[derive(Debug)]
pub(crate) struct TooManyViews;

/// The next step of the view that has just finished.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Finished {
    /// Nothing. The header may be freed already: do not touch it.
    Done,
    /// The view was the last: take the waker if there is one, then leave the group, then wake.
    Last {
        /// The waker slot is full and belongs to this view now.
        waker: bool,
    },
}

/// Whether the party that left must free the header.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// The other party still keeps the header.
    Kept,
    /// The other party had left: free the header.
    Free,
}

/// The state that the owner finds when it polls.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Polled {
    /// No view is in flight.
    Ready,
    /// Views are in flight and the slot belongs to the poller: put a waker in, then [`StateWord::arm`].
    Fill,
}

/// Whether the last view finished while the waker was put in.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Armed {
    /// The last view will take and wake the waker.
    Pending,
    /// The last view finished first: the waker is still in the slot, and the poller must take it back.
    TooLate,
}

/// See the [module](self).
#[repr(C)]
pub(crate) struct StateWord {
    word: AtomicU64,
    #[cfg(pactio_loom)]
    ghost: Ghost,
}

/// Cells by which the model checker verifies that no party touches the header after it was freed (rule 1), and that the owner
/// touches the bytes only after every view has (rule 2).
#[cfg(pactio_loom)]
struct Ghost {
    header: crate::sync::UnsafeCell<()>,
    bytes: crate::sync::UnsafeCell<()>,
}

impl StateWord {
    /// The word of an idle packet. Its next request has the generation that follows `last`.
    pub(crate) fn idle(last: Generation) -> Self {
        Self {
            word: AtomicU64::new(OWNER | last.0),
            #[cfg(pactio_loom)]
            ghost: Ghost {
                header: crate::sync::UnsafeCell::new(()),
                bytes: crate::sync::UnsafeCell::new(()),
            },
        }
    }

    /// The word, for a caller that relies on the header being alive.
    #[inline(always)]
    fn word(&self) -> &AtomicU64 {
        #[cfg(pactio_loom)]
        self.ghost.header.with(|_| ());
        &self.word
    }

    /// Tells the model checker that a view uses its range of the bytes from here on; does nothing in a real build.
    #[inline(always)]
    pub(crate) fn view_touches_bytes(&self) {
        #[cfg(pactio_loom)]
        self.ghost.bytes.with(|_| ());
    }

    /// Tells the model checker that the owner uses the bytes from here on; does nothing in a real build.
    #[inline(always)]
    pub(crate) fn owner_touches_bytes(&self) {
        #[cfg(pactio_loom)]
        self.ghost.bytes.with_mut(|_| ());
    }

    /// The header is about to be freed.
    #[inline(always)]
    pub(crate) fn retire(&self) {
        #[cfg(pactio_loom)]
        self.ghost.header.with_mut(|_| ());
        self.owner_touches_bytes();
    }

    /// Makes the first view. The caller is the owner and has seen [`is_idle`](Self::is_idle).
    #[inline(always)]
    pub(crate) fn submit(&self, watched: bool) -> Generation {
        let watched = if watched { WATCHED } else { 0 };
        // Ordering: Relaxed. No other thread can see the packet; handing the view to another thread publishes it.
        let last = Generation::of(self.word().load(Ordering::Relaxed));
        let generation = last.next();
        self.word().store(VIEW | OWNER | GROUP | watched | generation.0, Ordering::Relaxed);
        generation
    }

    /// Counts a request that was done without a view. The caller is the owner and has seen [`is_idle`](Self::is_idle).
    #[inline(always)]
    pub(crate) fn done_at_once(&self) {
        // Ordering: Relaxed. No other thread can see the packet.
        let last = Generation::of(self.word().load(Ordering::Relaxed));
        self.word().store(OWNER | last.next().0, Ordering::Relaxed);
    }

    /// The generation of the last request.
    #[inline(always)]
    pub(crate) fn generation(&self) -> Generation {
        // Ordering: Relaxed. The caller keeps the header, and no other party can begin a request meanwhile.
        Generation::of(self.word().load(Ordering::Relaxed))
    }

    /// Ends the process if the packet has no view, or only views of another request: in both cases, the caller's view was
    /// answered before.
    ///
    /// The models leave this check out: the check changes no state, and one more load multiplies their executions.
    #[inline]
    pub(crate) fn expect_view(&self, generation: Generation) {
        #[cfg(not(pactio_loom))]
        {
            // Ordering: Relaxed. The check concerns the caller's own view, and holds at any time.
            let word = self.word.load(Ordering::Relaxed);
            if word & COUNT == 0 || Generation::of(word) != generation {
                finished_twice();
            }
        }
        #[cfg(pactio_loom)]
        let _ = generation;
    }

    /// Makes one more view. The caller holds a view of this generation.
    pub(crate) fn split(&self, generation: Generation) -> Result<(), TooManyViews> {
        // Ordering: Relaxed. COUNT is at least 1 by the caller's own view, so no party bases a decision on this change.
        let old = self.word().fetch_add(mutant!("split_uncounted", SPLIT, VIEW | SPLIT), Ordering::Relaxed);
        if Generation::of(old) != generation {
            finished_twice();
        }
        if old & COUNT < MAX_VIEWS {
            return Ok(());
        }
        // Ordering: Relaxed. This undoes the addition above before any party relied on it.
        self.word().fetch_sub(VIEW | SPLIT, Ordering::Relaxed);
        Err(TooManyViews)
    }

    /// Finishes the only view of a packet without an armed waker and without an output, in one step that leaves the packet idle.
    /// The step replaces `finish` and `leave_group`, the two steps of other views. Returns `false`, and changes nothing, if the
    /// packet is not in that state or the view belongs to another request.
    ///
    /// The view cannot be split meanwhile, since it is the caller's, and WAKER is clear; the step fails if the owner arms,
    /// cancels or leaves at the same time.
    #[inline(always)]
    #[must_use]
    pub(crate) fn finish_only(&self, generation: Generation) -> bool {
        // Ordering: Release, for `poll`, `is_complete` and `is_idle`. Acquire is not needed: SPLITS is 0, so there were no other
        // views.
        let word = self.word().load(Ordering::Relaxed);
        let only = mutant!("finish_only_unwatched", word & !WATCHED, word);
        only == (VIEW | OWNER | GROUP | generation.0)
            && self
                .word()
                .compare_exchange(
                    word,
                    OWNER | generation.0,
                    mutant!("finish_only_relaxed", Ordering::Relaxed, Ordering::Release),
                    Ordering::Relaxed,
                )
                .is_ok()
    }

    /// Takes one view of this generation away. The caller's view has its answer and will not be used again.
    #[inline]
    pub(crate) fn finish(&self, generation: Generation) -> Finished {
        // Ordering: Release for the owner's Acquire loads (bytes, failures). Acquire for the waker that `arm` released,
        // which the last view takes.
        let old = self.word().fetch_sub(VIEW, mutant!("finish_relaxed", Ordering::Relaxed, Ordering::AcqRel));
        if Generation::of(old) != generation {
            finished_twice();
        }
        match old & COUNT {
            VIEW => Finished::Last { waker: old & WAKER != 0 },
            0 => finished_twice(),
            _ => Finished::Done,
        }
    }

    /// An output gets each segment. The caller holds a view.
    #[inline]
    pub(crate) fn is_watched(&self) -> bool {
        // Ordering: Relaxed. The bit was set before the first view was made.
        self.word().load(Ordering::Relaxed) & WATCHED != 0
    }

    /// Records that the owner does not want the result any more, if there is one.
    #[cold]
    pub(crate) fn cancel(&self) {
        // Ordering: Relaxed. The bit is advisory and publishes nothing. On an idle packet it has no meaning.
        let word = self.word();
        let _old = mutant!(
            "cancel_by_load_and_store",
            word.swap(word.load(Ordering::Relaxed) | CANCELLED, Ordering::Relaxed),
            word.fetch_or(CANCELLED, Ordering::Relaxed)
        );
    }

    /// The owner has cancelled the request. The caller holds a view.
    pub(crate) fn is_marked_cancelled(&self) -> bool {
        // Ordering: Relaxed. The bit is advisory and publishes nothing, as in `cancel`.
        self.word().load(Ordering::Relaxed) & CANCELLED != 0
    }

    /// Number of views in flight.
    pub(crate) fn views(&self) -> usize {
        // Ordering: Relaxed. The count orders nothing.
        (self.word().load(Ordering::Relaxed) & COUNT) as usize
    }

    /// The result is not wanted any more: the owner has cancelled the request or is gone. The caller holds a view.
    #[inline]
    pub(crate) fn is_cancelled(&self) -> bool {
        // Ordering: Relaxed. The bits are advisory and publish nothing, as in `cancel`.
        let word = self.word().load(Ordering::Relaxed);
        word & CANCELLED != 0 || word & OWNER == 0
    }

    /// The last view's last access to the header.
    pub(crate) fn leave_group(&self) -> Left {
        // Ordering: Release, so that the owner, which then frees or reuses the header, sees the waker slot empty. Acquire, so
        // that this thread, if it frees the header, sees the owner's last changes.
        let old = self
            .word()
            .fetch_and(!GROUP, mutant!("leave_group_relaxed", Ordering::Relaxed, Ordering::AcqRel));
        if old & OWNER == 0 { Left::Free } else { Left::Kept }
    }

    /// Checks for the owner whether the packet is complete; if not, the waker slot is the owner's afterwards.
    #[inline(always)]
    pub(crate) fn poll(&self) -> Polled {
        // Ordering: Acquire, for the releases of all views' `finish`.
        let word = self.word().load(mutant!("complete_relaxed", Ordering::Relaxed, Ordering::Acquire));
        if word & COUNT == 0 {
            return Polled::Ready;
        }
        // Only the owner sets WAKER, so the bit cannot appear meanwhile.
        if mutant!("poll_without_disarm", true, word & WAKER == 0) {
            Polled::Fill
        } else {
            self.disarm_for_poll()
        }
    }

    #[cold]
    fn disarm_for_poll(&self) -> Polled {
        // Ordering: Acquire, for the bytes if COUNT is 0. The slot itself was last written by this owner.
        let old =
            self.word().fetch_and(!WAKER, mutant!("poll_relaxed", Ordering::Relaxed, Ordering::Acquire));
        if old & COUNT == 0 { Polled::Ready } else { Polled::Fill }
    }

    /// The owner has put a waker into the slot.
    pub(crate) fn arm(&self) -> Armed {
        // Ordering: Release for the waker, which the last view takes after its Acquire. Acquire for the bytes, if the last view
        // finished first.
        let old = self.word().fetch_or(WAKER, mutant!("arm_relaxed", Ordering::Relaxed, Ordering::AcqRel));
        if mutant!("arm_blind", false, old & COUNT == 0) { Armed::TooLate } else { Armed::Pending }
    }

    /// The owner is about to leave; `true` if the slot holds a waker that the owner must drop now.
    ///
    /// This step is separate: if it were one with [`leave_owner`](Self::leave_owner), the last view could free the header while
    /// the owner takes the waker out.
    pub(crate) fn disarm(&self) -> bool {
        // Ordering: Relaxed is enough to test the bit: only the owner sets it.
        if self.word().load(Ordering::Relaxed) & WAKER == 0 {
            return false;
        }
        // Ordering: Relaxed. The slot was last written by this owner; nothing else is read.
        let old = self.word().fetch_and(!WAKER, Ordering::Relaxed);
        // With COUNT 0 the last view has finished while WAKER was set, so the slot is that view's (rule 3).
        mutant!("disarm_always", old & WAKER != 0, old & WAKER != 0 && old & COUNT != 0)
    }

    /// The owner's last access to the header.
    #[inline(always)]
    pub(crate) fn leave_owner(&self) -> Left {
        // An idle packet has no other party.
        if mutant!("leave_owner_complete", self.is_complete(), self.is_idle()) {
            return Left::Free;
        }
        // Ordering: Release, so that the last view, if it frees the header, sees the owner's changes. Acquire, so that this
        // thread, if it frees the header, sees the views' changes.
        let old = self
            .word()
            .fetch_and(!OWNER, mutant!("leave_owner_relaxed", Ordering::Relaxed, Ordering::AcqRel));
        if old & GROUP == 0 { Left::Free } else { Left::Kept }
    }

    /// No view is in flight: the bytes and failures are the owner's.
    #[inline(always)]
    pub(crate) fn is_complete(&self) -> bool {
        // Ordering: Acquire, for the releases of all views' `finish`.
        self.word().load(mutant!("complete_relaxed", Ordering::Relaxed, Ordering::Acquire)) & COUNT == 0
    }

    /// Number of splits since the packet was submitted, up to 2²¹.
    pub(crate) fn splits(&self) -> usize {
        // Ordering: Relaxed. The count orders nothing.
        (self.word().load(Ordering::Relaxed) / SPLIT) as usize
    }

    /// No view is in flight and the last one has left: the header is the owner's alone.
    #[inline(always)]
    pub(crate) fn is_idle(&self) -> bool {
        // Ordering: Acquire, for the releases of `leave_group` and `finish_only`.
        let word = self.word().load(mutant!("idle_relaxed", Ordering::Relaxed, Ordering::Acquire));
        let busy = mutant!("idle_without_group", COUNT, COUNT | GROUP);
        word & busy == 0
    }
}

impl fmt::Debug for StateWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.word().load(Ordering::Relaxed);
        write!(f, "{} views", word & COUNT)?;
        for (bit, name) in [
            (WAKER, "WAKER"),
            (OWNER, "OWNER"),
            (GROUP, "GROUP"),
            (WATCHED, "WATCHED"),
            (CANCELLED, "CANCELLED"),
        ] {
            if word & bit != 0 {
                write!(f, " | {name}")?;
            }
        }
        Ok(())
    }
}

#[cfg(all(test, not(any(pactio_loom, pactio_shuttle))))]
mod tests {
    use super::{Generation, StateWord};

    #[test]
    fn a_view_of_another_generation_finishes_nothing() {
        let word = StateWord::idle(Generation::FIRST);
        let mut last = Generation::FIRST;
        for _ in 0..2 * Generation::COUNT {
            let generation = word.submit(false);
            assert_ne!(generation, last);
            assert!(!word.finish_only(last), "the view of an earlier request has finished this one");
            assert_eq!(word.views(), 1);
            assert!(word.finish_only(generation));
            assert!(word.is_idle());
            assert_eq!(Generation::from_number(generation.to_number()), generation);
            last = generation;
        }
        assert_eq!(StateWord::idle(last).generation(), last);
    }
}
