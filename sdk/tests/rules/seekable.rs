//! A device as a file.

use std::io::SeekFrom;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use futures_lite::future::block_on;
use pactio_sdk::*;

use crate::support::Plain;

fn file(len: usize) -> Seekable<LocalDevice<Plain>> {
    Seekable::new(LocalDevice::new(Plain::new(len)).unwrap())
}

/// Counts the requests that reach a device.
struct Counting(Plain, Arc<AtomicUsize>);

impl BackendDevice for Counting {
    fn info(&self) -> DeviceInfo {
        self.0.info()
    }

    fn read(&self, position: u64, view: BoundPacketView<pactio_sdk::Write>) {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.read(position, view);
    }

    fn write(&self, position: u64, view: BoundPacketView<pactio_sdk::Read>) {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.write(position, view);
    }
}

#[test]
fn reads_in_a_row_take_few_requests_and_others_take_no_more_bytes() {
    let count = Arc::new(AtomicUsize::new(0));
    let (len, new) = (8 << 20, || Counting(Plain::new(8 << 20), count.clone()));
    let requests = || count.swap(0, Ordering::Relaxed);
    let mut file = Seekable::new(LocalDevice::new(new()).unwrap());
    let mut buffer = vec![0; 8192];
    let mut read = 0;
    while let count @ 1.. = std::io::Read::read(&mut file, &mut buffer).unwrap() {
        read += count;
    }
    assert_eq!(read, len);
    let sync = requests();
    assert!(sync <= 14, "{sync} requests");
    let mut file = Seekable::new(LocalDevice::new(new()).unwrap());
    block_on(async {
        let mut read = 0;
        while let count @ 1.. = futures_lite::AsyncReadExt::read(&mut file, &mut buffer).await.unwrap() {
            read += count;
        }
        assert_eq!(read, len);
    });
    let asynchronous = requests();
    assert!(asynchronous <= 14, "{asynchronous} requests");
    // Each of these reads begins at another place.
    let mut file = Seekable::new(LocalDevice::new(new()).unwrap());
    for place in [5u64, 1 << 20, 77, 3 << 20] {
        std::io::Seek::seek(&mut file, SeekFrom::Start(place)).unwrap();
        std::io::Read::read_exact(&mut file, &mut buffer[..100]).unwrap();
    }
    assert_eq!(requests(), 4);
}

