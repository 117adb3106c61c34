//! A remote device: reads travel over a socket, and each part is answered as it arrives, in any order.
//!
//! ```text
//!  requester ── view ─► Remote ── request: id, position, length ─────────────────► server ── view ─► device
//!            ◄─ part ──        ◄─ part: id, offset, length, error, bytes ── socket         ◄─ part ─
//! ```
//!
//! The server sends a part as soon as its device has answered it. The client cuts that part out of the view and answers it, while
//! the others are in flight. When the connection ends, the missing parts fail, and no other part does.

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use pactio::{Device, Host};
use pactio_sdk::{
    BackendDevice, BlockOn, BoundPacketView, Code, DeviceInfo, IoError, LocalDevice, PacketBox, PacketIo,
    PacketIoExt, Segment, Write,
};

/// The server refuses longer requests.
const MAX_REQUEST_BYTES: u64 = 16 << 20;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn numbers<const N: usize>(mut socket: impl io::Read) -> io::Result<[u64; N]> {
    let mut numbers = [0; N];
    for number in &mut numbers {
        let mut bytes = [0; 8];
        socket.read_exact(&mut bytes)?;
        *number = u64::from_le_bytes(bytes);
    }
    Ok(numbers)
}

fn bytes_of<const N: usize>(numbers: [u64; N]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// The unanswered ranges of each request, with their offsets in it; `None` when the connection has ended.
type Pending = Arc<Mutex<Option<HashMap<u64, Vec<(u64, BoundPacketView<Write>)>>>>>;

/// A device on the other side of a socket.
struct Remote {
    requests: Mutex<UnixStream>,
    pending: Pending,
    next_id: AtomicU64,
}

impl Remote {
    fn new(socket: UnixStream) -> io::Result<Self> {
        let pending = Pending::new(Mutex::new(Some(HashMap::new())));
        let (parts, of_parts) = (socket.try_clone()?, pending.clone());
        thread::spawn(move || {
            let _ = receive(parts, &of_parts);
            // The connection has ended: no more parts arrive.
            let left = lock(&of_parts).take();
            for (_, view) in left.into_iter().flatten().flat_map(|(_, ranges)| ranges) {
                view.error(IoError::from_code(Code::DISCONNECTED));
            }
        });
        Ok(Self { requests: Mutex::new(socket), pending, next_id: AtomicU64::new(0) })
    }
}

impl BackendDevice for Remote {
    fn info(&self) -> DeviceInfo {
        DeviceInfo::endless()
    }

    fn read(&self, position: u64, view: BoundPacketView<Write>) {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let request = bytes_of([id, position, view.len() as u64]);
        match &mut *lock(&self.pending) {
            Some(pending) => pending.insert(id, vec![(0, view)]),
            None => return view.error(IoError::from_code(Code::DISCONNECTED)),
        };
        if lock(&self.requests).write_all(&request).is_err() {
            // The thread that receives the parts finds the end of the connection, and fails the view.
            let _ = lock(&self.requests).shutdown(Shutdown::Both);
        }
    }
}

/// Receives parts and answers them, until the connection ends.
fn receive(mut socket: UnixStream, pending: &Pending) -> io::Result<()> {
    loop {
        let [id, offset, len, error] = numbers(&socket)?;
        let error = IoError::from_raw(u32::try_from(error).map_err(io::Error::other)?);
        let mut bytes = Vec::new();
        if error.is_none() && ((&mut socket).take(len).read_to_end(&mut bytes)? as u64) < len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let Some(part) = cut_out(pending, id, offset, len) else { continue };
        match error {
            None => part.transfer_data(&bytes).complete(),
            Some(error) => part.error(error),
        }
    }
}

/// Takes a part out of the unanswered ranges of a request.
fn cut_out(pending: &Pending, id: u64, offset: u64, len: u64) -> Option<BoundPacketView<Write>> {
    let mut pending = lock(pending);
    let requests = pending.as_mut()?;
    let ranges = requests.get_mut(&id)?;
    let index = ranges.iter().position(|(at, view)| (*at..*at + view.len() as u64).contains(&offset))?;
    let (at, view) = ranges.swap_remove(index);
    let (front, rest) = view.split_at((offset - at) as usize);
    let (part, back) = rest.split_at(usize::try_from(len).unwrap_or(usize::MAX));
    let behind = offset + part.len() as u64;
    ranges.extend([(at, front), (behind, back)].into_iter().filter(|(_, view)| !view.is_empty()));
    if ranges.is_empty() {
        requests.remove(&id);
    }
    Some(part)
}

/// Serves reads of a device until the connection ends.
fn serve(socket: &UnixStream, device: &LocalDevice<Backwards>) -> io::Result<()> {
    let (parts, queue) = channel::<Vec<u8>>();
    let mut answers = socket.try_clone()?;
    thread::scope(|scope| {
        scope.spawn(move || queue.into_iter().try_for_each(|part| answers.write_all(&part)));
        while let Ok([id, position, len]) = numbers(socket) {
            let parts = parts.clone();
            scope.spawn(move || answer(device, id, position, len, &parts));
        }
        drop(parts);
        Ok(())
    })
}

/// Reads, and sends each part when the device has answered it.
fn answer(device: &LocalDevice<Backwards>, id: u64, position: u64, len: u64, parts: &Sender<Vec<u8>>) {
    let failed = |error: IoError| {
        let _ = parts.send(bytes_of([id, 0, len, error.to_raw().into()]));
    };
    if len > MAX_REQUEST_BYTES {
        return failed(IoError::TOO_LARGE);
    }
    let packet = match PacketBox::<Write>::new_buf(len as usize) {
        Ok(packet) => packet,
        Err(error) => return failed(error),
    };
    let output = parts.clone();
    let request = device.io_to_fn(position, packet, move |segment: Segment<'_>| {
        let (range, error) = (segment.range(), segment.result().map_or_else(IoError::to_raw, |()| 0));
        let mut part = bytes_of([id, range.start as u64, range.len() as u64, error.into()]);
        part.extend_from_slice(segment.bytes().unwrap_or_default());
        let _ = output.send(part);
    });
    if let Err(error) = device.block_on(request) {
        failed(error);
    }
}

