//! loom models of the whole packet core: every test explores all interleavings and all allowed orderings.
//!
//! Beside what each test asserts, every run checks that no header is touched after it was freed, that the owner
//! touches bytes only after the views have, that all blocks are freed, and that no clone of a waker is left.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use loom::thread;

use super::block::live;
use super::{BoundPacketView, PacketBox, Write};
use crate::Error;

/// Counts wakes. It uses plain atomics, which are no points of choice for the model checker.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A waker that is checked at the end of each run.
struct Task(Arc<Wakes>);

impl Task {
    fn new() -> Self {
        Self(Arc::default())
    }

    fn woken(&self) -> bool {
        self.0.0.load(Ordering::SeqCst) > 0
    }

    fn poll(&self, packet: &mut PacketBox<Write>) -> Poll<()> {
        let waker = Waker::from(self.0.clone());
        Pin::new(packet).poll(&mut Context::from_waker(&waker))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(Arc::strong_count(&self.0), 1, "a waker is left behind");
        }
    }
}

fn packet() -> PacketBox<Write> {
    PacketBox::new_buf(4).unwrap()
}

fn done(view: BoundPacketView<Write>) {
    let len = view.len();
    view.transfer_data(&[7; 4][..len]).complete();
}

/// Explores `f`, with the invariants of all models. `threads` beyond three are bounded to three preemptions.
fn model(preemption_bound: Option<usize>, f: impl Fn() + Send + Sync + 'static) {
    let runs = Arc::new(AtomicUsize::new(0));
    let counter = runs.clone();
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemption_bound;
    builder.check(move || {
        let before = live::blocks();
        f();
        assert_eq!(live::blocks(), before, "a block is left behind or was freed twice");
        counter.fetch_add(1, Ordering::SeqCst);
    });
    let name = std::thread::current().name().unwrap_or("model").to_owned();
    let bound = preemption_bound.map_or("complete".to_owned(), |bound| format!("preemption bound {bound}"));
    println!("loom_executions {name}={} ({bound})", runs.load(Ordering::SeqCst));
}

/// The future must be ready by now, and everything must have arrived.
fn finish(task: &Task, packet: &mut PacketBox<Write>) {
    assert_eq!(task.poll(packet), Poll::Ready(()));
    assert_eq!(packet.simple_slice(), Ok(&[7; 4][..]));
}

#[test]
fn last_completion_against_first_poll() {
    model(None, || {
        let (task, mut packet) = (Task::new(), packet());
        let view = packet.bind().unwrap();
        let device = thread::spawn(move || done(view));
        let polled = task.poll(&mut packet);
        if polled.is_ready() {
            assert_eq!(packet.simple_slice(), Ok(&[7; 4][..]), "ready before the bytes are there");
        }
        device.join().unwrap();
        assert!(polled.is_ready() || task.woken(), "a wake was lost");
        finish(&task, &mut packet);
        drop(packet);
    });
}

#[test]
fn last_completion_against_a_new_waker() {
    model(None, || {
        let (first, second, mut packet) = (Task::new(), Task::new(), packet());
        let view = packet.bind().unwrap();
        assert!(first.poll(&mut packet).is_pending());
        let device = thread::spawn(move || done(view));
        let polled = second.poll(&mut packet);
        if polled.is_ready() {
            assert_eq!(packet.simple_slice(), Ok(&[7; 4][..]), "ready before the bytes are there");
        }
        device.join().unwrap();
        assert!(polled.is_ready() || second.woken(), "a wake was lost");
        finish(&second, &mut packet);
        drop(packet);
    });
}

#[test]
fn last_completion_against_the_same_waker() {
    model(None, || {
        let (task, mut packet) = (Task::new(), packet());
        let view = packet.bind().unwrap();
        assert!(task.poll(&mut packet).is_pending());
        let device = thread::spawn(move || done(view));
        let polled = task.poll(&mut packet);
        device.join().unwrap();
        assert!(polled.is_ready() || task.woken(), "a wake was lost");
        finish(&task, &mut packet);
        drop(packet);
    });
}

#[test]
fn last_completion_against_drop() {
    model(None, || {
        let mut packet = packet();
        let view = packet.bind().unwrap();
        let device = thread::spawn(move || done(view));
        drop(packet);
        device.join().unwrap();
    });
}

#[test]
fn last_completion_against_drop_with_a_waker() {
    model(None, || {
        let (task, mut packet) = (Task::new(), packet());
        let view = packet.bind().unwrap();
        assert!(task.poll(&mut packet).is_pending());
        let device = thread::spawn(move || done(view));
        drop(packet);
        device.join().unwrap();
    });
}

