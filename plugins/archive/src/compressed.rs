//! A compressed file of an archive, as a device.
//!
//! ```text
//!  read ──► parts, each in one block ──► kept? ──► answered
//!                                  └──► waiting ◄── blocks come out, once for all waiting parts
//! ```

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pactio_sdk::{
    Attributes, BackendDevice, BoundPacketView, Cancellation, Cause, Code, Describe, DeviceInfo,
    ExtensionQuery, IoError, Kind, Metric, PacketBox, PacketIo, Records, RequestId, Stat, Statistics, Write,
};

use crate::block::Block;
use crate::content::version;
use crate::cursor::Coded;
use crate::decoding::Decoding;
use crate::storage::Storage;
use crate::stored::answer_with_identity;
use crate::streaming::{BLOCK, StreamingFile};

/// Maximum size of a file that is decompressed in one call. A longer file is decompressed block by block.
const MAX_WHOLE: u64 = 8 << 20;

/// The compressed bytes: the device that holds them, and their position in it.
pub(crate) struct Source {
    pub(crate) storage: Arc<Storage>,
    pub(crate) start: u64,
    pub(crate) coded: Coded,
}

/// A compressed file, shared by all devices that have opened it.
pub(crate) struct CompressedFile {
    pub(crate) source: Source,
    /// Its number in the archive.
    number: u32,
    pub(crate) decoding: Arc<Decoding>,
    /// Those of the requests that read for the waiting parts, with the urgency of the most urgent part.
    pub(crate) attributes: Attributes,
    state: Mutex<State>,
}

/// A part of a request that lies in one block.
pub(crate) struct Part {
    pub(crate) block: u64,
    /// Offset in the block.
    pub(crate) start: usize,
    pub(crate) view: BoundPacketView<Write>,
}

pub(crate) struct State {
    pub(crate) waiting: Vec<Part>,
    /// A decompression is queued or runs, and serves the waiting parts.
    pub(crate) running: bool,
    /// The file cannot be decompressed: it is corrupt, or the archive has changed.
    broken: Option<Cause>,
    pub(crate) long: StreamingFile,
}

impl Part {
    /// The error of a part whose result is of no use any more.
    pub(crate) fn unwanted(&self) -> Option<IoError> {
        if self.view.is_cancelled() {
            Some(IoError::CANCELLED)
        } else {
            self.view.is_late().then_some(IoError::LATE)
        }
    }

    /// Answers the part from the bytes of its block. If the block is too short, the rest fails with [`IoError::END`].
    pub(crate) fn answer(self, block: &[u8]) {
        self.view.transfer_data(&block[self.start.min(block.len())..]).complete();
    }
}

impl CompressedFile {
    pub(crate) fn new(source: Source, number: u32, decoding: Arc<Decoding>) -> Self {
        let state =
            State { waiting: Vec::new(), running: false, broken: None, long: StreamingFile::default() };
        Self { source, number, decoding, attributes: Attributes::new(), state: Mutex::new(state) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.source.coded.size <= MAX_WHOLE && self.source.coded.packed <= 2 * MAX_WHOLE
    }

    pub(crate) fn kept(&self, block: u64) -> Option<Arc<Block>> {
        self.decoding.kept.get(&(self.number, block))
    }

    pub(crate) fn keep(&self, block: u64, bytes: Arc<Block>) {
        self.decoding.kept.insert((self.number, block), bytes);
    }

    /// Splits a request into parts of one block each. Parts whose blocks are in the cache are answered at once, the others
    /// wait for the decompression. The range behind the file's end fails with `END`.
    fn read(self: &Arc<Self>, position: u64, view: BoundPacketView<Write>) {
        let available = self.source.coded.size.saturating_sub(position);
        let available = usize::try_from(available).unwrap_or(usize::MAX).min(view.len());
        let (view, behind) = if available < view.len() {
            let (view, behind) = view.split_at(available);
            (view, Some(behind))
        } else {
            (view, None)
        };
        if let Some(behind) = behind {
            behind.error(IoError::END);
        }
        if view.is_empty() {
            return view.error(IoError::END);
        }
        // A file that is decompressed in one call is one block.
        let unit = if self.is_whole() { self.source.coded.size } else { BLOCK };
        let (mut block, mut start, mut rest) = (position / unit, (position % unit) as usize, view);
        let mut missing = Vec::new();
        loop {
            let room = unit - start as u64;
            let (view, behind) = if rest.len() as u64 > room {
                let (view, behind) = rest.split_at(room as usize);
                (view, Some(behind))
            } else {
                (rest, None)
            };
            let part = Part { block, start, view };
            match self.kept(block) {
                Some(kept) => {
                    self.decoding.hit();
                    part.answer(kept.bytes());
                }
                None => missing.push(part),
            }
            let Some(behind) = behind else { break };
            (block, start, rest) = (block + 1, 0, behind);
        }
        if !missing.is_empty() {
            self.wait(missing);
        }
    }

    /// Adds parts whose blocks are not in the cache to the waiting parts, and begins a decompression if none is queued or
    /// runs.
    fn wait(self: &Arc<Self>, mut parts: Vec<Part>) {
        let mut state = self.lock();
        if let Some(cause) = state.broken.clone() {
            drop(state);
            return fail(parts, cause);
        }
        // The block that was made last is available even if the cache has not kept it.
        let ready: Vec<(Part, Arc<Block>)> = parts
            .extract_if(.., |part| state.long.last(part.block).is_some())
            .filter_map(|part| state.long.last(part.block).map(|block| (part, block)))
            .collect();
        let waits = !parts.is_empty();
        state.waiting.extend(parts);
        self.adopt_urgency(&state);
        // If `running` was true already, the current decompression serves the new parts as well.
        let joined = waits && std::mem::replace(&mut state.running, true);
        drop(state);
        for (part, block) in ready {
            self.decoding.hit();
            part.answer(block.bytes());
        }
        if joined {
            self.decoding.joined();
        } else if waits {
            self.take_turn();
        }
    }

    /// Gives the requests below the urgency of the most urgent part.
    pub(crate) fn adopt_urgency(&self, state: &State) {
        if let Some(urgency) = state.waiting.iter().map(|part| part.view.urgency()).max() {
            self.attributes.set_urgency(urgency);
        }
    }

    /// Queues the decompression, which begins when [`Decoding`] has room for its bytes.
    fn take_turn(self: &Arc<Self>) {
        // A job that waits for its turn does not keep the file open.
        let this = Arc::downgrade(self);
        // Compressed and decompressed bytes are in memory together: in blocks, one block and a chunk of at most its length.
        let bytes =
            if self.is_whole() { self.source.coded.packed + self.source.coded.size } else { 2 * BLOCK };
        self.decoding.begin(bytes, self.attributes.clone(), move |ticket| {
            if let Some(this) = this.upgrade() {
                if this.is_whole() { this.load(ticket) } else { this.go_on_in_blocks(ticket) }
            }
        });
    }

    /// Returns a guard for the duration of the work: if the thread panics, the guard fails the waiting parts.
    pub(crate) fn working(&self) -> Working<'_> {
        Working(self)
    }

