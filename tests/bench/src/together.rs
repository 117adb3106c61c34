//! The reads of one task under each executor, against one call with all of them.

use std::future::{Future, poll_fn};
use std::hint::black_box;
use std::pin::Pin;
use std::task::{Poll, ready};

use futures_util::future::join_all;
use pactio::{Device, Host, PacketBox};
use pactio_sdk::{Batch, PacketIo, PacketStore as _, Submission, Write};

use crate::measure::Variant;

/// Bytes per read.
const LEN: usize = 64;

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Each way to make `depth` reads, each at the position of its number.
pub(crate) fn variants(
    host: &Host,
    device: &'static Device,
    depth: usize,
    position: fn(u64, u64) -> u64,
    start: u64,
) -> Vec<Variant> {
    let at = move |index| position(start, index);
    let tokio = |threads: bool| {
        let mut builder = match threads {
            true => tokio::runtime::Builder::new_multi_thread(),
            false => tokio::runtime::Builder::new_current_thread(),
        };
        builder.worker_threads(1).build().unwrap_or_else(|error| panic!("{error}"))
    };
    let (here, there) = (tokio(false), tokio(true));
    let [host, spawner, scoped, by_hand, joining] = [(); 5].map(|()| host.clone());
    vec![
        Variant::batched("send_batch", depth, sends_batch(by_hand, device, depth, at)),
        joined("join_all, block_on of the host", device, depth, at, move |task| host.block_on(task)),
        joins("join_all alone: futures that wait once", joining, depth),
        joined("join_all, task of the host", device, depth, at, move |task| {
            spawner.block_on(spawner.spawn(task));
        }),
        scope("scope", scoped, device, depth, at),
        joined("join_all, pollster", device, depth, at, pollster::block_on),
        joined("join_all, tokio on one thread", device, depth, at, move |task| here.block_on(task)),
        joined("join_all, task of tokio", device, depth, at, move |task| {
            there.block_on(there.spawn(task)).unwrap_or_else(|error| panic!("{error}"));
        }),
    ]
}

/// All reads in one call, made by hand.
fn sends_batch(
    host: Host,
    device: &'static Device,
    depth: usize,
    at: impl Fn(u64) -> u64,
) -> impl FnMut(u64) {
    let new = |_| PacketBox::<Write>::new_buf(LEN).unwrap_or_else(|error| panic!("{error}"));
    let mut packets: Vec<_> = (0..depth).map(new).collect();
    let mut queue = Vec::with_capacity(depth);
    move |count| {
        host.block_on(async {
            for batch in 0..count / depth as u64 {
                for (index, packet) in (batch * depth as u64..).zip(&mut packets) {
                    let view = packet.packet_mut().bind().unwrap_or_else(|error| panic!("{error}"));
                    Submission::push_to(&mut queue, at(index), view);
                }
                device.send_batch(Batch::drain(&mut queue));
                for packet in &mut packets {
                    poll_fn(|cx| {
                        ready!(packet.packet_mut().poll_complete(cx));
                        Poll::Ready(())
                    })
                    .await;
                    assert!(packet.packet().is_done());
                }
            }
        });
    }
}

/// All reads joined in one task, repeatedly.
fn joined(
    name: &'static str,
    device: &'static Device,
    depth: usize,
    at: impl Fn(u64) -> u64 + Send + Copy + 'static,
    run: impl Fn(Task) + 'static,
) -> Variant {
    let new = |_| PacketBox::<Write>::new_buf(LEN).unwrap_or_else(|error| panic!("{error}"));
    Variant::batched(name, depth, move |count| {
        run(Box::pin(async move {
            let mut packets: Vec<_> = (0..depth).map(new).collect();
            for batch in 0..count / depth as u64 {
                let numbered = (batch * depth as u64..).zip(packets.drain(..));
                let reads = numbered.map(|(index, packet)| device.read_exact_at(at(index), packet));
                let read = join_all(reads).await;
                packets.extend(read.into_iter().map(|read| read.unwrap_or_else(|error| panic!("{error}"))));
            }
        }));
    })
}

/// The joining alone: each future is pending once, and wakes its task.
fn joins(name: &'static str, host: Host, depth: usize) -> Variant {
    Variant::batched(name, depth, move |count| {
        host.block_on(async {
            for _ in 0..count / depth as u64 {
                let futures = (0..depth).map(|_| {
                    let mut waited = false;
                    poll_fn(move |cx| {
                        if std::mem::replace(&mut waited, true) {
                            return Poll::Ready(());
                        }
                        cx.waker().wake_by_ref();
                        Poll::Pending
                    })
                });
                black_box(join_all(futures).await);
            }
        });
    })
}

/// All reads in one scope, repeatedly.
fn scope(
    name: &'static str,
    host: Host,
    device: &'static Device,
    depth: usize,
    at: impl Fn(u64) -> u64 + 'static,
) -> Variant {
    let mut buffers = vec![[0; LEN]; depth];
    Variant::batched(name, depth, move |count| {
        for batch in 0..count / depth as u64 {
            host.scope(|scope| {
                for (index, buffer) in (batch * depth as u64..).zip(&mut buffers) {
                    scope.read(device, at(index), buffer);
                }
            });
        }
        black_box(&buffers);
    })
}
