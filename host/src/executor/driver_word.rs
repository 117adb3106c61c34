//! The driver's word selects the thread that polls a driver: one thread at a time polls it, and no wake is lost.
//!
//! | bit | true means |
//! |-----|------------|
//! | NOTIFIED | there may be work: a thread will claim the driver |
//! | RUNNING | a thread polls the driver; after the poll it looks at NOTIFIED again |
//! | QUEUED | the driver is in the channel of the driving thread |
//! | ENDED | the driver is not polled any more |
//! | PANICKED | the driver ended by a panic |
//!
//! # Valid states
//!
//! | NOTIFIED | RUNNING | QUEUED | meaning |
//! |---|---|---|---|
//! | 0 | 0 | 0 | idle: no wake is pending |
//! | 1 | 0 | 1 | the driving thread will poll it |
//! | 1 | 0 | 0 | a thread has taken the wake over, and is about to poll or to queue the driver |
//! | 0 | 1 | 0, 1 | it is polled |
//! | 1 | 1 | 0, 1 | it is polled, and will be polled again |
//! | 0 | 0 | 1 | a thread was faster than the driving thread, which finds nothing to do |
//!
//! With ENDED, the other bits besides PANICKED mean nothing.
//!
//! `mutant!` gives its last argument. The models can plant the mistake before it, to show that they find it.
//!
//! # Transitions
//!
//! | function | from | to | the caller's duty |
//! |---|---|---|---|
//! | [`notify`](Word::notify) | any | NOTIFIED | [`Notified::Claims`]: have it polled, here or by the driving thread |
//! | [`queue`](Word::queue) | any | QUEUED | if `true`: put it into the channel |
//! | [`unqueue`](Word::unqueue) | QUEUED | not QUEUED | [`claim`](Word::claim) it |
//! | [`claim`](Word::claim) | NOTIFIED, not RUNNING | RUNNING, not NOTIFIED | if `true`: poll it, then [`release`](Word::release) |
//! | [`claim_idle`](Word::claim_idle) | idle | RUNNING | the same |
//! | [`release`](Word::release) | RUNNING | not RUNNING | [`Released::Again`]: claim it |
//! | [`end`](Word::end) | any | ENDED, perhaps PANICKED | |

use crate::sync::{AtomicU8, Ordering, mutant};

const NOTIFIED: u8 = 1;
const RUNNING: u8 = 2;
const QUEUED: u8 = 4;
const ENDED: u8 = 8;
const PANICKED: u8 = 16;

/// See the [module](self).
pub(super) struct Word(AtomicU8);

/// The duty of a thread that has notified a driver.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Notified {
    /// None. The thread that polls the driver now will poll it again, or the driver has ended.
    Nothing,
    /// Have the driver polled, here or by the driving thread.
    Claims,
}

/// The duty of a thread that has polled a driver.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Released {
    /// None.
    Done,
    /// The driver was notified meanwhile: claim it again.
    Again,
}

impl Word {
    pub(super) fn new() -> Self {
        Self(AtomicU8::new(0))
    }

    /// Records that there may be work.
    #[inline]
    pub(super) fn notify(&self) -> Notified {
        // Ordering: Release, so that the thread that claims the driver sees the writes that led to the wake.
        let release = mutant!("notify_relaxed", Ordering::Relaxed, Ordering::Release);
        let state = self.0.fetch_or(NOTIFIED, release);
        // If the driver was notified before, the thread that was to poll it may be busy with other work: the caller claims the
        // driver anew.
        if state & (RUNNING | ENDED) == 0 { Notified::Claims } else { Notified::Nothing }
    }

    /// Records that the driver is in the channel; `true` if the caller is to put it there.
    #[inline]
    #[must_use]
    pub(super) fn queue(&self) -> bool {
        // Ordering: Relaxed. The channel orders the accesses that follow.
        self.0.fetch_or(QUEUED, Ordering::Relaxed) & (QUEUED | ENDED) == 0
    }

