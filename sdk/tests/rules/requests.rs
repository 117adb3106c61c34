//! Requests as futures, and the helpers that make them.

use std::mem::MaybeUninit;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use futures_lite::StreamExt;
use futures_lite::future::block_on;
use pactio_sdk::io::{Internal, Submitted};
use pactio_sdk::*;

use crate::support::{Held, Plain, Wakes, lock, now, poll};

fn plain() -> LocalDevice<Plain> {
    LocalDevice::new(Plain::new(100)).unwrap()
}

#[test]
fn rule_1_dropping_a_future_with_owned_memory_in_flight_frees_it_with_the_last_view() {
    // Was: the bytes and then the header were freed while the device still held a view.
    fn check<B: IntoPacket<Write>>(buffer: B) {
        let device = Held::<Write>::new();
        let mut request = device.read_raw(0, buffer);
        assert!(poll(&mut request, &Arc::default()).is_pending());
        drop(request);
        let (_, view) = device.take();
        assert!(view.is_cancelled());
        let mut direct = view.try_alloc(1).unwrap();
        direct.unfilled_mut().fill(1);
        direct.complete();
    }
    check(vec![0; 4096]);
    check(vec![0; 4096].into_boxed_slice());
    check(&mut [0; 64]);
    check(PacketBox::new_buf(100_000).unwrap());
}

#[test]
fn rule_7_a_thousand_reads_leave_one_reference_to_the_waker() {
    // Was: 1,001 live references after 1,000 reads.
    let wakes = Arc::new(Wakes::default());
    let device = Held::<Write>::new();
    for _ in 0..1000 {
        let mut request = device.read_all(0, vec![0; 4]);
        for _ in 0..3 {
            assert!(poll(&mut request, &wakes).is_pending());
            assert!(Arc::strong_count(&wakes) <= 2);
        }
        device.take().1.transfer_data(b"data").complete();
        assert!(poll(&mut request, &wakes).is_ready());
    }
    assert_eq!(Arc::strong_count(&wakes), 1);
    assert_eq!(wakes.count(), 1000);
}

#[test]
fn rule_8_typed_reads_give_a_value_only_if_every_byte_arrived() {
    let device = plain();
    assert_eq!(now(device.read::<[u8; 4]>(96)), Ok([96, 97, 98, 99]));
    assert_eq!(now(device.read::<[u8; 4]>(97)), Err(IoError::END));
    let mut value = 7u32;
    assert_eq!(now(device.read_into(98, &mut value)), Err(IoError::END));
    assert_eq!(value, 7, "a part of a value was written to its place");
    now(device.read_into(0, &mut value)).unwrap();
    assert_eq!(value, u32::from_ne_bytes([0, 1, 2, 3]));
}

#[test]
fn rule_9_exact_by_default_and_partial_by_report() {
    // Was: five of ten bytes written returned Ok.
    let device = plain();
    assert_eq!(now(device.write_all(95, &[9; 10])), Err(IoError::END));
    let (report, ()) = now(device.write_raw(95, &[8; 10])).unwrap();
    assert_eq!((report.done(), report.len(), report.min_error()), (5, 10, Some((5, IoError::END))));
    let mut buffer = [1; 10];
    assert_eq!(now(device.read_all(95, &mut buffer)), Err(IoError::END));
    assert_eq!(buffer, [1; 10], "a failed exact read has written to its buffer");
    let (report, ()) = now(device.read_raw(95, &mut buffer)).unwrap();
    assert_eq!(report.error_clamp(), 5);
    assert_eq!(buffer, [8, 8, 8, 8, 8, 1, 1, 1, 1, 1]);
}

