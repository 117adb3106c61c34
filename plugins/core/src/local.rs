//! Files of this machine, read on threads of the plugin.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use pactio_pool::Lazy;
use pactio_sdk::{BoundPacketView, Code, IoError, Write};

static THREADS: Lazy = Lazy::new("pactio-core");

/// Bytes of a page.
const PAGE: u64 = 4096;

/// Most bytes that are read at once.
const MAX_READ_BYTES: usize = 1 << 20;

pub(crate) struct LocalFile {
    file: File,
    size: u64,
}

impl LocalFile {
    pub(crate) fn new(file: File) -> io::Result<Self> {
        let size = file.metadata()?.len();
        Ok(Self { file, size })
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Reads at most `len` bytes on this thread; fewer at the end.
    pub(crate) fn read_now(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let there = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; len.min(there)];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    /// Answers a view, as the memory would that the file is mapped to: with zeros up to the end of the last page, and errors
    /// behind it.
    pub(crate) fn read(self: &Arc<Self>, offset: u64, view: BoundPacketView<Write>) {
        let threads = match THREADS.get(2) {
            Ok(threads) => threads,
            Err(error) => return view.error(error.into()),
        };
        let file = self.clone();
        threads.submit(move || file.read_pages(offset, view));
    }

    fn read_pages(&self, mut offset: u64, mut view: BoundPacketView<Write>) {
        // A page that begins behind the end of the file cannot be accessed.
        let end = self.size.checked_next_multiple_of(PAGE).unwrap_or(u64::MAX);
        loop {
            if view.is_cancelled() {
                return view.error(IoError::CANCELLED);
            }
            if offset >= end {
                return view.error(IoError::from_code(Code::NOT_MAPPED));
            }
            let there = usize::try_from(end - offset).unwrap_or(usize::MAX);
            let there = there.min(MAX_READ_BYTES);
            let (part, rest) = if view.len() > there {
                let (part, rest) = view.split_at(there);
                (part, Some(rest))
            } else {
                (view, None)
            };
            let len = part.len();
            match self.read_now(offset, len) {
                Ok(mut bytes) => {
                    bytes.resize(len, 0);
                    part.transfer_data(&bytes).complete();
                }
                Err(error) => part.error(error.into()),
            }
            let Some(rest) = rest else { return };
            (offset, view) = (offset + len as u64, rest);
        }
    }
}
