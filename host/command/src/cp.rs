//! `pactio cp`
//!
//! ```text
//!  source ──► blocks, in order ──► destination: a temporary file or an upload ──► published: replaces what was there
//!    │ first byte read, before the destination is opened                             │ read again, with --verify
//!    └ compared with its metadata at the end                                         └ only if everything before has succeeded
//! ```

mod blocks;
mod source;
mod tree;

use std::pin::pin;
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
use blocks::{Copy, Permits};
use source::Source;

#[derive(Clone, clap::Args)]
pub(super) struct Arguments {
    /// The device to read.
    source: GivenUrl,
    /// The device to write. A file or an object is replaced when the copy is complete, and stays as it is until then; it is made
    /// if it does not exist.
    destination: GivenUrl,
    /// Copy all files of a tree, such as a folder, an archive or a part of a store, to another tree. Other files there stay.
    #[arg(short, long, conflicts_with_all = ["offset", "length"])]
    recursive: bool,
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
    if arguments.recursive {
        return tree::run(host, arguments);
    }
    let source = host.block_on(Source::of(arguments.source.open(host)?, arguments.range))?;
    let interrupt = Interrupt::listen()?;
    let progress = Progress::start("copying", source.total);
    let permits = Permits::new(MAX_BLOCKS);
    let place = Place::Url(&arguments.destination);
    let copy = transfer(host, arguments, &source, place, permits, &progress, interrupt.wait());
    let result = host.block_on(copy);
    progress.finish();
    result.map(drop)
}

/// The most blocks of one copy.
const MAX_BLOCKS: u16 = 4096;

/// A place to write: a URL, or a name in a tree.
#[derive(Clone, Copy)]
enum Place<'a> {
    Url(&'a GivenUrl),
    Name(&'a Device, &'a [u8]),
}

impl Place<'_> {
    async fn open(self, host: &Host, options: OpenOptions) -> Result<Device, Error> {
        match self {
            Self::Url(url) => url.opening(host, options).await,
            Self::Name(tree, name) => tree.opening(name, options).await,
        }
    }
}

/// Copies a source until the end, or until a signal comes; gives the number of bytes.
async fn transfer(
    host: &Host,
    arguments: &Arguments,
    source: &Source,
    place: Place<'_>,
    permits: Permits,
    progress: &Progress,
    signal: impl Future<Output = i32>,
) -> Result<u64, Failure> {
    let (mut signal, mut opening) = (pin!(signal), pin!(Destination::open(host, arguments, place, source)));
    let opened = async { Ok((&mut opening).await) };
    let destination = match futures_lite::future::or(opened, async { Err((&mut signal).await) }).await {
        Ok(opened) => opened?,
        Err(signal) => {
            // It may have made a temporary file, which its close removes.
            if let Ok(destination) = opening.await {
                destination.close().await;
            }
            let what = match arguments.inplace {
                true => "the destination may have been made",
                false => "the destination is as it was before",
            };
            return Err(Failure::interrupted(signal, what).harmless(!arguments.inplace));
        }
    };
    // Blocks that were read wait in memory for a destination that takes fewer at a time.
    let in_flight =
        arguments.flow.in_flight(&source.device).min(arguments.flow.in_flight(&destination.device));
    let (device, block) = (destination.device.clone(), arguments.flow.block_size);
    let mut copy = Copy::new(host, source, device, block, in_flight, permits, arguments.verify);
    let mut state = State::Copying;
    let result = futures_lite::future::or(
        async {
            Ok(async {
                destination.fill(source, &mut copy, progress).await?;
                state = State::Publishing;
                if let Err(error) = destination.publish(arguments.flush).await {
                    if is_refusal(&error) {
                        state = State::Refused;
                    }
                    return Err(error.into());
                }
                state = State::Published;
                match copy.digest() {
                    Some(digest) => destination.verify(host, arguments, place, copy.done(), &digest).await,
                    None => Ok(()),
                }
            }
            .await)
        },
        async { Err(signal.await) },
    )
    .await;
    let done = copy.done();
    // Before the account: from here on, nothing is written, and no temporary file is left.
    copy.stop().await;
    let account = destination.account(state, done, source.total);
    let is_harmless = destination.publishes && matches!(state, State::Copying);
    destination.close().await;
    match result {
        Ok(result) => result.map(|()| done).map_err(|failure| failure.and(&account)),
        Err(signal) => Err(Failure::interrupted(signal, &account).harmless(is_harmless)),
    }
}

