//! An open file.

use std::fs::{File, Metadata};
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use pactio_pool::Pool;
use pactio_sdk::{
    Answer, BackendDevice, Batch, BoundPacketView, Cancellation, Code, Describe, DeviceInfo, ExtensionQuery,
    Flush, FlushScope, IoError, Limiting, Limits, Mapping, MemoryRange, OpenError, OpenMode, PollingHandle,
    Publish, Read, ReadNow, Records, Region, Registration, RequestId, Resize, Stat, Unfilled, Write,
};
use rustix::fs::{SeekFrom, ftruncate, seek};
use rustix::io::Errno;

use crate::cached::{CachedRead, Calls};
use crate::engine::Engine;
use crate::job::{Job, Outcome, error};
use crate::registered::RegisteredMemory;
use crate::replacement::Replacement;

/// A file and the engine for its I/O.
pub(crate) struct FileDevice {
    /// Declared before the file, so that the engine is dropped first: the engine uses the file until then.
    engine: Engine,
    pub(crate) file: Arc<File>,
    /// The temporary file with the new content, if the file is replaced as a whole.
    replacement: Option<Arc<Replacement>>,
    mode: OpenMode,
    pub(crate) pool: Arc<Pool>,
    /// Positions, lengths and addresses are multiples of this: 1, unless the page cache is bypassed.
    alignment: u32,
    at_once: CachedRead,
    known: Arc<RegisteredMemory>,
}

impl FileDevice {
    /// A device that also reads by `calls`, if they are given.
    #[allow(clippy::too_many_arguments, reason = "the parts of the device")]
    pub(crate) fn new(
        file: File,
        replacement: Option<Replacement>,
        mode: OpenMode,
        pool: Arc<Pool>,
        engine: Engine,
        calls: Option<Arc<Calls>>,
        alignment: u32,
        known: Arc<RegisteredMemory>,
    ) -> Self {
        let at_once = CachedRead::new(alignment > 1, calls, &known);
        let replacement = replacement.map(Arc::new);
        Self { engine, file: Arc::new(file), replacement, mode, pool, alignment, at_once, known }
    }

    /// Maps the file, so that reads of cached bytes are copies.
    pub(crate) fn map_file(&mut self) -> Result<(), OpenError> {
        let mapped = match self.size().filter(|_| self.is_regular()) {
            Some(size) => CachedRead::mapped(&self.file, size),
            None => Err(io::ErrorKind::Unsupported.into()),
        };
        self.at_once = mapped.map_err(|error| {
            let text = format!("it cannot be mapped into memory: {error}; leave map out");
            OpenError::new(error.into(), text)
        })?;
        Ok(())
    }

    /// Whether the file was replaced: it takes no more writes.
    pub(crate) fn is_published(&self) -> bool {
        self.replacement.as_ref().is_some_and(|replacement| replacement.is_published())
    }

    fn is_regular(&self) -> bool {
        self.file.metadata().is_ok_and(|metadata| metadata.is_file())
    }

    /// The current size; `None` for devices without an end.
    pub(crate) fn size(&self) -> Option<u64> {
        self.size_of(&self.file.metadata().ok()?)
    }

    /// The size of the file with this metadata.
    fn size_of(&self, metadata: &Metadata) -> Option<u64> {
        use std::os::unix::fs::FileTypeExt;
        if metadata.is_file() {
            Some(metadata.len())
        } else if metadata.file_type().is_block_device() {
            // All I/O is positioned, so no operation depends on the file offset that this leaves behind.
            seek(&self.file, SeekFrom::End(0)).ok()
        } else {
            None
        }
    }
}

impl BackendDevice for FileDevice {
    fn info(&self) -> DeviceInfo {
        let info = self.size().map_or(DeviceInfo::endless(), DeviceInfo::with_size);
        let info = if self.mode.contains(OpenMode::WRITE) { info } else { info.read_only() };
        if self.mode.contains(OpenMode::READ) { info } else { info.write_only() }
    }

    fn read(&self, position: u64, view: BoundPacketView<Write>) {
        let job = Job::read(position, view, self.alignment as usize);
        if let Outcome::More(job) = self.at_once.read(&self.file, job) {
            self.engine.submit(job, &self.file, &self.pool);
        }
    }

    fn read_batch(&self, batch: Batch<'_, Write, u64>) {
        let jobs = batch.map(|(position, view)| Job::read(position, view, self.alignment as usize));
        self.at_once.read_all(&self.file, jobs, |job| self.engine.submit(job, &self.file, &self.pool));
    }

    fn write(&self, position: u64, view: BoundPacketView<Read>) {
        if self.is_published() {
            return view.error(IoError::from_code(Code::READ_ONLY));
        }
        let job = Job::write(position, view, self.alignment as usize);
        self.engine.submit(job, &self.file, &self.pool);
    }

    fn polling_handle(&self) -> PollingHandle {
        self.engine.polling_handle()
    }

    fn poll_driver(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.engine.poll(cx)
    }

