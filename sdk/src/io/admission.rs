//! Requests that wait for room in a device: in order, and without a place in the device (rule P20).

use alloc::boxed::Box;
use core::fmt;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::task::Wake;

use super::Admitted;
use crate::packet::mutant;
use crate::sync::{Mutex, MutexGuard};

/// The requests of one device that wait for their turn. The first of them asks the device.
///
/// ```text
///   request 7 (asks the device) ◄── request 8 ◄── request 9          each waits in its own future;
///        └── admitted, or gone ──► wakes the others                  the queue holds only its waker
/// ```
///
/// A request that was woken and is not polled delays no other request: the turn passes to the first request that is polled. When
/// the device may have room, all requests are woken, since the order of their polls is unknown.
#[derive(Clone, Default)]
pub struct AdmissionQueue(Arc<Shared>);

#[derive(Default)]
struct Shared(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    next: u64,
    /// By order of arrival.
    waiting: BTreeMap<u64, Waiter>,
}

struct Waiter {
    /// Reference-counted, so that no foreign code runs under the lock (rule P4).
    waker: Arc<Waker>,
    /// The request was woken, and not polled since.
    woken: bool,
}

impl AdmissionQueue {
    /// Wakes all requests, so that they ask again: there is room, or the device may have forgotten its waker.
    pub fn wake_all(&self) {
        self.0.wake_all();
    }

    /// Asks the device, unless another request waits. Gives `None` if the device has room; otherwise a future that waits for the
    /// request's turn and then asks. The waker that `ask` gets wakes all requests.
    pub fn admit(
        &self,
        ask: impl FnMut(&mut Context<'_>) -> Poll<()> + Send + Unpin + 'static,
    ) -> Option<Admitted> {
        let number = {
            let mut queue = self.0.queue();
            queue.next += 1;
            queue.next
        };
        let mut turn = Turn { turns: self.0.clone(), number, ask };
        match turn.poll_turn(&Arc::new(Waker::noop().clone())) {
            Poll::Ready(()) => None,
            Poll::Pending => Some(Box::pin(turn)),
        }
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        // No foreign code runs under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake_all(&self) {
        let mut queue = self.queue();
        let asleep = queue.waiting.values_mut().filter(|waiter| !waiter.woken);
        let wakers: Vec<Arc<Waker>> = asleep
            .map(|waiter| {
                waiter.woken = true;
                waiter.waker.clone()
            })
            .collect();
        drop(queue);
        let first_only = mutant!("wake_the_first_only", 1, usize::MAX);
        wakers.into_iter().take(first_only).for_each(|waker| waker.wake_by_ref());
    }
}

/// The waker that a device gets.
impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        self.wake_all();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wake_all();
    }
}

/// A place in the queue.
struct Turn<F> {
    turns: Arc<Shared>,
    number: u64,
    ask: F,
}

impl<F: FnMut(&mut Context<'_>) -> Poll<()>> Turn<F> {
    fn poll_turn(&mut self, waker: &Arc<Waker>) -> Poll<()> {
        let mut queue = self.turns.queue();
        // If all earlier requests were woken, but are not polled yet, the turn passes to this request.
        let is_first = queue.waiting.range(..self.number).next().is_none();
        let passes = || queue.waiting.range(..self.number).all(|(_, waiter)| waiter.woken);
        let asks = is_first || mutant!("turns_do_not_pass", false, passes());
        let waiter = Waiter { waker: waker.clone(), woken: false };
        let stale = queue.waiting.insert(self.number, waiter);
        drop(queue);
        drop(stale);
        if asks {
            (self.ask)(&mut Context::from_waker(&Waker::from(self.turns.clone())))
        } else {
            Poll::Pending
        }
    }
}

impl<F: FnMut(&mut Context<'_>) -> Poll<()> + Unpin> Future for Turn<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let waker = Arc::new(cx.waker().clone());
        self.poll_turn(&waker)
    }
}

impl<F> Drop for Turn<F> {
    /// Removes the request from the queue, also when the request is admitted, and wakes the other requests. The first of them
    /// asks.
    fn drop(&mut self) {
        let stale = self.turns.queue().waiting.remove(&self.number);
        drop(stale);
        if mutant!("gone_without_a_wake", false, true) {
            self.turns.wake_all();
        }
    }
}

impl fmt::Debug for AdmissionQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdmissionQueue")
    }
}

