//! Reads of bytes that a device has at hand: they make no packet, and give the same results.

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use pactio_sdk::{
    BackendDevice, BlockOn, BlockingIo, DeviceInfo, ExtensionQuery, Filling, IoError, IoRead, LocalDevice,
    Lower, PacketBox, ReadNow, ReadView, Unfilled, Write,
};

const LEN: usize = 4096;

fn byte(position: u64) -> u8 {
    (position % 251) as u8
}

/// Has the bytes of ranges with an even start at hand. Of other ranges, it fills the first half with other bytes and declines.
struct Even {
    requests: Arc<AtomicUsize>,
}

impl Even {
    fn bytes(position: u64, len: usize) -> Vec<u8> {
        (position..LEN as u64).take(len).map(byte).collect()
    }
}

impl BackendDevice for Even {
    fn info(&self) -> DeviceInfo {
        DeviceInfo::with_size(LEN as u64)
    }

    fn read(&self, position: u64, view: ReadView) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let bytes = Self::bytes(position, view.len());
        view.transfer_data(&bytes).complete();
    }

    fn extensions<'d>(&'d self, query: &mut ExtensionQuery<'d>) {
        query.offer::<dyn ReadNow>(self);
    }
}

impl ReadNow for Even {
    fn read_now(&self, position: u64, into: &mut Unfilled<'_>) {
        assert!(into.remaining() > 0, "an empty read reaches the device");
        if position.is_multiple_of(2) {
            into.append(&Self::bytes(position, into.remaining()));
        } else {
            into.append(&vec![0xEE; into.remaining() / 2]);
        }
    }
}

fn device() -> (LocalDevice<Even>, Arc<AtomicUsize>) {
    let requests = Arc::<AtomicUsize>::default();
    (LocalDevice::new(Even { requests: requests.clone() }).unwrap(), requests)
}

#[test]
fn reads_give_the_same_bytes_with_and_without_a_request() {
    let (device, requests) = device();
    device.block_on(async {
        let mut packet = PacketBox::<Write>::new_buf(300).unwrap();
        let mut sent = 0;
        for position in 0..200 {
            sent += usize::from(position % 2 == 1);
            let expected = Even::bytes(position, 300);
            // Buffers on the stack, and larger ones.
            let mut small = [0; 64];
            device.read_all(position, &mut small).await.unwrap();
            assert_eq!(small, expected[..64]);
            let mut large = [0; 300];
            device.read_all(position, &mut large[..]).await.unwrap();
            assert_eq!(large, expected[..]);
            assert_eq!(device.read_all(position, vec![0; 300]).await.unwrap(), expected);
            let value: [u8; 7] = device.read(position).await.unwrap();
            assert_eq!(value, expected[..7]);
            let (value, wide): ([u8; 512], _) =
                (device.read(position).await.unwrap(), Even::bytes(position, 512));
            assert_eq!(value, wide[..]);
            let mut uninit = [MaybeUninit::uninit(); 300];
            assert_eq!(device.read_all(position, &mut uninit[..]).await.unwrap(), expected);
            // A packet that is used again has the result of its last request.
            packet = device.read_all(position, packet).await.unwrap();
            assert_eq!(packet.simple_slice(), Ok(&expected[..]));
            assert_eq!((packet.report().done(), packet.report().segments()), (300, 1));
            let mut blocking = [0; 300];
            device.blocking_read_all(position, &mut blocking).unwrap();
            assert_eq!(blocking, expected[..]);
            assert_eq!(requests.load(Ordering::Relaxed), 8 * sent, "at {position}");
        }
        // A read with a report is always a request.
        device.read_raw(0, vec![0; 4]).await.unwrap().0.err_any().unwrap();
        assert_eq!(requests.load(Ordering::Relaxed), 8 * sent + 1);
        device.read_all(0, &mut []).await.unwrap();
        device.read_all(0, vec![]).await.unwrap();
    });
}

#[test]
fn reads_that_cannot_be_done_fail_and_leave_buffers_as_they_were() {
    let (device, _) = device();
    let end = LEN as u64;
    device.block_on(async {
        for position in [end - 1, end - 2, end, u64::MAX - 1, u64::MAX] {
            let mut small = [7; 3];
            assert!(device.read_all(position, &mut small).await.is_err());
            assert_eq!(small, [7; 3], "at {position}");
            let mut large = [7; 300];
            assert!(device.read_all(position, &mut large[..]).await.is_err());
            assert_eq!(large, [7; 300]);
            assert!(device.read::<[u8; 3]>(position).await.is_err());
        }
        // The account of the request that follows is that of the packet.
        let packet = PacketBox::<Write>::new_buf(8).unwrap();
        let packet = device.read_all(0, packet).await.unwrap();
        let (report, packet) = device.read_raw(end - 2, packet).await.unwrap();
        assert_eq!((report.done(), report.min_error()), (2, Some((2, IoError::END))));
        assert_eq!(packet.simple_slice(), Err(IoError::END));
    });
}

