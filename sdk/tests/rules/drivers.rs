//! Devices that the waiting thread drives, without a host.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;

use futures_lite::future;
use pactio_sdk::*;

use crate::support::{Queued, Wakes, poll};

fn queued() -> LocalDevice<Queued> {
    LocalDevice::new(Queued::default()).unwrap()
}

#[test]
fn rule_23_any_number_of_threads_block_on_one_device_at_once() {
    // Was: the second `block_on` panicked.
    let device = queued();
    thread::scope(|scope| {
        for thread in 0..4u64 {
            let device = &device;
            scope.spawn(move || {
                for round in 0..500 {
                    let position = thread * 64 + round % 64;
                    assert_eq!(device.block_on(device.read::<u8>(position)), Ok(position as u8));
                }
            });
        }
    });
}

#[test]
fn rule_23_a_spawned_driver_serves_tasks_of_any_executor() {
    let device = queued();
    let driver = device.driver();
    let thread = thread::spawn(move || future::block_on(driver));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for round in 0..500u64 {
                    assert_eq!(future::block_on(device.read::<u8>(round)), Ok(round as u8));
                }
            });
        }
    });
    drop(device);
    thread.join().expect("the driver ends with its device");
}

#[test]
fn rule_23_a_waiter_that_leaves_does_not_take_the_driver_along() {
    let device = queued();
    let mut request = device.read::<u8>(7u64);
    let wakes = Arc::new(Wakes::default());
    {
        let mut driver = device.driver();
        assert!(poll(&mut driver, &wakes).is_pending());
        assert!(poll(&mut request, &wakes).is_pending());
        assert!(wakes.count() > 0, "the driver was not woken");
        // The driver is dropped before it is polled again.
    }
    assert_eq!(device.block_on(&mut request), Ok(7));
}

#[test]
fn rule_23_a_driver_that_ends_fails_what_is_in_flight_and_what_comes() {
    // Was: a finished backend took the host down.
    let device = LocalDevice::new(Queued { ends_after: Some(1), ..Queued::default() }).unwrap();
    let mut request = device.read::<u8>(7u64);
    let wakes = Arc::new(Wakes::default());
    assert!(poll(&mut request, &wakes).is_pending());
    let mut driver = device.driver();
    assert!(poll(&mut driver, &wakes).is_ready());
    assert_eq!(poll(&mut request, &wakes), Poll::Ready(Err(IoError::UNANSWERED)));
    assert_eq!(device.block_on(device.read::<u8>(7u64)), Err(IoError::DRIVER_ENDED));
}

#[test]
fn rule_23_a_driver_that_panics_fails_what_is_in_flight_and_the_program_goes_on() {
    struct Panics(std::sync::Mutex<Vec<BoundPacketView<Write>>>, AtomicUsize);
    impl BackendDevice for Panics {
        fn info(&self) -> DeviceInfo {
            DeviceInfo::endless()
        }
        fn read(&self, _: u64, view: BoundPacketView<Write>) {
            self.0.lock().unwrap().push(view);
        }
        fn polling_handle(&self) -> PollingHandle {
            PollingHandle::Waker
        }
        fn poll_driver(&self, _: &mut Context<'_>) -> Poll<()> {
            if self.1.fetch_add(1, Ordering::SeqCst) > 0 {
                panic!("in the driver");
            }
            Poll::Pending
        }
    }
    let device = LocalDevice::new(Panics(Default::default(), AtomicUsize::new(0))).unwrap();
    let mut request = device.read::<u8>(0u64);
    assert!(poll(&mut request, &Arc::default()).is_pending());
    device.notify();
    assert!(poll(&mut device.driver(), &Arc::default()).is_ready());
    assert_eq!(poll(&mut request, &Arc::default()), Poll::Ready(Err(IoError::UNANSWERED)));
    assert_eq!(device.block_on(device.read::<u8>(0u64)), Err(IoError::POISONED));
}

