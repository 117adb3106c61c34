//! Copies all files of a tree to another tree.
//!
//! All names are listed before the first one is written, so that a copy into a folder of its own source ends. Several files are
//! copied at once, each as a copy of one file is. A file that fails does not stop the others.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use async_channel::{Receiver, Sender};
use pactio::{Capability, Code, Device, Entry, Host, Kind, Name, OpenOptions, Task};

use super::blocks::{Permit, Permits};
use super::source::Source;
use super::{Arguments, Interrupt, Place, Progress, Range, transfer};
use crate::failure::Failure;
use crate::ls::{Step, walk};
use crate::standard::say;

/// Number of files that are copied at once. Most of them are small, and wait for their servers.
const FILES: usize = 16;

/// Most blocks of all files at once.
const BLOCKS: u16 = 64;

/// Number of files that are large, and are copied at once: a store holds several parts of each in memory.
const LARGE_FILES: u16 = 4;

/// The size from which on a file is large.
const LARGE: u64 = 8 << 20;

/// Two trees, and the state that all copies of their files share.
struct Trees {
    host: Host,
    arguments: Arguments,
    source: Device,
    destination: Device,
    permits: Permits,
    large: Permits,
    progress: Progress,
    stop: Stop,
}

pub(super) fn run(host: &Host, arguments: &Arguments) -> Result<(), Failure> {
    let source = arguments.source.open(host)?;
    if !source.capabilities().has(Capability::LIST) {
        let text = format!("'{}' is no tree", source.url());
        return Err(Failure::new(text).with_hint("leave -r out to copy one device"));
    }
    let mut results = Results::default();
    let names = Names::list(host, &source, &mut results)?;
    let count = names.files.len() as u64;
    let interrupt = Interrupt::listen()?;
    let destination = destination(host, arguments)?;
    let identity = host.block_on(source.stat())?.identity;
    if identity.is_some() && host.block_on(destination.stat())?.identity == identity {
        return Err(Failure::new(format!("'{}' is the source itself", destination.url())));
    }
    let (stops, stop) = Stop::new();
    let trees = Arc::new(Trees {
        permits: Permits::new(arguments.flow.in_flight.unwrap_or(BLOCKS)),
        large: Permits::new(LARGE_FILES),
        progress: Progress::start("copying", names.bytes),
        host: host.clone(),
        arguments: arguments.clone(),
        source,
        destination,
        stop,
    });
    let copied = host.block_on(futures_lite::future::or(
        async {
            trees.clone().copy(names, &mut results).await;
            None
        },
        async { Some(interrupt.wait().await) },
    ));
    // The files that are under way end, and remove what they have not published.
    if let Some(signal) = copied {
        stops.stop(signal);
        host.block_on(results.finish());
    }
    trees.progress.finish();
    results.account(copied, count, trees.destination.url())
}

/// Opens the tree to write; makes a folder that does not exist.
fn destination(host: &Host, arguments: &Arguments) -> Result<Device, Failure> {
    let options = OpenOptions::new().read(true).write(true);
    let opened = match arguments.destination.open_with(host, options) {
        Err(error) if error.code() == Some(Code::NOT_FOUND) => match arguments.destination.as_folder() {
            Some(folder) => folder.open_with(host, options.create(true))?,
            None => return Err(error.into()),
        },
        opened => opened?,
    };
    if opened.capabilities().has(Capability::OPEN) {
        return Ok(opened);
    }
    Err(Failure::new(format!("'{}' is no tree, so that files cannot be copied into it", opened.url())))
}

/// The names of a tree.
#[derive(Default)]
struct Names {
    /// Each before the folders in it.
    folders: Vec<Vec<u8>>,
    files: Vec<Vec<u8>>,
    /// The sum of the sizes; `None` if one is unknown.
    bytes: Option<u64>,
}

