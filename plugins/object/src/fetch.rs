//! Reads ranges of an object: concurrent reads are sorted, joined over small gaps, and filled as bytes arrive.
//!
//! A server that ignores ranges sends the object from its start. Its answer is kept, and reads are taken from it in order of
//! their positions, as far as that does not skip too much.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Range;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use crc_fast::Digest;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::{GetOptions, GetRange, GetResult, ObjectMeta, ObjectStore};
use pactio_sdk::{BoundPacketView, Cause, Code, IoError, RequestId, Write};
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};

use crate::failure::{failed, shown};
use crate::filling::Outstanding;
use crate::retries;
use crate::store::Store;
use crate::sums::{Differs, Progress, Sum};
use crate::web::UNKNOWN_SIZE;

/// Ranges that are requested at a time.
pub(crate) const IN_FLIGHT: usize = 16;

/// Most bytes of one request, so that several connections share a large read.
const LARGEST: u64 = 4 << 20;

pub(crate) struct Fetches {
    runtime: Handle,
    store: Store,
    meta: ObjectMeta,
    /// Compares the bytes with the store's check sum, if it has one.
    progress: Option<Mutex<Progress>>,
    pending: Mutex<Pending>,
    /// Permits for requests to the store.
    free: Arc<Semaphore>,
    /// Notified when a request was cancelled or the device was closed.
    changed: Notify,
    /// The server ignores ranges.
    has_no_ranges: AtomicBool,
    /// The answer of a server without ranges. Only the task that gathers uses it.
    kept: tokio::sync::Mutex<Kept>,
}

/// The answer of a server without ranges, as far as it was read.
#[derive(Default)]
struct Kept {
    forward: Option<Forward>,
    /// The position at which an answer broke off: reading may return there from the start.
    broke_off: Option<u64>,
}

/// An answer that is read from the start of the object on.
struct Forward {
    stream: BoxStream<'static, object_store::Result<Bytes>>,
    /// Bytes that arrived and were not taken.
    bytes: Bytes,
    /// The position of the next byte.
    at: u64,
}

/// Most bytes that a read of a server without ranges may skip.
const MAX_SKIPPED_BYTES: u64 = 64 << 20;

#[derive(Default)]
struct Pending {
    /// By position, and a number that distinguishes parts at the same position.
    parts: BTreeMap<(u64, u64), BoundPacketView<Write>>,
    number: u64,
    /// The end of the last group: the parts behind it come next.
    turn: u64,
    /// Number of groups that were sent. Every fourth group begins at the part that has waited longest, so that no part waits for
    /// ever.
    groups: u64,
    /// A task is about to send the parts.
    gathering: bool,
    closed: bool,
}

impl Pending {
    /// Takes the part that is next, and the parts that follow it closely enough to be read with it. With `in_order`, parts that
    /// have waited longest have no precedence.
    fn next_group(&mut self, gap: u64, in_order: bool) -> Vec<(u64, BoundPacketView<Write>)> {
        let mut group: Vec<(u64, BoundPacketView<Write>)> = Vec::new();
        let (mut start, mut end) = (0u64, 0u64);
        self.groups += 1;
        let oldest = self
            .parts
            .keys()
            .min_by_key(|(_, number)| *number)
            .filter(|_| self.groups.is_multiple_of(4) && !in_order);
        let (position, number) =
            oldest.copied().or_else(|| self.most_urgent().filter(|_| !in_order)).unwrap_or((self.turn, 0));
        let mut next = self.first_from(position, number).or_else(|| self.first_from(0, 0));
        while let Some((position, number, len)) = next {
            let behind = position + len;
            if group.is_empty() {
                start = position;
            } else if position > end.saturating_add(gap) || behind.max(end) - start > LARGEST {
                break;
            }
            end = end.max(behind);
            group.extend(self.parts.remove(&(position, number)).map(|view| (position, view)));
            next = self.first_from(position, number);
        }
        self.turn = end;
        group
    }

