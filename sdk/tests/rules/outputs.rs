//! Closures and streams that receive segments.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;

use futures_lite::StreamExt;
use futures_lite::future::block_on;
use pactio_sdk::*;

use crate::support::{Held, Wakes, lock, poll};

#[test]
fn rule_1_a_closure_lives_until_its_last_segment_although_the_future_is_gone() {
    // Was: a borrowing completion closure ran after its borrow ended.
    let heard = Arc::new(AtomicUsize::new(0));
    let device = Held::<Write>::new();
    let counter = heard.clone();
    let mut request = device.io_to_fn(0, vec![0; 8], move |segment| {
        counter.fetch_add(segment.range().len(), Ordering::SeqCst);
    });
    assert!(poll(&mut request, &Arc::default()).is_pending());
    drop(request);
    assert_eq!(Arc::strong_count(&heard), 2);
    let (front, back) = device.take().1.split_at(3);
    front.transfer_data(&[1; 3]).complete();
    assert_eq!(heard.load(Ordering::SeqCst), 3);
    drop(back);
    assert_eq!(heard.load(Ordering::SeqCst), 8);
    assert_eq!(Arc::strong_count(&heard), 1, "the closure is left behind");
}

#[test]
fn rule_1_items_of_a_stream_outlive_it() {
    // Was: stream items outlived their packet.
    let (mut stream, view) = PacketStream::new(PacketBox::<Write>::new_buf(8).unwrap()).unwrap();
    let (front, back) = view.split_at(4);
    front.transfer_data(b"head").complete();
    let item = block_on(stream.next()).unwrap();
    drop(stream);
    assert_eq!(item.bytes(), Some(&b"head"[..]));
    back.transfer_data(b"tail").complete();
    assert_eq!(item.bytes(), Some(&b"head"[..]));
}

#[test]
fn rule_3_no_future_is_ready_before_the_callbacks_of_its_segments() {
    // Was: the count came first: 758 of 126,240 futures resolved before their callback.
    const ROUNDS: usize = 10_000;
    let heard = Arc::new(AtomicUsize::new(0));
    let counter = heard.clone();
    let output = OutputStore::new(OutputFunction(move |_: Segment<'_>| {
        counter.fetch_add(1, Ordering::Relaxed);
    }));
    let (to_one, one) = std::sync::mpsc::channel::<BoundPacketView<Write>>();
    let (to_two, two) = std::sync::mpsc::channel::<BoundPacketView<Write>>();
    thread::scope(|scope| {
        for views in [one, two] {
            scope.spawn(move || views.into_iter().for_each(|view| view.transfer_data(&[1; 4]).complete()));
        }
        let mut packet = PacketBox::<Write>::new_buf(8).unwrap();
        for round in 1..=ROUNDS {
            let (front, back) = packet.bind_to(output.output()).unwrap().split_at(4);
            to_one.send(front).unwrap();
            to_two.send(back).unwrap();
            if round % 2 == 0 {
                block_on(&mut packet);
            } else {
                while !packet.is_complete() {
                    std::hint::spin_loop();
                }
            }
            assert_eq!(heard.load(Ordering::Relaxed), 2 * round, "ready before its callbacks");
        }
        drop((to_one, to_two));
    });
}