/// Whether the destination has refused the publication. After other failures, such as a lost answer, it may have happened.
fn is_refusal(error: &Error) -> bool {
    matches!(
        error.code(),
        Some(
            Code::PERMISSION_DENIED
                | Code::NOT_FOUND
                | Code::NO_SPACE
                | Code::CHANGED
                | Code::UNSUPPORTED
                | Code::INVALID_INPUT
                | Code::IS_DIRECTORY
                | Code::NOT_DIRECTORY
        )
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
    /// The device is a name in a tree, which other copies use.
    is_name: bool,
}

impl Destination {
    /// Opens the destination. The content of a device that publishes, or that can be resized, does not change here.
    async fn open(
        host: &Host,
        arguments: &Arguments,
        place: Place<'_>,
        source: &Source,
    ) -> Result<Self, Failure> {
        let options = OpenOptions::new().write(true).create(true);
        let url = match (place, &source.stat().content_type) {
            (Place::Url(url), Some(kind)) => Some(url.with_default(host, "content-type", kind)),
            _ => None,
        };
        let place = url.as_ref().map_or(place, Place::Url);
        let this = Self::of(place, place.open(host, options.replace(!arguments.inplace)).await?);
        if let Err(failure) = this.refuse_unsuitable(source, arguments.verify).await {
            this.close().await;
            return Err(failure);
        }
        if this.publishes || this.resizes || this.device.info().is_stream() {
            return Ok(this);
        }
        // The size cannot be set at the end: bytes behind the copy would stay.
        this.close().await;
        Ok(Self::of(place, place.open(host, options.truncate(true)).await?))
    }

    fn of(place: Place<'_>, device: Device) -> Self {
        let (can, is_name) = (device.capabilities(), matches!(place, Place::Name(..)));
        Self {
            publishes: can.has(Capability::PUBLISH),
            resizes: can.has(Capability::RESIZE),
            is_name,
            device,
        }
    }

    /// Refuses the storage that the source reads, a read-only device, a device of a fixed size without room for everything, and
    /// a stream that is to be verified.
    async fn refuse_unsuitable(&self, source: &Source, verify: bool) -> Result<(), Failure> {
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
        refuse_same(source, &self.device).await?;
        if self.publishes || self.resizes { Ok(()) } else { refuse_small(&self.device, source.total) }
    }

    /// Copies all bytes of the source.
    async fn fill(&self, source: &Source, copy: &mut Copy, progress: &Progress) -> Result<(), Failure> {
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
            copy.pass_hole(all.end).await;
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
            match self.device.flush_data().await {
                // A store keeps an object only as a whole: it is asked again afterwards.
                Err(error) if error.code() != Some(Code::UNSUPPORTED) => return Err(error),
                _ => {}
            }
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
        place: Place<'_>,
        len: u64,
        digest: &[u8; 32],
    ) -> Result<(), Failure> {
        let url = self.device.url();
        let written = self.device.stat().await?.identity;
        let device = place.open(host, OpenOptions::new().read(true)).await?;
        let stat = device.stat().await?;
        if stat.identity.is_none() || stat.identity != written {
            let text = format!("'{url}' cannot be verified: opening it again gives another device");
            return Err(Failure::new(text));
        }
        let range = Range { offset: 0, length: Some(len) };
        // Several files of a tree are verified at once.
        let (progress, flow) = match arguments.recursive {
            true => (Progress::hidden(), Flow { in_flight: Some(4), ..arguments.flow }),
            false => (Progress::start("verifying", Some(len)), arguments.flow),
        };
        let mut stream = Stream::new(host, device, range, flow);
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
    async fn close(self) {
        let mut layers = vec![self.device];
        while !self.is_name
            && let Some(below) = layers.last().and_then(|device| device.below().cloned())
        {
            layers.push(below);
        }
        for layer in layers {
            if let Err(error) = layer.closing(LONGEST_CLOSE).await {
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
async fn refuse_same(source: &Source, destination: &Device) -> Result<(), Failure> {
    let identity = &source.stat().identity;
    if identity.is_none() || *identity != destination.stat().await?.identity {
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
