//! Runs trees, and compares the results with the model.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::thread::{self, JoinHandle, Thread};

use pactio_sdk::{
    AnyPacket, BoundPacketView, ComplexPacket, Errorable, Generated, IoError, KeptPacket, Lazy,
    OutputFunction, OutputRef, OwnedPacket, PacketBox, PacketBytes, PacketStore, Read, ReadWrite,
    ReboundPacket, ReturnedPart, Splittable, StableBytes, VecPacket, Write,
};

use crate::model::Model;
use crate::plan::{Answer, Bytes, Parts, Plan, Retry};
use crate::side::{Side, Storage, device_byte, packet_byte};

type Job = Box<dyn FnOnce() + Send>;

/// Threads that answer the views that are moved to them.
pub struct Workers {
    jobs: Vec<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
    next: AtomicUsize,
}

impl Workers {
    /// Starts `count` threads.
    pub fn new(count: usize) -> Self {
        let (jobs, threads) = (0..count)
            .map(|_| {
                let (sender, receiver) = channel::<Job>();
                (sender, thread::spawn(move || receiver.into_iter().for_each(|job| job())))
            })
            .unzip();
        Self { jobs, threads, next: AtomicUsize::new(0) }
    }

    fn run(&self, job: impl FnOnce() + Send + 'static) {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        self.jobs[next % self.jobs.len()].send(Box::new(job)).expect("workers live as long as this");
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.jobs.clear();
        for thread in self.threads.drain(..) {
            thread.join().expect("no worker panics");
        }
    }
}

struct Unpark {
    thread: Thread,
    wakes: AtomicUsize,
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.wakes.fetch_add(1, Ordering::SeqCst);
        self.thread.unpark();
    }
}

/// Answers a view by a plan. The view begins at byte `start` of the request.
fn act<P: Side>(
    view: BoundPacketView<P>,
    start: usize,
    plan: Plan,
    storage: &Arc<Storage>,
    workers: &Arc<Workers>,
) where
    AnyPacket: From<BoundPacketView<P>>,
{
    match plan {
        Plan::Split { at, front, back, swapped } => {
            let (one, two) = view.split_at(at);
            let middle = start + one.len();
            if swapped {
                act(two, middle, *back, storage, workers);
                act(one, start, *front, storage, workers);
            } else {
                act(one, start, *front, storage, workers);
                act(two, middle, *back, storage, workers);
            }
        }
        Plan::Tag(tag, then) => {
            let mut view = view;
            view.set_tag(tag);
            act(view, start, *then, storage, workers);
        }
        Plan::Elsewhere(then) => {
            let (storage, for_job) = (storage.clone(), workers.clone());
            workers.run(move || {
                act(view, start, *then, &storage, &for_job);
            });
        }
        Plan::Rebind { fresh, failed, parts } => {
            let mut rebound = ReboundPacket::new(view).expect("there is memory");
            match parts {
                Parts::AtOnce => {
                    let inner = rebound.bind().expect("it is idle");
                    let storage_above = storage.clone();
                    // The origin must end whether the rebound packet is abandoned or settled.
                    rebound.on_complete(move |rebound| {
                        if let Retry::Abandon = failed {
                            return drop(rebound);
                        }
                        let settled = rebound.settle(|part| answer(part, start, failed, &storage_above));
                        assert!(settled.is_ok(), "settled before it was complete");
                    });
                    act(inner, start, *fresh, storage, workers);
                }
                Parts::Each => {
                    let storage_above = storage.clone();
                    let each = move |part| answer(part, start, failed, &storage_above);
                    let inner = rebound.bind_each(each).expect("it is idle");
                    act(inner, start, *fresh, storage, workers);
                }
                Parts::EachElsewhere => {
                    let (storage_above, for_job) = (storage.clone(), Arc::downgrade(workers));
                    let each = move |part: ReturnedPart<P>| {
                        let storage = storage_above.clone();
                        let job = move || {
                            let half = part.len() / 2;
                            let (front, back) = part.split_at(half);
                            answer(back, start, failed, &storage);
                            answer(front, start, failed, &storage);
                        };
                        match for_job.upgrade() {
                            Some(workers) => workers.run(job),
                            None => job(),
                        }
                    };
                    let inner = rebound.bind_each(each).expect("it is idle");
                    act(inner, start, *fresh, storage, workers);
                }
            }
        }
        Plan::Transfer { buffer, done } => {
            let transferred = Side::transfer(view, start, storage, buffer);
            match done {
                None => transferred.complete(),
                Some((done, error)) => transferred.complete_with(done, error),
            }
        }
        Plan::TransferSplit { buffer, at, drops_front } => {
            let (front, back) = Side::transfer(view, start, storage, buffer).split_at(at);
            back.complete();
            if drops_front { drop(front) } else { front.complete() }
        }
        Plan::Alloc { align, bytes, answer } => match view.try_alloc(align) {
            Err(view) => view.error(IoError::UNSUPPORTED),
            Ok(direct) => match answer {
                Answer::Complete(error) => P::direct(direct, start, storage, bytes, Some(error)),
                Answer::Fail(error) => direct.error(error),
                Answer::Drop => P::direct(direct, start, storage, bytes, None),
            },
        },
        Plan::AllocSplit { at } => match view.try_alloc(1) {
            Err(view) => view.error(IoError::UNSUPPORTED),
            Ok(direct) => {
                let (front, back) = Splittable::split_at(direct, at);
                let (one, two) = (Splittable::len(&front), Splittable::len(&back));
                P::direct(back, start + one, storage, two, Some(IoError::SHORT));
                P::direct(front, start, storage, one, Some(IoError::SHORT));
            }
        },
        Plan::Fail(error) => view.error(error),
        Plan::Drop => drop(view),
        Plan::Panic => {
            let caught = catch_unwind(AssertUnwindSafe(move || {
                let _view = view;
                std::panic::resume_unwind(Box::new("planned"));
            }));
            assert!(caught.is_err());
        }
        Plan::Any { at, error } => {
            let (front, back) = AnyPacket::from(view).split_at(at);
            back.error(error);
            front.error(error);
        }
    }
}

