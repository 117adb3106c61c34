//! `pactio cp`
//!
//! ```text
//!  source ──► blocks, in order ──► destination: a temporary file or an upload ──► published: replaces what was there
//!    │ first byte read, before the destination is opened                             │ read again, with --verify
//!    └ compared with its metadata at the end                                         └ only if everything before has succeeded
//! ```

mod blocks;
mod source;

use std::time::Duration;

use pactio::{Capability, Code, Device, Error, Host, OpenOptions};
use sha2::{Digest, Sha256};

use super::failure::Failure;
use super::given::GivenUrl;
use super::interrupt::Interrupt;
use super::progress::Progress;
use super::standard::say;
use super::stream::Stream;
use super::{Flow, Range, sum};
use blocks::Copy;
use source::Source;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The device to read.
    source: GivenUrl,
    /// The device to write. A file or an object is replaced when the copy is complete, and stays as it is until then; it is made
    /// if it does not exist.
    destination: GivenUrl,
    /// Write to a file itself instead of replacing it: it stays the same file for all hard links and programs that have it open,
    /// and is incomplete if the copy fails.
    #[arg(long)]
    inplace: bool,
    /// Make the copy durable before this ends, as fsync does.
    #[arg(long)]
    flush: bool,
    /// Open the destination again at the end, read all of it, and compare digests.
    #[arg(long)]
    verify: bool,
    #[command(flatten)]
    range: Range,
    #[command(flatten)]
    flow: Flow,
}

pub(super) fn run(host: &Host, arguments: &Arguments) -> Result<(), Failure> {
    let source = Source::open(host, &arguments.source, arguments.range)?;
    let interrupt = Interrupt::listen()?;
    let destination = Destination::open(host, arguments, &source)?;
    // Blocks that were read wait in memory for a destination that takes fewer at a time.
    let in_flight =
        arguments.flow.in_flight(&source.device).min(arguments.flow.in_flight(&destination.device));
    let device = destination.device.clone();
    let mut copy = Copy::new(host, &source, device, arguments.flow.block_size, in_flight, arguments.verify);
    let progress = Progress::start("copying", source.total);
    let mut state = State::Copying;
    let result = host.block_on(futures_lite::future::or(
        async {
            Ok(async {
                destination.fill(&source, &mut copy, &progress).await?;
                state = State::Publishing;
                if let Err(error) = destination.publish(arguments.flush).await {
                    if is_refusal(&error) {
                        state = State::Refused;
                    }
                    return Err(error.into());
                }
                state = State::Published;
                match copy.digest() {
                    Some(digest) => destination.verify(host, arguments, copy.done(), &digest).await,
                    None => Ok(()),
                }
            }
            .await)
        },
        async { Err(interrupt.wait().await) },
    ));
    progress.finish();
    let done = copy.done();
    // Before the account: from here on, nothing is written, and no temporary file is left.
    host.block_on(copy.stop());
    let account = destination.account(state, done, source.total);
    destination.close();
    match result {
        Ok(result) => result.map_err(|failure| failure.and(&account)),
        Err(signal) => Err(Failure::interrupted(signal, &account)),
    }
}

/// Whether the destination has refused the publication. After other failures, such as a lost answer, it may have happened.
fn is_refusal(error: &Error) -> bool {
    matches!(
        error.code(),
        Some(Code::PERMISSION_DENIED | Code::NOT_FOUND | Code::NO_SPACE | Code::CHANGED | Code::UNSUPPORTED)
    )
}

/// The longest time that closing a layer of the destination may take.
const LONGEST_CLOSE: Duration = Duration::from_secs(10);

/// How far a copy has come.
#[derive(Clone, Copy)]
enum State {
    Copying,
    Publishing,
    /// The destination has refused the publication.
    Refused,
    Published,
}

/// The device that is written.
struct Destination {
    device: Device,
    /// Readers see nothing of the written bytes before they are published.
    publishes: bool,
    /// The size can be set.
    resizes: bool,
}

impl Destination {
    /// Opens the destination. The content of a device that publishes, or that can be resized, does not change here.
    fn open(host: &Host, arguments: &Arguments, source: &Source) -> Result<Self, Failure> {
        let (mut url, options) = (arguments.destination.clone(), OpenOptions::new().write(true).create(true));
        if let Some(kind) = &source.stat().content_type {
            url = url.with_default(host, "content-type", kind);
        }
        let this = Self::of(url.open_with(host, options.replace(!arguments.inplace))?);
        if let Err(failure) = this.refuse_unsuitable(host, source, arguments.verify) {
            this.close();
            return Err(failure);
        }
        if this.publishes || this.resizes || this.device.info().is_stream() {
            return Ok(this);
        }
        // The size cannot be set at the end: bytes behind the copy would stay.
        this.close();
        Ok(Self::of(url.open_with(host, options.truncate(true))?))
    }

    fn of(device: Device) -> Self {
        let can = device.capabilities();
        Self { publishes: can.has(Capability::PUBLISH), resizes: can.has(Capability::RESIZE), device }
    }