#[test]
fn rule_23_devices_nest() {
    struct Upper<D>(D);
    impl<D: PacketIo<Write, u64> + Send + Sync + 'static> BackendDevice for Upper<D> {
        fn info(&self) -> DeviceInfo {
            DeviceInfo::endless().read_only()
        }
        fn read(&self, position: u64, view: BoundPacketView<Write>) {
            self.0.send_io(position + 1, view);
        }
    }
    let lower = queued();
    let middle = LocalDevice::new(Upper(lower.clone())).unwrap();
    let upper = LocalDevice::new(Upper(middle)).unwrap();
    // Only the lowest device is driven; the others need no driver.
    assert_eq!(lower.block_on(upper.read::<u8>(10u64)), Ok(12));
}

/// Runs `f`, and fails if it has not ended after ten seconds.
fn in_time<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let _ = sender.send(f());
    });
    receiver.recv_timeout(std::time::Duration::from_secs(10)).expect("it has not ended")
}

#[test]
fn rule_23_a_driver_that_keeps_waking_itself_gives_its_thread_back() {
    struct Yielding(std::sync::Mutex<Vec<BoundPacketView<Write>>>);
    impl BackendDevice for Yielding {
        fn info(&self) -> DeviceInfo {
            DeviceInfo::endless()
        }
        fn read(&self, _: u64, view: BoundPacketView<Write>) {
            crate::support::lock(&self.0).push(view);
        }
        fn polling_handle(&self) -> PollingHandle {
            PollingHandle::Waker
        }
        fn poll_driver(&self, cx: &mut Context<'_>) -> Poll<()> {
            let views = std::mem::take(&mut *crate::support::lock(&self.0));
            views.into_iter().for_each(|view| view.transfer_data(&[7; 4]).complete());
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    }
    let device = in_time(|| LocalDevice::new(Yielding(Default::default())).unwrap());
    let blocked = device.clone();
    assert_eq!(in_time(move || blocked.block_on(blocked.read::<[u8; 4]>(0u64))), Ok([7; 4]));
    let (driver, other) = (device.driver(), async { 3 });
    in_time(move || {
        let both = future::or(
            async {
                driver.await;
                0
            },
            other,
        );
        assert_eq!(future::block_on(both), 3, "the driver never let the other future go on");
    });
    in_time(move || {
        future::block_on(future::or(device.read::<u8>(0u64), async {
            device.driver().await;
            Err(IoError::DRIVER_ENDED)
        }))
        .unwrap()
    });
}

#[test]
fn rule_23_all_who_drive_a_device_are_told_of_its_end() {
    let device = LocalDevice::new(Queued { ends_after: Some(1), ..Queued::default() }).unwrap();
    let (wakes, mut one, mut two) = (Arc::new(Wakes::default()), device.driver(), device.driver());
    assert!(poll(&mut one, &Arc::default()).is_pending());
    assert!(poll(&mut two, &wakes).is_pending());
    device.notify();
    let before = wakes.count();
    assert!(poll(&mut one, &Arc::default()).is_ready());
    assert!(wakes.count() > before, "the other was not told");
    assert!(poll(&mut two, &wakes).is_ready());
}

#[test]
fn rule_13_a_wake_that_comes_while_the_thread_blocks_further_inside_is_not_lost() {
    struct Late(Arc<std::sync::Mutex<Vec<BoundPacketView<Write>>>>);
    impl BackendDevice for Late {
        fn info(&self) -> DeviceInfo {
            DeviceInfo::endless()
        }
        fn read(&self, _: u64, view: BoundPacketView<Write>) {
            crate::support::lock(&self.0).push(view);
        }
    }
    in_time(|| {
        let (views_a, views_b) = (Arc::default(), Arc::default());
        let a = LocalDevice::new(Late(Arc::clone(&views_a))).unwrap();
        let b = LocalDevice::new(Late(Arc::clone(&views_b))).unwrap();
        let answer = |views: &std::sync::Mutex<Vec<BoundPacketView<Write>>>| loop {
            let view = crate::support::lock(views).pop();
            if let Some(view) = view {
                return view.transfer_data(&[1; 4]).complete();
            }
            thread::yield_now();
        };
        thread::spawn(move || {
            answer(&views_b);
            // As soon as the other device has its view, the second poll blocks inside of that device.
            while crate::support::lock(&views_b).is_empty() {
                thread::yield_now();
            }
            answer(&views_a);
            answer(&views_b);
        });
        let mut request = a.read::<[u8; 4]>(0u64);
        let mut polls = 0;
        a.block_on(std::future::poll_fn(|cx| {
            polls += 1;
            if std::pin::Pin::new(&mut request).poll(cx).is_ready() {
                return Poll::Ready(());
            }
            if polls <= 2 {
                b.blocking_read_all(0u64, &mut [0; 4]).unwrap();
            }
            Poll::Pending
        }));
    });
}

#[test]
fn rule_2_a_device_that_keeps_views_and_panics_fails_them() {
    struct Keeps(std::sync::Mutex<Vec<BoundPacketView<Write>>>);
    impl BackendDevice for Keeps {
        fn info(&self) -> DeviceInfo {
            DeviceInfo::endless()
        }
        fn read(&self, position: u64, view: BoundPacketView<Write>) {
            assert!(position != 666, "in read");
            crate::support::lock(&self.0).push(view);
        }
        fn extensions<'d>(&'d self, query: &mut ExtensionQuery<'d>) {
            query.offer::<dyn Cancellation>(self);
        }
    }
    impl Cancellation for Keeps {
        fn cancel(&self, request: RequestId) {
            crate::support::lock(&self.0).retain(|view| view.request() != request);
        }
    }
    let device = LocalDevice::new(Keeps(Default::default())).unwrap();
    let (mut kept, mut fatal) = (device.read::<u8>(0u64), device.read::<u8>(666u64));
    let wakes = Arc::new(Wakes::default());
    assert!(poll(&mut kept, &wakes).is_pending());
    assert_eq!(poll(&mut fatal, &wakes), Poll::Ready(Err(IoError::UNANSWERED)));
    assert_eq!(poll(&mut kept, &wakes), Poll::Ready(Err(IoError::UNANSWERED)));
}