#[test]
fn every_kind_of_buffer_comes_back_as_it_should() {
    let device = plain();
    assert_eq!(now(device.read_all(1, vec![0; 3])).unwrap(), [1, 2, 3]);
    assert_eq!(&now(device.read_all(1, vec![0; 3].into_boxed_slice())).unwrap()[..], [1, 2, 3]);
    assert_eq!(
        now(device.read_all(1, PacketBox::new_buf(3).unwrap())).unwrap().simple_slice(),
        Ok(&[1, 2, 3][..])
    );
    let mut vector = vec![0; 3];
    now(device.read_all(2, &mut vector)).unwrap();
    assert_eq!(vector, [2, 3, 4]);
    let mut uninit = [MaybeUninit::uninit(); 8];
    let (report, done) = now(device.read_raw(95, &mut uninit[..])).unwrap();
    assert_eq!((done, report.done()), (&mut [95, 96, 97, 98, 99][..], 5));
    now(device.write_all(0, vec![5, 6])).unwrap();
    now(device.write(2, &0x0807u16.to_le())).unwrap();
    assert_eq!(now(device.read::<[u8; 4]>(0)), Ok([5, 6, 7, 8]));
    // Uninitialised memory: bytes that were not read are zero.
    let vector = VecPacket::try_from(vec![MaybeUninit::uninit(); 8]).unwrap();
    assert_eq!(now(device.read_raw(95, vector)).unwrap().1, [95, 96, 97, 98, 99, 0, 0, 0]);
    let boxed = OwnedPacket::try_from(vec![MaybeUninit::uninit(); 3].into_boxed_slice()).unwrap();
    assert_eq!(*now(device.read_all(4, boxed)).unwrap(), [4, 5, 6]);
    assert!(
        VecPacket::<Read>::try_from(vec![1]).is_ok() && OwnedPacket::<Read>::try_from(Box::from([1])).is_ok()
    );
    // A value that exists already is only replaced as a whole.
    let mut value = FullPacket::<u16, Write>::new(7).unwrap();
    value.bind().unwrap().transfer_data(&[1, 1]).complete();
    assert_eq!(value.get(), Ok(0x0101));
}

#[test]
fn a_write_request_is_filled_anew_and_sent_again() {
    let device = plain();
    let mut packet = PacketBox::<Read>::copy_from_slice(&[1, 2]).unwrap();
    let view = packet.bind().unwrap();
    assert_eq!(packet.bytes_mut(), Err(IoError::IN_FLIGHT));
    device.send_io(0u64, view);
    packet.bytes_mut().unwrap()[1] = 3;
    device.send_io(10u64, packet.bind().unwrap());
    assert_eq!(now(device.read::<[u8; 2]>(0)), Ok([1, 2]));
    assert_eq!(now(device.read::<[u8; 2]>(10)), Ok([1, 3]));
    let mut value = FullPacket::<u32, Read>::new(1).unwrap();
    for at in 0..3u32 {
        value.set(at.to_le()).unwrap();
        device.send_io(u64::from(at) * 4, value.bind().unwrap());
    }
    assert_eq!(now(device.read::<[u8; 12]>(0)), Ok([0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0]));
    let mut mine = PacketBox::<ReadWrite>::copy_from_slice(&[9]).unwrap();
    device.send_io(0u64, mine.bind().unwrap());
    assert_eq!(mine.bytes_mut().unwrap(), [0]);
}

#[test]
fn one_buffer_is_written_to_several_places_at_once() {
    let device = Held::<Read>::new();
    let content: Arc<[u8]> = Arc::from(*b"shared");
    let mut requests: Vec<_> =
        (0..3).map(|at| Box::pin(device.write_all(at * 10, content.clone()))).collect();
    let wakes = Arc::new(Wakes::default());
    for request in &mut requests {
        assert!(poll(request, &wakes).is_pending());
    }
    assert_eq!(Arc::strong_count(&content), 4, "no copy was made");
    // One request is dropped while its device still reads.
    drop(requests.remove(0));
    let mut copies = Vec::new();
    while device.len() > 0 {
        let (_, view) = device.take();
        let mut bytes = [0; 6];
        view.transfer_data(&mut bytes).complete();
        copies.push(bytes);
    }
    assert_eq!(copies, [*b"shared"; 3]);
    for mut request in requests {
        let back = match poll(&mut request, &wakes) {
            std::task::Poll::Ready(back) => back.unwrap(),
            std::task::Poll::Pending => panic!("it was answered"),
        };
        assert!(Arc::ptr_eq(&back, &content));
    }
    assert_eq!(Arc::strong_count(&content), 1);
}

