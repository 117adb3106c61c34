//! Dumps that can only be read from their beginning: compressed by gzip or zstd as a whole, or written into a pipe by
//! `makedumpfile -F` or QEMU. Their bytes are copied to their places in a temporary file without a name.

use std::env;
use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use pactio_sdk::OpenError;

use crate::local::LocalFile;
use crate::segments::corrupt;
use crate::source::{Reader, Source};

/// Bytes that are decompressed at once. Runs of zeros of this length become holes of the file.
const CHUNK: usize = 64 << 10;

/// Bytes that are read at once.
const READ: usize = 1 << 20;

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The front of a flattened dump: a name, type and version. Records with offset, length and bytes follow, up to one with the
/// offset -1.
pub(crate) const FLATTENED: [u8; 16] = *b"makedumpfile\0\0\0\0";
const FLATTENED_FRONT: u64 = 4096;

/// Most layers around a dump, such as gzip around a flattened dump.
const MAX_LAYERS: usize = 4;

/// The bytes of a dump at their places; the device itself if they are.
///
/// # Errors
///
/// If a stream is damaged, or the folder for temporary files has no room.
pub(crate) fn seekable(mut source: Source) -> Result<Source, OpenError> {
    for _ in 0..MAX_LAYERS {
        let magic = source.magic()?;
        let reader = BufReader::with_capacity(READ, Reader::new(&source));
        let mut file = Temporary::default();
        let (kind, copied) = if magic.starts_with(&GZIP) {
            ("a gzip stream", decompress(&mut file, flate2::bufread::MultiGzDecoder::new(reader)))
        } else if magic.starts_with(&ZSTD) {
            ("a zstd stream", decompress(&mut file, zstd::stream::read::Decoder::with_buffer(reader)?))
        } else if magic.starts_with(&FLATTENED) {
            ("a flattened dump", unflatten(&mut file, reader))
        } else {
            drop(reader);
            return Ok(source);
        };
        let no_file = |error: io::Error| {
            let text = format!(
                "it is {kind}, and cannot be copied into a temporary file in '{}': {error}; the variable TMPDIR names another \
                 folder",
                env::temp_dir().display()
            );
            OpenError::new(error.into(), text)
        };
        match copied {
            Ok(()) => {}
            Err(Failure::Write(error)) => return Err(no_file(error)),
            Err(Failure::Cut) if file.size > 0 => tracing::error!(
                "the dump is cut off: {kind} ends early, after {} bytes of the dump; copy or take it again",
                file.size
            ),
            Err(Failure::Cut) => return Err(corrupt(format!("{kind} ends before the dump begins"))),
            Err(Failure::Read(error)) => return Err(corrupt(format!("{kind} is damaged: {error}"))),
        }
        source = Source::Unpacked(Arc::new(file.finish().map_err(no_file)?));
    }
    Err(corrupt("there are too many layers around it"))
}

/// A file in the folder for temporary files, which is made with the first bytes.
#[derive(Default)]
struct Temporary {
    file: Option<File>,
    size: u64,
}

impl Temporary {
    fn file(&mut self) -> io::Result<&File> {
        if self.file.is_none() {
            self.file = Some(tempfile::tempfile()?);
        }
        self.file.as_ref().ok_or_else(|| ErrorKind::NotFound.into())
    }

    /// Writes bytes. Zeros behind the end become a hole.
    fn write(&mut self, bytes: &[u8], at: u64) -> Result<(), Failure> {
        let end = at.checked_add(bytes.len() as u64).ok_or(Failure::Read(ErrorKind::InvalidData.into()))?;
        if at < self.size || bytes.iter().any(|byte| *byte != 0) {
            self.file().and_then(|file| file.write_all_at(bytes, at)).map_err(Failure::Write)?;
        }
        self.size = self.size.max(end);
        Ok(())
    }

    fn finish(mut self) -> io::Result<LocalFile> {
        let size = self.size;
        self.file()?.set_len(size)?;
        self.file.take().map_or_else(|| Err(ErrorKind::NotFound.into()), LocalFile::new)
    }
}

enum Failure {
    Read(io::Error),
    Write(io::Error),
    /// The stream ended too early.
    Cut,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::UnexpectedEof => Self::Cut,
            _ => Self::Read(error),
        }
    }
}

