//! Tests of packets and views, named after the rules of the packet system that they check.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use super::*;
use crate::{Code, IoError};

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn poll(packet: &mut PacketBox<Write>, wakes: &Arc<Wakes>) -> Poll<()> {
    Pin::new(packet).poll(&mut Context::from_waker(&Waker::from(wakes.clone())))
}

fn write_packet(len: usize) -> PacketBox<Write> {
    PacketBox::new_buf(len).unwrap()
}

#[test]
fn rule_1_a_request_whose_owner_is_gone_keeps_its_memory() {
    let mut packet = VecPacket::<Write>::new(vec![0; 4096]).unwrap();
    let view = packet.bind().unwrap();
    drop(packet);
    view.transfer_data(&[1; 4096]).complete();

    let mut packet = write_packet(100_000);
    let (front, back) = packet.bind().unwrap().split_at(50_000);
    drop(packet);
    let mut bytes = front.try_alloc(1).unwrap();
    bytes.unfilled_mut().fill(3);
    back.transfer_data(&[2; 50_000]).complete();
    bytes.complete();
}

#[test]
fn rule_2_an_untouched_view_fails_and_shows_no_byte() {
    let mut packet = write_packet(8);
    drop(packet.bind().unwrap());
    assert_eq!(packet.report().min_error(), Some((0, IoError::UNANSWERED)));
    assert_eq!(packet.simple_slice(), Err(IoError::UNANSWERED));
    assert_eq!(packet.simple_contiguous_slice(), Err(IoError::UNANSWERED));
    let mut untouched = [9; 8];
    packet.copy_done_to(&mut untouched);
    assert_eq!(untouched, [9; 8]);
}

#[test]
fn rule_2_allocated_bytes_count_only_as_far_as_they_were_filled() {
    let mut packet = write_packet(8);
    let mut bytes = packet.bind().unwrap().try_alloc(1).unwrap();
    assert_eq!(bytes.put_slice(b"abc"), 3);
    bytes.complete();
    assert_eq!(packet.report().to_string(), "3 of 8 bytes; 3..8: only a part was moved");
    drop(packet.bind().unwrap().try_alloc(1).unwrap());
    assert_eq!(packet.report().done(), 0);
}

#[test]
fn rule_2_a_view_that_is_dropped_in_a_panic_fails() {
    let mut packet = write_packet(4);
    let view = packet.bind().unwrap();
    let caught = std::panic::catch_unwind(move || {
        let _view = view;
        panic!("device");
    });
    assert!(caught.is_err());
    assert_eq!(packet.report().min_error(), Some((0, IoError::UNANSWERED)));
}

#[test]
fn rule_3_the_bytes_and_the_result_are_there_when_the_wake_comes() {
    struct Looks(std::sync::Mutex<Option<PacketBox<Write>>>, AtomicUsize);
    impl Wake for Looks {
        fn wake(self: Arc<Self>) {
            let packet = self.0.lock().unwrap().take().unwrap();
            assert_eq!(packet.report().to_string(), "2 of 4 bytes; 2..4: not supported");
            self.1.fetch_add(1, Ordering::SeqCst);
        }
    }
    let looks = Arc::new(Looks(std::sync::Mutex::new(None), AtomicUsize::new(0)));
    let waker = Waker::from(looks.clone());
    let mut packet = write_packet(4);
    let (front, back) = packet.bind().unwrap().split_at(2);
    assert!(Pin::new(&mut packet).poll(&mut Context::from_waker(&waker)).is_pending());
    *looks.0.lock().unwrap() = Some(packet);
    back.error(IoError::UNSUPPORTED);
    assert_eq!(looks.1.load(Ordering::SeqCst), 0, "woken before the last view was answered");
    front.transfer_data(b"ok").complete();
    assert_eq!(looks.1.load(Ordering::SeqCst), 1);
}

#[test]
fn rule_4_a_waker_may_drop_the_packet_it_belongs_to() {
    struct Drops(std::sync::Mutex<Option<PacketBox<Write>>>);
    impl Wake for Drops {
        fn wake(self: Arc<Self>) {
            drop(self.0.lock().unwrap().take());
        }
    }
    let drops = Arc::new(Drops(std::sync::Mutex::new(None)));
    let mut packet = write_packet(4);
    let view = packet.bind().unwrap();
    let waker = Waker::from(drops.clone());
    assert!(Pin::new(&mut packet).poll(&mut Context::from_waker(&waker)).is_pending());
    *drops.0.lock().unwrap() = Some(packet);
    view.transfer_data(b"gone").complete();
    assert!(drops.0.lock().unwrap().is_none());
}

