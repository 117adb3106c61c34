//! Rebound packets.

use std::sync::{Arc, Mutex};
use std::thread;

use pactio_sdk::*;

use crate::support::{Wakes, lock, poll};

fn rebound(packet: &mut PacketBox<Write>) -> (ReboundPacket<Write>, BoundPacketView<Write>) {
    let mut rebound = ReboundPacket::new(packet.bind().unwrap()).unwrap();
    let fresh = rebound.bind().unwrap();
    (rebound, fresh)
}

#[test]
fn rule_14_it_ends_after_the_last_range_and_not_before() {
    // Was: "done" after the first of two ranges.
    let mut packet = PacketBox::new_buf(8).unwrap();
    let (rebound, fresh) = rebound(&mut packet);
    let (front, back) = fresh.split_at(3);
    front.transfer_data(b"one").complete();
    let rebound = rebound.forward().expect_err("one range is in flight");
    assert!(!packet.is_complete());
    back.transfer_data(b"-two!").complete();
    rebound.forward().unwrap();
    assert_eq!(packet.simple_slice(), Ok(&b"one-two!"[..]));
}

#[test]
fn rule_14_it_ends_when_all_of_it_failed() {
    // Was: a caller that hung.
    let mut packet = PacketBox::new_buf(8).unwrap();
    let (rebound, fresh) = rebound(&mut packet);
    rebound.on_complete(|rebound| rebound.forward().unwrap());
    let (front, back) = fresh.split_at(5);
    back.error(IoError::END);
    drop(front);
    assert_eq!(
        packet.report().failed_ranges().collect::<Vec<_>>(),
        [(0..5, IoError::UNANSWERED), (5..8, IoError::END)]
    );
}

#[test]
fn rule_14_each_byte_is_answered_exactly_once() {
    // Was: an underflowing count.
    let heard = Arc::new(Mutex::new(Vec::new()));
    let segments = heard.clone();
    let output =
        OutputFunction(move |segment: Segment<'_>| lock(&segments).push((segment.range(), segment.result())));
    let mut packet = PacketBox::<Write>::new_buf(9).unwrap();
    let mut rebound = ReboundPacket::new(packet.bind_to(OutputRef::new(output)).unwrap()).unwrap();
    let (one, rest) = rebound.bind().unwrap().split_at(3);
    let (two, three) = rest.split_at(3);
    two.error(IoError::END);
    three.transfer_data(b"333").complete();
    one.transfer_data(b"111").complete();
    assert!(lock(&heard).is_empty(), "the origin was answered before it was settled");
    let mut failed = Vec::new();
    rebound
        .settle(|range, part, error| {
            failed.push((range, part.offset(), error));
            part.transfer_data(b"222").complete();
        })
        .unwrap();
    assert_eq!(failed, [(3..6, 3, IoError::END)]);
    let mut heard = lock(&heard).clone();
    heard.sort_by_key(|(range, _)| range.start);
    assert_eq!(heard, [(0..3, Ok(())), (3..6, Ok(())), (6..9, Ok(()))]);
    assert_eq!(packet.simple_slice(), Ok(&b"111222333"[..]));
}

#[test]
fn rule_14_what_is_dropped_early_fails_what_is_left() {
    let mut packet = PacketBox::new_buf(4).unwrap();
    let (rebound, fresh) = rebound(&mut packet);
    drop(rebound);
    assert!(!packet.is_complete(), "the fresh view may still be written to");
    fresh.transfer_data(b"late").complete();
    assert_eq!(packet.report().min_error(), Some((0, IoError::UNANSWERED)));

    // A part that its layer keeps to itself and drops while settling.
    let mut packet = PacketBox::new_buf(4).unwrap();
    let (rebound, fresh) = super::interception::rebound(&mut packet);
    drop(fresh);
    rebound.settle(|_, part, _| drop(part)).unwrap();
    assert_eq!(packet.report().min_error(), Some((0, IoError::UNANSWERED)));
}

#[test]
fn rule_14_a_layer_that_panics_while_it_settles_fails_the_rest() {
    let mut packet = PacketBox::new_buf(4).unwrap();
    let (rebound, fresh) = rebound(&mut packet);
    let (front, back) = fresh.split_at(2);
    front.error(IoError::END);
    back.transfer_data(b"ok").complete();
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = rebound.settle(|_, _part, _| panic!("in the layer"));
    }));
    assert!(caught.is_err());
    assert_eq!(packet.report().done(), 0);
    assert!(packet.is_complete());
}

#[test]
fn layers_nest_and_the_thread_of_the_last_answer_settles_all() {
    let mut packet = PacketBox::<Write>::new_buf(6).unwrap();
    let mut view = packet.bind().unwrap();
    for _ in 0..50 {
        let mut rebound = ReboundPacket::new(view).unwrap();
        view = rebound.bind().unwrap();
        rebound.on_complete(|rebound| rebound.forward().unwrap());
    }
    let wakes = Arc::new(Wakes::default());
    assert!(poll(&mut packet, &wakes).is_pending());
    let (front, back) = view.split_at(2);
    let threads = [front, back].map(|view| {
        thread::spawn(move || {
            let len = view.len();
            view.transfer_data(&[9; 6][..len]).complete();
        })
    });
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(wakes.count(), 1);
    assert_eq!(packet.simple_slice(), Ok(&[9; 6][..]));
}

#[test]
fn a_layer_sees_that_its_origin_is_cancelled() {
    let mut packet = PacketBox::<Write>::new_buf(4).unwrap();
    let (rebound, fresh) = rebound(&mut packet);
    assert!(!rebound.is_cancelled());
    packet.cancel();
    assert!(rebound.is_cancelled());
    fresh.error(IoError::CANCELLED);
    rebound.forward().unwrap();
    assert_eq!(packet.report().err_any(), Err(IoError::CANCELLED));
}

#[test]
fn a_complex_origin_is_reached_through_the_layer() {
    let mut packet = ComplexPacket::<Lazy, Write>::new(Lazy::new(6)).unwrap();
    let mut rebound = ReboundPacket::new(packet.bind().unwrap()).unwrap();
    let (front, back) = rebound.bind().unwrap().split_at(2);
    front.transfer_data(b"pa").complete();
    let mut direct = back.try_alloc(1).unwrap();
    direct.put_slice(b"ctio");
    direct.complete();
    rebound.forward().unwrap();
    assert_eq!(packet.sync_back().unwrap().into_bytes().as_deref(), Some(&b"pactio"[..]));
}
