//! The callers that wait for room in a device that can be full: its users, in order, and the filter or the layer of the host
//! above it, which asks for its own users.

use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use pactio_sdk::Admission;
use pactio_sdk::io::AdmissionQueue;

use super::Shared;
use super::current::Entered;
use crate::executor::Call;
use crate::sync::{Mutex, MutexGuard, mutant};

/// The waker of a device for all callers that wait for room. The device gets no other waker, so it may forget all wakers but the
/// last.
#[derive(Default)]
pub(super) struct AdmissionGate {
    pub(super) turns: AdmissionQueue,
    /// The waker of the caller that asks through [`LowerDevice`](super::lower); there is one at a time. Reference-counted,
    /// so that no foreign code runs under the lock.
    above: Mutex<Option<Arc<Waker>>>,
}

impl AdmissionGate {
    /// Asks the device for room for one of its users. The user's waker is in `turns`. A device that takes no requests is not
    /// asked: the request comes to it, and fails.
    pub(super) fn ask(self: &Arc<Self>, device: &Shared, bytes: usize) -> Poll<()> {
        if device.life.refusal().is_some() {
            return Poll::Ready(());
        }
        let _entered = Entered::new(device, Call::Admit);
        match device.remote.extension::<dyn Admission>() {
            Some(admission) => {
                admission.poll_admit(bytes, &mut Context::from_waker(&Waker::from(self.clone())))
            }
            None => Poll::Ready(()),
        }
    }

    /// Asks the device for room for the layer above it.
    pub(super) fn ask_from_above(
        self: &Arc<Self>,
        device: &Shared,
        bytes: usize,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        self.asks_from_above(cx, || self.ask(device, bytes))
    }

    fn asks_from_above(&self, cx: &mut Context<'_>, ask: impl FnOnce() -> Poll<()>) -> Poll<()> {
        let store = || self.above().replace(Arc::new(cx.waker().clone()));
        // Stored before the question, because the device may wake the waker at once.
        let stale = mutant!("the_layer_above_is_stored_late", None, store());
        drop(stale);
        let answer = ask();
        mutant!("the_layer_above_is_stored_late", drop(store()), ());
        answer
    }

    /// Wakes the waiting users and the layer above, so that they ask again.
    pub(super) fn wake_all(&self) {
        self.turns.wake_all();
        let above = self.above().take();
        if let Some(above) = above {
            above.wake_by_ref();
        }
    }

    fn above(&self) -> MutexGuard<'_, Option<Arc<Waker>>> {
        self.above.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for AdmissionGate {
    fn wake(self: Arc<Self>) {
        self.wake_all();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wake_all();
    }
}

#[cfg(all(test, pactio_loom))]
mod models {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use loom::thread;

    use super::*;

    /// A device with room for one request. It keeps one waker, the last.
    #[derive(Default)]
    struct Small(Mutex<(bool, Option<Waker>)>);

    impl Small {
        fn ask(&self, room: &Arc<AdmissionGate>) -> Poll<()> {
            let mut small = self.0.lock().unwrap();
            if small.0 {
                let stale = small.1.replace(Waker::from(room.clone()));
                drop(small);
                drop(stale);
                return Poll::Pending;
            }
            small.0 = true;
            Poll::Ready(())
        }

        fn free(&self) {
            let mut small = self.0.lock().unwrap();
            small.0 = false;
            let waker = small.1.take();
            drop(small);
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

    impl Wakes {
        /// Calls `poll` if there was a wake.
        fn poll(self: &Arc<Self>, poll: impl FnOnce(&mut Context<'_>) -> bool) -> bool {
            self.0.swap(0, Ordering::SeqCst) > 0 && poll(&mut Context::from_waker(&Waker::from(self.clone())))
        }
    }

    #[test]
    fn the_layer_above_gets_the_room() {
        explore(false);
    }

    #[test]
    fn the_layer_above_or_a_user_gets_the_room() {
        explore(true);
    }

    /// The layer above asks, perhaps while a user waits its turn, and the room becomes free.
    fn explore(with_user: bool) {
        let runs = Arc::new(AtomicUsize::new(0));
        let counter = runs.clone();
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(move || {
            let (room, small) = (Arc::new(AdmissionGate::default()), Arc::new(Small::default()));
            assert!(small.ask(&room).is_ready(), "the room is free at first");
            let freeing = {
                let small = small.clone();
                thread::spawn(move || small.free())
            };
            let above = {
                let (room, small) = (room.clone(), small.clone());
                move |cx: &mut Context<'_>| room.asks_from_above(cx, || small.ask(&room)).is_ready()
            };
            let (user_woken, above_woken) = (Arc::new(Wakes::default()), Arc::new(Wakes::default()));
            above_woken.0.store(1, Ordering::SeqCst);
            let asking = {
                let (above, woken) = (above.clone(), above_woken.clone());
                thread::spawn(move || woken.poll(above))
            };
            let turns = room.turns.clone();
            let asks = move |_: &mut Context<'_>| small.ask(&room);
            let begun = if with_user { Some(turns.admit(asks)) } else { None };
            let has_user = begun.is_some();
            let mut user = begun.flatten();
            user_woken.0.store(1, Ordering::SeqCst);
            freeing.join().unwrap();
            let mut above_has_room = asking.join().unwrap();
            // Those that were woken are polled until nothing happens.
            for _ in 0..4 {
                if let Some(turn) = &mut user
                    && user_woken.poll(|cx| turn.as_mut().poll(cx).is_ready())
                {
                    user = None;
                }
                above_has_room |= !above_has_room && above_woken.poll(&above);
            }
            let user_has_room = has_user && user.is_none();
            assert!(above_has_room != user_has_room, "the room is free, and a caller waits for it");
            counter.fetch_add(1, Ordering::SeqCst);
        });
        let name = std::thread::current().name().unwrap_or("model").to_owned();
        println!("loom_executions {name}={} (preemption bound 3)", runs.load(Ordering::SeqCst));
    }
}
