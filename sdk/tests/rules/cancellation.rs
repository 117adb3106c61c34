//! Rule 21: cancellation is a verb.

use std::sync::Arc;
use std::task::Poll;

use pactio_sdk::*;

use crate::support::{Held, lock, now, poll};

#[test]
fn rule_21_when_the_cancel_resolves_the_memory_is_reusable() {
    let device = Held::<Write>::new();
    let mut request = device.read_raw(0, vec![1; 8]);
    assert!(poll(&mut request, &Arc::default()).is_pending());
    let mut cancel = request.cancel();
    let (_, view) = device.take();
    assert_eq!(*lock(&device.1), [view.request()]);
    assert!(view.is_cancelled());
    assert!(poll(&mut cancel, &Arc::default()).is_pending(), "resolved while the device has the view");
    // The device has read a part already.
    let (front, back) = view.split_at(3);
    front.transfer_data(b"abc").complete();
    back.error(IoError::CANCELLED);
    let Poll::Ready(Ok((report, buffer))) = poll(&mut cancel, &Arc::default()) else { panic!("not ready") };
    assert_eq!(report.to_string(), "3 of 8 bytes; 3..8: cancelled");
    assert_eq!(&buffer[..3], b"abc");
}

#[test]
fn rule_21_a_device_that_ignores_it_delays_only_its_own_request() {
    let (slow, fast) = (Held::<Write>::new(), Held::<Write>::new());
    let (mut one, mut two) = (slow.read_raw(0, vec![0; 4]), fast.read_raw(0, vec![0; 4]));
    assert!(poll(&mut one, &Arc::default()).is_pending());
    assert!(poll(&mut two, &Arc::default()).is_pending());
    let (mut one, mut two) = (one.cancel(), two.cancel());
    fast.take().1.error(IoError::CANCELLED);
    assert!(poll(&mut two, &Arc::default()).is_ready());
    assert!(poll(&mut one, &Arc::default()).is_pending());
    slow.take().1.transfer_data(b"late").complete();
    let Poll::Ready(Ok((report, buffer))) = poll(&mut one, &Arc::default()) else { panic!("not ready") };
    assert!(report.is_done(), "what was done is done");
    assert_eq!(buffer, b"late");
}

#[test]
fn rule_21_what_was_not_submitted_is_not_submitted_any_more() {
    let device = Held::<Write>::new();
    let (report, buffer) = now(device.read_raw(0, vec![5; 4]).cancel()).unwrap();
    assert_eq!((report.err_any(), buffer), (Err(IoError::NOT_SUBMITTED), vec![5; 4]));
    assert_eq!(device.len(), 0);
}

#[test]
fn rule_21_a_dropped_future_asks_for_cancellation() {
    let device = Held::<Write>::new();
    let mut request = device.read_all(0, vec![0; 4]);
    assert!(poll(&mut request, &Arc::default()).is_pending());
    drop(request);
    let (_, view) = device.take();
    assert!(view.is_cancelled());
    assert_eq!(*lock(&device.1), [view.request()]);

    let mut stream = device.io_to_stream(0, PacketBox::new_buf(4).unwrap());
    assert!(poll(&mut futures_lite::StreamExt::next(&mut stream), &Arc::default()).is_pending());
    drop(stream);
    assert_eq!(lock(&device.1).len(), 2);
    assert!(device.take().1.is_cancelled());

    // A request that is complete asks for no cancellation.
    let mut request = device.read_all(0, vec![0; 4]);
    assert!(poll(&mut request, &Arc::default()).is_pending());
    device.take().1.transfer_data(b"done").complete();
    drop(request);
    assert_eq!(lock(&device.1).len(), 2);
}

#[test]
fn rule_6_a_cancelled_packet_is_bound_again_without_a_trace() {
    let mut packet = PacketBox::<Write>::new_buf(4).unwrap();
    let view = packet.bind().unwrap();
    packet.cancel();
    assert!(view.is_cancelled());
    view.error(IoError::CANCELLED);
    packet.cancel();
    let view = packet.bind().unwrap();
    assert!(!view.is_cancelled());
    view.transfer_data(b"next").complete();
    assert_eq!(packet.simple_slice(), Ok(&b"next"[..]));
}

#[test]
fn rule_16_a_request_that_cannot_be_made_says_so_also_when_it_is_cancelled() {
    struct TooMuch;
    impl IntoPacket<Write> for TooMuch {
        type Store = PacketBox<Write>;
        fn into_packet(self) -> Result<PacketBox<Write>, IoError> {
            PacketBox::new_buf(usize::MAX)
        }
    }
    let device = Held::<Write>::new();
    assert_eq!(now(device.read_raw(0, TooMuch)).unwrap_err(), IoError::OUT_OF_MEMORY);
    assert_eq!(now(device.read_raw(0, TooMuch).cancel()).unwrap_err(), IoError::OUT_OF_MEMORY);
}
