//! An object that is written: parts of a fixed size are uploaded in order, and the object appears when it is published.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{Attribute, Attributes, MultipartUpload, ObjectStore, PutPayload};
use pactio_sdk::{
    Answer, BackendDevice, BoundPacketView, Cause, Code, Describe, DeviceInfo, ExtensionQuery, Flush,
    FlushScope, IoError, Kind, OpenError, Publish, Read, Records, Stat, Write,
};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::failure::{failed, shown};
use crate::runtime::runtime;
use crate::store::{Store, path};
use crate::sums::sending;

/// An object that is being written.
pub(crate) struct Upload {
    /// `work` and `open` are set until the drop; work that is still queued then is not done.
    work: Option<UnboundedSender<Work>>,
    open: Option<watch::Sender<()>>,
    size: Arc<AtomicU64>,
    published: Arc<AtomicBool>,
    store: Store,
    path: Path,
    /// The channel closes when the writer has ended.
    ended: Mutex<Receiver<()>>,
}

enum Work {
    Write(u64, BoundPacketView<Read>),
    Publish(Answer),
    Flush(Answer),
}

/// Parts in flight at a time.
const IN_FLIGHT: usize = 4;

/// The longest time that closing waits for the removal of uploaded parts.
const LONGEST_END: Duration = Duration::from_secs(5);

/// Most parts of an object: services take no more.
const MAX_PARTS: u64 = 10_000;

/// Most parts that are begun and wait for earlier parts: a write further ahead is refused.
const MAX_BEGUN: u64 = 128;

impl Upload {
    /// Starts a task that takes the writes of the object until the device is dropped.
    pub(crate) fn begin(store: Store, key: &str) -> Result<Self, OpenError> {
        let (runtime, path) = (runtime()?, path(key)?);
        let (work, received) = unbounded_channel();
        let (size, published) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let ((open, closed), (running, ended)) = (watch::channel(()), std::sync::mpsc::channel());
        let writer = Writer {
            store: store.clone(),
            path: path.clone(),
            size: size.clone(),
            published: published.clone(),
            parts: BTreeMap::new(),
            sent: 0,
            multipart: None,
            on_the_way: JoinSet::new(),
            ended: None,
        };
        runtime.spawn(async move {
            writer.run(received, closed).await;
            // Closes `ended`, for which the drop of the device waits.
            drop(running);
        });
        Ok(Self {
            work: Some(work),
            open: Some(open),
            size,
            published,
            store,
            path,
            ended: Mutex::new(ended),
        })
    }

    /// If no writer takes the work, the work is dropped, and so fails.
    fn send(&self, work: Work) {
        if let Some(to) = &self.work {
            let _ = to.send(work);
        }
    }
}

/// Waits until the uploaded parts of an unpublished object are removed: a program that ends now could not remove them later, and
/// services bill for parts that stay.
impl Drop for Upload {
    fn drop(&mut self) {
        (self.work, self.open) = (None, None);
        // Ordering: Relaxed. The values guard no data.
        if self.size.load(Ordering::Relaxed) > 0 && !self.published.load(Ordering::Relaxed) {
            tracing::warn!(
                "'{}' keeps its content, if it has any: the new one was not published",
                shown(&self.path)
            );
        }
        // On a thread of the runtime, the caller may be the writer itself.
        if Handle::try_current().is_ok() {
            return;
        }
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        if ended.recv_timeout(LONGEST_END) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("parts of an upload that was given up may be left in the store");
        }
    }
}

impl BackendDevice for Upload {
    fn info(&self) -> DeviceInfo {
        // Ordering: Relaxed. The size guards no data.
        DeviceInfo::with_size(self.size.load(Ordering::Relaxed)).write_only()
    }

    fn read(&self, _: u64, view: BoundPacketView<Write>) {
        view.error(IoError::UNSUPPORTED);
    }

    fn write(&self, position: u64, view: BoundPacketView<Read>) {
        self.send(Work::Write(position, view));
    }

    fn extensions<'d>(&'d self, query: &mut ExtensionQuery<'d>) {
        query.offer::<dyn Flush>(self).offer::<dyn Publish>(self).offer::<dyn Describe>(self);
    }
}

impl Describe for Upload {
    fn stat(&self, answer: Records<Stat>) {
        // Ordering: Relaxed. The size guards no data.
        let mut stat = Stat::of(Kind::FILE).with_size(self.size.load(Ordering::Relaxed));
        stat.identity = self.store.identity(&self.path);
        answer.complete_one(Ok::<_, IoError>(stat));
    }
}

impl Flush for Upload {
    fn flush(&self, _: FlushScope, answer: Answer) {
        self.send(Work::Flush(answer));
    }
}

impl Publish for Upload {
    fn publish(&self, answer: Answer) {
        self.send(Work::Publish(answer));
    }
}