/// Answers reads at once by a function, and requests with an error.
struct Hand<F>(F);

impl<F: Fn(&mut Unfilled<'_>) + Send + Sync + 'static> BackendDevice for Hand<F> {
    fn info(&self) -> DeviceInfo {
        DeviceInfo::endless()
    }

    fn read(&self, _: u64, view: ReadView) {
        view.error(IoError::END);
    }

    fn extensions<'d>(&'d self, query: &mut ExtensionQuery<'d>) {
        query.offer::<dyn ReadNow>(self);
    }
}

impl<F: Fn(&mut Unfilled<'_>) + Send + Sync + 'static> ReadNow for Hand<F> {
    fn read_now(&self, _: u64, into: &mut Unfilled<'_>) {
        self.0(into);
    }
}

/// Puts other memory in the place of the memory that it gets, and fills that.
fn swap(into: &mut Unfilled<'_>) {
    // Found by leak checkers.
    static LEAKED: Mutex<Vec<usize>> = Mutex::new(Vec::new());
    let memory = Box::leak(Box::new([MaybeUninit::uninit(); 1]));
    LEAKED.lock().unwrap().push(memory.as_ptr().addr());
    let other = Box::leak(Box::new(Filling::new(memory)));
    LEAKED.lock().unwrap().push(std::ptr::from_ref(other).addr());
    *into = other.unfilled();
    into.append(&[1]);
    assert!(into.is_full());
}

#[test]
fn memory_that_a_device_did_not_fill_is_never_seen() {
    let device = LocalDevice::new(Hand(swap)).unwrap();
    assert_eq!(device.block_on(device.read_all(0, vec![7; 4096])), Err(IoError::END));
    assert_eq!(device.block_on(device.read::<u64>(0)), Err(IoError::END));
    assert_eq!(device.blocking_read_all(0, &mut [7; 16]), Err(IoError::END));
    // Over the boundary.
    let lower = Lower::of(Hand(swap)).unwrap();
    assert_eq!(lower.block_on(lower.read_all(0, vec![7; 4096])), Err(IoError::END));
    assert_eq!(lower.block_on(lower.read::<u64>(0)), Err(IoError::END));
}

fn fill_and_panic(into: &mut Unfilled<'_>) {
    into.append(&vec![1; into.remaining()]);
    panic!("after the bytes");
}

#[test]
fn a_read_in_which_the_device_panics_fails() {
    let device = LocalDevice::new(Hand(fill_and_panic)).unwrap();
    assert_eq!(device.block_on(device.read_all(0, &mut [7; 8])), Err(IoError::POISONED));
    let lower = Lower::of(Hand(fill_and_panic)).unwrap();
    assert_eq!(lower.block_on(lower.read_all(0, vec![7; 8])), Err(IoError::POISONED));
}

#[test]
fn a_read_that_is_declined_is_tried_once() {
    let tries = Arc::<AtomicUsize>::default();
    let counter = tries.clone();
    let decline = move |_: &mut Unfilled<'_>| _ = counter.fetch_add(1, Ordering::Relaxed);
    let lower = Lower::of(Hand(decline)).unwrap();
    for (read, expected) in [(1, 1), (63, 1), (1, 2), (63, 2)] {
        for _ in 0..read {
            assert_eq!(lower.block_on(lower.read_all(0, &mut [0; 8])), Err(IoError::END));
        }
        assert_eq!(tries.load(Ordering::Relaxed), expected);
    }
    assert_eq!(lower.block_on(lower.read_all(0, vec![0; 300])), Err(IoError::END));
    assert_eq!(tries.load(Ordering::Relaxed), 3);
}

#[test]
fn a_packet_in_flight_is_not_filled() {
    let (device, requests) = device();
    let mut packet = PacketBox::<Write>::new_buf(8).unwrap();
    let view = packet.bind().unwrap();
    let error = device.block_on(device.read_all(0, packet)).unwrap_err();
    assert_eq!((error, requests.load(Ordering::Relaxed)), (IoError::IN_FLIGHT, 0));
    drop(view);
}

#[test]
fn a_request_that_is_cancelled_before_its_first_poll_has_no_result() {
    let (device, _) = device();
    let error = device.block_on(device.read_all(0, [0; 8].as_mut_slice()).cancel()).unwrap_err();
    assert_eq!(error, IoError::NOT_SUBMITTED);
}