/// A device that answers with the bytes of a pipe, from its driver, when the pipe can be read.
#[cfg(unix)]
mod descriptors {
    use super::*;
    use std::os::fd::{AsRawFd, OwnedFd};
    use std::sync::Mutex;

    use crate::support::lock;

    struct Pipe {
        reader: OwnedFd,
        views: Mutex<Vec<BoundPacketView<Write>>>,
        waker: Mutex<Option<std::task::Waker>>,
        ended: AtomicUsize,
    }

    impl BackendDevice for Pipe {
        fn info(&self) -> DeviceInfo {
            DeviceInfo::stream().read_only()
        }
        fn read(&self, _: u64, view: BoundPacketView<Write>) {
            view.error(IoError::UNSUPPORTED);
        }
        fn read_next(&self, view: BoundPacketView<Write>) {
            lock(&self.views).push(view);
            let waker = lock(&self.waker).clone();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
        fn polling_handle(&self) -> PollingHandle {
            PollingHandle::Descriptor { descriptor: self.reader.as_raw_fd(), readable: true, writable: false }
        }
        fn poll_driver(&self, cx: &mut Context<'_>) -> Poll<()> {
            *lock(&self.waker) = Some(cx.waker().clone());
            // One byte for each call, so that bytes may be left in the pipe.
            let mut views = lock(&self.views);
            let Some(view) = views.pop() else { return Poll::Pending };
            let mut byte = [0];
            match rustix::io::read(&self.reader, &mut byte) {
                Ok(0) => {
                    drop(views);
                    self.ended.fetch_add(1, Ordering::SeqCst);
                    view.error(IoError::END);
                }
                Ok(_) => {
                    drop(views);
                    view.transfer_data(&byte).complete();
                }
                Err(_) => views.push(view),
            }
            Poll::Pending
        }
    }

