//! Rule 20: back-pressure.

use std::sync::Arc;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};

use pactio_sdk::*;

use crate::support::{Plain, Wakes, lock, now, poll};

/// Has room for two requests.
#[derive(Default)]
struct Small(Mutex<State>);

#[derive(Default)]
struct State {
    taken: usize,
    most: usize,
    asks: usize,
    views: Vec<BoundPacketView<Write>>,
    waker: Option<Waker>,
}

impl BackendDevice for Small {
    fn info(&self) -> DeviceInfo {
        DeviceInfo::endless()
    }

    fn read(&self, _: u64, view: BoundPacketView<Write>) {
        lock(&self.0).views.push(view);
    }

    fn extensions<'d>(&'d self, query: &mut ExtensionQuery<'d>) {
        query.offer::<dyn Admission>(self);
    }
}

impl Admission for Small {
    fn poll_admit(&self, _: usize, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = lock(&self.0);
        state.asks += 1;
        if state.taken == 2 {
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        state.taken += 1;
        state.most = state.most.max(state.taken);
        Poll::Ready(())
    }
}

impl Small {
    fn answer_one(&self) -> u8 {
        let mut state = lock(&self.0);
        let view = state.views.remove(0);
        state.taken -= 1;
        let waker = state.waker.take();
        drop(state);
        let len = view.len() as u8;
        view.transfer_data(&[len; 16]).complete();
        if let Some(waker) = waker {
            waker.wake();
        }
        len
    }
}

/// A device with state that the test can reach.
#[derive(Clone)]
struct Shared(Arc<Small>);

impl BackendDevice for Shared {
    fn info(&self) -> DeviceInfo {
        self.0.info()
    }
    fn read(&self, position: u64, view: BoundPacketView<Write>) {
        self.0.read(position, view);
    }
    fn extensions<'d>(&'d self, query: &mut ExtensionQuery<'d>) {
        self.0.extensions(query);
    }
}

fn small() -> (LocalDevice<Shared>, Arc<Small>) {
    let small = Arc::new(Small::default());
    (LocalDevice::new(Shared(small.clone())).unwrap(), small)
}

#[test]
fn rule_20_requests_wait_their_turn_in_order_and_other_devices_go_on() {
    let (device, small) = small();
    // Each request has its own length, which identifies it.
    let mut requests: Vec<_> = (1..=5).map(|len| device.read_all(0u64, vec![0; len])).collect();
    let wakes: Vec<Arc<Wakes>> = (0..5).map(|_| Arc::default()).collect();
    for (request, wakes) in requests.iter_mut().zip(&wakes) {
        assert!(poll(request, wakes).is_pending());
    }
    assert_eq!(lock(&small.0).views.len(), 2, "more is in the device than it took");

    let other = LocalDevice::new(Plain::new(10)).unwrap();
    assert_eq!(now(other.read::<u8>(3u64)), Ok(3));

    let mut order = Vec::new();
    for _ in 0..5 {
        order.push(small.answer_one());
        // Only requests that were woken are polled.
        for index in 0..5 {
            if wakes[index].0.swap(0, std::sync::atomic::Ordering::SeqCst) > 0 && order.len() <= 5 {
                let _ = poll(&mut requests[index], &wakes[index]).map(|result| result.unwrap());
            }
        }
    }
    assert_eq!(order, [1, 2, 3, 4, 5]);
    assert_eq!(lock(&small.0).most, 2);
}

#[test]
fn rule_20_a_request_that_gives_up_its_turn_passes_it_on() {
    let (device, small) = small();
    let mut requests: Vec<_> = (1..=4).map(|len| Some(device.read_all(0u64, vec![0; len]))).collect();
    let wakes: Vec<Arc<Wakes>> = (0..4).map(|_| Arc::default()).collect();
    for (request, wakes) in requests.iter_mut().zip(&wakes) {
        assert!(poll(request.as_mut().unwrap(), wakes).is_pending());
    }
    // The third request waits for the device, the fourth for the third.
    small.answer_one();
    // Both are woken, since the third may not be polled; while it exists and is polled first, it has the turn.
    assert_eq!((wakes[2].count(), wakes[3].count()), (1, 1));
    requests[2] = None;
    assert!(poll(requests[3].as_mut().unwrap(), &wakes[3]).is_pending());
    assert_eq!(lock(&small.0).views.len(), 2);
    assert_eq!((small.answer_one(), small.answer_one()), (2, 4));
}