    fn extensions<'d>(&'d self, query: &mut ExtensionQuery<'d>) {
        if self.at_once.is_mapped() {
            query.offer::<dyn ReadNow>(self);
        }
        query.offer::<dyn Limiting>(self).offer::<dyn Describe>(self);
        let (writable, regular) = (self.mode.contains(OpenMode::WRITE), self.is_regular());
        if writable {
            query.offer::<dyn Flush>(self);
        }
        if self.replacement.is_some() {
            query.offer::<dyn Publish>(self);
        }
        // A mapped file must not be made shorter.
        if writable && regular && !self.at_once.is_mapped() {
            query.offer::<dyn Resize>(self);
        }
        // Only for files with a queue of their own: a shared queue holds the registered memory of one file at a time.
        if self.engine.is_ring() {
            query.offer::<dyn Registration>(self).offer::<dyn Cancellation>(self);
        }
        #[cfg(target_os = "linux")]
        if writable && self.size().is_some() {
            query.offer::<dyn pactio_sdk::Zero>(self);
        }
        if regular {
            query.offer::<dyn Mapping>(self);
        }
    }
}

impl ReadNow for FileDevice {
    fn read_now(&self, position: u64, into: &mut Unfilled<'_>) {
        self.at_once.fill(position, into);
    }
}

impl Limiting for FileDevice {
    fn limits(&self) -> Limits {
        Limits::NONE
            .with_alignment(self.alignment)
            .with_memory_alignment(self.alignment)
            .with_zero_copy()
            .with_in_flight(self.engine.in_flight())
    }
}

impl Describe for FileDevice {
    fn stat(&self, answer: Records<Stat>) {
        let stat = self.file.metadata().map(|metadata| {
            let mut stat = Stat::of_file(&metadata);
            stat.size = self.size_of(&metadata);
            if let Some(replacement) = &self.replacement
                && !replacement.is_published()
            {
                stat.identity = replacement.replaces().cloned();
            }
            stat
        });
        answer.complete_one(stat.map_err(IoError::from));
    }
}

impl Registration for FileDevice {
    fn register(&self, memory: MemoryRange) -> Result<u64, IoError> {
        self.known.register(memory)
    }

    fn forget(&self, number: u64) {
        self.known.forget(number);
        self.at_once.refresh();
        self.engine.refresh();
    }
}

impl Cancellation for FileDevice {
    fn cancel(&self, _: RequestId) {
        self.engine.cancel_unwanted();
    }
}

impl Flush for FileDevice {
    fn flush(&self, scope: FlushScope, answer: Answer) {
        let (file, replacement) = (self.file.clone(), self.replacement.clone());
        self.pool.submit(move || {
            let flushed = match scope {
                FlushScope::Data => file.sync_data(),
                _ => file.sync_all(),
            };
            let flushed = flushed.map_err(IoError::from);
            match replacement.filter(|replacement| replacement.is_published()) {
                Some(replacement) => {
                    answer.result(flushed.and_then(|()| replacement.flush_name().map_err(IoError::from)))
                }
                None => answer.result(flushed),
            }
        });
    }
}

impl Publish for FileDevice {
    fn publish(&self, answer: Answer) {
        let Some(replacement) = self.replacement.clone() else { return answer.error(IoError::UNSUPPORTED) };
        self.pool.submit(move || answer.result(replacement.publish().map_err(IoError::from)));
    }
}

impl Drop for FileDevice {
    fn drop(&mut self) {
        if let Some(replacement) = &self.replacement
            && !replacement.is_published()
            && self.size().is_some_and(|size| size > 0)
        {
            replacement.report_discarded();
        }
    }
}

impl Resize for FileDevice {
    fn resize(&self, size: u64, answer: Answer) {
        if self.is_published() {
            return answer.error(IoError::from_code(Code::READ_ONLY));
        }
        let file = self.file.clone();
        self.pool.submit(move || answer.result(ftruncate(&file, size).map_err(error)));
    }
}

impl Mapping for FileDevice {
    fn map(&self, from: u64, regions: Records<Region>) {
        let (file, mode) = (self.file.clone(), self.mode);
        self.pool.submit(move || map(&file, mode, from, regions));
    }
}

/// Answers with the parts of a file that are no holes.
fn map(file: &File, mode: OpenMode, from: u64, mut regions: Records<Region>) {
    let region = |range| {
        let mut region = Region::new(range);
        region.readable = mode.contains(OpenMode::READ);
        region.writable = mode.contains(OpenMode::WRITE);
        region
    };
    let mut at = from;
    loop {
        let start = match seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            // Behind the position is only a hole, or the end of the file.
            Err(Errno::NXIO) => return regions.complete(None),
            // The file does not report holes. A file whose content is generated by a read has no size either.
            Err(Errno::INVAL) => {
                let size = file.metadata().map_or(0, |metadata| metadata.len());
                let all = if size > 0 { 0..size } else { at..u64::MAX };
                let is_more = at < all.end && !regions.push(&region(all));
                return regions.complete(is_more.then_some(at));
            }
            Err(errno) => return regions.error(error(errno)),
        };
        let end = match seek(file, SeekFrom::Hole(start)) {
            Ok(end) => end,
            // The file was truncated meanwhile.
            Err(Errno::NXIO) => return regions.complete(None),
            Err(errno) => return regions.error(error(errno)),
        };
        if !regions.push(&region(start..end)) {
            return regions.complete(Some(start));
        }
        at = end;
    }
}