    fn pipe() -> (LocalDevice<Pipe>, OwnedFd) {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap();
        let pipe =
            Pipe { reader, views: Mutex::default(), waker: Mutex::default(), ended: AtomicUsize::new(0) };
        (LocalDevice::new(pipe).unwrap(), writer)
    }

    /// Bytes arrive late, several at once, and then the other side hangs up (rule 24).
    async fn read_all_of_it(device: &LocalDevice<Pipe>, writer: OwnedFd) {
        let writer = thread::spawn(move || {
            for part in [&b"a"[..], b"bcd", b"e"] {
                thread::sleep(std::time::Duration::from_millis(20));
                rustix::io::write(&writer, part).unwrap();
            }
        });
        for expected in b"abcde" {
            assert_eq!(IoRead::read::<u8>(device, NoPos).await, Ok(*expected));
        }
        assert_eq!(IoRead::read::<u8>(device, NoPos).await, Err(IoError::END), "the hang-up was not noticed");
        writer.join().unwrap();
    }

    /// Writes into a pipe, from its driver, when the pipe can be written.
    #[cfg(any(feature = "tokio", feature = "smol"))]
    struct Sink {
        writer: OwnedFd,
        views: Mutex<Vec<BoundPacketView<Read>>>,
    }

    #[cfg(any(feature = "tokio", feature = "smol"))]
    impl BackendDevice for Sink {
        fn info(&self) -> DeviceInfo {
            DeviceInfo::stream().write_only()
        }
        fn read(&self, _: u64, view: BoundPacketView<Write>) {
            view.error(IoError::UNSUPPORTED);
        }
        fn write_next(&self, view: BoundPacketView<Read>) {
            lock(&self.views).push(view);
        }
        fn polling_handle(&self) -> PollingHandle {
            PollingHandle::Descriptor { descriptor: self.writer.as_raw_fd(), readable: false, writable: true }
        }
        fn poll_driver(&self, _: &mut Context<'_>) -> Poll<()> {
            if let Some(view) = lock(&self.views).pop()
                && let Ok(bytes) = view.try_alloc(1)
            {
                match rustix::io::write(&self.writer, &bytes) {
                    Ok(written) => bytes.complete_with(written, IoError::SHORT),
                    Err(_) => bytes.error(IoError::from_code(Code::BUSY)),
                }
            }
            Poll::Pending
        }
    }

    /// The pipe is full, and is emptied later.
    #[cfg(any(feature = "tokio", feature = "smol"))]
    async fn write_into_a_full_pipe(
        drive: impl FnOnce(&LocalDevice<Sink>) -> Box<dyn std::any::Any>,
    ) -> Result<(), IoError> {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap();
        while rustix::io::write(&writer, &[0; 4096]).is_ok() {}
        let device = LocalDevice::new(Sink { writer, views: Mutex::default() }).unwrap();
        let request = IoWrite::write_all(&device, NoPos, b"late");
        let emptied = thread::spawn(move || {
            thread::sleep(std::time::Duration::from_millis(50));
            let mut all = vec![0; 1 << 20];
            rustix::io::read(&reader, &mut all).unwrap();
            reader
        });
        let _driver = drive(&device);
        // Only the descriptor wakes the driver.
        let result = request.await.map(drop);
        drop(emptied.join().unwrap());
        result
    }

    #[cfg(feature = "tokio")]
    #[test]
    fn rule_24_write_interest_waits_for_writability_under_tokio() {
        // Was: write interest waited for readability for ever.
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_io().build().unwrap();
        let result = runtime.block_on(write_into_a_full_pipe(|device| {
            Box::new(tokio::spawn(device.tokio_driver().unwrap()))
        }));
        assert_eq!(result, Ok(()));
    }