/// Answers a part of an origin that came back. The origin begins at byte `start` of the request.
fn answer<P: Side>(part: ReturnedPart<P>, start: usize, failed: Retry, storage: &Arc<Storage>)
where
    AnyPacket: From<BoundPacketView<P>>,
{
    let done = part.result().is_ok();
    match failed {
        Retry::Abandon => drop(part),
        _ if done => part.complete(),
        Retry::Transfer => {
            let (at, len) = (start + part.range().start, part.len());
            Side::transfer(part.into_view(), at, storage, len).complete();
        }
        Retry::Fail(error) => part.error(error),
        Retry::Forward => part.complete(),
    }
}

/// A buffer with an owner of its own, which counts its drops.
struct Counted {
    bytes: NonNull<u8>,
    len: usize,
    alive: Arc<AtomicUsize>,
}

// SAFETY: the value owns its bytes, which any thread may access.
unsafe impl Send for Counted {}

impl Counted {
    fn new(bytes: Vec<u8>, alive: &Arc<AtomicUsize>) -> Self {
        alive.fetch_add(1, Ordering::SeqCst);
        let bytes = bytes.into_boxed_slice();
        let len = bytes.len();
        let bytes = NonNull::new(Box::into_raw(bytes).cast()).expect("a box is not null");
        Self { bytes, len, alive: alive.clone() }
    }

    fn to_vec(&self) -> Vec<u8> {
        // SAFETY: the bytes belong to this value, and no packet holds the value now.
        unsafe { std::slice::from_raw_parts(self.bytes.as_ptr(), self.len) }.to_vec()
    }
}

// SAFETY: the bytes come from a box, are initialised, and are freed only when the value is dropped.
unsafe impl StableBytes for Counted {
    fn start(&mut self) -> NonNull<u8> {
        self.bytes
    }

    fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::SeqCst);
        // SAFETY: the pointer and the length are those of the box that `new` took apart.
        drop(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(self.bytes.as_ptr(), self.len)) });
    }
}