    /// Reads a range of the compressed bytes, and calls `then` with it on one of the pool's threads. If the range cannot be read,
    /// one of these threads gives the file up as well: dropping `then` may begin the next file, and that file may fail in the
    /// same way.
    pub(crate) fn fetch(
        self: &Arc<Self>,
        start: u64,
        len: u64,
        then: impl FnOnce(Arc<Self>, PacketBox<Write>) + Send + 'static,
    ) {
        let bound = PacketBox::<Write>::new_buf(len as usize)
            .and_then(|mut packet| Ok((packet.bind_with(self.attributes.clone(), None)?, packet)));
        let (view, packet) = match bound {
            Ok(bound) => bound,
            Err(error) => return self.abandon(error),
        };
        // The device below keeps this callback, and the file keeps the device below: a strong reference would be a cycle.
        let this = Arc::downgrade(self);
        packet.on_complete(move |packet| {
            let Some(this) = this.upgrade() else { return };
            let (pool, urgency) = (this.decoding.pool.clone(), this.attributes.urgency());
            pool.submit_urgent(urgency, move || match packet.min_cause() {
                None => then(this, packet),
                // The archive was longer when it was opened.
                Some((_, cause)) if cause.error().code() == Code::END => this.abandon_as_corrupt(|_| {}),
                Some((_, cause)) => this.abandon(cause),
            });
        });
        self.source.storage.lower.send_io(self.source.start + start, view);
    }

    /// Ends the decompression because bytes are corrupt, and calls `also` with the cause. If the archive has changed, the cause
    /// is the change.
    pub(crate) fn abandon_as_corrupt(self: &Arc<Self>, also: impl FnOnce(&Cause) + Send + 'static) {
        let this = Arc::downgrade(self);
        self.source.storage.check(move |same| {
            let cause = same.err().unwrap_or_else(|| IoError::from_code(Code::CORRUPT).into());
            also(&cause);
            if let Some(this) = this.upgrade() {
                this.abandon(cause);
            }
        });
    }

    /// Ends the decompression and fails the waiting parts with the cause.
    pub(crate) fn abandon(&self, cause: impl Into<Cause>) {
        let cause = cause.into();
        let mut state = self.lock();
        state.running = false;
        // A failure of the device below may be temporary. Corruption and a change of the archive are permanent.
        if matches!(cause.error().code(), Code::CORRUPT | Code::CHANGED) {
            state.broken = Some(cause.clone());
            state.long = StreamingFile::default();
        }
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        fail(waiting, cause);
    }
}

/// Gives a file up if its thread panics.
pub(crate) struct Working<'p>(&'p CompressedFile);

impl Drop for Working<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.abandon(IoError::PANICKED);
        }
    }
}

pub(crate) fn fail(parts: Vec<Part>, cause: impl Into<Cause>) {
    let cause = cause.into();
    parts.into_iter().for_each(|part| part.view.fail(&cause));
}

/// An open compressed file.
pub(crate) struct PackedDevice(pub(crate) Arc<CompressedFile>);

impl BackendDevice for PackedDevice {
    fn info(&self) -> DeviceInfo {
        DeviceInfo::with_size(self.0.source.coded.size).read_only()
    }

    fn read(&self, position: u64, view: BoundPacketView<Write>) {
        self.0.read(position, view);
    }

    fn extensions<'d>(&'d self, query: &mut ExtensionQuery<'d>) {
        query.offer::<dyn Describe>(self).offer::<dyn Cancellation>(self).offer::<dyn Statistics>(self);
    }
}

impl Describe for PackedDevice {
    fn stat(&self, answer: Records<Stat>) {
        let source = &self.0.source;
        let file = Stat::of(Kind::FILE).with_size(source.coded.size).with_version(version(source.coded.crc));
        answer_with_identity(&source.storage.lower, answer, file);
    }
}

impl Cancellation for PackedDevice {
    fn cancel(&self, request: RequestId) {
        let mut state = self.0.lock();
        let cancelled: Vec<Part> =
            state.waiting.extract_if(.., |part| part.view.request() == request).collect();
        drop(state);
        fail(cancelled, IoError::CANCELLED);
    }
}

impl Statistics for PackedDevice {
    fn statistics(&self, from: u64, figures: Records<Metric>) {
        figures.complete_from(from, self.0.decoding.figures());
    }
}