#[test]
fn rule_6_a_packet_is_reused_at_the_same_place_with_its_state_reset() {
    let wakes = Arc::new(Wakes::default());
    let mut packet = write_packet(4);
    let mut places = Vec::new();
    for round in 0..3u8 {
        let view = packet.bind().unwrap();
        assert!(poll(&mut packet, &wakes).is_pending());
        if round == 1 {
            view.error(IoError::UNSUPPORTED);
            assert_eq!(packet.simple_slice(), Err(IoError::UNSUPPORTED));
        } else {
            view.transfer_data(&[round; 4]).complete();
            assert_eq!(packet.simple_slice(), Ok(&[round; 4][..]));
            places.push(packet.simple_slice().unwrap().as_ptr());
        }
        assert!(poll(&mut packet, &wakes).is_ready());
        assert_eq!(Arc::strong_count(&wakes), 1, "a stale waker is left");
    }
    assert_eq!(places[0], places[1]);
    assert_eq!(wakes.0.load(Ordering::SeqCst), 3);
}

#[test]
fn rule_6_a_packet_in_flight_is_not_bound_again() {
    let mut packet = write_packet(4);
    let view = packet.bind().unwrap();
    assert_eq!(packet.bind().unwrap_err(), IoError::IN_FLIGHT);
    assert_eq!(packet.report().min_error(), Some((0, IoError::IN_FLIGHT)));
    assert_eq!(packet.simple_slice(), Err(IoError::IN_FLIGHT));
    view.transfer_data(b"done").complete();
    assert!(packet.bind().is_ok());
}

#[test]
fn rule_7_one_clone_per_waiting_packet_and_none_left() {
    let wakes = Arc::new(Wakes::default());
    let other = Arc::new(Wakes::default());
    for _ in 0..1000 {
        let mut packet = write_packet(4);
        let view = packet.bind().unwrap();
        for _ in 0..3 {
            assert!(poll(&mut packet, &wakes).is_pending());
            assert_eq!(Arc::strong_count(&wakes), 2);
        }
        assert!(poll(&mut packet, &other).is_pending());
        assert_eq!((Arc::strong_count(&wakes), Arc::strong_count(&other)), (1, 2));
        view.transfer_data(b"1234").complete();
        assert_eq!(Arc::strong_count(&other), 1);
    }
    assert_eq!(wakes.0.load(Ordering::SeqCst), 0, "a stale waker was woken");
    assert_eq!(other.0.load(Ordering::SeqCst), 1000);
}

#[test]
fn rule_8_a_vector_in_flight_cannot_be_taken_and_is_not_lost() {
    let mut packet = VecPacket::<Write>::new(vec![5; 4]).unwrap();
    let view = packet.bind().unwrap();
    assert_eq!(packet.take(), Err(IoError::IN_FLIGHT));
    let (front, back) = view.split_at(2);
    front.transfer_data(&[6; 2]).complete();
    drop(back);
    assert_eq!(packet.take(), Ok(vec![6, 6, 5, 5]));
    assert_eq!(packet.take(), Ok(vec![]));
}

#[test]
fn rule_8_uninitialised_bytes_are_zeroed_before_they_are_shown() {
    let mut packet = VecPacket::<Write>::with_len(64).unwrap();
    let mut bytes = packet.bind().unwrap().try_alloc(1).unwrap();
    bytes.put_slice(&[1; 10]);
    let rest = bytes.unfilled_mut();
    assert_eq!(rest, [0; 54]);
    rest[..6].fill(2);
    bytes.advance(6);
    let (front, back) = bytes.split_at(20);
    assert_eq!((front.filled(), back.filled()), (16, 0));
    front.complete();
    back.error(IoError::END);
    assert_eq!(packet.take_done().unwrap(), [[1; 10].as_slice(), &[2; 6]].concat());
}

#[test]
#[should_panic(expected = "never initialised")]
fn rule_8_bytes_that_were_never_shown_cannot_be_called_filled() {
    let mut packet = write_packet(4);
    packet.bind().unwrap().try_alloc(1).unwrap().advance(1);
}

#[test]
fn rule_8_a_typed_value_appears_only_whole() {
    let mut packet = FullPacket::<u64, Write>::new_uninit().unwrap();
    packet.bind().unwrap().transfer_data(&[1, 2, 3]).complete();
    assert_eq!(packet.get(), Err(IoError::END));
    packet.bind().unwrap().transfer_data(&7u64.to_ne_bytes()).complete();
    assert_eq!(packet.get(), Ok(7));
}

