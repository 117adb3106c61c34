//! loom models of the whole packet core: every test explores all interleavings and all allowed orderings.
//!
//! Beside the assertions of each test, every run checks that no header is touched after it was freed, that the owner touches
//! bytes only after the views have, that all blocks are freed, and that no clone of a waker is left.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use loom::thread;

use super::block::live;
use super::{
    BoundPacketView, DerivedPacket, OutputFunction, OutputRef, PacketBox, PacketStore, PacketStream,
    ReboundPacket, ReturnedPart, Segment, VecPacket, Write,
};
use crate::IoError;

/// Counts wakes. The count is a plain atomic, at which the model checker does not switch threads.
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

/// Explores `f`, with the invariants of all models. `preemption_bound` bounds the preemptions; without it the exploration is
/// complete.
pub(crate) fn model(preemption_bound: Option<usize>, f: impl Fn() + Send + Sync + 'static) {
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

/// The future must be ready by now, and all bytes must have arrived.
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
        assert_eq!(Arc::strong_count(&task.0), 1, "a waker is left in the slot");
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
        let one = thread::spawn(move || front.error(IoError::UNSUPPORTED));
        let two = thread::spawn(move || drop(middle));
        done(back);
        let task = Task::new();
        let polled = task.poll(&mut packet);
        one.join().unwrap();
        two.join().unwrap();
        assert!(polled.is_ready() || task.woken(), "a wake was lost");
        assert_eq!(task.poll(&mut packet), Poll::Ready(()));
        let failed: Vec<_> = packet.report().failed_ranges().collect();
        assert_eq!(failed, [(0..1, IoError::UNSUPPORTED), (1..2, IoError::UNANSWERED)]);
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
            // The last view may be about to wake: the waker is checked after both threads have ended.
            task
        });
        device.join().unwrap();
        drop(owner.join().unwrap());
    });
}

#[test]
fn cancellation_against_completion() {
    model(None, || {
        let (task, mut packet) = (Task::new(), packet());
        let view = packet.bind().unwrap();
        let device = thread::spawn(move || {
            let _ = view.is_cancelled();
            done(view);
        });
        packet.cancel();
        let polled = task.poll(&mut packet);
        device.join().unwrap();
        assert!(polled.is_ready() || task.woken(), "a wake was lost");
        finish(&task, &mut packet);
        // The cancellation ends with its request.
        let view = packet.bind().unwrap();
        assert!(!view.is_cancelled());
        done(view);
        drop(packet);
    });
}

#[test]
fn cancellation_against_two_completers_and_drop() {
    model(None, || {
        let mut packet = packet();
        let (front, back) = packet.bind().unwrap().split_at(1);
        let devices = [front, back].map(|view| thread::spawn(move || done(view)));
        packet.cancel();
        drop(packet);
        devices.into_iter().for_each(|device| device.join().unwrap());
    });
}

/// The segments that an output has received. The count is an atomic of the model checker, which may switch threads at each
/// callback.
struct Heard(Arc<loom::sync::atomic::AtomicUsize>);