#[test]
fn poll_and_drop_against_completion() {
    model(None, || {
        let (task, mut packet) = (Task::new(), packet());
        let view = packet.bind().unwrap();
        let device = thread::spawn(move || done(view));
        let _ = task.poll(&mut packet);
        drop(packet);
        device.join().unwrap();
    });
}

#[test]
fn two_completers_against_poll() {
    model(None, || {
        let (task, mut packet) = (Task::new(), packet());
        let (front, back) = packet.bind().unwrap().split_at(1);
        let devices = [front, back].map(|view| thread::spawn(move || done(view)));
        let polled = task.poll(&mut packet);
        if polled.is_ready() {
            assert_eq!(packet.simple_slice(), Ok(&[7; 4][..]), "ready before the bytes are there");
        }
        devices.into_iter().for_each(|device| device.join().unwrap());
        assert!(polled.is_ready() || task.woken(), "a wake was lost");
        finish(&task, &mut packet);
        drop(packet);
    });
}

#[test]
fn two_completers_against_drop() {
    model(None, || {
        let (task, mut packet) = (Task::new(), packet());
        let (front, back) = packet.bind().unwrap().split_at(1);
        assert!(task.poll(&mut packet).is_pending());
        let devices = [front, back].map(|view| thread::spawn(move || done(view)));
        drop(packet);
        devices.into_iter().for_each(|device| device.join().unwrap());
    });
}

#[test]
fn a_device_that_splits_against_one_that_completes() {
    model(None, || {
        let (task, mut packet) = (Task::new(), packet());
        let (front, back) = packet.bind().unwrap().split_at(2);
        let splitter = thread::spawn(move || {
            let (one, two) = front.split_at(1);
            done(two);
            done(one);
        });
        let completer = thread::spawn(move || done(back));
        splitter.join().unwrap();
        completer.join().unwrap();
        finish(&task, &mut packet);
        drop(packet);
    });
}

#[test]
fn two_failures_and_their_account() {
    model(None, || {
        let mut packet = packet();
        let (front, rest) = packet.bind().unwrap().split_at(1);
        let (middle, back) = rest.split_at(1);
        let one = thread::spawn(move || front.error(Error::UNSUPPORTED));
        let two = thread::spawn(move || drop(middle));
        done(back);
        let task = Task::new();
        let polled = task.poll(&mut packet);
        one.join().unwrap();
        two.join().unwrap();
        assert!(polled.is_ready() || task.woken(), "a wake was lost");
        assert_eq!(task.poll(&mut packet), Poll::Ready(()));
        let failed: Vec<_> = packet.report().failed_ranges().collect();
        assert_eq!(failed, [(0..1, Error::UNSUPPORTED), (1..2, Error::UNANSWERED)]);
        drop(packet);
    });
}

#[test]
fn reuse_while_the_last_completer_leaves() {
    model(None, || {
        let (task, mut packet) = (Task::new(), packet());
        let view = packet.bind().unwrap();
        let pending = task.poll(&mut packet);
        assert!(pending.is_pending());
        let device = thread::spawn(move || done(view));
        if task.poll(&mut packet).is_ready() {
            // The completer may still hold the header: the packet must be usable all the same.
            let again = packet.bind().unwrap();
            done(again);
            finish(&task, &mut packet);
        }
        device.join().unwrap();
        drop(packet);
    });
}

#[test]
fn reuse_with_two_devices() {
    model(Some(3), || {
        let (task, mut packet) = (Task::new(), packet());
        let (front, back) = packet.bind().unwrap().split_at(2);
        let devices = [front, back].map(|view| thread::spawn(move || done(view)));
        if task.poll(&mut packet).is_ready() {
            let again = packet.bind().unwrap();
            let device = thread::spawn(move || done(again));
            let polled = task.poll(&mut packet);
            device.join().unwrap();
            assert!(polled.is_ready() || task.woken(), "a wake was lost");
            finish(&task, &mut packet);
        }
        devices.into_iter().for_each(|device| device.join().unwrap());
        drop(packet);
    });
}

#[test]
fn the_owner_moves_to_another_thread() {
    model(None, || {
        let mut packet = packet();
        let view = packet.bind().unwrap();
        let device = thread::spawn(move || done(view));
        let owner = thread::spawn(move || {
            let task = Task::new();
            let polled = task.poll(&mut packet);
            if polled.is_ready() {
                assert_eq!(packet.simple_slice(), Ok(&[7; 4][..]));
            }
            drop(packet);
            // The last view may be about to wake: the waker is looked at after both have ended.
            task
        });
        device.join().unwrap();
        drop(owner.join().unwrap());
    });
}
