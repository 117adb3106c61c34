//! The state word: who may touch a packet's header, and who frees it.
//!
//! ```text
//!  63       37     36          35       34      33      32    31          0
//! ┌───────────┬───────────┬─────────┬───────┬───────┬───────┬─────────────┐
//! │  SPLITS   │ CANCELLED │ WATCHED │ GROUP │ OWNER │ WAKER │    COUNT    │
//! └───────────┴───────────┴─────────┴───────┴───────┴───────┴─────────────┘
//! ```
//!
//! | bits  | true means |
//! |-------|------------|
//! | COUNT | so many views are in flight |
//! | WAKER | the waker slot is full, and belongs to whoever clears this bit or brings COUNT to 0 while it is set |
//! | OWNER | the owner (the future, the handle) is alive |
//! | GROUP | the views, taken together, may still touch the header |
//! | WATCHED | an output wants to hear of each segment before it finishes |
//! | CANCELLED | the owner does not want the result any more; a device may look at it, and need not |
//!
//! SPLITS counts the splits of a request, for its report; nothing depends on it, and it may overflow.
//!
//! # Who may touch what
//!
//! 1. **Header.** It lives while OWNER or GROUP is set. Whoever clears the second of the two frees it.
//! 2. **Bytes.** A view may touch its own range until it finishes; the bytes of a range that was done may be read by whoever
//!    its output told, until the packet is bound again. The owner may touch them while COUNT is 0.
//! 3. **Waker slot.** While WAKER is clear and COUNT is not 0, it belongs to the owner. While WAKER is set, nobody
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
//! | [`submit`](StateWord::submit) | idle | 1 view, GROUP, perhaps WATCHED | |
//! | [`split`](StateWord::split) | COUNT ≥ 1 | COUNT + 1, SPLITS + 1 | refusal close to overflow |
//! | [`finish_only`](StateWord::finish_only) | 1 view, no WAKER, WATCHED or CANCELLED, OWNER | idle | whether it was so |
//! | [`finish`](StateWord::finish) | COUNT ≥ 1 | COUNT − 1 | what is left to do |
//! | [`leave_group`](StateWord::leave_group) | COUNT 0, GROUP | GROUP cleared | who frees |
//! | [`poll`](StateWord::poll) | OWNER | WAKER cleared | ready, or the slot to fill |
//! | [`arm`](StateWord::arm) | OWNER, slot full | WAKER set | pending, or too late |
//! | [`disarm`](StateWord::disarm) | OWNER | WAKER cleared | whether the slot holds a waker to drop |
//! | [`cancel`](StateWord::cancel) | OWNER | CANCELLED set | |
//! | [`leave_owner`](StateWord::leave_owner) | OWNER | OWNER cleared | who frees |

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
const SPLIT: u64 = 1 << 37;

/// Splits are refused from here on. The distance to the WAKER bit is more than there can be threads between the
/// addition and its undoing.
const MOST_VIEWS: u64 = 1 << 31;

/// Too many views of one packet exist.
#[derive(Debug)]
pub(crate) struct TooManyViews;

/// What the view that has just finished must do next.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Finished {
    /// Nothing. The header may be gone already: do not touch it.
    Done,
    /// It was the last: take the waker if there is one, then leave the group, then wake.
    Last {
        /// The waker slot is full and belongs to this view now.
        waker: bool,
    },
}

/// Whether the one who left must free the header.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// The other party still keeps it.
    Kept,
    /// The other party was gone: free it.
    Free,
}

/// What the owner finds when it polls.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Polled {
    /// No view is in flight.
    Ready,
    /// Views are in flight and the slot belongs to the poller: put a waker in, then [`StateWord::arm`].
    Fill,
}

/// What happened while the waker was put in.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Armed {
    /// The last view will take and wake it.
    Pending,
    /// The last view finished before: the waker is still in the slot and the poller's to take back.
    TooLate,
}

/// See the [module](self).
#[repr(C)]
pub(crate) struct StateWord {
    word: AtomicU64,
    #[cfg(pactio_loom)]
    ghost: Ghost,
}