#[test]
fn views_in_every_state_fit_into_one_type() {
    fn settle(view: impl Into<AnyPacket>) {
        Errorable::error(view.into(), IoError::END);
    }
    let mut read = PacketBox::<Write>::new_buf(4).unwrap();
    let mut write = PacketBox::<Read>::copy_from_slice(b"1234").unwrap();
    settle(read.bind().unwrap());
    settle(read.bind().unwrap().try_alloc(1));
    settle(write.bind().unwrap().try_alloc(1));
    settle(read.bind().unwrap().transfer_data(b"1234"));
    settle(AllocedOrTransferred::<Write>::Err(read.bind().unwrap().transfer_data(b"1234")));
    settle(write.bind().unwrap().try_alloc(1).unwrap());
    let packet: StandardPktVariations<Read> = write.bind().unwrap().try_alloc(1).unwrap().into();
    settle(packet);
    assert_eq!((read.min_error(), write.min_error()), (Some((0, IoError::END)), Some((0, IoError::END))));
}

#[test]
fn an_exchange_moves_both_ways() {
    let device = plain();
    let mut mine = [200, 201, 202];
    now(device.exchange_all(10, &mut mine)).unwrap();
    assert_eq!(mine, [10, 11, 12]);
    assert_eq!(now(device.read::<[u8; 5]>(9)), Ok([9, 200, 201, 202, 13]));
    let (report, back) = now(device.exchange_raw(98, vec![1, 2, 3, 4])).unwrap();
    assert_eq!((report.done(), back), (2, vec![98, 99, 3, 4]));
}

#[test]
fn reading_to_the_end_takes_as_many_requests_as_it_needs() {
    let device = LocalDevice::new(Plain::new(100_000)).unwrap();
    let mut all = Vec::new();
    assert_eq!(now(device.read_to_end(7, &mut all)), Ok(100_000 - 7));
    assert_eq!(all.len(), 100_000 - 7);
    assert!(all.iter().enumerate().all(|(index, byte)| *byte == (index + 7) as u8));
    // The content of the vector stays in front, also when nothing is read or reading fails.
    let mut few = b"before".to_vec();
    assert_eq!(now(device.read_to_end(100_000, &mut few)), Ok(0));
    assert_eq!(now(device.read_to_end(u64::MAX, &mut few)), Err(IoError::TOO_LARGE));
    assert_eq!(now(device.read_to_end(99_998, &mut few)), Ok(2));
    assert_eq!(few, b"before\x9e\x9f");

    /// Has 20,000 bytes, and fails behind them.
    struct Torn;
    impl BackendDevice for Torn {
        fn info(&self) -> DeviceInfo {
            DeviceInfo::endless()
        }
        fn read(&self, position: u64, view: BoundPacketView<Write>) {
            let left = 20_000usize.saturating_sub(position as usize).min(view.len());
            view.transfer_data(&vec![7; left]).complete_with(left, IoError::from_code(Code::IO));
        }
    }
    let mut read = Vec::new();
    let torn = LocalDevice::new(Torn).unwrap();
    assert_eq!(now(torn.read_to_end(0, &mut read)).unwrap_err().code(), Code::IO);
    assert_eq!(read, [7; 20_000], "what was read before the failure is kept");
}

#[test]
fn rule_13_a_device_that_goes_away_with_a_view_resolves_it() {
    let wakes = Arc::new(Wakes::default());
    let device = Held::<Write>::new();
    let mut packet = PacketBox::<Write>::new_buf(4).unwrap();
    device.send_io(0, packet.bind().unwrap());
    assert!(poll(&mut packet, &wakes).is_pending());
    drop(device);
    assert_eq!(wakes.count(), 1);
    assert_eq!(packet.report().err_any(), Err(IoError::UNANSWERED));
}

#[test]
fn rule_13_what_has_no_bytes_or_reaches_too_far_is_ready_and_not_sent() {
    let device = Held::<Write>::new();
    now(device.read_all(0, vec![])).unwrap();
    assert_eq!(now(device.read_all(u64::MAX - 2, vec![0; 4])), Err(IoError::TOO_LARGE));
    assert_eq!(device.len(), 0);
}

#[test]
fn rule_15_a_store_does_not_give_its_packet_away() {
    // Was: swapping two headers in safe code. `PacketMut` has no `&mut PacketBox`; see its compile_fail example. Only whole
    // stores can be swapped.
    let (mut one, mut two) =
        (VecPacket::<Write>::new(vec![1; 3]).unwrap(), VecPacket::new(vec![2; 5]).unwrap());
    std::mem::swap(&mut one, &mut two);
    assert_eq!((one.take().unwrap(), two.take().unwrap()), (vec![2; 5], vec![1; 3]));
}