/// Bytes behind a lock: exchanged without direct access.
struct Locked(Mutex<Vec<u8>>, usize);

impl PacketBytes<ReadWrite> for Locked {
    fn len(&self) -> usize {
        self.1
    }

    fn transfer(&self, offset: usize, data: &mut [u8]) -> Result<(), IoError> {
        let mut bytes = self.0.lock().expect("no thread panics with the lock");
        bytes[offset..offset + data.len()].swap_with_slice(data);
        Ok(())
    }
}

/// Runs one case: a packet of some kind, and a tree for each of two uses of the packet.
pub fn case(bytes: &mut impl Bytes, workers: &Arc<Workers>) {
    let most = if bytes.byte().is_multiple_of(16) { 70_000 } else { 300 };
    let len = bytes.up_to(most);
    let alive = Arc::new(AtomicUsize::new(0));
    let filled = || (0..len).map(packet_byte).collect::<Vec<u8>>();
    let ok = "there is memory";
    match bytes.byte() % 15 {
        0 => run(bytes, workers, PacketBox::<Write>::new_buf(len).expect(ok), Kind::Direct(64), |packet| {
            let mut content = vec![0; packet.len()];
            packet.copy_done_to(&mut content);
            content
        }),
        1 => {
            let packet = PacketBox::<Write>::new_buf_aligned(len, 4096).expect(ok);
            run(bytes, workers, packet, Kind::Direct(4096), |packet| {
                let mut content = vec![0; packet.len()];
                packet.copy_done_to(&mut content);
                content
            });
        }
        2 => run(bytes, workers, VecPacket::<Write>::new(filled()).expect(ok), Kind::Direct(1), |v| v),
        3 => run(bytes, workers, VecPacket::<Write>::with_len(len).expect(ok), Kind::Direct(1), |v| v),
        4 => run(
            bytes,
            workers,
            OwnedPacket::<Write>::new(filled().into()).expect(ok),
            Kind::Direct(1),
            Vec::from,
        ),
        5 => {
            let packet = KeptPacket::<_, Write>::new(Counted::new(filled(), &alive)).expect(ok);
            run(bytes, workers, packet, Kind::Direct(1), |kept| kept.to_vec());
        }
        6 => run(
            bytes,
            workers,
            ComplexPacket::<_, Write>::new(Lazy::new(len)).expect(ok),
            Kind::Direct(1),
            move |lazy| lazy.into_bytes().map_or(vec![0; len], Vec::from),
        ),
        7 => {
            let packet = PacketBox::<Read>::copy_from_slice(&filled()).expect(ok);
            run(bytes, workers, packet, Kind::Direct(64), move |_| (0..len).map(packet_byte).collect());
        }
        8 => run(bytes, workers, VecPacket::<Read>::new(filled()).expect(ok), Kind::Direct(1), |v| v),
        9 => {
            let packet = KeptPacket::<_, Read>::new(Counted::new(filled(), &alive)).expect(ok);
            run(bytes, workers, packet, Kind::Direct(1), |kept| kept.to_vec());
        }
        10 => {
            let made = Generated::new(len, |offset, buffer: &mut [u8]| {
                buffer.iter_mut().enumerate().for_each(|(index, byte)| *byte = packet_byte(offset + index));
                Ok(())
            });
            let packet = ComplexPacket::<_, Read>::new(made).expect(ok);
            run(bytes, workers, packet, Kind::Functions, move |_| (0..len).map(packet_byte).collect());
        }
        11 => {
            let packet = PacketBox::<ReadWrite>::copy_from_slice(&filled()).expect(ok);
            run(bytes, workers, packet, Kind::Direct(64), |packet| {
                let mut content = vec![0; packet.len()];
                packet.copy_done_to(&mut content);
                content
            });
        }
        12 => run(bytes, workers, VecPacket::<ReadWrite>::new(filled()).expect(ok), Kind::Direct(1), |v| v),
        13 => {
            let packet = KeptPacket::<_, ReadWrite>::new(Counted::new(filled(), &alive)).expect(ok);
            run(bytes, workers, packet, Kind::Direct(1), |kept| kept.to_vec());
        }
        _ => {
            let packet = ComplexPacket::<_, ReadWrite>::new(Locked(Mutex::new(filled()), len)).expect(ok);
            run(bytes, workers, packet, Kind::Functions, |locked| {
                locked.0.into_inner().expect("no thread panics with the lock")
            });
        }
    }
    assert_eq!(alive.load(Ordering::SeqCst), 0, "kept memory was not dropped, or twice");
}