    /// The first of the most urgent parts; `None` if all are equal.
    fn most_urgent(&self) -> Option<(u64, u64)> {
        let mut least = i8::MAX;
        let (urgency, key) = self
            .parts
            .iter()
            .map(|(key, view)| (view.urgency(), *key))
            .inspect(|(urgency, _)| least = least.min(*urgency))
            .max_by_key(|(urgency, key)| (*urgency, Reverse(*key)))?;
        (urgency > least).then_some(key)
    }

    /// Position, number and length of the first part from this key on.
    fn first_from(&self, position: u64, number: u64) -> Option<(u64, u64, u64)> {
        let (key, view) = self.parts.range((position, number)..).next()?;
        Some((key.0, key.1, view.len() as u64))
    }
}

/// Why a range was not read.
enum FetchError {
    /// The store refused the request, at its last attempt.
    Refused(object_store::Error),
    /// The answer began, and broke off.
    BrokeOff(object_store::Error),
    /// The server ignores ranges.
    NoRanges,
}

/// The options that restrict a request to one version.
fn of_version(meta: &ObjectMeta) -> GetOptions {
    let mut options = GetOptions::default();
    match &meta.e_tag {
        Some(tag) if !tag.starts_with("W/") => options.if_match = Some(tag.clone()),
        // A server never treats weak tags as equal, so the tag of its answer is compared here. A request for a version needs a
        // permission of its own, so it is made only where there is nothing better.
        _ => options.version = meta.version.clone(),
    }
    if meta.e_tag.is_none() {
        options.if_unmodified_since = has_date(meta).then_some(meta.last_modified);
    }
    options
}

/// The store gives the date of the object's last change.
pub(crate) fn has_date(meta: &ObjectMeta) -> bool {
    meta.last_modified.timestamp() != 0
}

/// Whether both are the same version, if that can be determined. The size of `one` may be unknown.
fn is_same_version(one: &ObjectMeta, other: &ObjectMeta) -> Option<bool> {
    if one.size != other.size && one.size != UNKNOWN_SIZE {
        return Some(false);
    }
    match (&one.e_tag, &other.e_tag) {
        (Some(one), Some(other)) => Some(one == other),
        _ => (has_date(one) && has_date(other)).then(|| one.last_modified == other.last_modified),
    }
}