#[test]
fn segments_come_as_a_stream_while_the_request_is_in_flight() {
    let device = Held::<Write>::new();
    let mut stream = device.io_to_stream(0, PacketBox::new_buf(6).unwrap());
    let sender = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let first = block_on(stream.next()).unwrap().unwrap();
            assert_eq!((first.range(), first.bytes()), (3..6, Some(&b"def"[..])));
            let second = block_on(stream.next()).unwrap().unwrap();
            assert_eq!(second.result(), Err(IoError::END));
            block_on(stream.next()).is_none()
        });
        while device.len() == 0 {
            std::thread::yield_now();
        }
        let (front, back) = device.take().1.split_at(3);
        back.transfer_data(b"def").complete();
        front.error(IoError::END);
        waiting.join().unwrap()
    });
    assert!(sender);
}

#[test]
fn streams_without_positions_have_the_same_helpers() {
    struct Pipe(std::sync::Mutex<Vec<u8>>);
    impl BackendDevice for Pipe {
        fn info(&self) -> DeviceInfo {
            DeviceInfo::stream()
        }
        fn read(&self, _: u64, view: BoundPacketView<Write>) {
            view.error(IoError::UNSUPPORTED);
        }
        fn read_next(&self, view: BoundPacketView<Write>) {
            let mut bytes = lock(&self.0);
            let taken: Vec<u8> = {
                let len = view.len().min(bytes.len());
                bytes.drain(..len).collect()
            };
            drop(bytes);
            view.transfer_data(&taken).complete();
        }
        fn write_next(&self, view: BoundPacketView<Read>) {
            let mut taken = vec![0; view.len()];
            let transferred = view.transfer_data(&mut taken);
            lock(&self.0).extend(taken);
            transferred.complete();
        }
    }
    let pipe = LocalDevice::new(Pipe(Default::default())).unwrap();
    now(IoWrite::write_all(&pipe, NoPos, b"one two")).unwrap();
    now(pipe.write_next(b"!".to_vec())).unwrap();
    let (report, buffer) = now(pipe.read_next(vec![0; 4])).unwrap();
    assert!(report.is_done());
    assert_eq!(buffer, b"one ");
    let mut rest = Vec::new();
    now(IoRead::read_to_end(&pipe, NoPos, &mut rest)).unwrap();
    assert_eq!(rest, b"two!");
    assert!(pipe.info().is_stream());
    assert_eq!(now(pipe.read::<u8>(0u64)), Err(IoError::UNSUPPORTED));
}

#[test]
fn rule_8_a_vector_that_was_read_in_part_is_zero_elsewhere() {
    let mut packet = VecPacket::<Write>::with_len(8).unwrap();
    let (front, back) = packet.bind().unwrap().split_at(4);
    back.transfer_data(b"back").complete();
    // Bytes that were moved and then failed count as not done.
    front.transfer_data(b"junk").error(IoError::END);
    assert_eq!(packet.take().unwrap(), b"\0\0\0\0back");
    assert_eq!(packet.take().unwrap(), b"", "a vector was taken twice");
}

#[test]
fn rule_2_moved_bytes_without_an_answer_fail() {
    // Was: a device that panicked or returned early after it had moved the bytes reported success.
    let mut read = PacketBox::<Write>::new_buf(4).unwrap();
    drop(read.bind().unwrap().transfer_data(b"data"));
    assert_eq!(read.min_error(), Some((0, IoError::UNANSWERED)));

    let mut write = PacketBox::<Read>::copy_from_slice(b"data").unwrap();
    let view = write.bind().unwrap();
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _moved = view.transfer_data(&mut [0; 4]);
        std::panic::resume_unwind(Box::new("between moving and answering"));
    }));
    assert!(caught.is_err(), "the panic was swallowed");
    assert_eq!(write.min_error(), Some((0, IoError::UNANSWERED)));

    drop(write.bind().unwrap().accept());
    assert_eq!(write.min_error(), Some((0, IoError::UNANSWERED)));
}