    /// Records that the driver was taken out of the channel. The caller claims the driver after this, so that a later
    /// notification queues it again.
    #[inline]
    pub(super) fn unqueue(&self) {
        // Ordering: Relaxed. QUEUED says only that the driver is in the channel.
        self.0.fetch_and(!QUEUED, Ordering::Relaxed);
    }

    /// Whether a claim may succeed.
    #[inline]
    pub(super) fn is_notified(&self) -> bool {
        // Ordering: Relaxed. This is only a hint; `claim` acquires.
        self.0.load(Ordering::Relaxed) & NOTIFIED != 0
    }

    /// Claims the driver for a poll, if it was notified and no other thread polls it.
    #[inline]
    #[must_use]
    pub(super) fn claim(&self) -> bool {
        let acquire = mutant!("claim_relaxed", Ordering::Relaxed, Ordering::Acquire);
        // Ordering: Acquire, to see the writes of the last poll and of the wakes. Relaxed if the driver is not claimed.
        self.0
            .fetch_update(acquire, Ordering::Relaxed, |state| {
                let is_free = state & (NOTIFIED | RUNNING | ENDED) == NOTIFIED;
                let kept = mutant!("claim_keeps_notified", state, state & !NOTIFIED);
                is_free.then_some(kept | RUNNING)
            })
            .is_ok()
    }

    /// Claims an idle driver for a poll: the usual case of a thread that has notified the driver itself.
    #[inline]
    #[must_use]
    pub(super) fn claim_idle(&self) -> bool {
        let acquire = mutant!("claim_idle_relaxed", Ordering::Relaxed, Ordering::Acquire);
        // Ordering: Acquire, to see the writes of the last poll.
        self.0.compare_exchange(0, RUNNING, acquire, Ordering::Relaxed).is_ok()
    }

    /// Ends a poll.
    #[inline]
    pub(super) fn release(&self) -> Released {
        // Ordering: Release, for the thread that claims it next.
        let release = mutant!("release_relaxed", Ordering::Relaxed, Ordering::Release);
        let state = self.0.fetch_and(!RUNNING, release);
        let again = mutant!("release_forgets_notified", 0, state) & NOTIFIED != 0 && state & ENDED == 0;
        if again { Released::Again } else { Released::Done }
    }

    /// Ends the driver: it is not polled any more.
    pub(super) fn end(&self, panicked: bool) {
        // Ordering: Relaxed. No other memory depends on these bits.
        self.0.fetch_or(if panicked { ENDED | PANICKED } else { ENDED }, Ordering::Relaxed);
    }

    /// Whether the driver was notified, and is neither polled nor queued: the thread that was to poll it may not come back.
    pub(super) fn is_left(&self) -> bool {
        // Ordering: Relaxed. The thread that polls the driver acquires.
        self.0.load(Ordering::Relaxed) & (NOTIFIED | RUNNING | QUEUED | ENDED) == NOTIFIED
    }

    pub(super) fn is_ended(&self) -> bool {
        // Ordering: Relaxed. No other memory depends on this bit.
        self.0.load(Ordering::Relaxed) & ENDED != 0
    }

    pub(super) fn has_panicked(&self) -> bool {
        // Ordering: Relaxed. No other memory depends on this bit.
        self.0.load(Ordering::Relaxed) & PANICKED != 0
    }
}

#[cfg(all(test, pactio_loom))]
mod models {
    use loom::cell::UnsafeCell;
    use loom::sync::atomic::AtomicUsize;
    use loom::thread;
    use std::sync::Arc;

    use super::*;

    /// A driver, the number of times that it is in the channel, and its work.
    struct Model {
        word: Word,
        /// The channel; a plain count, which the word's QUEUED bit keeps at 0 or 1.
        channel: AtomicUsize,
        /// Reached only by the thread that polls.
        polled: UnsafeCell<u32>,
        /// The number of wakes, which a poll has to see. The counter itself orders nothing.
        work: AtomicUsize,
        done: AtomicUsize,
    }