#[test]
fn rule_21_a_request_that_waits_can_be_cancelled() {
    let (device, small) = small();
    let mut requests: Vec<_> = (1..=3).map(|len| device.read_raw(0u64, vec![0; len])).collect();
    for request in &mut requests {
        assert!(poll(request, &Arc::default()).is_pending());
    }
    let (report, buffer) = now(requests.remove(2).cancel()).unwrap();
    assert_eq!((report.err_any(), buffer.len()), (Err(IoError::NOT_SUBMITTED), 3));
    small.answer_one();
    assert_eq!(lock(&small.0).views.len(), 1);
}

#[test]
fn rule_20_all_kinds_of_requests_ask() {
    let (device, small) = small();
    let mut packet = PacketBox::<Write>::new_buf(1).unwrap();
    let first = device.read_all(0u64, vec![0; 1]);
    let second = device.read_all(0u64, vec![0; 1]);
    let (mut first, mut second) = (first, second);
    assert!(poll(&mut first, &Arc::default()).is_pending());
    assert!(poll(&mut second, &Arc::default()).is_pending());
    let mut vectored = VectoredIo::<Write, u64>::vectored(&device, vec![(0, vec![0; 1])]);
    assert!(poll(&mut vectored, &Arc::default()).is_pending());
    let mut stream = device.io_to_stream(0u64, PacketBox::<Write>::new_buf(1).unwrap());
    let mut next = futures_lite::StreamExt::next(&mut stream);
    assert!(poll(&mut next, &Arc::default()).is_pending());
    assert_eq!(lock(&small.0).views.len(), 2);
    // `send_io` asks for no admission: the sender decides to send the view to a full device.
    device.send_io(0u64, packet.bind().unwrap());
    assert_eq!(lock(&small.0).views.len(), 3);
}

#[test]
fn rule_20_those_that_wait_for_a_device_that_panics_are_not_forgotten() {
    struct Panics(Mutex<Option<Waker>>, std::sync::atomic::AtomicBool);
    impl BackendDevice for Panics {
        fn info(&self) -> DeviceInfo {
            DeviceInfo::endless()
        }
        fn read(&self, _: u64, _: BoundPacketView<Write>) {
            panic!("in read");
        }
        fn extensions<'d>(&'d self, query: &mut ExtensionQuery<'d>) {
            query.offer::<dyn Admission>(self);
        }
    }
    impl Admission for Panics {
        fn poll_admit(&self, _: usize, cx: &mut Context<'_>) -> Poll<()> {
            if !self.1.swap(true, std::sync::atomic::Ordering::SeqCst) {
                return Poll::Ready(());
            }
            *lock(&self.0) = Some(cx.waker().clone());
            Poll::Pending
        }
    }
    let device = LocalDevice::new(Panics(Mutex::default(), false.into())).unwrap();
    let mut packet = PacketBox::<Write>::new_buf(1).unwrap();
    assert!(PacketIo::<Write, u64>::admit(&device, 1).is_none());
    let wakes = Arc::new(Wakes::default());
    let mut waiting = device.read_all(0u64, vec![0; 1]);
    assert!(poll(&mut waiting, &wakes).is_pending());
    device.send_io(0u64, packet.bind().unwrap());
    assert!(wakes.count() > 0, "the waiting request was not woken");
    assert_eq!(
        poll(&mut waiting, &wakes).map(|result| result.map(drop)),
        Poll::Ready(Err(IoError::POISONED))
    );
}