#[test]
fn rule_13_a_part_that_is_dropped_before_it_is_bound_resolves() {
    // Was: a stuck packet.
    let wakes = Arc::new(Wakes::default());
    let mut packet = PacketBox::<Write>::new_buf(8).unwrap();
    let (front, back) = packet.view().unwrap().split_at(4);
    assert_eq!((front.start(), front.end(), back.start(), back.end()), (0, 4, 4, 8));
    assert!(poll(&mut packet, &wakes).is_pending());
    front.bind().transfer_data(b"done").complete();
    drop(back);
    assert_eq!(wakes.count(), 1);
    assert_eq!(packet.report().min_error(), Some((4, IoError::NOT_SUBMITTED)));
    assert_eq!(packet.simple_contiguous_slice(), Ok(&b"done"[..]));
}

#[test]
fn any_packet_stores_every_permission_and_state() {
    let mut read = PacketBox::<Read>::copy_from_slice(&[1; 6]).unwrap();
    let mut write = PacketBox::<Write>::new_buf(6).unwrap();
    let mut both = PacketBox::<ReadWrite>::copy_from_slice(&[2; 6]).unwrap();
    let queue: Vec<AnyPacket> = vec![
        read.bind().unwrap().into(),
        write.bind().unwrap().transfer_data(b"abc").into(),
        both.bind().unwrap().try_alloc(1).unwrap().into(),
    ];
    for packet in queue {
        let (front, back) = packet.split_at(2);
        assert_eq!((Splittable::len(&front), Splittable::len(&back)), (2, 4));
        drop(front);
        back.error(IoError::END);
    }
    assert_eq!(
        read.report().failed_ranges().collect::<Vec<_>>(),
        [(0..2, IoError::UNANSWERED), (2..6, IoError::END)]
    );
    assert_eq!(
        write.report().failed_ranges().collect::<Vec<_>>(),
        [(0..2, IoError::UNANSWERED), (2..6, IoError::END)],
        "moved bytes whose answer was dropped must fail"
    );
    assert_eq!(both.report().failed_ranges().count(), 2);
}

#[test]
fn rule_8_a_packet_can_be_looked_at_after_its_vector_was_taken() {
    let mut packet = VecPacket::<Write>::new(vec![0; 10]).unwrap();
    packet.bind().unwrap().transfer_data(b"abc").complete();
    assert_eq!(packet.take().unwrap().len(), 10);
    assert!(packet.report().is_empty());
    assert_eq!((packet.packet().error_clamp(), packet.packet().err_any()), (0, Ok(())));

    let mut packet = VecPacket::<Write>::with_len(10).unwrap();
    packet.bind().unwrap().transfer_data(b"abc").complete();
    assert_eq!((packet.take_done().unwrap(), packet.take_done().unwrap()), (b"abc".to_vec(), vec![]));
}

/// Keeps views back until it is flushed, as a host does for the task that a thread is blocked on.
#[derive(Default)]
struct KeepsBack {
    kept: Mutex<Vec<BoundPacketView<Write>>>,
    flushed: AtomicUsize,
}

impl PacketIo<Write, u64> for KeepsBack {
    fn send_io(&self, _: u64, view: BoundPacketView<Write>) {
        self.kept.lock().unwrap().push(view);
    }

    fn submit(
        &self,
        position: u64,
        view: BoundPacketView<Write>,
        _: &mut Context<'_>,
        _: Internal,
    ) -> Submitted {
        self.send_io(position, view);
        Submitted::Deferred
    }

    fn send_deferred(&self, _: Internal) {
        self.flushed.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_request_that_was_kept_back_asks_for_it_once_and_not_in_each_poll() {
    let device = KeepsBack::default();
    let mut request = pin!(device.read_all(0, vec![0; 4]));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(request.as_mut().poll(&mut cx).is_pending());
    assert_eq!(device.flushed.load(Ordering::SeqCst), 0);
    for _ in 0..3 {
        assert!(request.as_mut().poll(&mut cx).is_pending());
    }
    assert_eq!(device.flushed.load(Ordering::SeqCst), 1);
    let view = device.kept.lock().unwrap().pop().unwrap();
    view.transfer_data(b"done").complete();
    assert_eq!(request.as_mut().poll(&mut cx), Poll::Ready(Ok(b"done".to_vec())));
}