impl Names {
    fn list(host: &Host, source: &Device, results: &mut Results) -> Result<Self, Failure> {
        let mut names = Self { bytes: Some(0), ..Self::default() };
        walk(host, source, b"", |path, step| {
            match step {
                Step::Closed(_, reason) => results.fail(path, &reason),
                Step::Entry(entry) if entry.is_folder() => names.folders.push(path.to_owned()),
                Step::Entry(entry) => match special(entry) {
                    Some(kind) => results.fail(path, &format!("it is a {kind}, and not a file")),
                    None => {
                        names.files.push(path.to_owned());
                        let sum = names.bytes.zip(entry.size());
                        names.bytes = sum.map(|(sum, size)| sum.saturating_add(size));
                    }
                },
            }
            Ok(())
        })?;
        match host.block_on(source.refused()) {
            Ok(hidden) => hidden.iter().for_each(|hidden| {
                results.fail(&hidden.name, &format!("it is hidden: {}", hidden.reason));
            }),
            Err(error) => results.fail(b".", &error.to_string()),
        }
        Ok(names)
    }
}

/// The kind of an entry that has no bytes of its own, such as a pipe.
fn special(entry: &Entry) -> Option<Kind> {
    let kinds = [Kind::PIPE, Kind::SOCKET, Kind::CHARACTER_DEVICE, Kind::BLOCK_DEVICE];
    entry.stat.kind.filter(|kind| kinds.contains(kind))
}

impl Trees {
    async fn copy(self: Arc<Self>, names: Names, results: &mut Results) {
        // Opening a pipe would wait for its reader, and a device would be written.
        let mut kept = HashSet::new();
        self.add_special(b"", &mut kept).await;
        let mut made = Vec::new();
        if self.destination.capabilities().has(Capability::CREATE_FOLDER) {
            for folder in &names.folders {
                match self.create_folder(folder).await {
                    Ok(true) => made.push(folder),
                    Ok(false) => self.add_special(folder, &mut kept).await,
                    Err(failure) => results.fail(folder, failure.message()),
                }
            }
        }
        for name in names.files {
            if kept.contains(&name) {
                results.fail(&name, "the name there is no file, but a pipe or a device");
                continue;
            }
            if results.under_way.len() == FILES {
                results.end_oldest().await;
            }
            let (trees, file) = (self.clone(), name.clone());
            let task = self.host.spawn(async move { trees.copy_file(&file).await });
            results.under_way.push_back(File { name, task });
        }
        results.finish().await;
        if self.arguments.flush {
            self.flush_folders(&made, results).await;
        }
    }

    /// Adds the names in a folder of the destination that must not be written.
    async fn add_special(&self, folder: &[u8], kept: &mut HashSet<Vec<u8>>) {
        // A folder that cannot be listed may take files.
        let entries = match self.destination.list(folder).await {
            Ok(entries) => entries,
            Err(error) if error.code() == Some(Code::NOT_FOUND) => return,
            Err(error) => {
                let name = Name::show(folder);
                return say(format_args!("pactio: {name}: {error}; pipes and devices there are not noticed"));
            }
        };
        for entry in entries {
            if special(&entry).is_some() {
                let slash: &[u8] = if folder.is_empty() { b"" } else { b"/" };
                kept.insert([folder, slash, &entry.name].concat());
            }
        }
    }

    /// Makes a folder; `false`, if there is one of the name.
    async fn create_folder(&self, name: &[u8]) -> Result<bool, Failure> {
        match self.destination.create_folder(name).await {
            Err(error) if error.code() == Some(Code::ALREADY_EXISTS) => {
                let there = self.destination.opening(name, OpenOptions::new().read(true)).await?;
                if there.capabilities().has(Capability::OPEN) { Ok(false) } else { Err(error.into()) }
            }
            made => Ok(made.map(|()| true)?),
        }
    }

    /// Makes the names of new folders durable; the name of a file is flushed with the file.
    async fn flush_folders(&self, made: &[&Vec<u8>], results: &mut Results) {
        let parent = |name: &[u8]| {
            let slash = name.iter().rposition(|byte| *byte == b'/');
            name[..slash.unwrap_or(0)].to_owned()
        };
        let parents: BTreeSet<Vec<u8>> = made.iter().map(|name| parent(name)).collect();
        for folder in parents {
            let flushed = async {
                match folder.is_empty() {
                    true => self.destination.flush().await,
                    false => {
                        let options = OpenOptions::new().read(true).write(true);
                        self.destination.opening(&folder, options).await?.flush().await
                    }
                }
            };
            if let Err(error) = flushed.await {
                let name: &[u8] = if folder.is_empty() { b"." } else { &folder };
                results.fail(name, &error.to_string());
            }
        }
    }

