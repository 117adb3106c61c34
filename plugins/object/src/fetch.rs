//! Reads ranges of an object: concurrent reads are sorted, joined over small gaps, and filled as bytes arrive.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore};
use pactio_sdk::{BoundPacketView, Cause, IoError, RequestId, Write};
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};

use crate::failure::{failed, shown};
use crate::filling::Outstanding;
use crate::store::Store;

/// Ranges that are requested at a time.
pub(crate) const IN_FLIGHT: usize = 16;

/// The longest pause between two attempts: the first value, doubled each time, up to the second value.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Most bytes of one request, so that several connections share a large read.
const LARGEST: u64 = 4 << 20;

pub(crate) struct Fetches {
    runtime: Handle,
    store: Store,
    meta: ObjectMeta,
    pending: Mutex<Pending>,
    /// Permits for requests to the store.
    free: Arc<Semaphore>,
    /// Notified when a request was cancelled or the device was closed.
    changed: Notify,
}

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
    /// Takes the part that is next, and the parts that follow it closely enough to be read with it.
    fn next_group(&mut self, gap: u64) -> Vec<(u64, BoundPacketView<Write>)> {
        let mut group: Vec<(u64, BoundPacketView<Write>)> = Vec::new();
        let (mut start, mut end) = (0u64, 0u64);
        self.groups += 1;
        let oldest =
            self.parts.keys().min_by_key(|(_, number)| *number).filter(|_| self.groups.is_multiple_of(4));
        let (position, number) = oldest.copied().unwrap_or((self.turn, 0));
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

    /// Position, number and length of the first part from this key on.
    fn first_from(&self, position: u64, number: u64) -> Option<(u64, u64, u64)> {
        let (key, view) = self.parts.range((position, number)..).next()?;
        Some((key.0, key.1, view.len() as u64))
    }
}

/// Why a range was not read.
enum Trouble {
    /// The store refused the request, at its last attempt.
    Refused(object_store::Error),
    /// The answer began, and broke off.
    BrokeOff(object_store::Error),
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

/// Whether both are the same version, if that can be determined.
fn is_same_version(one: &ObjectMeta, other: &ObjectMeta) -> Option<bool> {
    if one.size != other.size {
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

impl Fetches {
    pub(crate) fn new(runtime: Handle, store: Store, meta: ObjectMeta) -> Arc<Self> {
        let free = Arc::new(Semaphore::new(IN_FLIGHT));
        Arc::new(Self { runtime, store, meta, pending: Mutex::default(), free, changed: Notify::new() })
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn read(self: &Arc<Self>, position: u64, view: BoundPacketView<Write>) {
        let there = self.meta.size.saturating_sub(position);
        let view = match usize::try_from(there).ok().filter(|&there| there < view.len()) {
            Some(0) => return view.error(IoError::END),
            Some(there) => {
                let (view, behind) = view.split_at(there);
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
            let group = {
                let mut pending = self.lock();
                if pending.parts.is_empty() {
                    pending.gathering = false;
                    return;
                }
                pending.next_group(self.store.gap)
            };
            let this = self.clone();
            self.runtime.spawn(async move {
                this.fetch(group).await;
                drop(permit);
            });
        }
    }

    /// Reads the span of a group of parts. Bytes that have arrived are delivered even when the rest fails.
    async fn fetch(&self, group: Vec<(u64, BoundPacketView<Write>)>) {
        let mut left = Outstanding::new(group);
        let (mut last_byte, mut pause) = (Instant::now(), PAUSES.0);
        while let Some((start, end)) = left.span() {
            let before = left.given();
            let error = match self.stream(start, end, &mut left).await {
                Ok(()) => continue,
                Err(Trouble::Refused(error)) => return left.fail(&self.failed(start, end, &error)),
                Err(Trouble::BrokeOff(error)) => error,
            };
            if left.given() > before {
                // Bytes have arrived since the last failure, so this is a new one.
                (last_byte, pause) = (Instant::now(), PAUSES.0);
            }
            // A server that cuts every connection before its first byte is asked for as long as one that refuses.
            if last_byte.elapsed() + pause > self.store.retry_for {
                return left.fail(&self.failed(start, end, &error));
            }
            if self.pause(Duration::from_nanos(fastrand::u64(0..=pause.as_nanos() as u64)), &mut left).await {
                return;
            }
            pause = (pause * 2).min(PAUSES.1);
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

    /// Reads a range, as far as it arrives and as long as a part needs it.
    async fn stream(&self, start: u64, end: u64, left: &mut Outstanding) -> Result<(), Trouble> {
        let mut options = of_version(&self.meta);
        options.range = Some(GetRange::Bounded(start..end));
        let mut answer = pin!(self.store.objects.get_opts(&self.meta.location, options));
        let answer = loop {
            // Created before the check, so that no notification is missed in between.
            let changed = self.changed.notified();
            if self.is_done(left) {
                return Ok(());
            }
            tokio::select! {
                answer = &mut answer => break answer.map_err(Trouble::Refused)?,
                () = changed => {}
            }
        };
        let same = is_same_version(&answer.meta, &self.meta);
        // A version that cannot be determined counts as a different one, unless the user has set `unversioned`.
        if same == Some(false) || (same.is_none() && !self.store.unversioned) {
            let (path, source) = (self.meta.location.to_string(), "it is another version now".into());
            return Err(Trouble::Refused(object_store::Error::Precondition { path, source }));
        }
        let mut at = answer.range.start;
        let mut stream = answer.into_stream();
        while at < end {
            let changed = self.changed.notified();
            if self.is_done(left) {
                return Ok(());
            }
            tokio::select! {
                chunk = stream.next() => {
                    let chunk = chunk.unwrap_or_else(|| {
                        let source = std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into();
                        Err(object_store::Error::Generic { store: "object", source })
                    });
                    let chunk = chunk.map_err(Trouble::BrokeOff)?;
                    left.give(at, &chunk);
                    at += chunk.len() as u64;
                }
                () = changed => {}
            }
        }
        Ok(())
    }

    /// Drops cancelled parts, or all parts if the device is closed; `true` if none is left.
    fn is_done(&self, left: &mut Outstanding) -> bool {
        if self.lock().closed {
            left.clear();
        }
        left.drop_cancelled();
        left.span().is_none()
    }

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
