//! Pipes and terminals as destinations: streams without positions, which a thread of their own writes in order.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use pactio_sdk::{
    Answer, BackendDevice, BoundPacketView, Code, Describe, DeviceInfo, ExtensionQuery, Flush, FlushScope,
    IoError, OpenError, Read, Records, Stat, Write,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, SeekFrom, seek};
use rustix::io::{Errno, write};

use crate::explained::explain;
use crate::job::error;

/// The longest wait of the thread before it checks whether its request was cancelled.
const LOOK: Duration = Duration::from_millis(20);

/// A pipe or a terminal that is written.
pub(crate) struct Pipe {
    path: PathBuf,
    /// `None` when the device is dropped: the thread then ends.
    requests: Option<Sender<Request>>,
    /// The device was dropped: a request that waits for the reader fails.
    closed: Arc<AtomicBool>,
}

/// A request for the thread. A flush succeeds when all writes before it have succeeded or failed.
enum Request {
    Write(BoundPacketView<Read>),
    Flush(Answer),
}

/// The thread's part of a pipe.
struct Writer {
    path: PathBuf,
    /// `None` until a pipe has a reader.
    file: Option<File>,
    closed: Arc<AtomicBool>,
}

impl Pipe {
    /// Opens a path that leads to a pipe, or to a device without positions such as a terminal, for writing. A pipe need not have
    /// a reader yet: requests wait for one. `None` if the path leads to something else, or nowhere.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>, OpenError> {
        let Ok(metadata) = fs::metadata(path) else { return Ok(None) };
        let kind = metadata.file_type();
        if !kind.is_fifo() && !kind.is_char_device() {
            return Ok(None);
        }
        let file = match open(path) {
            Ok(file) if kind.is_char_device() && seek(&file, SeekFrom::Current(0)).is_ok() => {
                return Ok(None);
            }
            Ok(file) => Some(file),
            Err(error) if kind.is_fifo() && is_without_reader(&error) => {
                tracing::info!("'{}' is a pipe without a reader: writes wait for one", path.display());
                None
            }
            Err(error) => return Err(explain(error, true)),
        };
        let (requests, received) = channel();
        let closed = Arc::new(AtomicBool::new(false));
        let writer = Writer { path: path.to_owned(), file, closed: closed.clone() };
        let started = thread::Builder::new().name("pactio-file-pipe".to_owned());
        started.spawn(move || writer.run(&received)).map_err(|error| {
            let text = format!("its thread cannot be started: {error}");
            OpenError::new(error.into(), text)
        })?;
        Ok(Some(Self { path: path.to_owned(), requests: Some(requests), closed }))
    }

    fn send(&self, request: Request) {
        // If the thread has ended, the request is dropped, which fails it.
        if let Some(requests) = &self.requests {
            let _ = requests.send(request);
        }
    }
}

/// Opens without waiting, and without becoming the session's terminal.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    OpenOptions::new().write(true).custom_flags(flags.bits() as i32).open(path)
}

fn is_without_reader(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::NXIO.raw_os_error())
}

impl BackendDevice for Pipe {
    fn info(&self) -> DeviceInfo {
        DeviceInfo::stream().write_only()
    }

    fn read(&self, _: u64, view: BoundPacketView<Write>) {
        view.error(IoError::from_code(Code::NOT_SEEKABLE));
    }

    fn write(&self, _: u64, view: BoundPacketView<Read>) {
        view.error(IoError::from_code(Code::NOT_SEEKABLE));
    }

    fn write_next(&self, view: BoundPacketView<Read>) {
        self.send(Request::Write(view));
    }

    fn extensions<'d>(&'d self, query: &mut ExtensionQuery<'d>) {
        query.offer::<dyn Describe>(self).offer::<dyn Flush>(self);
    }
}

impl Describe for Pipe {
    fn stat(&self, answer: Records<Stat>) {
        let stat = fs::metadata(&self.path).map(|metadata| {
            let mut stat = Stat::of_file(&metadata);
            stat.size = None;
            stat
        });
        answer.complete_one(stat.map_err(IoError::from));
    }
}

impl Flush for Pipe {
    fn flush(&self, _: FlushScope, answer: Answer) {
        self.send(Request::Flush(answer));
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        // Ordering: Relaxed. The flag guards no data.
        self.closed.store(true, Ordering::Relaxed);
        self.requests = None;
    }
}

impl Writer {
    fn run(mut self, requests: &Receiver<Request>) {
        for request in requests {
            match request {
                Request::Write(view) => self.write(view),
                Request::Flush(answer) => answer.done(),
            }
        }
    }

    /// Writes all bytes of a request, as fast as the reader takes them.
    fn write(&mut self, view: BoundPacketView<Read>) {
        match view.try_alloc(1) {
            Ok(bytes) => {
                let (done, error) = self.write_all(&bytes, || bytes.is_cancelled());
                bytes.complete_with(done, error);
            }
            Err(view) => {
                let mut copy = vec![0; view.len()];
                let view = view.transfer_data(&mut copy);
                let (done, error) = self.write_all(&copy, || false);
                view.complete_with(done, error);
            }
        }
    }

    /// Returns the number of written bytes, and the error for the rest.
    fn write_all(&mut self, bytes: &[u8], is_cancelled: impl Fn() -> bool) -> (usize, IoError) {
        let mut done = 0;
        while done < bytes.len() {
            // Ordering: Relaxed. The flag guards no data.
            if self.closed.load(Ordering::Relaxed) || is_cancelled() {
                return (done, IoError::CANCELLED);
            }
            let written = self.file().and_then(|file| match file {
                Some(file) => write(file, &bytes[done..]),
                None => Err(Errno::AGAIN),
            });
            match written {
                Ok(count) => done += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.wait(),
                Err(errno) => return (done, error(errno)),
            }
        }
        (done, IoError::TOO_LARGE)
    }

    /// The file; `None` while a pipe has no reader.
    fn file(&mut self) -> Result<Option<&File>, Errno> {
        if self.file.is_none() {
            match open(&self.path) {
                Ok(file) => self.file = Some(file),
                Err(error) if is_without_reader(&error) => {}
                Err(error) => return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
            }
        }
        Ok(self.file.as_ref())
    }

    /// Waits until the pipe has room, but at most [`LOOK`].
    fn wait(&self) {
        let limit = Timespec { tv_sec: 0, tv_nsec: LOOK.subsec_nanos().into() };
        let _ = match &self.file {
            Some(file) => poll(&mut [PollFd::new(file, PollFlags::OUT)], Some(&limit)),
            None => poll(&mut [], Some(&limit)),
        };
    }
}