    async fn copy_file(&self, name: &[u8]) -> Result<u64, Failure> {
        if let Some(signal) = self.stop.signal() {
            return Err(Failure::interrupted(signal, "").harmless(true));
        }
        let opened = async {
            let device = self.source.opening(name, OpenOptions::new().read(true)).await?;
            let source = Source::of(device, Range { offset: 0, length: None }).await?;
            let is_large = source.total.is_none_or(|total| total >= LARGE);
            let permit: Option<Permit> = if is_large { Some(self.large.acquire().await) } else { None };
            Ok((source, permit))
        };
        let stopped =
            async { Err(Failure::interrupted(self.stop.wait().await, "nothing was copied").harmless(true)) };
        let (source, _permit) = futures_lite::future::or(opened, stopped).await?;
        let place = Place::Name(&self.destination, name);
        let (permits, signal) = (self.permits.clone(), self.stop.wait());
        transfer(&self.host, &self.arguments, &source, place, permits, &self.progress, signal).await
    }
}

/// A file that is being copied. The result is the number of its bytes.
struct File {
    name: Vec<u8>,
    task: Task<Result<u64, Failure>>,
}

/// The copies that are under way, and the results of the others.
#[derive(Default)]
struct Results {
    under_way: VecDeque<File>,
    files: u64,
    bytes: u64,
    failed: u64,
}

impl Results {
    /// Reports a failure that concerns one name.
    fn fail(&mut self, name: &[u8], failure: &str) {
        self.failed += 1;
        say(format_args!("pactio: {}: {failure}", Name::show(name)));
    }

    async fn end_oldest(&mut self) {
        // The name stays while its copy is awaited, so that a signal loses neither.
        let Some(File { task, .. }) = self.under_way.front_mut() else { return };
        let result = task.await;
        let Some(File { name, .. }) = self.under_way.pop_front() else { return };
        match result {
            Ok(bytes) => (self.files, self.bytes) = (self.files + 1, self.bytes + bytes),
            Err(failure) if failure.is_harmless_interruption() => {}
            Err(failure) => self.fail(&name, failure.message()),
        }
    }

    async fn finish(&mut self) {
        while !self.under_way.is_empty() {
            self.end_oldest().await;
        }
    }

    fn account(&self, signal: Option<i32>, count: u64, url: &str) -> Result<(), Failure> {
        let Self { files, bytes, failed, .. } = self;
        let done = format!("{files} of {count} files, {bytes} bytes, were copied to '{url}'");
        let names = if *failed == 1 { "1 name failed".to_owned() } else { format!("{failed} names failed") };
        match (signal, failed) {
            (Some(signal), 0) => Err(Failure::interrupted(signal, &done)),
            (Some(signal), _) => Err(Failure::interrupted(signal, &format!("{done}; {names}"))),
            (None, 0) => Ok(()),
            (None, _) => Err(Failure::new(format!("{names}; {done}"))),
        }
    }
}

/// Tells all copies of a signal.
struct Stop {
    /// Ends with its sender.
    told: Receiver<()>,
    signal: Arc<AtomicI32>,
}

/// The other side of a [`Stop`].
struct Stops(Sender<()>, Arc<AtomicI32>);

impl Stop {
    fn new() -> (Stops, Self) {
        let (sender, told) = async_channel::bounded(1);
        let signal = Arc::new(AtomicI32::new(0));
        (Stops(sender, signal.clone()), Self { told, signal })
    }

    fn signal(&self) -> Option<i32> {
        // Ordering: Acquire, with the Release of `stop`.
        Some(self.signal.load(Ordering::Acquire)).filter(|&signal| signal != 0)
    }

    /// Waits for the signal.
    async fn wait(&self) -> i32 {
        let _ = self.told.recv().await;
        match self.signal() {
            Some(signal) => signal,
            // The copy has ended without a signal.
            None => std::future::pending().await,
        }
    }
}

impl Stops {
    fn stop(self, signal: i32) {
        // Ordering: Release, with the Acquire of `signal`.
        self.1.store(signal, Ordering::Release);
        self.0.close();
    }
}