    #[cfg(feature = "smol")]
    #[test]
    fn rule_24_write_interest_waits_for_writability_under_smol() {
        let result = future::block_on(write_into_a_full_pipe(|device| {
            let driver = device.smol_driver().unwrap();
            Box::new(thread::spawn(move || future::block_on(driver)))
        }));
        assert_eq!(result, Ok(()));
    }

    #[cfg(feature = "tokio")]
    #[test]
    fn rule_24_a_descriptor_under_tokio() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_io().build().unwrap();
        runtime.block_on(async {
            let (device, writer) = pipe();
            let driver = tokio::spawn(device.tokio_driver().unwrap());
            read_all_of_it(&device, writer).await;
            drop(device);
            driver.await.expect("the driver ends with its device");
        });
    }

    #[cfg(feature = "tokio")]
    #[test]
    fn rule_24_what_a_driver_leaves_behind_is_seen_again_under_tokio() {
        struct Slow(OwnedFd, Arc<AtomicUsize>);
        impl BackendDevice for Slow {
            fn info(&self) -> DeviceInfo {
                DeviceInfo::stream()
            }
            fn read(&self, _: u64, view: BoundPacketView<Write>) {
                view.error(IoError::UNSUPPORTED);
            }
            fn polling_handle(&self) -> PollingHandle {
                PollingHandle::Descriptor { descriptor: self.0.as_raw_fd(), readable: true, writable: false }
            }
            fn poll_driver(&self, _: &mut Context<'_>) -> Poll<()> {
                let mut bytes = [0; 10];
                let count = rustix::io::read(&self.0, &mut bytes).unwrap_or(0);
                self.1.fetch_add(count, Ordering::SeqCst);
                Poll::Pending
            }
        }
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        let device = LocalDevice::new(Slow(reader, count.clone())).unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_io().build().unwrap();
        runtime.block_on(async { drop(tokio::spawn(device.tokio_driver().unwrap())) });
        rustix::io::write(&writer, &[0; 100]).unwrap();
        super::in_time(move || {
            while count.load(Ordering::SeqCst) < 100 {
                thread::yield_now();
            }
        });
        drop(device);
    }

    #[cfg(feature = "smol")]
    #[test]
    fn rule_24_a_descriptor_under_smol() {
        let (device, writer) = pipe();
        let driver = device.smol_driver().unwrap();
        let thread = thread::spawn(move || future::block_on(driver));
        future::block_on(read_all_of_it(&device, writer));
        drop(device);
        thread.join().expect("the driver ends with its device");
    }

    #[test]
    fn rule_24_a_descriptor_without_an_executor() {
        let (device, writer) = pipe();
        device.block_on(read_all_of_it(&device, writer));
    }
}

#[test]
fn rule_4_a_thread_that_looks_at_a_descriptor_does_not_spin() {
    struct Idle(AtomicUsize);
    impl BackendDevice for Idle {
        fn info(&self) -> DeviceInfo {
            DeviceInfo::endless()
        }
        fn read(&self, _: u64, view: BoundPacketView<Write>) {
            view.error(IoError::UNSUPPORTED);
        }
        fn polling_handle(&self) -> PollingHandle {
            PollingHandle::Descriptor { descriptor: 0, readable: true, writable: false }
        }
        fn poll_driver(&self, _: &mut Context<'_>) -> Poll<()> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Poll::Pending
        }
    }
    struct Shared(Arc<Idle>);
    impl BackendDevice for Shared {
        fn info(&self) -> DeviceInfo {
            self.0.info()
        }
        fn read(&self, position: u64, view: BoundPacketView<Write>) {
            self.0.read(position, view);
        }
        fn polling_handle(&self) -> PollingHandle {
            self.0.polling_handle()
        }
        fn poll_driver(&self, cx: &mut Context<'_>) -> Poll<()> {
            self.0.poll_driver(cx)
        }
    }
    let idle = Arc::new(Idle(AtomicUsize::new(0)));
    let device = LocalDevice::new(Shared(idle.clone())).unwrap();
    let begin = std::time::Instant::now();
    device.block_on(std::future::poll_fn(|_| {
        if begin.elapsed().as_millis() < 200 { Poll::Pending } else { Poll::Ready(()) }
    }));
    let polls = idle.0.load(Ordering::SeqCst);
    assert!(polls < 60, "the driver was polled {polls} times in 200 ms");
}