    /// Refuses the storage that the source reads, a read-only device, a device of a fixed size without room for everything, and
    /// a stream that is to be verified.
    fn refuse_unsuitable(&self, host: &Host, source: &Source, verify: bool) -> Result<(), Failure> {
        if verify && self.device.info().is_stream() {
            let text = format!(
                "'{}' cannot be verified: it is a stream, which cannot be read again",
                self.device.url()
            );
            return Err(Failure::new(text).with_hint("nothing was written; leave --verify out"));
        }
        if !self.device.info().writable() {
            let text = format!("'{}' cannot be written: it is read-only", self.device.url());
            return Err(Failure::new(text).with_hint("nothing was written; copy to another device"));
        }
        refuse_same(host, source, &self.device)?;
        if self.publishes || self.resizes { Ok(()) } else { refuse_small(&self.device, source.total) }
    }

    /// Copies all bytes of the source.
    async fn fill(&self, source: &Source, copy: &mut Copy<'_>, progress: &Progress) -> Result<(), Failure> {
        let all = source.start..source.total.map_or(u64::MAX, |total| source.start.saturating_add(total));
        // An empty device that is made longer has zeros: holes of the source are left out.
        let keeps_holes = self.resizes && self.device.size() == Some(0);
        let data = if keeps_holes { source.data().await? } else { vec![all.clone()] };
        let ends_with_data = data.last().is_some_and(|last| last.end == all.end);
        copy.ranges(data, progress).await?;
        if let Some(total) = source.total {
            if ends_with_data && copy.done() < total {
                return Err(Failure::new(format!(
                    "'{}' ended after {} bytes; it had {total} when the copy began",
                    source.device.url(),
                    copy.done()
                )));
            }
            copy.pass_hole(all.end);
        }
        // The previous content may be longer than the copy, and the copy may end with a hole.
        if self.resizes && self.device.size() != Some(copy.done()) {
            self.device.resize(copy.done()).await?;
        }
        source.check_unchanged().await
    }

    /// Makes the copy visible, and durable if that is wanted: the bytes before the name.
    async fn publish(&self, flush: bool) -> Result<(), Error> {
        if flush && self.publishes {
            // A store keeps an object only as a whole: it is asked again afterwards.
            let _ = self.device.flush_data().await;
        }
        self.device.publish().await?;
        if flush {
            self.device.flush().await?;
        }
        Ok(())
    }

    /// Reads the destination through a new handle, and compares the digests.
    async fn verify(
        &self,
        host: &Host,
        arguments: &Arguments,
        len: u64,
        digest: &[u8; 32],
    ) -> Result<(), Failure> {
        let url = self.device.url();
        let written = self.device.stat().await?.identity;
        let device = arguments.destination.open(host)?;
        let stat = device.stat().await?;
        if stat.identity.is_none() || stat.identity != written {
            let text = format!("'{url}' cannot be verified: opening it again gives another device");
            return Err(Failure::new(text));
        }
        let range = Range { offset: 0, length: Some(len) };
        let mut stream = Stream::new(host, device, range, arguments.flow);
        let progress = Progress::start("verifying", Some(len));
        let mut found = Sha256::new();
        sum::add(&mut stream, &mut found, &progress).await?;
        progress.finish();
        stream.account()?;
        if found.finalize()[..] != digest[..] || (self.publishes && stat.size.is_some_and(|size| size != len))
        {
            return Err(Failure::new(format!("'{url}' does not hold the copied bytes: the digests differ")));
        }
        Ok(())
    }

    /// Closes all layers of the destination, and waits until they have removed unpublished bytes. Dropping the handle is not
    /// enough: the thread that polls a device's driver may have the last one.
    fn close(self) {
        let mut layers = vec![self.device];
        while let Some(below) = layers.last().and_then(|device| device.below().cloned()) {
            layers.push(below);
        }
        for layer in layers {
            if let Err(error) = layer.close(LONGEST_CLOSE) {
                say(format_args!("pactio: {error}; a temporary file may be left"));
            }
        }
    }

    /// The state of the destination after a failure.
    fn account(&self, state: State, done: u64, total: Option<u64>) -> String {
        let url = self.device.url();
        match (state, self.publishes) {
            (State::Copying | State::Refused, true) => format!("'{url}' is as it was before"),
            (State::Copying, false) => {
                let total = total.map_or(String::new(), |size| format!(" of {size}"));
                format!("'{url}' is not finished: {done}{total} bytes were copied to it")
            }
            (State::Publishing | State::Refused, _) => {
                format!(
                    "'{url}' is not finished: all {done} bytes were sent, but may not be kept; copy again"
                )
            }
            (State::Published, _) => format!("'{url}' was written, but is not verified"),
        }
    }
}

/// Refuses a copy onto the storage that the source reads. The source may be a file, a part of one, or a name in an archive.
fn refuse_same(host: &Host, source: &Source, destination: &Device) -> Result<(), Failure> {
    let identity = &source.stat().identity;
    if identity.is_none() || *identity != host.block_on(destination.stat())?.identity {
        return Ok(());
    }
    let (source, destination) = (source.device.url(), destination.url());
    Err(Failure::new(format!("'{source}' reads the storage that '{destination}' would replace"))
        .with_hint("nothing was written; copy to another name"))
}

fn refuse_small(destination: &Device, total: Option<u64>) -> Result<(), Failure> {
    match (destination.size(), total) {
        (Some(room @ 1..), Some(total)) if room < total => Err(Failure::new(format!(
            "'{}' has room for {room} bytes, but {total} are to be copied",
            destination.url()
        ))
        .with_hint("nothing was written; give it a larger size")),
        _ => Ok(()),
    }
}