/// The direct access that a packet gives.
#[derive(Clone, Copy)]
enum Kind {
    /// Bytes with this alignment.
    Direct(usize),
    /// None: the packet consists of functions.
    Functions,
}

/// The contents that are expected.
trait Expect: Side {
    /// The content of the packet and of the device at a done byte, as far as each is certain.
    fn done(index: usize, moves: u8) -> (Option<u8>, Option<u8>);
}

impl Expect for Write {
    fn done(index: usize, _: u8) -> (Option<u8>, Option<u8>) {
        (Some(device_byte(index)), Some(device_byte(index)))
    }
}

impl Expect for Read {
    fn done(index: usize, _: u8) -> (Option<u8>, Option<u8>) {
        (Some(packet_byte(index)), Some(packet_byte(index)))
    }
}

impl Expect for ReadWrite {
    fn done(index: usize, moves: u8) -> (Option<u8>, Option<u8>) {
        if moves == 1 { (Some(device_byte(index)), Some(packet_byte(index))) } else { (None, None) }
    }
}

fn run<P: Expect, S: PacketStore<P>>(
    bytes: &mut impl Bytes,
    workers: &Arc<Workers>,
    mut store: S,
    kind: Kind,
    content: impl FnOnce(S::Back) -> Vec<u8>,
) where
    AnyPacket: From<BoundPacketView<P>>,
{
    let len = store.packet().len();
    // An earlier use of the packet must not affect the result. An exchange is left out, since it changes the contents.
    if bytes.byte().is_multiple_of(4) && std::any::TypeId::of::<P>() != std::any::TypeId::of::<ReadWrite>() {
        let plan = Plan::new(bytes, len, 3);
        use_once(bytes, workers, &mut store, plan, kind);
    }
    // Sometimes the owner drops the packet early: the last holder frees the memory (rule 1).
    if bytes.byte().is_multiple_of(16) {
        let plan = Plan::new(bytes, len, 5);
        let storage = Arc::new(Storage::new(len));
        let view = store.packet_mut().bind().expect("it is complete");
        if bytes.byte().is_multiple_of(2) {
            drop(store);
            act(view, 0, plan, &storage, workers);
        } else {
            act(view, 0, plan, &storage, workers);
            drop(store);
        }
        wait_for_workers(workers);
        return;
    }
    let plan = Plan::new(bytes, len, 5);
    let (model, storage) = use_once(bytes, workers, &mut store, plan, kind);
    let content = content(store.sync_back().unwrap_or_else(|_| panic!("it is complete")));
    let device = storage.load(0..len);
    for (index, byte) in model.bytes.iter().enumerate() {
        if byte.result.is_ok() {
            let (in_packet, in_device) = P::done(index, byte.moves);
            assert!(in_packet.is_none_or(|expected| content[index] == expected), "packet byte {index}");
            assert!(in_device.is_none_or(|expected| device[index] == expected), "device byte {index}");
        }
    }
}

/// Waits for jobs that may still be running when the packet is already complete.
fn wait_for_workers(workers: &Arc<Workers>) {
    // A job may make another job, at most as deep as the tree, and each part of a rebound packet one more.
    for _ in 0..12 {
        let (sender, receiver) = channel::<()>();
        for _ in &workers.jobs {
            let sender = sender.clone();
            workers.run(move || drop(sender));
        }
        drop(sender);
        let _ = receiver.recv();
    }
}

type Segments = Arc<Mutex<Vec<(Range<usize>, u64, Result<(), IoError>)>>>;

