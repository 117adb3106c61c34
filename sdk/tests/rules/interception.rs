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
        .settle(|part| {
            let error = part.result().unwrap_err().error();
            let range = part.range();
            let view = part.into_view();
            failed.push((range, view.offset(), error));
            view.transfer_data(b"222").complete();
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

    // A layer drops a part while it settles the packet, and does not pass the part on.
    let mut packet = PacketBox::new_buf(4).unwrap();
    let (rebound, fresh) = super::interception::rebound(&mut packet);
    drop(fresh);
    rebound.settle(drop).unwrap();
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
        let _ = rebound.settle(|_part| panic!("in the layer"));
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

#[test]
fn rule_14_parts_are_answered_as_they_come_while_others_are_in_flight() {
    let mut packet = PacketBox::<Write>::new_buf(9).unwrap();
    let rebound = ReboundPacket::new(packet.bind().unwrap()).unwrap();
    let view = rebound
        .bind_each(|mut part| {
            let Some(bytes) = part.bytes_mut() else { return part.complete() };
            bytes.reverse();
            match part.range().start {
                0 => part.complete(),
                // Bytes that the device below has done may still be failed.
                _ => part.error(IoError::from_code(Code::CORRUPT)),
            }
        })
        .unwrap();
    let (one, rest) = view.split_at(3);
    let (two, three) = rest.split_at(3);
    one.transfer_data(b"123").complete();
    assert_eq!(packet.report().failed_ranges().next(), Some((0..9, IoError::IN_FLIGHT)));
    three.fail(&Cause::new(IoError::END, "nothing there"));
    assert!(!packet.is_complete());
    two.transfer_data(b"456").complete();
    assert!(packet.is_complete());
    let report = packet.report();
    assert_eq!(
        report.failed_ranges().collect::<Vec<_>>(),
        [(3..6, IoError::from_code(Code::CORRUPT)), (6..9, IoError::END)]
    );
    assert_eq!(report.causes().last().unwrap().1.text(), Some("nothing there"));
    assert_eq!(packet.done_slice(0..3), Ok(&b"321"[..]));
}

#[test]
fn rule_14_a_part_may_be_answered_after_its_fresh_packet_is_gone_and_in_pieces() {
    let mut packet = PacketBox::<Write>::new_buf(8).unwrap();
    let kept = Arc::new(Mutex::new(Vec::new()));
    let parts = kept.clone();
    let rebound = ReboundPacket::new(packet.bind().unwrap()).unwrap();
    let view = rebound.bind_each(move |part| lock(&parts).push(part)).unwrap();
    let (front, back) = view.split_at(5);
    back.transfer_data(b"678").complete();
    front.transfer_data(b"12345").complete();
    let mut parts = std::mem::take(&mut *lock(&kept));
    assert_eq!(Arc::strong_count(&kept), 1, "the fresh packet and its output are gone");
    assert!(!packet.is_complete());
    parts.sort_by_key(|part| part.range().start);
    let back = parts.pop().unwrap();
    let (one, two) = parts.pop().unwrap().split_at(2);
    assert_eq!((one.range(), two.range(), two.bytes()), (0..2, 2..5, Some(&b"345"[..])));
    back.complete();
    drop(two);
    thread::spawn(move || one.complete()).join().unwrap();
    assert_eq!(packet.report().failed_ranges().collect::<Vec<_>>(), [(2..5, IoError::UNANSWERED)]);
}

#[test]
fn rule_14_a_layer_that_panics_on_a_part_fails_that_part_alone() {
    let mut packet = PacketBox::<Write>::new_buf(4).unwrap();
    let rebound = ReboundPacket::new(packet.bind().unwrap()).unwrap();
    let view = rebound
        .bind_each(|part| {
            assert_ne!(part.range().start, 0, "planned");
            part.complete();
        })
        .unwrap();
    let (front, back) = view.split_at(2);
    front.transfer_data(b"12").complete();
    back.transfer_data(b"34").complete();
    assert_eq!(packet.report().failed_ranges().collect::<Vec<_>>(), [(0..2, IoError::UNANSWERED)]);
}

#[test]
fn rule_14_parts_come_as_a_stream_with_an_account_of_what_is_missing() {
    use futures_lite::StreamExt;

    let mut packet = PacketBox::<Read>::copy_from_slice(b"0123456789").unwrap();
    let rebound = ReboundPacket::new(packet.bind().unwrap()).unwrap();
    let (mut stream, view) = rebound.bind_stream().unwrap();
    let (front, back) = view.split_at(4);
    assert_eq!((stream.in_flight(), stream.ranges().next()), (2, Some(0..10)));
    back.transfer_data(&mut [0; 6]).complete();
    let part = futures_lite::future::block_on(stream.next()).unwrap();
    assert_eq!((part.range(), part.bytes()), (4..10, Some(&b"456789"[..])));
    part.complete();
    assert_eq!((stream.in_flight(), stream.ranges().next()), (1, Some(0..4)));
    front.error(IoError::END);
    let part = futures_lite::future::block_on(stream.next()).unwrap();
    assert_eq!(part.result().unwrap_err().error(), IoError::END);
    drop(stream);
    part.into_view().transfer_data(&mut [0; 4]).complete();
    assert!(packet.is_done());

    // Parts that were not taken out fail, and those in flight show as cancelled.
    let rebound = ReboundPacket::new(packet.bind().unwrap()).unwrap();
    let (stream, view) = rebound.bind_stream().unwrap();
    let (front, back) = view.split_at(4);
    front.transfer_data(&mut [0; 4]).complete();
    assert!(!back.is_cancelled());
    drop(stream);
    assert!(back.is_cancelled());
    back.transfer_data(&mut [0; 6]).complete();
    assert_eq!(packet.report().failed_ranges().collect::<Vec<_>>(), [(0..10, IoError::UNANSWERED)]);
}

#[test]
fn rule_21_a_cancelled_origin_shows_on_every_view_at_any_depth() {
    for by_drop in [false, true] {
        let mut packet = PacketBox::<Write>::new_buf(8).unwrap();
        let mut view = packet.bind().unwrap();
        let request = view.request();
        assert_eq!(request, packet.request());
        for depth in 0..200 {
            view = match depth % 3 {
                0 => {
                    let mut rebound = ReboundPacket::new(view).unwrap();
                    let fresh = rebound.bind().unwrap();
                    rebound.on_complete(|rebound| rebound.forward().unwrap());
                    fresh
                }
                1 => ReboundPacket::new(view).unwrap().bind_each(ReturnedPart::complete).unwrap(),
                _ => {
                    let len = view.len();
                    let mut derived = DerivedPacket::<_, Write, Write>::new(view, vec![0; len]).unwrap();
                    let fresh = derived.bind().unwrap();
                    derived.on_complete(|derived| {
                        let (view, bytes, report) = derived.into_parts().unwrap();
                        report.answer(&bytes, 0, view);
                    });
                    fresh
                }
            };
            assert_eq!(view.request(), request, "views of all layers belong to one request");
        }
        let (front, back) = view.split_at(3);
        assert!(!front.is_cancelled() && !back.is_cancelled());
        if by_drop {
            drop(packet);
            assert!(front.is_cancelled() && back.is_cancelled());
            front.error(IoError::CANCELLED);
            drop(back);
        } else {
            packet.cancel();
            assert!(front.is_cancelled() && back.is_cancelled());
            front.error(IoError::CANCELLED);
            back.transfer_data(b"45678").complete();
            assert_eq!(packet.report().failed_ranges().collect::<Vec<_>>(), [(0..3, IoError::CANCELLED)]);
        }
    }
}

#[test]
fn bytes_of_a_complex_origin_are_not_shown_to_a_layer() {
    let mut packet = ComplexPacket::<Lazy, Write>::new(Lazy::new(4)).unwrap();
    let view = packet.bind().unwrap();
    assert!(!view.has_bytes());
    let fresh = ReboundPacket::new(view)
        .unwrap()
        .bind_each(|mut part| {
            assert!(part.bytes().is_none() && part.bytes_mut().is_none());
            part.complete();
        })
        .unwrap();
    fresh.transfer_data(b"lazy").complete();
    assert_eq!(packet.sync_back().unwrap().into_bytes().as_deref(), Some(&b"lazy"[..]));
}

#[test]
fn a_derived_packet_that_is_dropped_fails_its_origin_when_its_memory_is_free() {
    let mut packet = PacketBox::<Write>::new_buf(4).unwrap();
    let derived = DerivedPacket::<_, Write, Write>::new(packet.bind().unwrap(), vec![0; 8]).unwrap();
    drop(derived);
    assert_eq!(packet.min_error(), Some((0, IoError::UNANSWERED)));

    let mut derived = DerivedPacket::<_, Write, Write>::new(packet.bind().unwrap(), vec![0; 8]).unwrap();
    let fresh = derived.bind().unwrap();
    drop(derived);
    assert!(fresh.is_cancelled() && !packet.is_complete());
    fresh.transfer_data(&[1; 8]).complete();
    assert_eq!(packet.min_error(), Some((0, IoError::UNANSWERED)));
}

#[test]
fn an_encoded_copy_of_a_write_answers_its_origin_part_by_part() {
    let encode = |view: BoundPacketView<Read>| {
        let mut bytes = vec![0; view.len()];
        view.copy_to(&mut bytes).unwrap();
        bytes.iter_mut().for_each(|byte| *byte = byte.to_ascii_uppercase());
        let mut copy = DerivedPacket::<_, Read, Read>::new(view, bytes).unwrap();
        let fresh = copy.bind().unwrap();
        copy.on_complete(|copy| {
            let (view, _, report) = copy.into_parts().unwrap();
            report.answer_write(0, view);
        });
        fresh
    };
    let mut packet = PacketBox::<Read>::copy_from_slice(b"written").unwrap();
    let (front, rest) = encode(packet.bind().unwrap()).split_at(2);
    let (middle, back) = rest.split_at(2);
    let mut stored = [0; 7];
    front.transfer_data(&mut stored[..2]).complete();
    middle.fail(&Cause::new(IoError::from_code(Code::NO_SPACE), "block 1 is full"));
    back.transfer_data(&mut stored[4..]).complete();
    assert_eq!(&stored, b"WR\0\0TEN");
    let report = packet.report();
    assert_eq!(report.to_string(), "5 of 7 bytes; 2..4: no space left: block 1 is full");
    assert_eq!(packet.bytes_mut().unwrap(), b"written", "the caller's bytes are as they were");

    // A function produces the bytes of the request, and fails for some of them.
    let generated = Generated::new(6, |at, bytes| {
        bytes.fill(b'a');
        if at > 3 { Err(IoError::UNSUPPORTED) } else { Ok(()) }
    });
    let mut packet = ComplexPacket::<_, Read>::new(generated).unwrap();
    let (front, back) = packet.bind().unwrap().split_at(4);
    assert_eq!(back.copy_to(&mut [0; 2]), Err(IoError::UNSUPPORTED));
    let mut stored = [0; 4];
    encode(front).transfer_data(&mut stored).complete();
    back.error(IoError::UNSUPPORTED);
    assert_eq!(&stored, b"AAAA");
}

#[test]
#[should_panic(expected = "3 bytes of 2 cannot be copied")]
fn no_more_is_copied_out_of_a_write_than_it_has() {
    let mut packet = PacketBox::<Read>::copy_from_slice(b"12").unwrap();
    let _ = packet.bind().unwrap().copy_to(&mut [0; 3]);
}