/// A replacement of the object during a read could not be detected.
pub(crate) fn has_no_version(meta: &ObjectMeta) -> bool {
    is_same_version(meta, meta).is_none()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No foreign code runs under the lock.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Fetches {
    /// Reads of an object whose bytes have the check sum `sum`, if the store has one.
    pub(crate) fn new(runtime: Handle, store: Store, meta: ObjectMeta, sum: Option<Sum>) -> Arc<Self> {
        let free = Arc::new(Semaphore::new(IN_FLIGHT));
        Arc::new(Self {
            runtime,
            store,
            progress: sum.map(|sum| Mutex::new(Progress::new(sum, meta.size))),
            meta,
            pending: Mutex::default(),
            free,
            changed: Notify::new(),
            has_no_ranges: AtomicBool::new(false),
            kept: tokio::sync::Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        lock(&self.pending)
    }

    /// Queues the parts of a read, and starts the task that sends them, unless it runs. Bytes behind the object's end fail.
    pub(crate) fn read(self: &Arc<Self>, position: u64, view: BoundPacketView<Write>) {
        let available = self.meta.size.saturating_sub(position);
        let view = match usize::try_from(available).ok().filter(|&available| available < view.len()) {
            Some(0) => return view.error(IoError::END),
            Some(available) => {
                let (view, behind) = view.split_at(available);
                behind.error(IoError::END);
                view
            }
            None => view,
        };
        let mut pending = self.lock();
        let (mut position, mut rest) = (position, Some(view));
        while let Some(mut view) = rest.take() {
            if view.len() as u64 > LARGEST {
                let (front, behind) = view.split_at(LARGEST as usize);
                (view, rest) = (front, Some(behind));
            }
            let behind = position + view.len() as u64;
            pending.number += 1;
            let number = pending.number;
            pending.parts.insert((position, number), view);
            position = behind;
        }
        if std::mem::replace(&mut pending.gathering, true) {
            return;
        }
        drop(pending);
        let this = self.clone();
        self.runtime.spawn(async move { this.gather().await });
    }

    /// Sends the pending parts as soon as a request may be made; parts that arrive before that are sent with them.
    async fn gather(self: Arc<Self>) {
        loop {
            tokio::task::yield_now().await;
            let Ok(permit) = self.free.clone().acquire_owned().await else { return };
            let has_no_ranges = self.has_no_ranges();
            let group = {
                let mut pending = self.lock();
                let late: Vec<_> = pending.parts.extract_if(.., |_, view| view.is_late()).collect();
                if !late.is_empty() {
                    drop(pending);
                    late.into_iter().for_each(|(_, view)| view.error(IoError::LATE));
                    continue;
                }
                if pending.parts.is_empty() {
                    pending.gathering = false;
                    return;
                }
                pending.next_group(self.store.gap, has_no_ranges)
            };
            if has_no_ranges {
                // One group after the other, in the order of their positions.
                self.fetch(group, true).await;
                continue;
            }
            let this = self.clone();
            self.runtime.spawn(async move {
                this.fetch(group, false).await;
                drop(permit);
            });
        }
    }

    /// Reads the span of a group of parts. Bytes that have arrived are delivered even when the rest fails.
    /// With `in_order`, no other group is read meanwhile.
    async fn fetch(&self, group: Vec<(u64, BoundPacketView<Write>)>, in_order: bool) {
        let mut left = Outstanding::new(group);
        let (mut last_byte, mut failures) = (Instant::now(), 0);
        while let Some((start, end)) = left.span() {
            let before = left.given();
            let error = match self.stream(start, end, &mut left, in_order).await {
                Ok(()) => continue,
                // The next call reads the object from its start.
                Err(FetchError::NoRanges) => continue,
                Err(FetchError::Refused(error)) => return left.fail(&self.failed(start, end, &error)),
                Err(FetchError::BrokeOff(error)) => error,
            };
            if left.given() > before {
                // Bytes have arrived since the last failure, so this is a new one.
                (last_byte, failures) = (Instant::now(), 0);
            }
            failures += 1;
            // A server that cuts every connection before its first byte is asked for as long as one that refuses.
            if last_byte.elapsed() + retries::longest_pause(failures) > self.store.retry_for {
                return left.fail(&self.failed(start, end, &error));
            }
            if self.pause(retries::jittered(failures), &mut left).await {
                return;
            }
        }
    }

    /// Waits for `pause`; `true` if no part is left before that.
    async fn pause(&self, pause: Duration, left: &mut Outstanding) -> bool {
        let mut over = pin!(tokio::time::sleep(pause));
        loop {
            let changed = self.changed.notified();
            if self.is_done(left) {
                return true;
            }
            tokio::select! {
                () = &mut over => return false,
                () = changed => {}
            }
        }
    }

    fn failed(&self, start: u64, end: u64, error: &object_store::Error) -> Cause {
        failed(&format!("'{}' {start:#x}..{end:#x}", shown(&self.meta.location)), error)
    }

    fn has_no_ranges(&self) -> bool {
        // Ordering: Relaxed. The flag guards no data.
        self.has_no_ranges.load(Ordering::Relaxed)
    }

    /// Reads a range, as far as it arrives and as long as a part needs it.
    async fn stream(
        &self,
        start: u64,
        end: u64,
        left: &mut Outstanding,
        in_order: bool,
    ) -> Result<(), FetchError> {
        if self.has_no_ranges() {
            return self.stream_forward(start, end, left, in_order).await;
        }
        let Some(answer) = self.answer(Some(start..end), left).await? else { return Ok(()) };
        if answer.range.start > start || answer.range.end < end {
            let source = "the server sent other bytes than those of the range".into();
            return Err(FetchError::Refused(object_store::Error::NotSupported { source }));
        }
        // The answer has more bytes in front: the server ignores ranges.
        if answer.range.start < start {
            // Ordering: Relaxed. The flag guards no data.
            self.has_no_ranges.store(true, Ordering::Relaxed);
            return Err(FetchError::NoRanges);
        }
        let mut position = answer.range.start;
        let mut stream = answer.into_stream();
        let mut digest = self.progress.as_ref().map(|progress| lock(progress).digest());
        let result = loop {
            let chunk = match self.next(&mut stream, left).await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break Ok(()),
                Err(trouble) => break Err(trouble),
            };
            let wanted = usize::try_from(end - position).unwrap_or(usize::MAX).min(chunk.len());
            if let Some(digest) = &mut digest {
                digest.update(&chunk[..wanted]);
            }
            if position + wanted as u64 == end {
                // The last bytes are given when it is certain that all are right.
                self.compare(start, end, digest.take())?;
            }
            left.give(position, &chunk);
            position += wanted as u64;
            if position == end {
                return Ok(());
            }
        };
        // The answer broke off, or no part is left. The bytes that have arrived count for the check sum of the object.
        self.compare(start, position, digest)?;
        result
    }

    /// Bytes have arrived. If these are the last of the object, all are compared with the check sum.
    fn compare(&self, start: u64, end: u64, digest: Option<Digest>) -> Result<(), FetchError> {
        let (Some(progress), Some(digest)) = (&self.progress, digest) else { return Ok(()) };
        lock(progress).add(start, end, digest.finalize()).map_err(|Differs| {
            let text = "the bytes that arrived do not have the check sum that the store keeps of the object";
            let source = retries::Trouble::refused(IoError::from_code(Code::CORRUPT), text.to_owned());
            FetchError::Refused(object_store::Error::Generic { store: "object", source: source.into() })
        })
    }

    /// Reads a range from a server without ranges: from the kept answer on, or from the start of the object. Without
    /// `in_order`, the group was sent before the lack of ranges was known. It is read from an answer of its own, since the
    /// kept one may be further already.
    async fn stream_forward(
        &self,
        start: u64,
        end: u64,
        left: &mut Outstanding,
        in_order: bool,
    ) -> Result<(), FetchError> {
        let mut kept = if in_order { Some(self.kept.lock().await) } else { None };
        let kept_position = kept.as_ref().and_then(|kept| kept.forward.as_ref()).map(|forward| forward.at);
        let kept_position = kept_position.filter(|position| *position <= start);
        // Bytes before the place where an answer broke off were read before, and do not count as skipped.
        let from =
            kept_position.or_else(|| kept.as_ref()?.broke_off).filter(|from| *from <= start).unwrap_or(0);
        if start - from > MAX_SKIPPED_BYTES {
            let text = format!(
                "the server has no ranges, so that {} bytes would be read before this one; copy the object first",
                start - from
            );
            return Err(FetchError::Refused(object_store::Error::NotSupported { source: text.into() }));
        }
        let forward =
            kept.as_mut().and_then(|kept| kept.forward.take()).filter(|forward| forward.at <= start);
        let mut forward = match forward {
            Some(forward) => forward,
            None => {
                let Some(answer) = self.answer(None, left).await? else { return Ok(()) };
                Forward { stream: answer.into_stream(), bytes: Bytes::new(), at: 0 }
            }
        };
        let result = self.read_on(&mut forward, end, left).await;
        if let Some(kept) = &mut kept {
            match &result {
                Err(_) => kept.broke_off = Some(forward.at.max(kept.broke_off.unwrap_or(0))),
                Ok(()) => {
                    // Once reading has passed the place, it has no meaning.
                    kept.broke_off = kept.broke_off.filter(|broke_off| *broke_off > forward.at);
                    kept.forward = Some(forward);
                }
            }
        }
        result
    }

    /// Reads an answer up to a position, or as long as a part is left.
    async fn read_on(
        &self,
        forward: &mut Forward,
        end: u64,
        left: &mut Outstanding,
    ) -> Result<(), FetchError> {
        while forward.at < end {
            if forward.bytes.is_empty() {
                let Some(chunk) = self.next(&mut forward.stream, left).await? else { return Ok(()) };
                forward.bytes = chunk;
            }
            let wanted = usize::try_from(end - forward.at).unwrap_or(usize::MAX).min(forward.bytes.len());
            let bytes = forward.bytes.split_to(wanted);
            left.give(forward.at, &bytes);
            forward.at += wanted as u64;
        }
        Ok(())
    }

    /// Asks for a range, or for the object; `None` if no part is left.
    async fn answer(
        &self,
        range: Option<Range<u64>>,
        left: &mut Outstanding,
    ) -> Result<Option<GetResult>, FetchError> {
        let mut options = of_version(&self.meta);
        if self.store.version.is_some() {
            options.version.clone_from(&self.store.version);
        }
        options.range = range.map(GetRange::Bounded);
        let mut answer = pin!(self.store.objects.get_opts(&self.meta.location, options));
        let answer = loop {
            // Created before the check, so that no notification is missed in between.
            let changed = self.changed.notified();
            if self.is_done(left) {
                return Ok(None);
            }
            tokio::select! {
                answer = &mut answer => break answer.map_err(FetchError::Refused)?,
                () = changed => {}
            }
        };
        let same = is_same_version(&answer.meta, &self.meta);
        // A version that cannot be determined counts as a different one, unless the user has set `unversioned`.
        if same == Some(false) || (same.is_none() && !self.store.unversioned) {
            let (path, source) = (self.meta.location.to_string(), "it is another version now".into());
            return Err(FetchError::Refused(object_store::Error::Precondition { path, source }));
        }
        Ok(Some(answer))
    }

    /// Waits for the next bytes of an answer; `None` if no part is left.
    async fn next(
        &self,
        stream: &mut BoxStream<'static, object_store::Result<Bytes>>,
        left: &mut Outstanding,
    ) -> Result<Option<Bytes>, FetchError> {
        loop {
            let changed = self.changed.notified();
            if self.is_done(left) {
                return Ok(None);
            }
            tokio::select! {
                chunk = stream.next() => {
                    let chunk = chunk.unwrap_or_else(|| {
                        let source = std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into();
                        Err(object_store::Error::Generic { store: "object", source })
                    });
                    return chunk.map(Some).map_err(FetchError::BrokeOff);
                }
                () = changed => {}
            }
        }
    }

    /// Drops cancelled parts, or all parts if the device is closed; `true` if none is left.
    fn is_done(&self, left: &mut Outstanding) -> bool {
        if self.lock().closed {
            left.clear();
        }
        left.drop_cancelled();
        left.span().is_none()
    }

    /// Fails the waiting parts of a request. The parts in flight are looked through by their tasks, which are notified.
    pub(crate) fn cancel(&self, request: RequestId) {
        let mut pending = self.lock();
        let cancelled: Vec<_> = pending.parts.extract_if(.., |_, view| view.request() == request).collect();
        drop(pending);
        cancelled.into_iter().for_each(|(_, view)| view.error(IoError::CANCELLED));
        self.changed.notify_waiters();
    }

    /// Drops all waiting parts, and ends the requests in flight.
    pub(crate) fn close(&self) {
        let mut pending = self.lock();
        pending.closed = true;
        let parts = std::mem::take(&mut pending.parts);
        drop(pending);
        drop(parts);
        self.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use pactio_sdk::{Attributes, PacketBox};

    use super::*;

    #[test]
    fn groups_begin_at_the_most_urgent_part_and_every_fourth_at_the_oldest() {
        let mut pending = Pending::default();
        let mut packets: Vec<_> = (0..8).map(|_| PacketBox::<Write>::new_buf(10).unwrap()).collect();
        let attributes: Vec<_> = (0..8).map(|_| Attributes::new()).collect();
        for (number, packet) in packets.iter_mut().enumerate() {
            let view = packet.bind_with(attributes[number].clone(), None).unwrap();
            pending.parts.insert((number as u64 * 1000, number as u64), view);
        }
        attributes[6].set_urgency(1);
        attributes[4].set_urgency(9);
        attributes[5].set_urgency(9);
        let mut next = |in_order| {
            let group = pending.next_group(0, in_order);
            let position = group[0].0;
            drop(group);
            position / 1000
        };
        assert_eq!([next(false), next(false), next(false)], [4, 5, 6]);
        assert_eq!(next(false), 0, "the oldest");
        assert_eq!(next(false), 1, "the next one, since all are equal");
        attributes[7].set_urgency(1);
        assert_eq!(next(true), 2, "in order");
        assert_eq!(next(false), 7);
    }
}