fn use_once<P: Expect, S: PacketStore<P>>(
    bytes: &mut impl Bytes,
    workers: &Arc<Workers>,
    store: &mut S,
    plan: Plan,
    kind: Kind,
) -> (Model, Arc<Storage>)
where
    AnyPacket: From<BoundPacketView<P>>,
{
    let len = store.packet().len();
    let storage = Arc::new(Storage::new(len));
    let segments = Segments::default();
    let watched = bytes.byte().is_multiple_of(2);
    let polled_early = bytes.byte().is_multiple_of(2);
    let view = if watched {
        let segments = segments.clone();
        let output = OutputFunction(move |segment: pactio_sdk::Segment<'_>| {
            segments.lock().expect("no thread panics with the lock").push((
                segment.range(),
                segment.tag(),
                segment.result(),
            ));
        });
        store.packet_mut().bind_to(OutputRef::new(output)).expect("it is idle")
    } else {
        store.packet_mut().bind().expect("it is idle")
    };
    let (plan, base) = match kind {
        Kind::Direct(base) => (with_alignment(plan, base), Some(base)),
        Kind::Functions => (plan, None),
    };
    let is_aligned = |start: usize, align: usize| base.is_some() && start.is_multiple_of(align);
    let model = Model::new(&plan, len, &is_aligned);

    let unpark = Arc::new(Unpark { thread: thread::current(), wakes: AtomicUsize::new(0) });
    let waker = Waker::from(unpark.clone());
    let mut cx = Context::from_waker(&waker);
    if polled_early {
        assert!(store.packet_mut().poll_complete(&mut cx).is_pending(), "ready with a view in flight");
    }
    act(view, 0, plan, &storage, workers);
    while store.packet_mut().poll_complete(&mut cx).is_pending() {
        thread::park();
    }
    // The callbacks of all segments have run when the packet is complete (rule 3).
    check_segments(watched, &segments, &model);
    let mut at = 0;
    for (range, result) in store.packet().report().ranges() {
        assert_eq!(range.start, at, "the report has a gap");
        at = range.end;
        assert!(
            model.bytes[range.clone()].iter().all(|byte| byte.result == result),
            "{range:?}: {result:?}, but {:?}",
            &model.bytes[range.clone()]
        );
    }
    assert_eq!(at, len, "the report is too short");
    wait_for_workers(workers);
    // Woken at most once, and no waker left (rule 7).
    assert!(unpark.wakes.load(Ordering::SeqCst) <= 1, "woken {:?} times", unpark.wakes);
    drop(waker);
    assert_eq!(Arc::strong_count(&unpark), 1, "a waker is left behind");
    (model, storage)
}

fn check_segments(watched: bool, segments: &Segments, model: &Model) {
    let mut segments = std::mem::take(&mut *segments.lock().expect("no thread panics with the lock"));
    if !watched {
        assert!(segments.is_empty(), "{segments:?}");
        return;
    }
    segments.sort_by_key(|(range, ..)| range.start);
    let mut at = 0;
    for (range, tag, result) in segments {
        assert_eq!(range.start, at, "a segment is missing or came twice");
        assert!(!range.is_empty(), "{range:?}");
        at = range.end;
        for byte in &model.bytes[range] {
            assert_eq!((byte.result, byte.tag), (result, tag));
        }
    }
    assert_eq!(at, model.bytes.len(), "segments are missing");
}

/// Limits all alignments to those for which it is known whether direct bytes are available.
fn with_alignment(plan: Plan, most: usize) -> Plan {
    let again = |plan: Box<Plan>| Box::new(with_alignment(*plan, most));
    match plan {
        Plan::Alloc { align, bytes, answer } => Plan::Alloc { align: align.min(most), bytes, answer },
        Plan::Split { at, front, back, swapped } => {
            Plan::Split { at, front: again(front), back: again(back), swapped }
        }
        Plan::Tag(tag, then) => Plan::Tag(tag, again(then)),
        Plan::Elsewhere(then) => Plan::Elsewhere(again(then)),
        Plan::Rebind { fresh, failed, parts } => Plan::Rebind { fresh: again(fresh), failed, parts },
        other => other,
    }
}
