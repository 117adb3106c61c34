//! `pactio cp`

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use pactio::{Code, Device, Host, Identity, OpenOptions, Task, Url};

use super::Flow;
use super::failure::Failure;
use super::progress::Progress;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The device to read.
    source: String,
    /// The device to write; it is made if it does not exist, and emptied if it does.
    destination: String,
    /// Have the destination make the copy last before this ends, as fsync does.
    #[arg(long)]
    flush: bool,

    #[command(flatten)]
    flow: Flow,
}

pub(super) fn run(host: &Host, arguments: &Arguments) -> Result<(), Failure> {
    let source = host.open(&arguments.source)?;
    refuse_same(host, &source, &arguments.destination)?;
    refuse_unreadable(host, &source)?;
    let options = OpenOptions::new().write(true).create(true).truncate(true);
    let destination = host.open_with(&arguments.destination, options)?;
    // Systems report a size of 0 for files that are made when they are read: their end is found by reading.
    let size = source.size().filter(|&size| size > 0);
    refuse_small(&destination, size)?;
    // If the end is found by reading, one block at a time is copied: a source that grows meanwhile leaves no hole.
    let in_flight = if size.is_some() { arguments.flow.in_flight(&source).into() } else { 1 };
    let devices = Arc::new(Devices { source, destination });
    let mut copy = Copy { devices, size, block_size: arguments.flow.block_size, in_flight, done: 0 };
    let progress = Progress::start("copying", size);
    let result = host.block_on(async {
        copy.blocks(host, &progress).await?;
        if let Some(size) = size.filter(|&size| copy.done < size) {
            return Err(Failure::new(format!(
                "'{}' ended after {} bytes; it had {size} when the copy began",
                copy.devices.source.url(),
                copy.done
            )));
        }
        // Only a complete copy is published.
        copy.devices.destination.publish().await?;
        if arguments.flush {
            copy.devices.destination.flush().await?;
        }
        Ok(())
    });
    progress.finish();
    let (done, url) = (copy.done, copy.devices.destination.url());
    result.map_err(|failure| {
        failure.and(&match size {
            // The copy failed when it was published or flushed.
            Some(size) if done == size => {
                format!(
                    "'{url}' is not finished: all {size} bytes were sent, but may not be kept; copy again"
                )
            }
            // The visible state depends on the store: a file has those bytes, an object is as it was before.
            size => {
                let total = size.map_or(String::new(), |size| format!(" of {size}"));
                format!("'{url}' is not finished: {done}{total} bytes were copied to it; copy again")
            }
        })
    })
}

/// The source and the destination.
struct Devices {
    source: Device,
    destination: Device,
}

/// A copy and its progress.
struct Copy {
    devices: Arc<Devices>,
    size: Option<u64>,
    block_size: usize,
    /// Number of blocks that are copied at a time. No block is further ahead of the oldest one, so that a destination that wants its
    /// bytes roughly in order gets them so.
    in_flight: usize,
    /// Number of bytes that were written.
    done: u64,
}

/// A block that was copied.
struct Block {
    len: usize,
    /// The source ends behind this block.
    last: bool,
    /// The buffer, to be used again.
    buffer: Vec<u8>,
}

impl Copy {
    /// Copies one block after the other until there are no more. After a failure, the copies of started blocks are still awaited.
    async fn blocks(&mut self, host: &Host, progress: &Progress) -> Result<(), Failure> {
        let (mut position, mut ended, mut result) = (0u64, false, Ok(()));
        let mut under_way: VecDeque<Task<Result<Block, Failure>>> = VecDeque::new();
        let mut spare = Vec::new();
        loop {
            while !ended && under_way.len() < self.in_flight {
                let left = self.size.map_or(u64::MAX, |size| size.saturating_sub(position));
                let len = left.min(self.block_size as u64) as usize;
                if len == 0 {
                    break;
                }
                let mut buffer: Vec<u8> = spare.pop().unwrap_or_default();
                buffer.resize(len, 0);
                let devices = self.devices.clone();
                under_way.push_back(host.spawn(async move { devices.copy(position, buffer).await }));
                position += len as u64;
            }
            let Some(oldest) = under_way.pop_front() else { return result };
            match oldest.await {
                Ok(Block { len, last, buffer }) => {
                    self.done += len as u64;
                    progress.add(len as u64);
                    ended |= last;
                    spare.push(buffer);
                }
                Err(failure) => {
                    ended = true;
                    result = result.and(Err(failure));
                }
            }
        }
    }
}

impl Devices {
    /// Copies one block and gives the buffer back.
    async fn copy(&self, position: u64, buffer: Vec<u8>) -> Result<Block, Failure> {
        let asked = buffer.len();
        let (report, mut buffer) = self.source.read_at(position, buffer).await?;
        let len = report.error_clamp();
        buffer.truncate(len);
        let buffer = self.destination.write_all_at(position, buffer).await?;
        let block = |last| Block { len, last, buffer };
        match report.min_error() {
            None => Ok(block(false)),
            Some((_, error)) if error.code() == Code::END => Ok(block(true)),
            Some(_) => Err(Failure::new(format!(
                "cannot read {asked} bytes at {position} of '{}': {report}",
                self.source.url()
            ))),
        }
    }
}

/// Refuses a copy onto the file that the source reads: opening the destination would empty it. The source may be a file, a part
/// of one, or a name in an archive.
fn refuse_same(host: &Host, source: &Device, destination: &str) -> Result<(), Failure> {
    let Some(Identity::File { device, inode, .. }) = host.block_on(source.stat())?.identity else {
        return Ok(());
    };
    let file = path_of(&destination.parse()?).and_then(|path| std::fs::metadata(path).ok());
    if file.is_some_and(|file| (file.dev(), file.ino()) == (device, inode)) {
        return Err(Failure::new(format!(
            "'{}' reads the file that '{destination}' would replace; copying would empty it",
            source.url()
        )));
    }
    Ok(())
}

/// The path of the file that holds the bytes of a URL, if the URL names one: `file:PATH`, or a name in a folder.
fn path_of(url: &Url) -> Option<PathBuf> {
    let mut path = matches!(url.scheme(), "file" | "local").then(|| PathBuf::from(url.target()))?;
    for name in url.filters().iter().map_while(Url::name) {
        path.push(OsStr::from_bytes(name));
    }
    Some(path)
}

/// Fails if the first byte of the source cannot be read, before the destination is opened and emptied.
fn refuse_unreadable(host: &Host, source: &Device) -> Result<(), Failure> {
    let (report, _) = host.block_on(source.read_at(0, vec![0; 1]))?;
    match report.min_error() {
        Some((_, error)) if error.code() != Code::END => Err(Failure::new(format!(
            "cannot read '{}' (plugin '{}'): {error}; the destination was not touched",
            source.url(),
            source.plugin().manifest().id
        ))),
        _ => Ok(()),
    }
}

/// A destination of a fixed size must have room for everything, before anything is written.
fn refuse_small(destination: &Device, size: Option<u64>) -> Result<(), Failure> {
    match (destination.size(), size) {
        (Some(room @ 1..), Some(size)) if room < size => Err(Failure::new(format!(
            "'{}' has room for {room} bytes, but {size} are to be copied",
            destination.url()
        ))
        .with_hint("nothing was written; give it a larger size")),
        _ => Ok(()),
    }
}
