//! The references of the figures: a static `async fn`, and mfio 0.1.0 with a device of the same kind, linked in.

use std::collections::VecDeque;
use std::future::{poll_fn, ready};
use std::hint::black_box;
use std::mem::MaybeUninit;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};

use futures_util::StreamExt;
use futures_util::stream;
use mfio::backend::integrations::Integration;
use mfio::backend::{
    BackendContainer, BackendHandle, DynBackend, IoBackend, IoBackendExt, Null, PollingHandle,
};
use mfio::io::{BoundPacketView, Packet, PacketIo, PacketView, Splittable, Write};
use mfio::traits::IoRead;

use crate::measure::{REFERENCE, Variant};
use crate::{LEN, SIZE};

struct Static(Vec<u8>);

impl Static {
    #[inline(never)]
    async fn read(&self, position: u64, buffer: &mut [u8]) -> Result<(), ()> {
        let start = position as usize;
        let bytes = self.0.get(start..start + buffer.len()).ok_or(())?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}

fn positions(count: u64) -> impl Iterator<Item = u64> {
    (0..count).map(|index| index * LEN as u64 % SIZE as u64)
}

fn reference() -> Variant {
    let device = Static(vec![1; SIZE]);
    Variant::new(REFERENCE, move |count| {
        pollster::block_on(async {
            let mut buffer = [0; LEN];
            for position in positions(count) {
                black_box(device.read(black_box(position), &mut buffer).await.is_ok());
                black_box(&buffer);
            }
        });
    })
}

/// Answers mfio's views from memory.
struct Memory(Vec<u8>);

impl Memory {
    fn answer(&self, position: u64, view: BoundPacketView<Write>) {
        let start = position as usize;
        assert!(start as u64 + view.len() <= self.0.len() as u64);
        // SAFETY: the assertion has checked the range, and mfio copies exactly as many bytes as the view has.
        let _ = unsafe { view.transfer_data(self.0.as_ptr().add(start).cast()) };
    }
}

impl PacketIo<Write, u64> for Memory {
    fn send_io(&self, position: u64, view: BoundPacketView<Write>) {
        self.answer(position, view);
    }
}

type Queue = VecDeque<(u64, BoundPacketView<Write>)>;

/// The same device with a queue and a driver, as in mfio's own sample.
struct Queued {
    shared: Arc<Mutex<(Queue, Option<Waker>)>>,
    backend: BackendContainer<DynBackend>,
}

impl Queued {
    fn new() -> Self {
        let memory = Memory(vec![1; SIZE]);
        let shared: Arc<Mutex<(Queue, Option<Waker>)>> = Arc::default();
        let driven = shared.clone();
        let driver = async move {
            poll_fn::<(), _>(|cx| {
                let mut guard = driven.lock().unwrap_or_else(PoisonError::into_inner);
                guard.1 = Some(cx.waker().clone());
                while let Some((position, view)) = guard.0.pop_front() {
                    memory.answer(position, view);
                }
                Poll::Pending
            })
            .await;
        };
        Self { shared, backend: BackendContainer::new_dyn(driver) }
    }
}

impl PacketIo<Write, u64> for Queued {
    fn send_io(&self, position: u64, view: BoundPacketView<Write>) {
        let mut guard = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        guard.0.push_back((position, view));
        if let Some(waker) = guard.1.take() {
            drop(guard);
            waker.wake();
        }
    }
}

impl IoBackend for Queued {
    type Backend = DynBackend;

    fn polling_handle(&self) -> Option<PollingHandle<'_>> {
        None
    }

    fn get_backend(&self) -> BackendHandle<'_, Self::Backend> {
        self.backend.acquire(None)
    }
}

/// Sends reused packets and waits for them.
pub(crate) async fn send(
    device: &impl PacketIo<Write, u64>,
    packets: &[tarc::BaseArc<Packet<Write>>],
    positions: impl Iterator<Item = u64>,
) {
    for (packet, position) in packets.iter().zip(positions) {
        // SAFETY: the packet is not in flight.
        unsafe { packet.reset_err() };
        // SAFETY: the packet outlives its view, since it is awaited below.
        let view = unsafe { PacketView::from_arc_ref(packet, 0).bind(None) };
        device.send_io(position, view);
    }
    for packet in packets {
        (&**packet).await;
    }
}

pub(crate) fn variants() -> Vec<Variant> {
    let inline = Arc::new(Memory(vec![1; SIZE]));
    let one = || vec![Packet::<Write>::new_buf(LEN)];
    let mut variants = vec![reference()];
    variants.push({
        let (device, packets) = (inline.clone(), one());
        Variant::new("mfio inline (linked in), reused packet", move |count| {
            pollster::block_on(async {
                for _ in 0..count {
                    send(&*device, &packets, positions(packets.len() as u64)).await;
                }
            });
        })
    });
    variants.push(Variant::new("mfio inline (linked in), read_all", move |count| {
        pollster::block_on(async {
            let mut buffer = [0; LEN];
            for position in positions(count) {
                black_box(inline.read_all(position, &mut buffer[..]).await.is_ok());
            }
        });
    }));
    variants.push({
        let (mut device, packets) = (Queued::new(), one());
        Variant::new("mfio queued (linked in), reused packet, pollster", move |count| {
            pollster::block_on(Null::run_with_mut(&mut device, |device| {
                let packets = &packets;
                async move {
                    for _ in 0..count {
                        send(device, packets, positions(packets.len() as u64)).await;
                    }
                }
            }));
        })
    });
    variants.push({
        let (device, packets) = (Queued::new(), one());
        Variant::new("mfio queued (linked in), reused packet, its block_on", move |count| {
            device.block_on(async {
                for _ in 0..count {
                    send(&device, &packets, positions(packets.len() as u64)).await;
                }
            });
        })
    });
    for (name, depth) in [
        ("mfio queued (linked in), reused packets, 64 in flight", 64),
        ("mfio queued (linked in), reused packets, 256 in flight", 256),
        ("mfio queued (linked in), reused packets, 4096 in flight", 4096),
        ("mfio queued (linked in), reused packets, 65536 in flight", 65536),
    ] {
        let mut device = Queued::new();
        let packets: Vec<_> = (0..depth).map(|_| Packet::<Write>::new_buf(LEN)).collect();
        variants.push(Variant::batched(name, depth, move |count| {
            pollster::block_on(Null::run_with_mut(&mut device, |device| {
                let packets = &packets;
                async move {
                    for _ in 0..count / packets.len() as u64 {
                        send(device, packets, positions(packets.len() as u64)).await;
                    }
                }
            }));
        }));
    }
    for (name, depth) in [
        ("mfio queued (linked in), read_into, buffered(64)", 64),
        ("mfio queued (linked in), read_into, buffered(4096)", 4096),
    ] {
        let mut device = Queued::new();
        let mut values = vec![MaybeUninit::<[u8; LEN]>::uninit(); depth];
        variants.push(Variant::batched(name, depth, move |count| {
            pollster::block_on(Null::run_with_mut(&mut device, |device| {
                let values = &mut values;
                async move {
                    for _ in 0..count / depth as u64 {
                        stream::iter(values.iter_mut().zip(positions(depth as u64)))
                            .map(|(value, position)| device.read_into(position, value))
                            .buffered(depth)
                            .for_each(|done| {
                                assert!(done.is_ok());
                                ready(())
                            })
                            .await;
                        black_box(&values);
                    }
                }
            }));
        }));
    }
    variants
}
