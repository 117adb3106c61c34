//! A file of a tree in memory.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::SystemTime;

use pactio_sdk::{
    Answer, BackendDevice, BoundPacketView, Code, Describe, DeviceInfo, ExtensionQuery, Identity, IoError,
    Kind, OpenMode, Publish, Read, Records, Resize, Stat, Write, Zero, ZeroMode,
};

use crate::tree::Names;

/// The largest file.
const MAX_SIZE: u64 = isize::MAX as u64;

/// The bytes that all files of a tree may have.
pub(crate) struct Budget {
    room: u64,
    used: AtomicU64,
}

impl Budget {
    pub(crate) fn new(room: u64) -> Self {
        Self { room, used: AtomicU64::new(0) }
    }

    pub(crate) fn room(&self) -> u64 {
        self.room
    }

    /// Takes bytes from the room; `false` if fewer are left.
    fn take(&self, bytes: u64) -> bool {
        // Ordering: Relaxed. The number stands for itself.
        let taken = self.used.try_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(bytes).filter(|used| *used <= self.room)
        });
        taken.is_ok()
    }

    fn give_back(&self, bytes: u64) {
        // Ordering: Relaxed. The number stands for itself.
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The bytes of a file. They live as long as a name or an open device has them.
pub(crate) struct Content {
    bytes: RwLock<Vec<u8>>,
    modified: Mutex<SystemTime>,
    budget: Arc<Budget>,
    /// Unique in this process.
    number: u64,
}

impl Content {
    pub(crate) fn new(budget: Arc<Budget>) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        Self {
            bytes: RwLock::default(),
            modified: Mutex::new(SystemTime::now()),
            budget,
            // Ordering: Relaxed. Each call gets a different number.
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// A copy of the bytes, which takes its part of the tree's room.
    pub(crate) fn copy(&self) -> Result<Self, IoError> {
        let copy = Self::new(self.budget.clone());
        copy.put(0, &self.read())?;
        Ok(copy)
    }

    pub(crate) fn stat(&self) -> Stat {
        let mut stat = Stat::of(Kind::FILE).with_size(self.read().len() as u64);
        stat.modified = Some(*self.modified.lock().unwrap_or_else(PoisonError::into_inner));
        let key = format!("file {} of process {}", self.number, std::process::id());
        stat.with_identity(Identity::stored("memory", key))
    }

    pub(crate) fn clear(&self) {
        let _ = self.resize(&mut self.write(), 0);
    }

    fn read(&self) -> RwLockReadGuard<'_, Vec<u8>> {
        self.bytes.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Vec<u8>> {
        self.bytes.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_modified(&self, time: SystemTime) {
        *self.modified.lock().unwrap_or_else(PoisonError::into_inner) = time;
    }

    /// The bytes have changed. The caller holds their lock, so that no one sees them with the old time.
    fn touch(&self) {
        *self.modified.lock().unwrap_or_else(PoisonError::into_inner) = SystemTime::now();
    }

    /// Puts bytes at a position; the content grows as far as it must.
    fn put(&self, position: u64, from: &[u8]) -> Result<(), IoError> {
        let end = position.checked_add(from.len() as u64).filter(|end| *end <= MAX_SIZE);
        let end = end.ok_or(IoError::TOO_LARGE)?;
        let mut bytes = self.write();
        if end > bytes.len() as u64 {
            self.resize(&mut bytes, end)?;
        }
        bytes[position as usize..end as usize].copy_from_slice(from);
        self.touch();
        Ok(())
    }

    fn resize(&self, bytes: &mut Vec<u8>, size: u64) -> Result<(), IoError> {
        let (before, no_space) = (bytes.len() as u64, IoError::from_code(Code::NO_SPACE));
        if size > before {
            if !self.budget.take(size - before) {
                return Err(no_space);
            }
            // The room of a tree may be larger than the memory.
            if bytes.try_reserve((size - before) as usize).is_err() {
                self.budget.give_back(size - before);
                return Err(IoError::OUT_OF_MEMORY);
            }
        } else {
            self.budget.give_back(before - size);
        }
        bytes.resize(size as usize, 0);
        self.touch();
        if bytes.capacity() > 2 * bytes.len() + 4096 {
            bytes.shrink_to_fit();
        }
        Ok(())
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        let bytes = self.bytes.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.budget.give_back(bytes.len() as u64);
    }
}

/// The name that a new content is for.
pub(crate) struct Place {
    pub(crate) names: Arc<Names>,
    pub(crate) path: Vec<u8>,
}

/// An open file.
pub(crate) struct FileDevice {
    content: Arc<Content>,
    /// The content is seen under this name when it is published.
    place: Option<Place>,
    is_published: AtomicBool,
    mode: OpenMode,
}

impl FileDevice {
    pub(crate) fn new(content: Arc<Content>, place: Option<Place>, mode: OpenMode) -> Self {
        Self { content, place, is_published: AtomicBool::new(false), mode }
    }

    /// Ordering: SeqCst, as the caller may have sent the publication from another thread.
    fn refuse_published(&self) -> Result<(), IoError> {
        match self.is_published.load(Ordering::SeqCst) {
            true => Err(IoError::from_code(Code::READ_ONLY)),
            false => Ok(()),
        }
    }
}

impl BackendDevice for FileDevice {
    fn info(&self) -> DeviceInfo {
        let info = DeviceInfo::with_size(self.content.read().len() as u64);
        let info = if self.mode.contains(OpenMode::WRITE) { info } else { info.read_only() };
        if self.mode.contains(OpenMode::READ) { info } else { info.write_only() }
    }

    fn read(&self, position: u64, view: BoundPacketView<Write>) {
        let len = view.len();
        let there = |bytes: &[u8]| {
            let start = usize::try_from(position).ok().filter(|start| *start < bytes.len())?;
            Some(start..bytes.len().min(start.saturating_add(len)))
        };
        // Functions of the requester may run in these two calls, so no lock is held.
        match view.try_alloc(1) {
            Ok(mut bytes) => {
                let content = self.content.read();
                let Some(range) = there(&content) else {
                    drop(content);
                    return bytes.error(IoError::END);
                };
                bytes.put_slice(&content[range]);
                drop(content);
                bytes.complete_with(IoError::END);
            }
            Err(view) => {
                let content = self.content.read();
                let copy = there(&content).map(|range| content[range].to_vec());
                drop(content);
                match copy {
                    Some(copy) => view.transfer_data(&copy).complete(),
                    None => view.error(IoError::END),
                }
            }
        }
    }

    fn write(&self, position: u64, view: BoundPacketView<Read>) {
        if let Err(error) = self.refuse_published() {
            return view.error(error);
        }
        match view.try_alloc(1) {
            Ok(bytes) => match self.content.put(position, &bytes) {
                Ok(()) => bytes.complete(),
                Err(error) => bytes.error(error),
            },
            Err(view) => {
                let mut copy = vec![0; view.len()];
                // Functions of the requester may run here, so no lock is held.
                let transferred = view.transfer_data(&mut copy);
                match self.content.put(position, &copy[..transferred.moved()]) {
                    Ok(()) => transferred.complete(),
                    Err(error) => transferred.error(error),
                }
            }
        }
    }

    fn extensions<'d>(&'d self, query: &mut ExtensionQuery<'d>) {
        query.offer::<dyn Describe>(self);
        if self.mode.contains(OpenMode::WRITE) {
            query.offer::<dyn Resize>(self).offer::<dyn Zero>(self);
        }
        if self.place.is_some() {
            query.offer::<dyn Publish>(self);
        }
    }
}

impl Describe for FileDevice {
    fn stat(&self, answer: Records<Stat>) {
        answer.complete_one(Ok::<_, IoError>(self.content.stat()));
    }
}

impl Resize for FileDevice {
    fn resize(&self, size: u64, answer: Answer) {
        let resized = self.refuse_published().and_then(|()| match size {
            0..=MAX_SIZE => self.content.resize(&mut self.content.write(), size),
            _ => Err(IoError::TOO_LARGE),
        });
        answer.result(resized);
    }
}

impl Zero for FileDevice {
    /// Memory is not given back.
    fn zero(&self, range: Range<u64>, _: ZeroMode, answer: Answer) {
        let zeroed = self.refuse_published().and_then(|()| {
            let mut bytes = self.content.write();
            if range.end > bytes.len() as u64 {
                return Err(IoError::END);
            }
            bytes[range.start as usize..range.end as usize].fill(0);
            self.content.touch();
            Ok(())
        });
        answer.result(zeroed);
    }
}

impl Publish for FileDevice {
    fn publish(&self, answer: Answer) {
        let Some(place) = &self.place else { return answer.error(IoError::UNSUPPORTED) };
        if self.is_published.load(Ordering::SeqCst) {
            return answer.done();
        }
        let published = place.names.publish(&place.path, self.content.clone());
        if published.is_ok() {
            self.is_published.store(true, Ordering::SeqCst);
        }
        answer.result(published);
    }
}