#[test]
fn rule_9_five_of_ten_written_bytes_are_an_error() {
    let mut packet = PacketBox::<Read>::copy_from_slice(&[1; 10]).unwrap();
    let mut storage = [0; 5];
    packet.bind().unwrap().transfer_data(&mut storage).complete();
    let report = packet.report();
    assert_eq!(report.err_any(), Err(IoError::END));
    assert_eq!((report.done(), report.err_on_zero(), report.error_clamp()), (5, Ok(5), 5));
    assert_eq!(storage, [1; 5]);
}

#[test]
fn rule_9_the_report_covers_every_byte_once_and_in_order() {
    let mut packet = write_packet(100);
    let mut rest = packet.bind().unwrap();
    for index in 0..10 {
        let (front, back) = rest.split_at(10);
        match index % 3 {
            0 => front.transfer_data(&[0; 10]).complete(),
            1 => front.error(IoError::UNSUPPORTED),
            _ => drop(front),
        }
        rest = back;
    }
    drop(rest);
    let report = packet.report();
    assert_eq!(report.segments(), 11);
    let mut at = 0;
    for (range, _) in report.ranges() {
        assert_eq!(range.start, at);
        assert!(range.end > at);
        at = range.end;
    }
    assert_eq!(at, 100);
    assert_eq!(report.done(), 40);
    assert_eq!(report.done_ranges().map(|range| range.len()).sum::<usize>(), 40);
    assert!(report.to_string().ends_with("and 2 more ranges"), "{report}");
}

#[test]
fn rule_10_the_lowest_offset_comes_with_its_own_error() {
    let mut packet = write_packet(30);
    let (a, rest) = packet.bind().unwrap().split_at(10);
    let (b, c) = rest.split_at(10);
    c.error(IoError::from_code(Code::BUSY));
    b.error(IoError::from_code(Code::CORRUPT));
    a.transfer_data(&[0; 10]).complete();
    assert_eq!(packet.report().min_error(), Some((10, IoError::from_code(Code::CORRUPT))));
}

#[test]
fn rule_11_a_split_write_copies_its_own_range_to_the_start_of_the_buffer() {
    let data: Vec<u8> = (0..10).collect();
    let mut packet = PacketBox::<Read>::copy_from_slice(&data).unwrap();
    let (front, back) = packet.bind().unwrap().split_at(4);
    let mut storage = [0xff; 8];
    back.transfer_data(&mut storage).complete();
    assert_eq!(storage, [4, 5, 6, 7, 8, 9, 0xff, 0xff]);
    let mut short = [0xff; 3];
    front.transfer_data(&mut short).complete();
    assert_eq!(short, [0, 1, 2]);
    assert_eq!(packet.report().to_string(), "9 of 10 bytes; 3..4: past the end of the device");
}

#[test]
fn rule_12_splits_at_the_edges_are_defined_and_leave_the_count_right() {
    for at in [0, 1, 4, 5, usize::MAX] {
        let mut packet = write_packet(4);
        let (front, back) = packet.bind().unwrap().split_at(at);
        assert_eq!((front.len(), back.len()), (at.min(4), 4 - at.min(4)));
        front.transfer_data(&[1; 4]).complete();
        assert!(!packet.is_complete());
        back.transfer_data(&[1; 4]).complete();
        assert_eq!(packet.simple_slice(), Ok(&[1; 4][..]), "split at {at}");
    }
}

#[test]
fn rule_12_empty_parts_that_are_dropped_fail_nothing() {
    let mut packet = write_packet(4);
    let (all, empty) = packet.bind().unwrap().split_at(4);
    drop(empty);
    all.transfer_data(b"full").complete();
    assert!(packet.is_done());
}

#[test]
fn rule_13_what_was_never_submitted_or_has_no_bytes_resolves() {
    let wakes = Arc::new(Wakes::default());
    let mut packet = write_packet(4);
    assert!(poll(&mut packet, &wakes).is_ready());
    assert_eq!(packet.report().min_error(), Some((0, IoError::NOT_SUBMITTED)));
    assert_eq!(packet.simple_slice(), Err(IoError::NOT_SUBMITTED));

    let mut empty = write_packet(0);
    assert!(poll(&mut empty, &wakes).is_ready());
    assert_eq!(empty.simple_slice(), Ok(&[][..]));
    let view = empty.bind().unwrap();
    assert!(poll(&mut empty, &wakes).is_pending());
    drop(view);
    assert!(poll(&mut empty, &wakes).is_ready());
    assert!(empty.is_done() && empty.report().is_done());
}