/// A layer that answers the parts of a request from the last to the first, with a pause before each part.
struct Backwards(Arc<Device>);

impl BackendDevice for Backwards {
    fn info(&self) -> DeviceInfo {
        DeviceInfo::endless()
    }

    fn read(&self, position: u64, mut view: BoundPacketView<Write>) {
        const PART: usize = 64 << 10;
        let below = self.0.clone();
        thread::spawn(move || {
            while !view.is_empty() {
                let start_of_last = (view.len() - 1) / PART * PART;
                let (front, last) = view.split_at(start_of_last);
                thread::sleep(Duration::from_millis(20));
                below.send_io(position + front.len() as u64, last);
                view = front;
            }
        });
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let host = Host::builder().build()?;
    let memory = host.open("memory:?size=192KiB&fill=7")?;
    let served = LocalDevice::new(Backwards(Arc::new(memory)))?;
    let (client, server) = UnixStream::pair()?;
    let hang_up = server.try_clone()?;
    let remote = LocalDevice::new(Remote::new(client)?)?;

    thread::scope(|scope| {
        scope.spawn(|| serve(&server, &served));
        let read = |hang_up_after: usize| {
            let (start, socket, arrived) = (Instant::now(), hang_up.try_clone()?, AtomicU64::new(0));
            let packet = PacketBox::<Write>::new_buf(256 << 10)?;
            let request = remote.io_to_fn(0, packet, move |segment: Segment<'_>| {
                let result = segment.result().map_or_else(|error| error.to_string(), |()| "done".to_owned());
                println!("{:6} ms  {:?}: {result}", start.elapsed().as_millis(), segment.range());
                if arrived.fetch_add(1, Ordering::Relaxed) + 1 == hang_up_after as u64 {
                    let _ = socket.shutdown(Shutdown::Both);
                }
            });
            let (report, packet) = remote.block_on(request)?;
            for range in report.done_ranges() {
                assert!(packet.done_slice(range)?.iter().all(|byte| *byte == 7));
            }
            println!("   account: {report}");
            Ok::<_, Box<dyn std::error::Error>>(report)
        };
        println!("256 KiB of a remote device that has 192 KiB:");
        assert_eq!(read(usize::MAX)?.done(), 192 << 10);
        println!("the server hangs up after two parts:");
        assert_eq!(read(2)?.done(), 64 << 10);
        Ok(())
    })
}
