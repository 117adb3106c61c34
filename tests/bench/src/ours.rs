//! pactio, through its public calls and plugins that are loaded from their `.so`.

use std::future::{Future, poll_fn, ready};
use std::hint::black_box;
use std::pin::Pin;
use std::task::Poll;

use futures_util::StreamExt;
use futures_util::stream;
use pactio::{BufferPool, Device, Error, Host, PacketBox};
use pactio_sdk::Write;

use crate::measure::Variant;
use crate::{LEN, SIZE};

fn positions(count: u64) -> impl Iterator<Item = u64> {
    (0..count).map(|index| index * LEN as u64 % SIZE as u64)
}

pub(crate) fn variants() -> Vec<Variant> {
    let host = pactio_tests::host(&["pactio_memory", "fixture_identity", "fixture_queued"]);
    let inline = host.open(&format!("memory:?size={SIZE}&fill=1")).unwrap_or_else(|error| panic!("{error}"));
    let filtered = host
        .open(&format!("memory:?size={SIZE}&fill=1 | identity"))
        .unwrap_or_else(|error| panic!("{error}"));
    let queued = host.open(&format!("queued:{SIZE}")).unwrap_or_else(|error| panic!("{error}"));
    let mut variants = vec![
        packet("pactio inline, reused packet, through a filter", &host, &filtered),
        slice("pactio inline, slice", &host, &inline),
        value("pactio inline, value", &host, &inline),
        packet("pactio inline, reused packet", &host, &inline),
        blocking("pactio inline, blocking", &inline),
        slice("pactio queued, slice, block_on of the host", &host, &queued),
        packet("pactio queued, reused packet, block_on of the host", &host, &queued),
        foreign("pactio queued, reused packet, pollster", &queued),
    ];
    for (name, depth) in [
        ("pactio queued, reused packets, 64 in flight", 64),
        ("pactio queued, reused packets, 256 in flight", 256),
        ("pactio queued, reused packets, 4096 in flight", 4096),
        ("pactio queued, reused packets, 65536 in flight", 65536),
    ] {
        variants.push(in_flight(name, depth, &host, &queued));
    }
    for (name, depth) in
        [("pactio queued, slices, 256 in flight", 256), ("pactio queued, slices, 4096 in flight", 4096)]
    {
        variants.push(slices_in_flight(name, depth, &host, &queued));
    }
    for (name, depth) in
        [("pactio queued, slices, buffered(64)", 64), ("pactio queued, slices, buffered(4096)", 4096)]
    {
        variants.push(buffered(name, depth, &host, &queued));
    }
    variants
}

fn slice(name: &'static str, host: &Host, device: &Device) -> Variant {
    let (host, device) = (host.clone(), device.clone());
    Variant::new(name, move |count| {
        host.block_on(async {
            let mut buffer = [0; LEN];
            for position in positions(count) {
                device.read_exact_at(position, &mut buffer).await.unwrap_or_else(|error| panic!("{error}"));
                black_box(&buffer);
            }
        });
    })
}

fn value(name: &'static str, host: &Host, device: &Device) -> Variant {
    let (host, device) = (host.clone(), device.clone());
    Variant::new(name, move |count| {
        host.block_on(async {
            for position in positions(count) {
                let value: [u8; LEN] = device.read(position).await.unwrap_or_else(|error| panic!("{error}"));
                black_box(&value);
            }
        });
    })
}

async fn reuse(device: &Device, count: u64) {
    let mut packet = PacketBox::<Write>::new_buf(LEN).unwrap_or_else(|error| panic!("{error}"));
    for position in positions(count) {
        packet = device.read_exact_at(position, packet).await.unwrap_or_else(|error| panic!("{error}"));
        black_box(packet.simple_slice().is_ok());
    }
}

fn packet(name: &'static str, host: &Host, device: &Device) -> Variant {
    let (host, device) = (host.clone(), device.clone());
    Variant::new(name, move |count| host.block_on(reuse(&device, count)))
}

fn foreign(name: &'static str, device: &Device) -> Variant {
    let device = device.clone();
    Variant::new(name, move |count| pollster::block_on(reuse(&device, count)))
}

fn blocking(name: &'static str, device: &Device) -> Variant {
    let device = device.clone();
    Variant::new(name, move |count| {
        let mut buffer = [0; LEN];
        for position in positions(count) {
            device.blocking_read_exact_at(position, &mut buffer).unwrap_or_else(|error| panic!("{error}"));
            black_box(&buffer);
        }
    })
}