fn decompress(file: &mut Temporary, mut decoder: impl Read) -> Result<(), Failure> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let (filled, end) = read(&mut decoder, &mut chunk);
        file.write(&chunk[..filled], file.size)?;
        if end? {
            return Ok(());
        }
    }
}

/// Fills a buffer: the number of bytes, and whether the stream has ended.
fn read(decoder: &mut impl Read, buffer: &mut [u8]) -> (usize, io::Result<bool>) {
    let mut filled = 0;
    while filled < buffer.len() {
        match decoder.read(&mut buffer[filled..]) {
            Ok(0) => return (filled, Ok(true)),
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return (filled, Err(error)),
        }
    }
    (filled, Ok(false))
}

fn unflatten(file: &mut Temporary, mut reader: impl Read) -> Result<(), Failure> {
    io::copy(&mut reader.by_ref().take(FLATTENED_FRONT), &mut io::sink())?;
    let mut chunk = vec![0; CHUNK];
    loop {
        let mut record = [0; 16];
        reader.read_exact(&mut record)?;
        let [mut at, mut len] = [&record[..8], &record[8..]]
            .map(|field| u64::from_be_bytes(field.first_chunk().copied().unwrap_or_default()));
        if at == u64::MAX {
            return Ok(());
        }
        while len > 0 {
            let part = &mut chunk[..len.min(CHUNK as u64) as usize];
            reader.read_exact(part)?;
            file.write(part, at)?;
            let count = part.len() as u64;
            (at, len) = (at.saturating_add(count), len - count);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_stream_becomes_a_file_with_holes_and_its_end_is_told_from_damage() {
        let mut content = vec![7; CHUNK + 5];
        content.resize(10 * CHUNK, 0);
        content.extend([1, 2, 3]);
        content.resize(20 * CHUNK + 9, 0);
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&content).unwrap();
        let packed = encoder.finish().unwrap();
        let decode = |packed: &[u8]| {
            let mut file = Temporary::default();
            let copied = decompress(&mut file, flate2::bufread::MultiGzDecoder::new(packed));
            let file = file.finish().unwrap();
            (copied, file.read_now(0, file.size() as usize).unwrap())
        };
        // Two streams, one behind the other, are one.
        let (copied, bytes) = decode(&[&packed[..], &packed].concat());
        assert!(copied.is_ok() && bytes == [&content[..], &content].concat());
        let (copied, bytes) = decode(&packed[..packed.len() / 2]);
        assert!(matches!(copied, Err(Failure::Cut)) && !bytes.is_empty(), "{}", bytes.len());
        assert!(content.starts_with(&bytes));
        let mut damaged = packed.clone();
        let sum = damaged.len() - 6;
        damaged[sum] ^= 1;
        assert!(matches!(decode(&damaged).0, Err(Failure::Read(_))));
    }

    #[test]
    fn records_of_a_flattened_dump_go_to_their_places_and_the_last_one_counts() {
        let record = |at: u64, bytes: &[u8]| {
            [&at.to_be_bytes()[..], &(bytes.len() as u64).to_be_bytes(), bytes].concat()
        };
        let mut flattened = FLATTENED.to_vec();
        flattened.resize(FLATTENED_FRONT as usize, 0);
        flattened.extend(record(10, &[1; 5]));
        flattened.extend(record(0, &[2; 3]));
        flattened.extend(record(12, &[0; 2]));
        let whole = [&flattened[..], &[0xff; 16]].concat();
        let copy = |bytes: &[u8]| {
            let mut file = Temporary::default();
            let copied = unflatten(&mut file, bytes);
            (copied, file.finish().unwrap().read_now(0, 100).unwrap())
        };
        let (copied, bytes) = copy(&whole);
        assert!(copied.is_ok());
        assert_eq!(bytes, [2, 2, 2, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 1]);
        assert!(matches!(copy(&flattened).0, Err(Failure::Cut)));
        // A record at the last of all addresses has no room.
        let wrong = [&flattened[..], &record(u64::MAX - 1, &[1; 5])].concat();
        assert!(matches!(copy(&wrong).0, Err(Failure::Read(_) | Failure::Write(_))));
    }
}