#[test]
fn rule_16_sizes_that_cannot_be_had_are_errors() {
    for len in [usize::MAX, usize::MAX - 63, isize::MAX as usize, isize::MAX as usize - 64] {
        assert_eq!(PacketBox::<Write>::new_buf(len).unwrap_err(), IoError::OUT_OF_MEMORY);
    }
    assert_eq!(VecPacket::<Write>::with_len(usize::MAX).unwrap_err(), IoError::OUT_OF_MEMORY);
    assert_eq!(PacketBox::<Write>::new_buf_aligned(8, 3).unwrap_err(), IoError::OUT_OF_MEMORY);
}

#[test]
fn rule_16_alignment_is_kept_and_refused_where_it_is_not_there() {
    for align in [1, 2, 64, 512, 4096, 65536] {
        for len in [0, 1, 64, 5000, 70_000] {
            let mut packet = PacketBox::<Write>::new_buf_aligned(len, align).unwrap();
            let mut bytes = packet.bind().unwrap().try_alloc(align).expect("not aligned");
            assert!((bytes.unfilled_ptr() as usize).is_multiple_of(align));
            bytes.unfilled_mut().fill(1);
            bytes.advance(len);
            bytes.complete();
            assert!(packet.is_done());
        }
    }
    let mut packet = write_packet(10);
    let (one, rest) = packet.bind().unwrap().split_at(1);
    drop(one);
    assert!(rest.try_alloc(64).is_err());
}

#[test]
fn rule_16_a_value_of_any_alignment_can_be_read() {
    #[derive(Clone, Copy, PartialEq, Debug)]
    #[repr(C, align(4096))]
    struct Page([u8; 4096]);
    // SAFETY: `Page` is plain bytes without padding.
    unsafe impl bytemuck::Zeroable for Page {}
    // SAFETY: `Page` is plain bytes without padding.
    unsafe impl bytemuck::Pod for Page {}

    let mut packet = FullPacket::<Page, Write>::new_uninit().unwrap();
    packet.bind().unwrap().transfer_data(&[3; 4096]).complete();
    assert_eq!(packet.get(), Ok(Page([3; 4096])));
    let mut packet = FullPacket::<[u8; 0], Write>::new_uninit().unwrap();
    drop(packet.bind().unwrap());
    assert_eq!(packet.get(), Ok([]));
}

#[test]
fn rule_19_tags_survive_splits() {
    let mut packet = write_packet(4);
    let mut view = packet.bind().unwrap();
    view.set_tag((1 << 63) - 1);
    let (front, back) = view.split_at(2);
    assert_eq!((front.tag(), back.tag()), ((1 << 63) - 1, (1 << 63) - 1));
    assert_eq!((front.offset(), back.offset()), (0, 2));
}

#[test]
fn packets_of_every_size_class_carry_their_bytes() {
    for len in [0, 1, 63, 64, 65, 255, 256, 257, 4096, 4097, 65536, 65537, 1 << 20] {
        let data: Vec<u8> = (0..len).map(|i| i as u8).collect();
        let mut packet = write_packet(len);
        packet.bind().unwrap().transfer_data(&data).complete();
        assert_eq!(packet.simple_slice().unwrap(), data);
    }
}

#[test]
fn an_empty_packet_in_flight_has_no_bytes_yet() {
    let mut packet = PacketBox::<Write>::new_buf(0).unwrap();
    let view = packet.bind().unwrap();
    assert_eq!(packet.simple_slice(), Err(IoError::IN_FLIGHT));
    assert_eq!(packet.simple_contiguous_slice(), Err(IoError::IN_FLIGHT));
    view.error(IoError::END);
    assert_eq!(packet.simple_slice(), Ok(&[][..]));
}

#[test]
fn a_rebound_packet_that_is_bound_again_in_flight_cancels_its_view() {
    let mut packet = PacketBox::<Write>::new_buf(8).unwrap();
    let mut rebound = ReboundPacket::new(packet.bind().unwrap()).unwrap();
    let fresh = rebound.bind().unwrap();
    assert!(!fresh.is_cancelled());
    assert_eq!(rebound.bind_each(|part| part.complete()).err(), Some(IoError::IN_FLIGHT));
    assert!(fresh.is_cancelled(), "the device goes on with it");
    drop(fresh);
    assert!(packet.is_complete());
}