#[test]
fn std_io_reads_writes_and_seeks_like_a_file() {
    use std::io::{Read, Seek, Write};

    let mut file = file(20);
    let mut buffer = [0; 8];
    file.read_exact(&mut buffer).unwrap();
    assert_eq!(buffer, [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(file.seek(SeekFrom::Current(-4)).unwrap(), 4);
    file.write_all(&[100; 3]).unwrap();
    assert_eq!(file.seek(SeekFrom::End(-2)).unwrap(), 18);
    let mut rest = Vec::new();
    assert_eq!(file.read_to_end(&mut rest).unwrap(), 2);
    assert_eq!(rest, [18, 19]);
    assert_eq!(file.read(&mut buffer).unwrap(), 0, "the end is no error");
    assert_eq!(file.write(&[1]).unwrap_err().kind(), std::io::ErrorKind::WriteZero);
    file.rewind().unwrap();
    file.read_exact(&mut buffer).unwrap();
    assert_eq!(buffer, [0, 1, 2, 3, 100, 100, 100, 7]);
    assert_eq!(file.seek(SeekFrom::Current(-9)).unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
    assert_eq!(file.position(), 8);
}

#[test]
fn futures_io_does_the_same() {
    use futures_lite::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

    block_on(async {
        let mut file = file(20);
        let mut buffer = [0; 8];
        file.read_exact(&mut buffer).await.unwrap();
        assert_eq!(buffer, [0, 1, 2, 3, 4, 5, 6, 7]);
        file.seek(SeekFrom::Start(4)).await.unwrap();
        file.write_all(&[100; 3]).await.unwrap();
        // A read after an accepted write sees the written bytes.
        file.seek(SeekFrom::Current(-1)).await.unwrap();
        let mut two = [0; 2];
        file.read_exact(&mut two).await.unwrap();
        assert_eq!(two, [100, 7]);
        file.seek(SeekFrom::End(-3)).await.unwrap();
        let mut rest = Vec::new();
        file.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, [17, 18, 19]);
        let error = async {
            file.write(&[1]).await?;
            file.flush().await
        };
        assert_eq!(error.await.unwrap_err().kind(), std::io::ErrorKind::WriteZero);
    });
}

/// A device that shows its bytes when it is published.
#[derive(Clone, Default)]
struct Draft(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    published: Vec<Vec<u8>>,
    /// Writes fail.
    is_full: bool,
}

impl Draft {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn file(&self) -> Seekable<LocalDevice<Self>> {
        Seekable::new(LocalDevice::new(self.clone()).unwrap())
    }
}

impl BackendDevice for Draft {
    fn info(&self) -> DeviceInfo {
        DeviceInfo::with_size(self.state().bytes.len() as u64).write_only()
    }

    fn read(&self, _: u64, view: ReadView) {
        view.error(IoError::UNSUPPORTED);
    }

    fn write(&self, position: u64, view: WriteView) {
        let mut state = self.state();
        if state.is_full {
            drop(state);
            return view.error(IoError::from_code(Code::NO_SPACE));
        }
        let (start, end) = (position as usize, position as usize + view.len());
        let len = state.bytes.len().max(end);
        state.bytes.resize(len, 0);
        let taken = view.transfer_data(&mut state.bytes[start..end]);
        drop(state);
        taken.complete();
    }

    fn extensions<'d>(&'d self, query: &mut ExtensionQuery<'d>) {
        query.offer::<dyn Publish>(self);
    }
}

impl Publish for Draft {
    fn publish(&self, answer: Answer) {
        let mut state = self.state();
        let bytes = state.bytes.clone();
        state.published.push(bytes);
        drop(state);
        answer.done();
    }
}

#[test]
fn a_writer_publishes_once_and_no_fragment() {
    use futures_lite::AsyncWriteExt;
    use std::io::Write;

    let draft = Draft::default();
    let mut file = draft.file();
    Write::flush(&mut file).expect("nothing was written");
    Write::write_all(&mut file, b"some").unwrap();
    let error = Write::flush(&mut file).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
    assert!(error.to_string().ends_with("call `Seekable::finish`"), "{error}");
    Write::write_all(&mut file, b" text").unwrap();
    assert!(draft.state().published.is_empty());
    file.finish().unwrap();
    assert_eq!(draft.state().published, [b"some text"]);

    let draft = Draft::default();
    let mut file = draft.file();
    block_on(async {
        AsyncWriteExt::write_all(&mut file, b"all").await.unwrap();
        AsyncWriteExt::flush(&mut file).await.unwrap();
        assert!(draft.state().published.is_empty(), "a flush in the middle publishes no fragment");
        file.close().await.unwrap();
    });
    assert_eq!(draft.state().published, [b"all"]);
    Write::flush(&mut file).expect("all of it is published");

    // A write that fails leaves a fragment: each `close` fails, `finish` fails, and nothing is published.
    let draft = Draft::default();
    let mut file = draft.file();
    Write::write_all(&mut file, b"front").unwrap();
    draft.state().is_full = true;
    assert_eq!(
        block_on(AsyncWriteExt::write_all(&mut file, b"back")).unwrap_err().kind(),
        std::io::ErrorKind::StorageFull
    );
    for _ in 0..2 {
        assert!(block_on(file.close()).unwrap_err().to_string().contains("an earlier write has failed"));
    }
    file.finish().unwrap_err();
    assert!(draft.state().published.is_empty());
}