/// Takes writes in the order in which they arrive.
struct Writer {
    store: Store,
    path: Path,
    size: Arc<AtomicU64>,
    published: Arc<AtomicBool>,
    /// Parts by number that are not whole yet, or wait for an earlier part that is not whole.
    parts: BTreeMap<u64, PartBuffer>,
    /// Number of parts that were sent.
    sent: u64,
    multipart: Option<Box<dyn MultipartUpload>>,
    on_the_way: JoinSet<object_store::Result<()>>,
    /// Set when the object was published or has failed: no write is taken after that.
    ended: Option<Result<(), Cause>>,
}

/// A part of the object.
#[derive(Default)]
struct PartBuffer {
    bytes: Vec<u8>,
    /// Ranges that were written, in order and apart from each other.
    written: Vec<(usize, usize)>,
}

impl PartBuffer {
    /// Room for all of a part: memory that is not written stays unused, and a buffer that grows would be there twice.
    fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), written: Vec::new() }
    }

    /// Records a range as written, joined with those that it touches. The caller puts the bytes.
    fn write(&mut self, start: usize, end: usize) {
        let mut joined = (start, end);
        self.written.retain(|&(from, to)| {
            let apart = to < joined.0 || joined.1 < from;
            if !apart {
                joined = (joined.0.min(from), joined.1.max(to));
            }
            apart
        });
        self.written.push(joined);
        self.written.sort_unstable();
    }

    /// The number of written bytes, if they are one range from the start.
    fn len(&self) -> Option<usize> {
        match self.written.as_slice() {
            [(0, end)] => Some(*end),
            _ => None,
        }
    }
}

impl Writer {
    /// Takes work until the device is dropped, and then gives the upload up, unless the object was published.
    async fn run(mut self, mut work: UnboundedReceiver<Work>, mut closed: watch::Receiver<()>) {
        let all = async {
            while let Some(work) = work.recv().await {
                self.take(work).await;
            }
        };
        tokio::select! {
            biased;
            // No value is ever sent: the channel reports that the sender was dropped.
            _ = closed.changed() => {}
            () = all => {}
        }
        // Work that is still queued is dropped, and so fails.
        drop(work);
        if matches!(self.ended, Some(Ok(()))) {
            return;
        }
        // The device was closed before the object was published: the object never appears.
        if let Some(mut multipart) = self.multipart {
            self.on_the_way.shutdown().await;
            // An error is ignored: the device is closed, and has no caller to report it to.
            let _ = multipart.abort().await;
        }
    }

    /// Does one piece of work. After the object was published or has failed, writes fail, and the other work has that same
    /// result.
    async fn take(&mut self, work: Work) {
        match work {
            Work::Write(position, view) => {
                if let Some(ended) = &self.ended {
                    let published = Cause::from(IoError::from_code(Code::READ_ONLY));
                    view.fail(ended.as_ref().err().unwrap_or(&published));
                } else if view.is_cancelled() {
                    view.error(IoError::CANCELLED);
                } else if let Err(cause) = self.write(position, view).await {
                    self.ended = Some(Err(cause));
                }
            }
            Work::Publish(answer) => {
                let result = match &self.ended {
                    Some(ended) => ended.clone(),
                    None => self.publish().await,
                };
                // Ordering: Relaxed. The flag guards no data.
                self.published.store(result.is_ok(), Ordering::Relaxed);
                self.ended = Some(result.clone());
                answer.result(result);
            }
            Work::Flush(answer) => answer.result(match &self.ended {
                Some(ended) => ended.clone(),
                None => {
                    let text = format!("'{}': an object is kept as a whole; publish it", shown(&self.path));
                    Err(Cause::new(IoError::UNSUPPORTED, text))
                }
            }),
        }
    }

    /// Takes bytes, and sends each part that is whole; waits while many parts are in flight.
    async fn write(&mut self, position: u64, view: BoundPacketView<Read>) -> Result<(), Cause> {
        let unit = self.store.part as u64;
        let (mut position, mut rest) = (position, view);
        loop {
            let (number, start) = (position / unit, (position % unit) as usize);
            let room = self.store.part - start;
            let (view, behind) = if rest.len() > room {
                let (view, behind) = rest.split_at(room);
                (view, Some(behind))
            } else {
                (rest, None)
            };
            let end = start + view.len();
            if let Err(cause) = self.check_part(number) {
                view.fail(&cause);
                if let Some(behind) = behind {
                    behind.fail(&cause);
                }
                return Err(cause);
            }
            let part = self.parts.entry(number).or_insert_with(|| PartBuffer::with_capacity(self.store.part));
            if part.bytes.len() < end {
                part.bytes.resize(end, 0);
            }
            let taken = view.transfer_data(&mut part.bytes[start..end]);
            part.write(start, end);
            // Ordering: Relaxed. The size guards no data.
            self.size.fetch_max(number * unit + end as u64, Ordering::Relaxed);
            if let Err(cause) = self.send_whole().await {
                taken.fail(&cause);
                if let Some(behind) = behind {
                    behind.fail(&cause);
                }
                return Err(cause);
            }
            taken.complete();
            let Some(behind) = behind else { return Ok(()) };
            (position, rest) = ((number + 1) * unit, behind);
        }
    }