#[test]
fn rule_20_what_is_not_sent_takes_no_room() {
    let (device, small) = small();
    now(device.read_raw(0u64, vec![])).unwrap();
    now(device.read_raw(u64::MAX, vec![0; 8])).unwrap();
    now(VectoredIo::<Write, u64>::vectored(&device, vec![(0, vec![]), (u64::MAX, vec![0; 8])])).unwrap();
    device.blocking_read_raw(0u64, &mut []).unwrap();
    device.blocking_read_raw(u64::MAX, &mut [0; 8]).unwrap();
    let mut buffer = [0; 8];
    scope(&device, |scope| {
        let (report, _) = scope.read(&device, u64::MAX, &mut buffer).wait_report().unwrap();
        assert_eq!(report.err_any(), Err(IoError::TOO_LARGE));
    });
    let state = lock(&small.0);
    assert_eq!((state.taken, state.views.len()), (0, 0));
}

#[test]
fn rule_4_a_thread_that_waits_for_room_does_not_spin() {
    let (device, small) = small();
    let mut held: Vec<_> = (1..=2).map(|len| device.read_all(0u64, vec![0; len])).collect();
    for request in &mut held {
        assert!(poll(request, &Arc::default()).is_pending());
    }
    let asks = lock(&small.0).asks;
    let answering = small.clone();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(200));
        answering.answer_one();
        while lock(&answering.0).views.len() < 2 {
            std::thread::yield_now();
        }
        answering.answer_one();
        answering.answer_one();
    });
    device.block_on(device.read_all(0u64, vec![0; 3])).unwrap();
    thread.join().unwrap();
    let asks = lock(&small.0).asks - asks;
    assert!(asks < 10, "the device was asked {asks} times");
}

#[test]
fn rule_20_a_file_accepts_a_write_while_the_device_is_full_and_reads_behind_it() {
    use futures_lite::{AsyncReadExt, AsyncWriteExt};
    let (device, small) = small();
    let mut held: Vec<_> = (1..=2).map(|len| device.read_all(0u64, vec![0; len])).collect();
    for request in &mut held {
        assert!(poll(request, &Arc::default()).is_pending());
    }
    let mut file = Seekable::new(device.clone());
    let Poll::Ready(Ok(accepted)) = poll(&mut file.write(b"accepted"), &Arc::default()) else {
        panic!("the write waits in memory")
    };
    assert_eq!((accepted, lock(&small.0).views.len()), (8, 2));
    // A read of the file waits for the write, and the write for room.
    let mut buffer = [0; 4];
    let mut read = file.read(&mut buffer);
    for _ in 0..5 {
        if poll(&mut read, &Arc::default()).is_ready() {
            return;
        }
        small.answer_one();
    }
    panic!("the read waits for ever");
}

#[test]
fn rule_20_a_request_that_is_not_polled_holds_up_no_other() {
    let (device, small) = small();
    let mut requests: Vec<_> = (1..=6).map(|len| Box::pin(device.read_all(0u64, vec![0; len]))).collect();
    let wakes: Vec<Arc<Wakes>> = (0..6).map(|_| Arc::default()).collect();
    for (request, wakes) in requests.iter_mut().zip(&wakes) {
        assert!(poll(request, wakes).is_pending());
    }
    // The third and the fourth are alive, but not polled.
    let _third = requests.remove(2);
    let mut order = Vec::new();
    for _ in 0..4 {
        order.push(small.answer_one());
        for (request, number) in [(0, 0), (1, 1), (3, 4), (4, 5)] {
            if wakes[number].0.swap(0, std::sync::atomic::Ordering::SeqCst) > 0 {
                let _ = poll(&mut requests[request], &wakes[number]).map(|result| result.unwrap());
            }
        }
    }
    assert_eq!(order, [1, 2, 5, 6]);
    // Now the fourth request is polled.
    assert!(poll(&mut requests[2], &wakes[3]).is_pending());
    assert_eq!(small.answer_one(), 4);
}
