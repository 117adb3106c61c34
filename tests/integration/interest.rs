//! Devices whose descriptor is waited for in other directions over time.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use pactio::{Host, OpenOptions};
use pactio_sdk::{
    Backend, BackendDevice, BoundPacketView, DeviceInfo, IoError, OpenError, OpenRequest, PollingHandle,
    ReadPacketObj,
};
use pactio_tests::in_time;

/// Polls of the drivers.
static POLLS: AtomicUsize = AtomicUsize::new(0);

/// The other ends of the sockets, by the targets of their devices.
static PEERS: Mutex<Vec<(String, UnixStream)>> = Mutex::new(Vec::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Sockets;

/// Sends written bytes through a socket. The target `always` waits for the socket to be written even if there are none.
struct Sending {
    socket: UnixStream,
    queue: Mutex<VecDeque<(ReadPacketObj, usize)>>,
    always: bool,
    waker: std::sync::OnceLock<std::task::Waker>,
}

impl Backend for Sockets {
    type Device = Sending;

    fn open(&self, request: &OpenRequest<'_>) -> Result<Sending, OpenError> {
        let (socket, peer) = UnixStream::pair()?;
        socket.set_nonblocking(true)?;
        lock(&PEERS).push((request.target().to_owned(), peer));
        let (queue, waker) = Default::default();
        Ok(Sending { socket, queue, always: request.target() == "always", waker })
    }
}

impl BackendDevice for Sending {
    fn info(&self) -> DeviceInfo {
        DeviceInfo::stream().write_only()
    }

    fn read(&self, _: u64, view: pactio_sdk::ReadView) {
        view.error(IoError::UNSUPPORTED);
    }

    fn write_next(&self, view: BoundPacketView<pactio_sdk::Read>) {
        let Ok(bytes) = view.try_alloc(1) else { return };
        lock(&self.queue).push_back((bytes, 0));
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }

    fn polling_handle(&self) -> PollingHandle {
        let writable = self.always || !lock(&self.queue).is_empty();
        PollingHandle::Descriptor { descriptor: self.socket.as_raw_fd(), readable: true, writable }
    }

    fn poll_driver(&self, cx: &mut Context<'_>) -> Poll<()> {
        POLLS.fetch_add(1, Ordering::SeqCst);
        self.waker.get_or_init(|| cx.waker().clone());
        loop {
            let Some((bytes, sent)) = lock(&self.queue).pop_front() else { return Poll::Pending };
            match (&self.socket).write(&bytes[sent..]) {
                Ok(count) if sent + count == bytes.len() => bytes.complete(),
                Ok(count) => lock(&self.queue).push_front((bytes, sent + count)),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    lock(&self.queue).push_front((bytes, sent));
                    return Poll::Pending;
                }
                Err(error) => bytes.error(error.into()),
            }
        }
    }
}

pactio_sdk::plugin! {
    id: "sockets",
    description: "sends through a socket",
    schemes: ["sockets"],
    backend: Sockets,
}

/// Polls of the driver within a time in which nothing happens.
fn idle_polls() -> usize {
    thread::sleep(Duration::from_millis(50));
    let before = POLLS.load(Ordering::SeqCst);
    thread::sleep(Duration::from_millis(300));
    POLLS.load(Ordering::SeqCst) - before
}

#[test]
fn a_socket_is_waited_for_to_be_written_only_while_bytes_wait() {
    in_time(|| {
        let host = Host::builder().default_search_paths(false).plugin(PLUGIN).build().unwrap();
        let options = OpenOptions::new().write(true);
        let device = host.open_with("sockets:some", options).unwrap();
        let mut peer = lock(&PEERS).pop().unwrap().1;
        assert!(idle_polls() < 20, "an idle device is polled");
        // Two requests, of which the socket takes a part: the rest is sent when the peer reads.
        let requests: Vec<_> = (0..2u8)
            .map(|byte| {
                let device = device.clone();
                host.spawn(async move { device.write_next(vec![byte; 1 << 20]).await.unwrap().0.done() })
            })
            .collect();
        assert!(idle_polls() < 20, "a full socket is polled");
        let mut all = vec![9; 2 << 20];
        peer.read_exact(&mut all).unwrap();
        all.sort_unstable();
        assert!(all == [vec![0; 1 << 20], vec![1; 1 << 20]].concat());
        for request in requests {
            assert_eq!(host.block_on(request), 1 << 20);
        }
        assert!(idle_polls() < 20, "a device that has sent everything is polled");
        // The control: a device that always waits for both directions.
        let always = host.open_with("sockets:always", options).unwrap();
        let before = POLLS.load(Ordering::SeqCst);
        // If it is not polled, this does not end in time.
        while POLLS.load(Ordering::SeqCst) < before + 1000 {
            thread::sleep(Duration::from_millis(1));
        }
        drop(always);
    });
}