#[test]
fn rule_7_a_waker_that_panics_when_it_is_dropped_harms_no_packet() {
    use std::task::{RawWaker, RawWakerVTable};
    // Each clone panics when it is dropped.
    unsafe fn clone(data: *const ()) -> RawWaker {
        RawWaker::new(data, &TABLE)
    }
    unsafe fn nothing(_: *const ()) {}
    unsafe fn dropped(_: *const ()) {
        panic!("test: a waker's drop");
    }
    static TABLE: RawWakerVTable = RawWakerVTable::new(clone, nothing, nothing, dropped);
    // SAFETY: the functions use no data.
    let bad =
        || std::mem::ManuallyDrop::new(unsafe { Waker::from_raw(RawWaker::new(std::ptr::null(), &TABLE)) });
    let poll =
        |packet: &mut PacketBox<Write>, waker: &Waker| Pin::new(packet).poll(&mut Context::from_waker(waker));

    // First, another waker replaces the bad one. Later, the packet is dropped with a bad waker.
    let mut packet = PacketBox::<Write>::new_buf(4).unwrap();
    let view = packet.bind().unwrap();
    assert!(poll(&mut packet, &bad()).is_pending());
    let wakes = Arc::<Wakes>::default();
    assert!(poll(&mut packet, &Waker::from(wakes.clone())).is_pending());
    view.transfer_data(&[1; 4]).complete();
    assert_eq!((wakes.count(), packet.is_done()), (1, true));
    let _view = packet.bind().unwrap();
    assert!(poll(&mut packet, &bad()).is_pending());
    drop(packet);
}

#[test]
fn rule_2_a_batch_that_is_dropped_fails_all_its_views() {
    struct Bomb;
    impl std::task::Wake for Bomb {
        fn wake(self: Arc<Self>) {
            panic!("test: a waker");
        }
    }
    let mut packets: Vec<_> = (0..4).map(|_| PacketBox::<Write>::new_buf(4).unwrap()).collect();
    let mut queue: Vec<_> =
        packets.iter_mut().map(|packet| Submission { param: 0u64, view: packet.bind().unwrap() }).collect();
    let waker = Waker::from(Arc::new(Bomb));
    for packet in &mut packets {
        assert!(Pin::new(packet).poll(&mut Context::from_waker(&waker)).is_pending());
    }
    // The views also fail if the batch is dropped while a panic unwinds.
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _batch = Batch::drain(&mut queue);
        panic!("test: a device");
    }));
    assert!(caught.is_err());
    for packet in &packets {
        assert_eq!(packet.min_error().unwrap().1, IoError::UNANSWERED);
    }
}

#[test]
fn rule_16_a_packet_answers_at_any_edge() {
    let mut source = PacketBox::<Write>::new_buf(8).unwrap();
    source.bind().unwrap().transfer_data(&[7; 8]).complete();
    for (start, len, done) in [
        (0, 8, 8),
        (4, 8, 4),
        (8, 1, 0),
        (9, 1, 0),
        (8, 0, 0),
        (9, 0, 0),
        (usize::MAX, 4, 0),
        (usize::MAX, 0, 0),
    ] {
        let mut packet = PacketBox::<Write>::new_buf(len).unwrap();
        source.answer(start, packet.bind().unwrap());
        assert_eq!(packet.report().done(), done, "{len} bytes at {start}");
        assert!(packet.report().failed_ranges().all(|(_, error)| error == IoError::END));
    }
}