    impl Model {
        fn new() -> Arc<Self> {
            Arc::new(Self {
                word: Word::new(),
                channel: AtomicUsize::new(0),
                polled: UnsafeCell::new(0),
                work: AtomicUsize::new(0),
                done: AtomicUsize::new(0),
            })
        }

        fn schedule(&self) {
            if self.word.queue() {
                assert_eq!(self.channel.fetch_add(1, Ordering::SeqCst), 0, "it is in the channel twice");
            }
        }

        /// A wake on a thread that polls the driver itself (`here`), or leaves it to the driving thread.
        fn wake(&self, here: bool) {
            self.work.fetch_add(1, Ordering::Relaxed);
            if self.word.notify() == Notified::Claims {
                if here { self.run() } else { self.schedule() }
            }
        }

        /// Polls an idle driver at once, like a thread that has handed over requests itself.
        fn help(&self) {
            self.work.fetch_add(1, Ordering::Relaxed);
            if self.word.claim_idle() {
                if self.poll() == Released::Again {
                    self.run();
                }
            } else {
                let _ = self.word.notify();
                self.run();
            }
        }

        fn run(&self) {
            while self.word.claim() && self.poll() == Released::Again {}
        }

        fn poll(&self) -> Released {
            self.polled.with_mut(|polls| unsafe { *polls += 1 });
            let work = self.work.load(Ordering::Relaxed);
            self.done.store(work, Ordering::Relaxed);
            self.word.release()
        }

        /// The driving thread takes the driver out of the channel, if it is there.
        fn drive(&self) {
            if self.channel.load(Ordering::SeqCst) == 1 {
                self.channel.store(0, Ordering::SeqCst);
                self.word.unqueue();
                self.run();
            }
        }

        fn assert_done(&self) {
            self.drive();
            assert!(!self.word.is_left(), "it was notified, and no thread polls it");
            assert_eq!(
                self.done.load(Ordering::Relaxed),
                self.work.load(Ordering::Relaxed),
                "a wake was lost"
            );
        }
    }

    /// Explores the actions of the threads.
    fn explore(preemption_bound: Option<usize>, threads: &'static [fn(&Model)]) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = preemption_bound;
        let runs = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counter = runs.clone();
        builder.check(move || {
            let model = Model::new();
            let others: Vec<_> = threads[1..]
                .iter()
                .map(|act| {
                    let model = model.clone();
                    thread::spawn(move || act(&model))
                })
                .collect();
            threads[0](&model);
            others.into_iter().for_each(|other| other.join().unwrap());
            model.assert_done();
            counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        });
        let name = std::thread::current().name().unwrap_or("model").to_owned();
        let bound =
            preemption_bound.map_or("complete".to_owned(), |bound| format!("preemption bound {bound}"));
        println!("loom_executions {name}={} ({bound})", runs.load(std::sync::atomic::Ordering::SeqCst));
    }

    #[test]
    fn wakes_that_are_queued_against_the_driving_thread() {
        explore(None, &[|model| model.drive(), |model| model.wake(false), |model| model.wake(false)]);
    }

    #[test]
    fn a_thread_that_takes_over_against_the_driving_thread() {
        explore(
            None,
            &[
                |model| {
                    model.wake(false);
                    model.drive();
                },
                |model| model.wake(true),
            ],
        );
    }

    #[test]
    fn threads_that_hand_over_requests_at_once() {
        explore(Some(3), &[|model| model.help(), |model| model.help(), |model| model.wake(false)]);
    }

    #[test]
    fn a_taken_over_driver_is_rescued() {
        // The thread that has taken the wake over never polls. Another thread finds that the driver is left.
        explore(
            None,
            &[
                |model| {
                    model.work.fetch_add(1, Ordering::Relaxed);
                    let _ = model.word.notify();
                },
                |model| {
                    for _ in 0..2 {
                        if model.word.is_left() {
                            model.schedule();
                            model.drive();
                        }
                    }
                    model.wake(false);
                },
            ],
        );
    }
}