#[test]
fn rule_3_a_stream_gets_every_segment_of_every_thread() {
    // Was: a stream lost 30,870 of 70,911 segments.
    const SEGMENTS: usize = 1000;
    for _ in 0..20 {
        let (stream, mut rest) = PacketStream::new(PacketBox::<Write>::new_buf(SEGMENTS).unwrap()).unwrap();
        let mut parts: [Vec<_>; 4] = Default::default();
        for index in 0..SEGMENTS {
            let (mut front, back) = rest.split_at(1);
            front.set_tag(index as u64);
            parts[index % 4].push(front);
            rest = back;
        }
        drop(rest);
        let threads = parts.map(|part| {
            thread::spawn(move || {
                part.into_iter().for_each(|view| {
                    let byte = view.tag() as u8;
                    view.transfer_data(&[byte]).complete();
                });
            })
        });
        let mut tags: Vec<u64> = block_on(
            stream
                .map(|segment| {
                    assert_eq!(segment.bytes(), Some(&[segment.tag() as u8][..]));
                    assert_eq!(segment.range(), segment.tag() as usize..segment.tag() as usize + 1);
                    segment.tag()
                })
                .collect(),
        );
        tags.sort_unstable();
        assert_eq!(tags, (0..SEGMENTS as u64).collect::<Vec<_>>());
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

#[test]
fn rule_4_an_output_may_answer_other_views_and_drop_the_packet() {
    let packet = Arc::new(Mutex::new(Some(PacketBox::<Write>::new_buf(8).unwrap())));
    let other: Arc<Mutex<Option<BoundPacketView<Write>>>> = Arc::default();
    let (in_output, other_in_output) = (packet.clone(), other.clone());
    let output = OutputRef::new(OutputFunction(move |_: Segment<'_>| {
        let other = lock(&other_in_output).take();
        drop(other);
        let packet = lock(&in_output).take();
        drop(packet);
    }));
    let view = lock(&packet).as_mut().unwrap().bind_to(output).unwrap();
    let (front, back) = view.split_at(4);
    *lock(&other) = Some(back);
    front.transfer_data(b"once").complete();
    assert!(lock(&packet).is_none() && lock(&other).is_none());
}

#[test]
fn rule_4_an_output_that_panics_changes_nothing() {
    let output = OutputRef::new(OutputFunction(|_: Segment<'_>| panic!("in the output")));
    let mut packet = PacketBox::<Write>::new_buf(4).unwrap();
    packet.bind_to(output).unwrap().transfer_data(b"done").complete();
    assert_eq!(packet.simple_slice(), Ok(&b"done"[..]));
}

#[test]
fn rule_6_a_packet_is_bound_again_with_and_without_an_output() {
    let heard = Arc::new(AtomicUsize::new(0));
    let mut packet = PacketBox::<Write>::new_buf(4).unwrap();
    for round in 0..6 {
        let view = if round % 2 == 0 {
            let counter = heard.clone();
            let output = OutputFunction(move |_: Segment<'_>| {
                counter.fetch_add(1, Ordering::SeqCst);
            });
            packet.bind_to(OutputRef::new(output)).unwrap()
        } else {
            packet.bind().unwrap()
        };
        view.transfer_data(&[round; 4]).complete();
        assert_eq!(packet.simple_slice(), Ok(&[round; 4][..]));
    }
    assert_eq!(heard.load(Ordering::SeqCst), 3, "an output heard of another request");
    assert_eq!(Arc::strong_count(&heard), 1, "an output is left behind");
}

#[test]
fn rule_7_a_stream_that_waits_holds_one_waker_and_none_when_it_has_ended() {
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(wakes.clone());
    let mut cx = Context::from_waker(&waker);
    let (mut stream, view) = PacketStream::new(PacketBox::<Write>::new_buf(2).unwrap()).unwrap();
    for _ in 0..10 {
        assert!(Pin::new(&mut stream).poll_next(&mut cx).is_pending());
        assert!(Arc::strong_count(&wakes) <= 3);
    }
    view.transfer_data(b"go").complete();
    assert_eq!(wakes.count(), 1);
    assert!(matches!(Pin::new(&mut stream).poll_next(&mut cx), Poll::Ready(Some(_))));
    assert!(matches!(Pin::new(&mut stream).poll_next(&mut cx), Poll::Ready(None)));
    drop(waker);
    assert_eq!(Arc::strong_count(&wakes), 1, "a waker is left behind");
}

#[test]
fn rule_13_streams_of_requests_without_bytes_or_answers_end() {
    let (mut stream, view) = PacketStream::new(PacketBox::<Write>::new_buf(0).unwrap()).unwrap();
    assert!(block_on(stream.next()).is_none());
    drop(view);
    let (mut stream, view) = PacketStream::new(PacketBox::<Write>::new_buf(5).unwrap()).unwrap();
    let waiting = thread::spawn(move || {
        let item = block_on(stream.next()).unwrap();
        (item.range(), item.result(), block_on(stream.next()).is_none())
    });
    drop(view);
    assert_eq!(waiting.join().unwrap(), (0..5, Err(IoError::UNANSWERED), true));
}

#[test]
fn rule_18_a_segment_of_one_thread_is_heard_on_that_thread() {
    let heard_on = Arc::new(Mutex::new(Vec::new()));
    let ids = heard_on.clone();
    let output = OutputFunction(move |_: Segment<'_>| lock(&ids).push(thread::current().id()));
    let mut packet = PacketBox::<Write>::new_buf(2).unwrap();
    let (front, back) = packet.bind_to(OutputRef::new(output)).unwrap().split_at(1);
    let barrier = Arc::new(Barrier::new(2));
    let answered = [front, back].map(|view| {
        let barrier = barrier.clone();
        thread::spawn(move || {
            barrier.wait();
            drop(view);
            thread::current().id()
        })
    });
    let mut expected = answered.map(|thread| thread.join().unwrap()).to_vec();
    let mut heard = lock(&heard_on).clone();
    let key = |id: &thread::ThreadId| format!("{id:?}");
    expected.sort_by_key(key);
    heard.sort_by_key(key);
    assert_eq!(heard, expected);
}

#[test]
fn rule_19_tags_are_seen_by_the_output() {
    let tags = Arc::new(Mutex::new(Vec::new()));
    let heard = tags.clone();
    let output = OutputFunction(move |segment: Segment<'_>| {
        lock(&heard).push((segment.range(), segment.tag(), segment.result()));
    });
    let mut packet = PacketBox::<Write>::new_buf(6).unwrap();
    let mut view = packet.bind_to(OutputRef::new(output)).unwrap();
    view.set_tag(7);
    let (front, mut back) = view.split_at(2);
    back.set_tag(u64::MAX >> 1);
    // The done and the failed part of one answer are two segments.
    back.transfer_data(b"ok").complete();
    front.error(IoError::UNSUPPORTED);
    assert_eq!(
        *lock(&tags),
        [
            (2..4, u64::MAX >> 1, Ok(())),
            (4..6, u64::MAX >> 1, Err(IoError::END)),
            (0..2, 7, Err(IoError::UNSUPPORTED))
        ]
    );
}
