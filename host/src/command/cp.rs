//! `pactio cp`

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pactio::{Code, Device, Host, OpenOptions, Url};

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
    refuse_same(&arguments.source, &arguments.destination)?;
    let source = host.open(&arguments.source)?;
    let options = OpenOptions::new().read(false).write(true).create(true).truncate(true);
    let destination = host.open_with(&arguments.destination, options)?;
    // A size of 0 is what systems say of files that are made when they are read: those end where they end.
    let size = source.size().filter(|&size| size > 0);
    refuse_small(&destination, size)?;
    let copy = Arc::new(Copy {
        source,
        destination,
        size,
        block_size: arguments.flow.block_size,
        next: AtomicU64::new(0),
        done: AtomicU64::new(0),
        ended: AtomicBool::new(false),
        progress: Progress::start("copying", size),
    });
    // Where the end is found by reading, one block at a time looks for it: a source that grows meanwhile leaves no hole.
    let lanes = if size.is_some() { arguments.flow.in_flight(&copy.source) } else { 1 };
    let result = host.block_on(async {
        let lanes: Vec<_> = (0..lanes).map(|_| host.spawn(copy.clone().lane())).collect();
        let mut result = Ok(());
        for lane in lanes {
            let ended = lane.await;
            result = result.and(ended);
        }
        result?;
        let done = copy.done.load(Ordering::Relaxed);
        if let Some(size) = size.filter(|&size| done < size) {
            return Err(Failure::new(format!(
                "'{}' ended after {done} bytes; it had {size} when the copy began",
                copy.source.url()
            )));
        }
        // Only what is whole is to be seen.
        let published = copy.destination.publish().await;
        published.map_err(|error| Failure::from(error).with_hint("with -v, the plugin may say more"))?;
        if arguments.flush {
            copy.destination.flush().await?;
        }
        Ok(())
    });
    copy.progress.finish();
    let done = copy.done.load(Ordering::Relaxed);
    let url = copy.destination.url();
    result.map_err(|failure| {
        failure.and(&match size {
            // It failed when it was published or flushed.
            Some(size) if done == size => {
                format!("'{url}' is not finished: all {size} bytes were sent, but may not be kept; copy again")
            }
            size => {
                let total = size.map_or(String::new(), |size| format!(" of {size}"));
                format!("'{url}' is left incomplete: {done}{total} bytes were copied to it; remove it or copy again")
            }
        })
    })
}

/// What the lanes of a copy share.
struct Copy {
    source: Device,
    destination: Device,
    size: Option<u64>,
    block_size: usize,
    /// Where the next block begins.
    next: AtomicU64,
    /// Number of bytes that were written.
    done: AtomicU64,
    /// No more blocks are to be copied: the source ended, or something failed.
    ended: AtomicBool,
    progress: Progress,
}

impl Copy {
    /// Copies one block after the other, until there are no more.
    async fn lane(self: Arc<Self>) -> Result<(), Failure> {
        let mut buffer = Vec::new();
        while !self.ended.load(Ordering::Relaxed) {
            let position = self.next.fetch_add(self.block_size as u64, Ordering::Relaxed);
            let left = self.size.map_or(u64::MAX, |size| size.saturating_sub(position));
            let len = left.min(self.block_size as u64) as usize;
            if len == 0 {
                return Ok(());
            }
            buffer.resize(len, 0);
            let copied = self.block(position, buffer).await;
            if copied.is_err() {
                self.ended.store(true, Ordering::Relaxed);
            }
            buffer = copied?;
        }
        Ok(())
    }

    /// Copies one block and gives the buffer back.
    async fn block(&self, position: u64, buffer: Vec<u8>) -> Result<Vec<u8>, Failure> {
        let asked = buffer.len();
        let (report, mut buffer) = self.source.read_at(position, buffer).await?;
        let len = report.error_clamp();
        buffer.truncate(len);
        let buffer = self.destination.write_all_at(position, buffer).await?;
        self.done.fetch_add(len as u64, Ordering::Relaxed);
        self.progress.add(len as u64);
        match report.min_error() {
            None => Ok(buffer),
            Some((_, error)) if error.code() == Code::End => {
                self.ended.store(true, Ordering::Relaxed);
                Ok(buffer)
            }
            Some(_) => Err(Failure::new(format!(
                "cannot read {asked} bytes at {position} of '{}': {report}",
                self.source.url()
            ))),
        }
    }
}

/// Emptying the destination would empty the source.
fn refuse_same(source: &str, destination: &str) -> Result<(), Failure> {
    let (from, to): (Url, Url) = (source.parse()?, destination.parse()?);
    let same_file = || {
        use std::os::unix::fs::MetadataExt;
        let identity = |url: &Url| std::fs::metadata(url.target()).map(|file| (file.dev(), file.ino())).ok();
        identity(&from).is_some() && identity(&from) == identity(&to)
    };
    if from.scheme() == to.scheme() && same_file() {
        return Err(Failure::new(format!(
            "'{source}' and '{destination}' are the same; copying would empty it"
        )));
    }
    Ok(())
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