/// What the model checker watches beside the word: that nobody touches the header after it was freed (rule 1), and that
/// the owner touches the bytes only after every view has (rule 2).
#[cfg(pactio_loom)]
struct Ghost {
    header: crate::sync::UnsafeCell<()>,
    bytes: crate::sync::UnsafeCell<()>,
}

impl StateWord {
    /// The word of an idle packet.
    pub(crate) fn idle() -> Self {
        Self {
            word: AtomicU64::new(OWNER),
            #[cfg(pactio_loom)]
            ghost: Ghost {
                header: crate::sync::UnsafeCell::new(()),
                bytes: crate::sync::UnsafeCell::new(()),
            },
        }
    }

    /// The word, about to be used by somebody who relies on the header being alive.
    #[inline(always)]
    fn word(&self) -> &AtomicU64 {
        #[cfg(pactio_loom)]
        self.ghost.header.with(|_| ());
        &self.word
    }

    /// A view is about to touch its range of the bytes.
    #[inline(always)]
    pub(crate) fn view_touches_bytes(&self) {
        #[cfg(pactio_loom)]
        self.ghost.bytes.with(|_| ());
    }

    /// The owner is about to touch the bytes.
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
    pub(crate) fn submit(&self, watched: bool) {
        let watched = if watched { WATCHED } else { 0 };
        // Ordering: Relaxed. Nobody else can see the packet; handing the view to another thread publishes it.
        self.word().store(VIEW | OWNER | GROUP | watched, Ordering::Relaxed);
    }

    /// Makes one more view. The caller holds a view.
    pub(crate) fn split(&self) -> Result<(), TooManyViews> {
        // Ordering: Relaxed. COUNT is at least 1 by the caller's own view, so no one takes a decision on this.
        let old = self.word().fetch_add(mutant!("split_uncounted", SPLIT, VIEW | SPLIT), Ordering::Relaxed);
        if old & COUNT < MOST_VIEWS {
            return Ok(());
        }
        // Ordering: Relaxed. It undoes the addition above before anything relied on it.
        self.word().fetch_sub(VIEW | SPLIT, Ordering::Relaxed);
        Err(TooManyViews)
    }

    /// Finishes the only view of a packet that nobody waits for or watches, in one step: both steps of the others, and the
    /// packet is idle. `false` if it is not so; nothing has changed then.
    ///
    /// Nobody can split the view meanwhile, since it is the caller's, and no slot is full; the step fails if the owner
    /// arms, cancels or leaves at the same time.
    #[inline(always)]
    #[must_use]
    pub(crate) fn finish_only(&self) -> bool {
        const ONLY: u64 = VIEW | OWNER | GROUP;
        // Ordering: Release, for `poll`, `is_complete` and `is_idle`. Earlier views' releases are in the same release
        // sequence, since all changes of the word while views exist are read-modify-writes.
        let word = self.word().load(Ordering::Relaxed);
        let only = mutant!("finish_only_unwatched", word & !WATCHED, word);
        only == ONLY
            && self
                .word()
                .compare_exchange(
                    word,
                    OWNER,
                    mutant!("finish_only_relaxed", Ordering::Relaxed, Ordering::Release),
                    Ordering::Relaxed,
                )
                .is_ok()
    }

    /// Takes one view away. The caller's view has its answer and will not be used again.
    #[inline]
    pub(crate) fn finish(&self) -> Finished {
        // Ordering: Release for the owner's Acquire loads (bytes, failures). Acquire for the waker that `arm` released,
        // which the last view takes.
        let old = self.word().fetch_sub(VIEW, mutant!("finish_relaxed", Ordering::Relaxed, Ordering::AcqRel));
        debug_assert!(old & COUNT != 0, "a view finished twice");
        if old & COUNT == VIEW { Finished::Last { waker: old & WAKER != 0 } } else { Finished::Done }
    }

    /// An output wants to hear of each segment. The caller holds a view.
    #[inline]
    pub(crate) fn is_watched(&self) -> bool {
        // Ordering: Relaxed. The bit was set before the first view was made.
        self.word().load(Ordering::Relaxed) & WATCHED != 0
    }