    /// Checks that a part may still be written.
    fn check_part(&self, number: u64) -> Result<(), Cause> {
        let refuse = |code, why: &str| Err(self.refuse(code, why));
        if number >= MAX_PARTS {
            return refuse(
                Code::TOO_LARGE,
                "an object has at most 10,000 parts; make them larger with part=",
            );
        }
        if number < self.sent {
            return refuse(
                Code::UNSUPPORTED,
                "uploaded bytes cannot be written again; write from front to back",
            );
        }
        if number >= self.sent + MAX_BEGUN {
            return refuse(
                Code::UNSUPPORTED,
                "this is too far ahead of the written bytes; write from front to back",
            );
        }
        Ok(())
    }

    /// The failure of a write that cannot be taken.
    fn refuse(&self, code: Code, why: &str) -> Cause {
        let text = format!("'{}': {why}", shown(&self.path));
        tracing::warn!("{text}");
        Cause::new(IoError::from_code(code), text)
    }

    fn attributes(&self) -> Attributes {
        let kind = self.store.content_type.clone();
        kind.map(|kind| (Attribute::ContentType, kind)).into_iter().collect()
    }

    /// Sends whole parts, as long as no earlier part is missing.
    async fn send_whole(&mut self) -> Result<(), Cause> {
        while let Some(first) = self.parts.first_entry() {
            if *first.key() != self.sent || first.get().len() != Some(self.store.part) {
                break;
            }
            let bytes = first.remove().bytes;
            self.send(bytes).await?;
        }
        Ok(())
    }

    /// Starts the upload of the next part, as soon as fewer than `IN_FLIGHT` are in flight. The first part begins the object's
    /// upload.
    async fn send(&mut self, bytes: Vec<u8>) -> Result<(), Cause> {
        while self.on_the_way.len() >= IN_FLIGHT {
            self.arrived().await?;
        }
        let attributes = self.attributes();
        let multipart = match &mut self.multipart {
            Some(multipart) => multipart,
            none => {
                let begun = self.store.uploads.put_multipart_opts(&self.path, attributes.into()).await;
                none.insert(
                    begun
                        .map_err(|error| failed(&format!("the upload of '{}'", shown(&self.path)), &error))?,
                )
            }
        };
        let bytes = Bytes::from(bytes);
        self.on_the_way.spawn(sending(bytes.clone(), multipart.put_part(PutPayload::from(bytes))));
        self.sent += 1;
        Ok(())
    }

    /// Waits for one of the parts in flight.
    async fn arrived(&mut self) -> Result<(), Cause> {
        match self.on_the_way.join_next().await {
            None | Some(Ok(Ok(()))) => Ok(()),
            Some(Ok(Err(error))) => Err(failed(&format!("a part of '{}'", shown(&self.path)), &error)),
            Some(Err(_)) => Err(IoError::from_code(Code::FAILED).into()),
        }
    }

    /// Completes the object: from now on, other clients see it.
    async fn publish(&mut self) -> Result<(), Cause> {
        let parts = std::mem::take(&mut self.parts);
        let (first, count) = (self.sent, parts.len() as u64);
        let last = (first + count).saturating_sub(1);
        // The parts that were not sent yet follow those that were, without holes, and only the last may be shorter.
        let whole = |(number, part): (&u64, &PartBuffer)| {
            part.len()
                .is_some_and(|len| len == part.bytes.len() && (*number == last || len == self.store.part))
        };
        if !parts.keys().copied().eq(first..first + count) || !parts.iter().all(whole) {
            return Err(self.refuse(Code::INVALID_INPUT, "not every byte up to its end was written"));
        }
        let mut parts: Vec<Vec<u8>> = parts.into_values().map(|part| part.bytes).collect();
        // An object of one part is sent by one request.
        if self.multipart.is_none() && parts.len() <= 1 {
            let bytes = parts.pop().unwrap_or_default();
            let bytes = Bytes::from(bytes);
            let (payload, attributes) = (PutPayload::from(bytes.clone()), self.attributes());
            let put = sending(bytes, self.store.uploads.put_opts(&self.path, payload, attributes.into()));
            return put
                .await
                .map(drop)
                .map_err(|error| failed(&format!("the upload of '{}'", shown(&self.path)), &error));
        }
        for bytes in parts {
            self.send(bytes).await?;
        }
        while !self.on_the_way.is_empty() {
            self.arrived().await?;
        }
        let Some(multipart) = &mut self.multipart else { return Ok(()) };
        let completed = multipart.complete().await;
        completed.map(drop).map_err(|error| failed(&format!("the upload of '{}'", shown(&self.path)), &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_knows_what_was_written_of_it() {
        let mut part = PartBuffer::default();
        assert_eq!(part.len(), None);
        part.write(10, 20);
        part.write(30, 40);
        assert_eq!(part.len(), None);
        part.write(0, 5);
        part.write(5, 10);
        assert_eq!((part.len(), part.written.len()), (None, 2));
        part.write(15, 35);
        assert_eq!(part.len(), Some(40));
        part.write(3, 4);
        assert_eq!(part.len(), Some(40));
    }
}