/// Submits all requests, then awaits one after the other.
async fn all<F: Future + Unpin>(requests: &mut [F], mut each: impl FnMut(F::Output)) {
    let mut first = true;
    let mut ready = Vec::new();
    poll_fn(|cx| {
        if std::mem::take(&mut first) {
            for (index, request) in requests.iter_mut().enumerate() {
                if let Poll::Ready(output) = Pin::new(request).poll(cx) {
                    ready.push((index, output));
                }
            }
        }
        Poll::Ready(())
    })
    .await;
    let mut ready = ready.into_iter().peekable();
    for (index, request) in requests.iter_mut().enumerate() {
        match ready.next_if(|(at, _)| *at == index) {
            Some((_, output)) => each(output),
            None => each(request.await),
        }
    }
}

fn in_flight(name: &'static str, depth: usize, host: &Host, device: &Device) -> Variant {
    let device: &'static Device = Box::leak(Box::new(device.clone()));
    reused(name, host, device, LEN, depth, |index| index * LEN as u64 % SIZE as u64)
}

fn slices_in_flight(name: &'static str, depth: usize, host: &Host, device: &Device) -> Variant {
    let (host, device) = (host.clone(), device.clone());
    let mut buffers = vec![[0; LEN]; depth];
    Variant::batched(name, depth, move |count| {
        host.block_on(async {
            for _ in 0..count / depth as u64 {
                let mut requests: Vec<_> = buffers
                    .iter_mut()
                    .zip(positions(depth as u64))
                    .map(|(buffer, position)| device.read_exact_at(position, buffer))
                    .collect();
                all(&mut requests, |done| done.unwrap_or_else(|error| panic!("{error}"))).await;
                drop(requests);
                black_box(&buffers);
            }
        });
    })
}

/// As in applications: each future is polled with a waker of its own.
fn buffered(name: &'static str, depth: usize, host: &Host, device: &Device) -> Variant {
    let (host, device) = (host.clone(), device.clone());
    let mut buffers = vec![[0; LEN]; depth];
    Variant::batched(name, depth, move |count| {
        host.block_on(async {
            for _ in 0..count / depth as u64 {
                stream::iter(buffers.iter_mut().zip(positions(depth as u64)))
                    .map(|(buffer, position)| device.read_exact_at(position, buffer))
                    .buffered(depth)
                    .for_each(|done| {
                        assert!(done.is_ok());
                        ready(())
                    })
                    .await;
                black_box(&buffers);
            }
        });
    })
}

/// Reads with `depth` reused packets in flight, each at the position of its number.
pub(crate) fn reused(
    name: &'static str,
    host: &Host,
    device: &'static Device,
    len: usize,
    depth: usize,
    position: impl Fn(u64) -> u64 + 'static,
) -> Variant {
    let new = || PacketBox::<Write>::new_buf(len).unwrap_or_else(|error| panic!("{error}"));
    let packets = (0..depth).map(|_| new()).collect();
    in_turn(
        name,
        host,
        packets,
        move |index, packet| device.read_exact_at(position(index), packet),
        |read| read,
    )
}

/// Like `reused`, with buffers of a pool that is registered with the device, if the device supports registration.
pub(crate) fn pooled(
    name: &'static str,
    host: &Host,
    device: &'static Device,
    len: usize,
    depth: usize,
    position: impl Fn(u64) -> u64 + 'static,
) -> Variant {
    let pool = BufferPool::new(depth, len).unwrap_or_else(|error| panic!("{error}"));
    device.register(&pool).unwrap_or_else(|error| panic!("{error}"));
    let buffers = std::iter::from_fn(|| pool.try_get()).collect();
    in_turn(
        name,
        host,
        buffers,
        move |index, buffer| device.read_exact_at(position(index), buffer),
        |read| read,
    )
}

/// Reads into all buffers together, repeatedly. `ask` makes the request with a number, and `back` takes the buffer out of the
/// request's output. The list of requests is reused as well: new lists of this size cost page faults.
pub(crate) fn in_turn<B: 'static, F: Future + Unpin + 'static>(
    name: &'static str,
    host: &Host,
    mut buffers: Vec<B>,
    ask: impl Fn(u64, B) -> F + 'static,
    back: impl Fn(F::Output) -> Result<B, Error> + 'static,
) -> Variant {
    let (host, depth) = (host.clone(), buffers.len());
    let mut requests = Vec::with_capacity(depth);
    Variant::batched(name, depth, move |count| {
        host.block_on(async {
            for batch in 0..count / depth as u64 {
                requests.clear();
                let numbered = (batch * depth as u64..).zip(buffers.drain(..));
                requests.extend(numbered.map(|(index, buffer)| ask(index, buffer)));
                all(&mut requests, |read| buffers.push(back(read).unwrap_or_else(|error| panic!("{error}"))))
                    .await;
                assert_eq!(buffers.len(), depth);
            }
        });
    })
}