#[cfg(all(test, pactio_loom))]
mod models {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use loom::thread;

    use super::*;
    use crate::packet::models::model;

    /// A device with room for one request. It keeps one waker.
    #[derive(Default)]
    struct Small(Mutex<Room>);

    #[derive(Default)]
    struct Room {
        taken: bool,
        waker: Option<Waker>,
    }

    impl Small {
        fn ask(&self, cx: &mut Context<'_>) -> Poll<()> {
            let mut room = self.0.lock().unwrap();
            if room.taken {
                room.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            room.taken = true;
            Poll::Ready(())
        }

        fn free(&self) {
            let mut room = self.0.lock().unwrap();
            room.taken = false;
            let waker = room.waker.take();
            drop(room);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Polls the request after each of its wakes, at most `polls` times; `true` if the request was admitted.
    fn poll(admission: &mut Option<Admitted>, wakes: &Arc<Wakes>, polls: usize) -> bool {
        for _ in 0..polls {
            let Some(turn) = admission else { return true };
            if wakes.0.swap(0, Ordering::SeqCst) == 0 {
                return false;
            }
            if turn.as_mut().poll(&mut Context::from_waker(&Waker::from(wakes.clone()))).is_ready() {
                *admission = None;
            }
        }
        admission.is_none()
    }

    /// The first of three requests is never polled, or is dropped; one of the others gets the room that becomes free.
    fn one_gets_the_room(first_is_dropped: bool) {
        let (turns, small) = (AdmissionQueue::default(), Arc::new(Small::default()));
        let wait = || {
            let small = small.clone();
            turns.admit(move |cx| small.ask(cx))
        };
        assert!(wait().is_none(), "the room is free at first");
        let first = wait();
        let waiters = [(); 2].map(|()| {
            let wakes = Arc::new(Wakes::default());
            // Causes the first poll, which gives the request its waker.
            wakes.0.store(1, Ordering::SeqCst);
            (wait(), wakes)
        });
        let freeing = thread::spawn({
            let small = small.clone();
            move || small.free()
        });
        let waiting: Vec<_> = waiters
            .into_iter()
            .map(|(mut admission, wakes)| {
                thread::spawn(move || {
                    poll(&mut admission, &wakes, 3);
                    (admission, wakes)
                })
            })
            .collect();
        if first_is_dropped {
            drop(first);
        } else {
            std::mem::forget(first);
        }
        freeing.join().unwrap();
        let mut waiting: Vec<_> = waiting.into_iter().map(|thread| thread.join().unwrap()).collect();
        // Woken requests are polled until no request is woken any more.
        for _ in 0..4 {
            waiting.iter_mut().for_each(|(admission, wakes)| {
                poll(admission, wakes, 3);
            });
        }
        let admitted = waiting.iter().filter(|(admission, _)| admission.is_none()).count();
        assert_eq!(admitted, 1, "the room is free, and a request waits for it");
    }

    #[test]
    fn a_request_that_is_not_polled_holds_up_no_other() {
        model(Some(2), || one_gets_the_room(false));
    }

    #[test]
    fn a_request_that_is_dropped_holds_up_no_other() {
        model(Some(2), || one_gets_the_room(true));
    }

    #[test]
    fn each_request_gets_its_turn() {
        model(Some(3), || {
            let (turns, small) = (AdmissionQueue::default(), Arc::new(Small::default()));
            let wait = || {
                let small = small.clone();
                turns.admit(move |cx| small.ask(cx))
            };
            assert!(wait().is_none(), "the room is free at first");
            let waiting: Vec<_> = (0..2)
                .map(|_| {
                    let wakes = Arc::new(Wakes::default());
                    wakes.0.store(1, Ordering::SeqCst);
                    let mut admission = wait();
                    thread::spawn(move || {
                        poll(&mut admission, &wakes, 3);
                        (admission, wakes)
                    })
                })
                .collect();
            small.free();
            let mut waiting: Vec<_> = waiting.into_iter().map(|thread| thread.join().unwrap()).collect();
            for admitted in [1, 2] {
                for _ in 0..4 {
                    waiting.iter_mut().for_each(|(admission, wakes)| {
                        poll(admission, wakes, 3);
                    });
                }
                let now = waiting.iter().filter(|(admission, _)| admission.is_none()).count();
                assert_eq!(now, admitted, "the room is free, and a request waits for it");
                small.free();
            }
        });
    }
}