impl Heard {
    /// Number of segments. Only callbacks that happened before the call are certain to be counted.
    fn segments(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn is_alone(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

/// An output that counts segments.
fn counting() -> (OutputRef, Heard) {
    let heard = Arc::new(loom::sync::atomic::AtomicUsize::new(0));
    let counter = heard.clone();
    let output = OutputFunction(move |_: Segment<'_>| {
        counter.fetch_add(1, Ordering::Relaxed);
    });
    (OutputRef::new(output), Heard(heard))
}

#[test]
fn callbacks_of_two_completers_against_poll() {
    model(None, || {
        let (task, mut packet) = (Task::new(), packet());
        let (output, heard) = counting();
        let (front, back) = packet.bind_to(output).unwrap().split_at(1);
        let devices = [front, back].map(|view| thread::spawn(move || done(view)));
        let polled = task.poll(&mut packet);
        if polled.is_ready() {
            assert_eq!(heard.segments(), 2, "ready before its callbacks");
        }
        devices.into_iter().for_each(|device| device.join().unwrap());
        assert!(polled.is_ready() || task.woken(), "a wake was lost");
        finish(&task, &mut packet);
        assert_eq!(heard.segments(), 2);
        drop(packet);
        assert!(heard.is_alone(), "an output is left behind");
    });
}

#[test]
fn the_callback_of_an_only_view_against_poll_and_another_output() {
    model(None, || {
        let (task, mut packet) = (Task::new(), packet());
        let (output, heard) = counting();
        let view = packet.bind_to(output).unwrap();
        let device = thread::spawn(move || done(view));
        if task.poll(&mut packet).is_ready() {
            assert_eq!(heard.segments(), 1, "ready before its callback");
            // The completer may still hold the header and its table.
            let (again, heard_again) = counting();
            done(packet.bind_to(again).unwrap());
            assert_eq!((heard.segments(), heard_again.segments()), (1, 1));
        }
        device.join().unwrap();
        drop(packet);
        assert!(heard.is_alone(), "an output is left behind");
    });
}

#[test]
fn callbacks_of_a_packet_without_an_owner() {
    model(None, || {
        let mut packet = packet();
        let (output, heard) = counting();
        let (front, back) = packet.bind_to(output).unwrap().split_at(2);
        let devices = [front, back].map(|view| thread::spawn(move || done(view)));
        drop(packet);
        devices.into_iter().for_each(|device| device.join().unwrap());
        assert_eq!((heard.segments(), heard.is_alone()), (2, true));
    });
}

#[test]
fn a_kept_value_is_dropped_once_when_the_packet_is_renewed() {
    model(None, || {
        let task = Task::new();
        let mut packet = VecPacket::<Write>::new(vec![0; 4]).unwrap();
        let view = packet.bind().unwrap();
        let device = thread::spawn(move || done(view));
        let waker = Waker::from(task.0.clone());
        let mut cx = Context::from_waker(&waker);
        let _ = packet.packet_mut().poll_complete(&mut cx);
        if packet.packet_mut().poll_complete(&mut cx).is_ready() {
            done(packet.bind().unwrap());
            assert_eq!(packet.take().unwrap(), [7; 4]);
        }
        drop(waker);
        device.join().unwrap();
        drop(packet);
    });
}

#[test]
fn a_continuation_against_completion() {
    model(None, || {
        let ran = Arc::new(AtomicUsize::new(0));
        let mut origin = packet();
        let mut rebound = ReboundPacket::new(origin.bind().unwrap()).unwrap();
        let fresh = rebound.bind().unwrap();
        let device = thread::spawn(move || done(fresh));
        let counter = ran.clone();
        rebound.on_complete(move |rebound| {
            counter.fetch_add(1, Ordering::SeqCst);
            rebound.forward().unwrap();
        });
        device.join().unwrap();
        assert_eq!(ran.load(Ordering::SeqCst), 1, "it went on twice, or never");
        assert_eq!(origin.simple_slice(), Ok(&[7; 4][..]));
        assert_eq!(Arc::strong_count(&ran), 1);
        drop(origin);
    });
}

#[test]
fn a_continuation_against_two_completers() {
    model(None, || {
        let mut origin = packet();
        let mut rebound = ReboundPacket::new(origin.bind().unwrap()).unwrap();
        let (front, back) = rebound.bind().unwrap().split_at(1);
        let devices = [front, back].map(|view| thread::spawn(move || done(view)));
        rebound.on_complete(|rebound| rebound.forward().unwrap());
        devices.into_iter().for_each(|device| device.join().unwrap());
        assert_eq!(origin.simple_slice(), Ok(&[7; 4][..]));
        drop(origin);
    });
}

#[test]
fn a_rebound_packet_that_is_dropped_against_its_fresh_view() {
    model(None, || {
        let mut origin = packet();
        let mut rebound = ReboundPacket::new(origin.bind().unwrap()).unwrap();
        let fresh = rebound.bind().unwrap();
        let device = thread::spawn(move || done(fresh));
        drop(rebound);
        device.join().unwrap();
        assert_eq!(origin.report().min_error(), Some((0, IoError::UNANSWERED)));
        drop(origin);
    });
}

#[test]
fn each_part_of_two_completers_against_poll() {
    // Without a bound, the model has 4,290,075 executions (run once, see tests/LEDGER.md).
    model(Some(4), || {
        let (task, mut origin) = (Task::new(), packet());
        let rebound = ReboundPacket::new(origin.bind().unwrap()).unwrap();
        let (front, back) = rebound.bind_each(ReturnedPart::complete).unwrap().split_at(1);
        let devices = [front, back].map(|view| thread::spawn(move || done(view)));
        let polled = task.poll(&mut origin);
        if polled.is_ready() {
            assert_eq!(origin.simple_slice(), Ok(&[7; 4][..]), "ready before the bytes are there");
        }
        devices.into_iter().for_each(|device| device.join().unwrap());
        assert!(polled.is_ready() || task.woken(), "a wake was lost");
        finish(&task, &mut origin);
        drop(origin);
    });
}

#[test]
fn parts_that_are_answered_later_against_the_end_of_their_packet() {
    model(None, || {
        let mut origin = packet();
        let rebound = ReboundPacket::new(origin.bind().unwrap()).unwrap();
        let kept = Arc::new(std::sync::Mutex::new(Vec::new()));
        let parts = kept.clone();
        let fresh = rebound.bind_each(move |part| parts.lock().unwrap().push(part)).unwrap();
        let (front, back) = fresh.split_at(1);
        let device = thread::spawn(move || done(front));
        done(back);
        let early: Vec<_> = kept.lock().unwrap().drain(..).collect();
        early.into_iter().for_each(ReturnedPart::complete);
        device.join().unwrap();
        let late: Vec<_> = kept.lock().unwrap().drain(..).collect();
        late.into_iter().for_each(ReturnedPart::complete);
        assert_eq!(origin.simple_slice(), Ok(&[7; 4][..]));
        assert_eq!(Arc::strong_count(&kept), 1, "the closure is left behind");
        drop(origin);
    });
}

#[test]
fn parts_of_an_origin_without_an_owner() {
    model(None, || {
        let mut origin = packet();
        let rebound = ReboundPacket::new(origin.bind().unwrap()).unwrap();
        let (front, back) = rebound.bind_each(ReturnedPart::complete).unwrap().split_at(1);
        let device = thread::spawn(move || {
            let _ = front.is_cancelled();
            done(front);
        });
        drop(origin);
        assert!(back.is_cancelled(), "the origin's owner is gone");
        drop(back);
        device.join().unwrap();
    });
}

#[test]
fn a_stream_of_parts_that_is_dropped_against_two_completers() {
    model(Some(3), || {
        let mut origin = packet();
        let rebound = ReboundPacket::new(origin.bind().unwrap()).unwrap();
        let (stream, fresh) = rebound.bind_stream().unwrap();
        let (front, back) = fresh.split_at(1);
        let devices = [front, back].map(|view| thread::spawn(move || done(view)));
        drop(stream);
        devices.into_iter().for_each(|device| device.join().unwrap());
        assert_eq!(origin.report().failed_ranges().next(), Some((0..4, IoError::UNANSWERED)));
        drop(origin);
    });
}

#[test]
fn a_derived_packet_that_is_dropped_against_its_view() {
    model(None, || {
        let mut origin = packet();
        let mut derived = DerivedPacket::<_, Write, Write>::new(origin.bind().unwrap(), vec![0; 4]).unwrap();
        let fresh = derived.bind().unwrap();
        let device = thread::spawn(move || {
            let _ = fresh.is_cancelled();
            done(fresh);
        });
        drop(derived);
        device.join().unwrap();
        assert_eq!(origin.report().min_error(), Some((0, IoError::UNANSWERED)));
        drop(origin);
    });
}

#[test]
fn a_stream_against_two_completers() {
    model(Some(3), || {
        let (mut stream, view) = PacketStream::new(packet()).unwrap();
        let (front, back) = view.split_at(1);
        let devices = [front, back].map(|view| thread::spawn(move || done(view)));
        let task = Task::new();
        let waker = Waker::from(task.0.clone());
        let mut cx = Context::from_waker(&waker);
        let mut arrived = 0;
        for _ in 0..2 {
            if let Poll::Ready(Some(segment)) =
                futures_core::Stream::poll_next(Pin::new(&mut stream), &mut cx)
            {
                assert_eq!(segment.bytes(), Some(&[7; 4][..segment.range().len()]));
                arrived += segment.range().len();
            }
        }
        devices.into_iter().for_each(|device| device.join().unwrap());
        assert!(arrived == 4 || task.woken(), "a wake was lost");
        while let Poll::Ready(Some(segment)) = futures_core::Stream::poll_next(Pin::new(&mut stream), &mut cx)
        {
            arrived += segment.range().len();
        }
        assert_eq!(arrived, 4, "a segment was lost");
        drop(waker);
        drop(stream);
    });
}

#[test]
fn three_completers_against_poll() {
    model(Some(3), || {
        let (task, mut packet) = (Task::new(), packet());
        let (one, rest) = packet.bind().unwrap().split_at(1);
        let (two, three) = rest.split_at(1);
        let devices = [one, two, three].map(|view| thread::spawn(move || done(view)));
        let polled = task.poll(&mut packet);
        devices.into_iter().for_each(|device| device.join().unwrap());
        assert!(polled.is_ready() || task.woken(), "a wake was lost");
        finish(&task, &mut packet);
        drop(packet);
    });
}

#[test]
fn three_completers_with_callbacks_against_two_polls() {
    model(Some(1), || {
        let (task, mut packet) = (Task::new(), packet());
        let (output, heard) = counting();
        let (one, rest) = packet.bind_to(output).unwrap().split_at(1);
        let (two, three) = rest.split_at(1);
        let devices = [one, two, three].map(|view| thread::spawn(move || done(view)));
        let _ = task.poll(&mut packet);
        let polled = task.poll(&mut packet);
        if polled.is_ready() {
            assert_eq!(heard.segments(), 3, "ready before its callbacks");
        }
        devices.into_iter().for_each(|device| device.join().unwrap());
        assert!(polled.is_ready() || task.woken(), "a wake was lost");
        finish(&task, &mut packet);
        drop(packet);
    });
}