    /// The owner does not want the result any more, if there is one.
    #[cold]
    pub(crate) fn cancel(&self) {
        // Ordering: Relaxed. It is a wish and publishes nothing. On an idle packet the bit means nothing.
        let word = self.word();
        let _old = mutant!(
            "cancel_by_load_and_store",
            word.swap(word.load(Ordering::Relaxed) | CANCELLED, Ordering::Relaxed),
            word.fetch_or(CANCELLED, Ordering::Relaxed)
        );
    }

    /// The owner has said that it does not want the result. The caller holds a view.
    pub(crate) fn is_marked_cancelled(&self) -> bool {
        // Ordering: Relaxed, as in `cancel`.
        self.word().load(Ordering::Relaxed) & CANCELLED != 0
    }

    /// Number of views in flight.
    pub(crate) fn views(&self) -> usize {
        // Ordering: Relaxed. It is a count and orders nothing.
        (self.word().load(Ordering::Relaxed) & COUNT) as usize
    }

    /// Nobody wants the result any more. The caller holds a view.
    #[inline]
    pub(crate) fn is_cancelled(&self) -> bool {
        // Ordering: Relaxed, as in `cancel`.
        let word = self.word().load(Ordering::Relaxed);
        word & CANCELLED != 0 || word & OWNER == 0
    }

    /// The last view's last access to the header.
    pub(crate) fn leave_group(&self) -> Left {
        // Ordering: Release, so that the owner who then frees or reuses sees the waker slot empty. Acquire, so that
        // this thread, if it frees, sees what the owner did last.
        let old = self
            .word()
            .fetch_and(!GROUP, mutant!("leave_group_relaxed", Ordering::Relaxed, Ordering::AcqRel));
        if old & OWNER == 0 { Left::Free } else { Left::Kept }
    }

    /// The owner looks whether it is done; if not, the waker slot is its own afterwards.
    #[inline(always)]
    pub(crate) fn poll(&self) -> Polled {
        // Ordering: Acquire, for the releases of all views' `finish`.
        let word = self.word().load(mutant!("complete_relaxed", Ordering::Relaxed, Ordering::Acquire));
        if word & COUNT == 0 {
            return Polled::Ready;
        }
        // Only the owner sets the bit, so that it cannot appear meanwhile.
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
        // Ordering: Release for the waker, which the last view takes after its Acquire. Acquire for the bytes, if the
        // last view was faster.
        let old = self.word().fetch_or(WAKER, mutant!("arm_relaxed", Ordering::Relaxed, Ordering::AcqRel));
        if mutant!("arm_blind", false, old & COUNT == 0) { Armed::TooLate } else { Armed::Pending }
    }

    /// The owner is about to leave; `true` if the slot holds a waker that is now the owner's to drop.
    ///
    /// This is a step of its own: if it were one with [`leave_owner`](Self::leave_owner), the last view could free the
    /// header while the owner takes the waker out.
    pub(crate) fn disarm(&self) -> bool {
        // Ordering: Relaxed is enough to ask for the bit: only the owner sets it.
        if self.word().load(Ordering::Relaxed) & WAKER == 0 {
            return false;
        }
        // Ordering: Relaxed. The slot was last written by this owner; nothing else is read.
        let old = self.word().fetch_and(!WAKER, Ordering::Relaxed);
        mutant!("disarm_always", old & WAKER != 0, old & WAKER != 0 && old & COUNT != 0)
    }

    /// The owner's last access to the header.
    #[inline(always)]
    pub(crate) fn leave_owner(&self) -> Left {
        // An idle packet has no other party.
        if mutant!("leave_owner_complete", self.is_complete(), self.is_idle()) {
            return Left::Free;
        }
        // Ordering: Release, so that the last view, if it frees, sees what the owner did. Acquire, so that this thread,
        // if it frees, sees what the views did.
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

    /// Number of splits since the packet was submitted, up to 2²⁷.
    pub(crate) fn splits(&self) -> usize {
        // Ordering: Relaxed. It is a count and orders nothing.
        (self.word().load(Ordering::Relaxed) / SPLIT) as usize
    }

    /// No view is in flight and the last one has left: the header is the owner's alone.
    #[inline(always)]
    pub(crate) fn is_idle(&self) -> bool {
        // Ordering: Acquire, for `leave_group` and the `finish` of an only view.
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
