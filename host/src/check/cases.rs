//! The cases of the suite.

use std::collections::HashSet;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use futures_lite::AsyncWriteExt;
use futures_lite::future::{block_on, poll_once};
use pactio_sdk::{
    Capability, Code, ComplexPacket, IoError, IoExchange, Name, PacketBox, PacketBytes, PacketIo, Read,
    Seekable, VectoredIo, Write, ZeroMode,
};

use super::changes::changes;
use super::subject::{Finding, Subject, answered, open, same, unexpected, wait, wrong};
use crate::{Device, ErrorKind, OpenOptions, Url};

/// One case of the suite.
#[derive(Debug)]
pub struct Case {
    name: &'static str,
    about: &'static str,
    run: fn(&Subject) -> Result<(), Finding>,
}

impl Case {
    /// The name of the case, one word.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The property that is checked.
    pub fn about(&self) -> &'static str {
        self.about
    }

    /// Runs the case in this process.
    ///
    /// # Errors
    ///
    /// The mistake, or the reason why the case does not apply.
    pub fn run(&self, subject: &Subject) -> Result<(), Finding> {
        (self.run)(subject)
    }
}

/// The name of the case that all others depend on.
pub(super) const OPENS: &str = "opens";

/// All cases.
pub const CASES: &[Case] = &[
    Case { name: OPENS, about: "a device can be opened, and filled or read", run: |_| Ok(()) },
    Case { name: "contents", about: "written bytes are read back, in any order and size", run: contents },
    Case { name: "edges", about: "bytes past the end fail as such, and no others do", run: edges },
    Case {
        name: "splits",
        about: "a request in two parts is the same request, wherever it is split",
        run: splits,
    },
    Case {
        name: "memory",
        about: "memory of any alignment does, and memory that is not there at once",
        run: memory,
    },
    Case { name: "many", about: "many requests at once are answered, each with its own bytes", run: many },
    Case { name: "threads", about: "any number of threads may use a device at once", run: threads },
    Case {
        name: "cancel",
        about: "a cancelled request ends soon, and reports the bytes that were done",
        run: cancel,
    },
    Case { name: "drops", about: "requests, devices and hosts may be dropped in any order", run: drops },
    Case { name: "honest", about: "each declared ability works, and others fail", run: honest },
    Case { name: "names", about: "listed names can be opened, and no others", run: names },
    Case {
        name: "changes",
        about: "each declared change of names works, holds its conditions, and touches no other name",
        run: changes,
    },
    Case {
        name: "faults",
        about: "a filter answers every request when the device below fails, and reports only bytes that were done",
        run: faults,
    },
    Case {
        name: "paths",
        about: "every way to read and write reaches the same bytes: exchange, batches, vectored, regions, stat",
        run: paths,
    },
    Case {
        name: "writers",
        about: "the bytes of a writer that ends without an error are there, and nothing is seen of them before",
        run: writers,
    },
    Case {
        name: "again",
        about: "a device can be opened again and again, and nothing is left of it",
        run: again,
    },
];

fn contents(subject: &Subject) -> Result<(), Finding> {
    subject.needs_bytes()?;
    for _ in 0..200 {
        if subject.writable && subject.below(2) == 0 {
            let range = subject.range_to_write();
            let mut bytes = vec![0; range.len()];
            bytes.iter_mut().for_each(|byte| *byte = subject.below(256) as u8);
            subject.write(range.start, &bytes)?;
            subject.model.borrow_mut()[range].copy_from_slice(&bytes);
        } else {
            subject.read(subject.range())?;
        }
    }
    subject.read_all()
}

fn edges(subject: &Subject) -> Result<(), Finding> {
    subject.needs_bytes()?;
    let end = subject.model.borrow().len() as u64;
    if subject.whole {
        for (before, len) in [(0, 1), (0, 4096), (1, 1), (1, 2), (1, 4096), (17, 18), (end, end as usize + 1)]
        {
            let position = end.saturating_sub(before);
            let exists = (end - position).min(len as u64) as usize;
            let (report, bytes) = subject.read_at(position, vec![0xA5; len])?;
            if (report.done(), report.error_clamp()) != (exists, exists) {
                wrong!("of a read of {len} bytes at {position}, the first {exists} exist, but: {report}");
            }
            past_the_end(&report)?;
            same(
                &bytes[..exists],
                &subject.model.borrow()[position as usize..][..exists],
                position as usize,
            )?;
        }
    }
    if subject.whole && subject.writable {
        write_over_the_end(subject)?;
    }
    for position in [u64::MAX, u64::MAX - 1, u64::MAX / 2, i64::MAX as u64 + 1, i64::MAX as u64] {
        if position < end {
            continue;
        }
        let (report, _) = subject.read_at(position, vec![0; 1])?;
        if subject.device.size().is_some() && report.done() > 0 {
            wrong!("a byte at {position} was read of a device with {:?} bytes", subject.device.size());
        }
    }
    let (report, _) = subject.read_at(0, Vec::new())?;
    if !report.is_done() {
        wrong!("a read of nothing was not done: {report}");
    }
    subject.read_all()
}

/// Writes one unit before the end and one unit behind the end: the first is done, and the second, too, if the device grows.
fn write_over_the_end(subject: &Subject) -> Result<(), Finding> {
    let (unit, end) = (subject.unit(), subject.model.borrow().len());
    let Some(start) = end.checked_sub(unit) else { return Ok(()) };
    let bytes: Vec<u8> = (0..2 * unit).map(|_| subject.below(256) as u8).collect();
    let what = format!("a write of {} bytes at {start}, of which {unit} exist", bytes.len());
    let written = subject.wait(&what, subject.device.write_at(start as u64, bytes.clone()))?;
    let (report, _) = written.map_err(unexpected)?;
    answered(&what, &report)?;
    let done = report.done();
    if report.error_clamp() != done || (done != unit && done != 2 * unit) {
        wrong!("{what}: {report}");
    }
    let size = subject.device.size();
    if size != Some((start + done) as u64) {
        let size = size.map_or("unknown".to_owned(), |size| size.to_string());
        wrong!("after {what}, {done} were done, but the size is {size}");
    }
    let mut model = subject.model.borrow_mut();
    model.truncate(start);
    model.extend_from_slice(&bytes[..done]);
    drop(model);
    subject.read_all()
}

/// Checks that all failed ranges failed as past the end.
fn past_the_end(report: &crate::Report) -> Result<(), Finding> {
    match report.failed_ranges().find(|(_, error)| error.code() != Code::END) {
        None => Ok(()),
        Some((range, error)) => {
            wrong!(
                "the bytes {range:?} of a read lie past the end, but fail with '{error}' ({:?})",
                error.code()
            )
        }
    }
}

fn splits(subject: &Subject) -> Result<(), Finding> {
    subject.needs_bytes()?;
    let len = subject.model.borrow().len().min(70);
    let start = subject.below(subject.model.borrow().len() - len + 1);
    for at in 0..=len {
        let packet = PacketBox::<Write>::new_buf(len).and_then(|mut packet| Ok((packet.bind()?, packet)));
        let (view, mut packet) = packet.map_err(no_memory)?;
        let (front, back) = view.split_at(at);
        // The back goes first, since no order is prescribed.
        subject.device.send_io((start + at) as u64, back);
        subject.device.send_io(start as u64, front);
        let what = format!("a read of {len} bytes at {start} that was split after {at}");
        subject.wait(&what, &mut packet)?;
        answered(&what, &packet.report())?;
        match packet.simple_slice() {
            Ok(bytes) => same(bytes, &subject.model.borrow()[start..][..len], start)?,
            Err(error) => wrong!("{what} was not done: {error}"),
        }
    }
    if subject.writable && subject.unit() == 1 {
        for at in 0..=len {
            let bytes: Vec<u8> = (0..len).map(|_| subject.below(256) as u8).collect();
            let packet = PacketBox::<Read>::copy_from_slice(&bytes)
                .and_then(|mut packet| Ok((packet.bind()?, packet)));
            let (view, mut packet) = packet.map_err(no_memory)?;
            let (front, back) = view.split_at(at);
            subject.device.send_io((start + at) as u64, back);
            subject.device.send_io(start as u64, front);
            let what = format!("a write of {len} bytes at {start} that was split after {at}");
            subject.wait(&what, &mut packet)?;
            if !packet.report().is_done() {
                wrong!("{what} was not done: {}", packet.report());
            }
            subject.model.borrow_mut()[start..][..len].copy_from_slice(&bytes);
            subject.read(start..start + len)?;
        }
    }
    subject.read_all()
}

fn no_memory(error: IoError) -> Finding {
    Finding::Wrong(format!("a request cannot be made: {error}"))
}

fn memory(subject: &Subject) -> Result<(), Finding> {
    subject.needs_bytes()?;
    for shift in 0..9 {
        let len = subject.model.borrow().len().min(200);
        let mut room = vec![0xA5; len + shift + 8];
        let read = subject.device.blocking_read_at(0, &mut room[shift..shift + len]).map_err(unexpected)?;
        answered("a blocking read", &read)?;
        same(&room[shift..shift + len], &subject.model.borrow()[..len], 0)?;
        if room[..shift].iter().chain(&room[shift + len..]).any(|byte| *byte != 0xA5) {
            wrong!("a read wrote beside the memory that it was given");
        }
    }
    // A packet without memory: a function takes the bytes that the device gives.
    let range = subject.range();
    let len = range.len();
    let collected = Arc::new(Mutex::new(vec![0; len]));
    let packet = ComplexPacket::<_, Write>::new(Scattered(collected.clone()));
    let mut packet = packet.map_err(no_memory)?;
    let view = packet.bind().map_err(no_memory)?;
    subject.device.send_io(range.start as u64, view);
    let what = format!("a read of {range:?} into memory that is nowhere");
    subject.wait(&what, &mut packet)?;
    let report = packet.report();
    answered(&what, &report)?;
    if !report.is_done() {
        wrong!("{what} was not done: {report}");
    }
    let bytes = collected.lock().unwrap_or_else(PoisonError::into_inner);
    same(&bytes, &subject.model.borrow()[range.clone()], range.start)
}

/// Memory that bytes reach only through `transfer`, piece by piece.
struct Scattered(Arc<Mutex<Vec<u8>>>);

impl PacketBytes<Write> for Scattered {
    fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn transfer(&self, offset: usize, data: &[u8]) -> Result<(), IoError> {
        let mut bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bytes[offset..offset + data.len()].copy_from_slice(data);
        Ok(())
    }
}

fn many(subject: &Subject) -> Result<(), Finding> {
    subject.needs_bytes()?;
    for count in [1, 16, 300] {
        let ranges: Vec<_> = (0..count).map(|_| subject.range()).collect();
        let mut requests: Vec<_> = ranges
            .iter()
            .map(|range| (subject.device.read_at(range.start as u64, vec![0; range.len()]), None))
            .collect();
        // All requests are in one task, so that they are handed over together.
        let all = poll_fn(|cx| {
            for (request, result) in requests.iter_mut().filter(|(_, result)| result.is_none()) {
                if let Poll::Ready(ready) = Pin::new(request).poll(cx) {
                    *result = Some(ready);
                }
            }
            if requests.iter().all(|(_, result)| result.is_some()) { Poll::Ready(()) } else { Poll::Pending }
        });
        subject.wait(&format!("{count} reads at once: one or more of them"), all)?;
        for (range, (_, result)) in ranges.into_iter().zip(requests) {
            let what = format!("a read of {range:?}, one of {count} at once");
            let Some(result) = result else { continue };
            let (report, bytes) = result.map_err(unexpected)?;
            answered(&what, &report)?;
            if !report.is_done() {
                wrong!("{what} was not done: {report}");
            }
            same(&bytes, &subject.model.borrow()[range.clone()], range.start)?;
        }
    }
    Ok(())
}

fn threads(subject: &Subject) -> Result<(), Finding> {
    subject.needs_bytes()?;
    let model = subject.model.borrow().clone();
    let (host, device) = (&subject.host, &subject.device);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|_| {
                let ranges: Vec<_> = (0..50).map(|_| subject.range()).collect();
                let model = &model;
                scope.spawn(move || {
                    for range in ranges {
                        let what = format!("a read of {range:?} on one of four threads");
                        let read = device.read_at(range.start as u64, vec![0; range.len()]);
                        let (report, bytes) = wait(host, &what, read)?.map_err(unexpected)?;
                        answered(&what, &report)?;
                        if !report.is_done() {
                            wrong!("{what} was not done: {report}");
                        }
                        same(&bytes, &model[range.clone()], range.start)?;
                    }
                    Ok(())
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| match worker.join() {
            Ok(result) => result,
            Err(_) => wrong!("a thread panicked"),
        })
    })
}

fn cancel(subject: &Subject) -> Result<(), Finding> {
    subject.needs_bytes()?;
    for _ in 0..30 {
        let range = subject.range();
        let mut request = subject.device.read_at(range.start as u64, vec![0; range.len()]);
        if let Some(result) = block_on(poll_once(&mut request)) {
            let (report, _) = result.map_err(unexpected)?;
            answered("a read", &report)?;
            continue;
        }
        let what = format!("a read of {range:?} that was given up");
        let (report, bytes) = subject.wait(&what, request.cancel())?.map_err(unexpected)?;
        answered(&what, &report).or_else(|finding| match report.min_error() {
            // The request was given up before it was sent.
            Some((_, error)) if error.code() == Code::NOT_SUBMITTED => Ok(()),
            _ => Err(finding),
        })?;
        for done in report.done_ranges() {
            let start = range.start + done.start;
            same(&bytes[done.clone()], &subject.model.borrow()[start..][..done.len()], start)?;
        }
    }
    cancel_below(subject)?;
    // Other requests are not affected.
    subject.read_all()
}

/// Cancels reads through the filter. The device below the filter answers after 30 s, but can cancel.
fn cancel_below(subject: &Subject) -> Result<(), Finding> {
    let url: Url = subject.url.parse().map_err(unexpected)?;
    let slow = Url::filter(super::slow::SCHEME).map_err(unexpected)?;
    let Some(url) = url.below_last_filter(slow, super::window::SCHEME) else { return Ok(()) };
    // A filter may refuse the device below.
    let Ok(device) = subject.host.open(&url.reveal()) else { return Ok(()) };
    let _holding = super::slow::Holding::begin();
    for _ in 0..5 {
        let range = subject.range();
        let what = format!("a read of {range:?} that was cancelled, on a device that can cancel,");
        let mut request = device.read_at(range.start as u64, vec![0; range.len()]);
        for _ in 0..10 {
            if block_on(poll_once(&mut request)).is_some() {
                return Ok(());
            }
            // The filter may send the request on later.
            thread::sleep(Duration::from_millis(2));
        }
        let (report, _) = subject.wait(&what, request.cancel())?.map_err(unexpected)?;
        answered(&what, &report)?;
    }
    Ok(())
}

fn drops(subject: &Subject) -> Result<(), Finding> {
    subject.needs_bytes()?;
    for order in 0..4 {
        let device = subject.open()?;
        let mut packets = Vec::new();
        for _ in 0..20 {
            let range = subject.range();
            let packet =
                PacketBox::<Write>::new_buf(range.len()).and_then(|mut packet| Ok((packet.bind()?, packet)));
            let (view, packet) = packet.map_err(no_memory)?;
            device.send_io(range.start as u64, view);
            packets.push((range, packet));
        }
        match order {
            // Drops all requests before the device, half of them, or none.
            0 => packets.clear(),
            1 => packets.truncate(10),
            _ => {}
        }
        drop(device);
        for (range, mut packet) in packets {
            let what = format!("a read of {range:?} whose device was closed");
            subject.wait(&what, &mut packet)?;
            // The read may have been done, or not; the bytes that were done are right.
            for done in packet.report().done_ranges() {
                let start = range.start + done.start;
                let bytes = packet.done_slice(done.clone()).map_err(no_memory)?;
                if !subject.writable {
                    same(bytes, &subject.model.borrow()[start..][..done.len()], start)?;
                }
            }
        }
    }
    Ok(())
}

fn honest(subject: &Subject) -> Result<(), Finding> {
    let device = &subject.device;
    let (info, can) = (device.info(), device.capabilities());
    let ask = |what: &str, result: Result<Result<(), crate::Error>, Finding>| match result? {
        Ok(()) => Ok(()),
        Err(error) => wrong!("it says that it can {what}, but: {error}"),
    };
    if !info.readable() {
        let (report, _) = subject.read_at(0, vec![0; 16])?;
        if report.done() > 0 {
            wrong!("it says that it cannot be read, but gave {} bytes", report.done());
        }
    }
    if !info.writable() {
        let written =
            device.write_at(0, vec![!subject.model.borrow().first().copied().unwrap_or(0); subject.unit()]);
        let (report, _) = subject.wait("a write", written)?.map_err(unexpected)?;
        answered("a write", &report)?;
        if report.done() > 0 {
            wrong!("it says that it cannot be written, but took {} bytes", report.done());
        }
    }
    if can.has(Capability::FLUSH) {
        ask("flush", subject.wait("a flush", device.flush()))?;
        ask("flush", subject.wait("a flush", device.flush_data()))?;
    }
    if can.has(Capability::LIST) {
        ask("list names", subject.wait("a listing", async { device.list("").await.map(drop) }))?;
        if subject.wait("a listing", device.list("\u{1}/no/such/folder"))?.is_ok() {
            wrong!("it lists a folder that cannot exist");
        }
    }
    if can.has(Capability::STATISTICS) {
        ask("give statistics", subject.wait("statistics", async { device.statistics().await.map(drop) }))?;
    }
    if can.has(Capability::MAP) {
        let regions = match subject.wait("its regions", device.regions())? {
            Ok(regions) => regions,
            Err(error) => wrong!("it says that it knows its regions, but: {error}"),
        };
        if let Some(pair) = regions.windows(2).find(|pair| pair[0].range.end > pair[1].range.start) {
            wrong!("its regions are not in order: {:?} is before {:?}", pair[0].range, pair[1].range);
        }
        if let Some(empty) = regions.iter().find(|region| region.range.is_empty()) {
            wrong!("it has an empty region, {:?}", empty.range);
        }
        if let (Some(size), Some(last)) = (device.size(), regions.last())
            && last.range.end > size
        {
            wrong!("its last region {:?} ends behind its size of {size}", last.range);
        }
    }
    if can.has(Capability::ZERO) && subject.writable && subject.whole {
        let (unit, len) = (subject.unit(), subject.model.borrow().len());
        for mode in [ZeroMode::Keep, ZeroMode::Release] {
            for (start, end) in [(unit, 3 * unit), (0, unit), (len / 2 / unit * unit, len)] {
                let range = start.min(len)..end.min(len);
                let zeroed = device.zero_fast(range.start as u64..range.end as u64, mode);
                match subject.wait("a range of zeros", zeroed)? {
                    // It is faster at other ranges, or not here.
                    Err(error) if error.code() == Some(Code::UNSUPPORTED) => continue,
                    zeroed => ask("make ranges zero", Ok(zeroed))?,
                }
                subject.model.borrow_mut()[range].fill(0);
                subject.read_all()?;
            }
            let beyond = device.zero_fast(len as u64..len as u64 + 1, mode);
            if device.size().is_some() && subject.wait("a range of zeros", beyond)?.is_ok() {
                wrong!("it says that it made a byte past its end zero");
            }
        }
    }
    // Otherwise the bytes behind the model are unknown.
    if can.has(Capability::RESIZE) && subject.writable && subject.whole {
        let unit = subject.unit() as u64;
        let before = subject.model.borrow().len() as u64;
        for size in [before + 3 * unit, before / 2 / unit * unit, 0, before] {
            ask("be resized", subject.wait("a resize", device.resize(size)))?;
            if device.size() != Some(size) {
                wrong!("it was made {size} bytes long, but says {:?}", device.size());
            }
            subject.model.borrow_mut().resize(size as usize, 0);
            subject.read_all()?;
        }
    }
    subject.read_all()
}

fn names(subject: &Subject) -> Result<(), Finding> {
    let mut trees = 0;
    let given = subject.tree.as_ref().map(|url| subject.host.open(url)).transpose().map_err(unexpected)?;
    let mut layer = Some(given.as_ref().unwrap_or(&subject.device));
    while let Some(device) = layer {
        let can = device.capabilities();
        if can.has(Capability::OPEN) && can.has(Capability::LIST) {
            trees += 1;
            names_of(subject, device, b"", 3)?;
            for name in ["\u{1}no such name", "..", "../x", "", "a//b", "/"] {
                if let Ok(opened) = device.open(name) {
                    wrong!("it opens {name:?}, which cannot be in it, as '{}'", opened.url());
                }
            }
        }
        layer = device.below();
    }
    if trees == 0 {
        return Err(Finding::DoesNotApply("it is no tree, nor in one".to_owned()));
    }
    Ok(())
}

/// Opens all names in a folder, and in the folders in it, up to a depth.
fn names_of(subject: &Subject, tree: &Device, folder: &[u8], depth: u32) -> Result<(), Finding> {
    let listed = subject.wait("a listing", tree.list(folder))?;
    let entries = match listed {
        Ok(entries) => entries,
        Err(error) => wrong!("it has the folder '{}', but: {error}", Name::show(folder)),
    };
    let shown_folder = Name::show(folder);
    let mut seen = HashSet::new();
    for entry in &entries {
        if entry.name.contains(&b'/') || matches!(entry.name.as_bytes(), b"" | b"." | b"..") {
            wrong!("'{shown_folder}' has {:?}, which is no name", entry.name);
        }
        if !seen.insert(&entry.name) {
            wrong!("'{shown_folder}' has '{}' twice", entry.name);
        }
        let name = match folder {
            b"" => entry.name.to_vec(),
            folder => [folder, b"/", &entry.name].concat(),
        };
        let shown = Name::show(&name);
        if entry.is_folder() {
            if depth > 0 {
                names_of(subject, tree, &name, depth - 1)?;
            }
            continue;
        }
        let device = match tree.open(&name) {
            Ok(device) => device,
            Err(error) => wrong!("it lists '{shown}', but: {error}"),
        };
        if let (Some(listed), Some(size)) = (entry.size(), device.size())
            && listed != size
        {
            wrong!("it lists '{shown}' with {listed} bytes; opened, it has {size}");
        }
        let len = entry.size().unwrap_or(0).min(128 << 10) as usize;
        let read = subject.wait("a read", device.read_at(0, vec![0; len.max(1)]))?.map_err(unexpected)?;
        if read.0.done() < len {
            wrong!("of '{shown}', which has {len} bytes, {} can be read: {}", read.0.done(), read.0);
        }
    }
    Ok(())
}

/// Opens the filter over a device that fails now and then, and compares every answer with a model of each byte.
fn faults(subject: &Subject) -> Result<(), Finding> {
    let does_not_apply = |why: &str| Err(Finding::DoesNotApply(why.to_owned()));
    let url: Url = subject.url.parse().map_err(unexpected)?;
    let fault = Url::filter("fault").map_err(unexpected)?;
    let fault = fault.with_option("read", "20").with_option("write", "20").with_option("error", "io");
    let fault = fault.with_option("seed", &subject.below(1 << 30).to_string());
    let Some(url) = url.below_last_filter(fault, super::window::SCHEME) else {
        return does_not_apply("it is no filter");
    };
    if subject.host.plugin_with_scheme("fault").is_err() {
        return does_not_apply("the plugin 'fault' was not found");
    }
    let Ok((device, writable)) = open(&subject.host, &url.reveal()) else {
        return does_not_apply("it cannot be opened on a device that fails now and then");
    };
    let writable = writable && subject.writable;
    let unit = subject.unit();
    let len = subject.model.borrow().len();
    let len = len - len % unit;
    if len == 0 || device.info().is_stream() {
        return does_not_apply("it is empty, or a stream");
    }
    // The content of a byte is unknown until it was read or written, and after a write of it failed.
    let mut model: Vec<Option<u8>> = vec![None; len];
    for _ in 0..200 {
        let start = subject.below(len / unit) * unit;
        let range = start..start + (1 + subject.below(((len - start) / unit).min(20))) * unit;
        let what = format!("{range:?} on a device that fails now and then");
        if writable && subject.writable && subject.below(2) == 0 {
            let what = format!("a write of {what}");
            let bytes: Vec<u8> = range.clone().map(|_| subject.below(256) as u8).collect();
            let written = subject.wait(&what, device.write_at(start as u64, bytes.clone()))?;
            let (report, _) = written.map_err(unexpected)?;
            answered(&what, &report)?;
            for (part, result) in report.ranges() {
                for index in part {
                    model[start + index] = result.is_ok().then(|| bytes[index]);
                }
            }
        } else {
            let what = format!("a read of {what}");
            let read = subject.wait(&what, device.read_at(start as u64, vec![0; range.len()]))?;
            let (report, bytes) = read.map_err(unexpected)?;
            answered(&what, &report)?;
            for index in report.done_ranges().flatten() {
                let known = model[start + index].get_or_insert(bytes[index]);
                if *known != bytes[index] {
                    wrong!("{what}: byte {} is {}, but should be {known}", start + index, bytes[index]);
                }
            }
        }
    }
    Ok(())
}

/// Reads and writes in every way that the device has, and compares each result with the model.
fn paths(subject: &Subject) -> Result<(), Finding> {
    subject.needs_bytes()?;
    let device = &subject.device;
    for count in [1, 7, 100] {
        let ranges: Vec<_> = (0..count).map(|_| subject.range()).collect();
        let pairs = ranges.iter().map(|range| (range.start as u64, vec![0; range.len()]));
        let what = format!("a vectored read of {ranges:?}");
        let read =
            subject.wait(&what, VectoredIo::<Write, u64>::vectored(device, pairs.collect::<Vec<_>>()))?;
        let (report, buffers) = read.map_err(no_memory)?;
        answered(&what, &report)?;
        if !report.is_done() {
            wrong!("{what} was not done: {report}");
        }
        for (range, bytes) in ranges.into_iter().zip(buffers) {
            same(&bytes, &subject.model.borrow()[range.clone()], range.start)
                .map_err(|wrong| of(&what, wrong))?;
        }
    }
    if subject.writable {
        write_together(subject)?;
        exchange(subject)?;
    }
    at_hand(subject)?;
    if let Some(stat) = subject.wait("a stat", device.stat())?.map_err(unexpected)?.size
        && let Some(size) = device.size()
        && stat != size
    {
        wrong!("its stat says {stat} bytes, its info {size}");
    }
    outside_of_regions(subject)
}

/// Reads bytes that the device has at hand, if it has any.
fn at_hand(subject: &Subject) -> Result<(), Finding> {
    for _ in 0..100 {
        let range = subject.range();
        if let Some(bytes) = subject.device.bytes_at_hand(range.start as u64, range.len()) {
            same(&bytes, &subject.model.borrow()[range.clone()], range.start)
                .map_err(|wrong| of(&format!("a read of {range:?} at once"), wrong))?;
        }
    }
    let len = subject.model.borrow().len() as u64;
    for position in [len - 1, len, u64::MAX - 1] {
        if subject.whole && subject.device.bytes_at_hand(position, 2).is_some() {
            wrong!("it says that it read bytes past its end at once, at {position}");
        }
    }
    Ok(())
}

/// Adds the path on which a mistake was found.
fn of(what: &str, finding: Finding) -> Finding {
    match finding {
        Finding::Wrong(wrong) => Finding::Wrong(format!("{what}: {wrong}")),
        other => other,
    }
}

/// Writes to several ranges in one call.
fn write_together(subject: &Subject) -> Result<(), Finding> {
    let unit = subject.unit();
    let units = subject.model.borrow().len() / unit;
    let pairs: Vec<(u64, Vec<u8>)> = (0..units.min(20))
        .map(|index| {
            let bytes = (0..unit).map(|_| subject.below(256) as u8).collect();
            ((index * unit * (units / units.min(20))) as u64, bytes)
        })
        .collect();
    let what = format!("a vectored write of {} parts", pairs.len());
    for (position, bytes) in &pairs {
        subject.model.borrow_mut()[*position as usize..][..unit].copy_from_slice(bytes);
    }
    let written = subject.wait(&what, VectoredIo::<Read, u64>::vectored(&subject.device, pairs))?;
    let (report, _) = written.map_err(no_memory)?;
    answered(&what, &report)?;
    if !report.is_done() {
        wrong!("{what} was not done: {report}");
    }
    subject.read_all().map_err(|finding| of(&format!("after {what}"), finding))
}

/// Exchanges a range, unless the device cannot.
fn exchange(subject: &Subject) -> Result<(), Finding> {
    let range = subject.range_to_write();
    let bytes: Vec<u8> = (0..range.len()).map(|_| subject.below(256) as u8).collect();
    let what = format!("an exchange of {range:?}");
    let exchanged = subject.wait(&what, subject.device.exchange_raw(range.start as u64, bytes.clone()))?;
    let (report, old) = exchanged.map_err(no_memory)?;
    answered(&what, &report)?;
    if report.done() == 0 {
        return Ok(());
    }
    for done in report.done_ranges() {
        let mut model = subject.model.borrow_mut();
        let place = &mut model[range.start + done.start..range.start + done.end];
        same(&old[done.clone()], place, range.start + done.start).map_err(|finding| of(&what, finding))?;
        place.copy_from_slice(&bytes[done]);
    }
    subject.read_all().map_err(|finding| of(&format!("after {what}"), finding))
}

/// Checks that bytes in no region cannot be read or are zero.
fn outside_of_regions(subject: &Subject) -> Result<(), Finding> {
    let device = &subject.device;
    if !device.capabilities().has(Capability::MAP) {
        return Ok(());
    }
    let regions = subject.wait("its regions", device.regions())?.map_err(unexpected)?;
    let model = subject.model.borrow();
    let mut at = 0;
    for next in regions.iter().map(|region| &region.range).chain([&(u64::MAX..u64::MAX)]) {
        let gap = at..usize::try_from(next.start).unwrap_or(usize::MAX).min(model.len());
        if let Some(index) = gap.into_iter().find(|index| model[*index] != 0) {
            wrong!("byte {index} is {}, but lies in none of its regions", model[index]);
        }
        at = at.max(usize::try_from(next.end).unwrap_or(usize::MAX));
    }
    Ok(())
}

/// Writes through files of `std::io` and `futures::io`.
fn writers(subject: &Subject) -> Result<(), Finding> {
    if subject.only_read {
        return Err(Finding::DoesNotApply("it is only read".to_owned()));
    }
    let device = match subject.host.open_with(&subject.url, OpenOptions::new().replace(true)) {
        Ok(device) => device,
        Err(error) => match error.kind() {
            ErrorKind::Open(
                Code::READ_ONLY | Code::PERMISSION_DENIED | Code::UNSUPPORTED | Code::INVALID_INPUT,
            ) => return Err(Finding::DoesNotApply("it cannot be opened to be written".to_owned())),
            _ => return Err(unexpected(error)),
        },
    };
    if device.capabilities().has(Capability::PUBLISH) {
        return published(subject, device);
    }
    if !subject.writable || subject.model.borrow().is_empty() {
        return Err(Finding::DoesNotApply("it cannot be written".to_owned()));
    }
    drop(device);
    let fill = || {
        let mut model = subject.model.borrow_mut();
        let len = model.len() - model.len() % subject.unit();
        model[..len].iter_mut().for_each(|byte| *byte = subject.below(256) as u8);
        model[..len].to_vec()
    };
    let mut file = Seekable::new(subject.device.clone());
    let ended = std::io::Write::write_all(&mut file, &fill())
        .and_then(|()| std::io::Write::flush(&mut file))
        .and_then(|()| file.finish().map(drop));
    ended.map_err(|error| Finding::Wrong(format!("a file of std::io: {error}")))?;
    subject.read_all()?;
    let bytes = fill();
    close(subject, &mut Seekable::new(subject.device.clone()), &bytes)?;
    subject.read_all()
}

/// Writes through a file of `futures::io`, and closes it.
fn close(subject: &Subject, file: &mut Seekable<Device>, bytes: &[u8]) -> Result<(), Finding> {
    let ended = subject.wait("a file of futures::io", async {
        file.write_all(bytes).await?;
        file.flush().await?;
        file.close().await
    })?;
    ended.map_err(|error| Finding::Wrong(format!("a file of futures::io: {error}")))
}

/// Replaces the content of a device that publishes.
fn published(subject: &Subject, device: Device) -> Result<(), Finding> {
    let unit = subject.unit();
    let random = |units: usize| (0..units * unit).map(|_| subject.below(256) as u8).collect::<Vec<_>>();
    let expect = |when: &str, expected: &[u8]| -> Result<(), Finding> {
        let device = subject.host.open(&subject.url).map_err(unexpected)?;
        let read = subject.wait("a read", device.read_at(0, vec![0; expected.len()]))?.map_err(unexpected)?;
        answered("a read", &read.0)?;
        if !read.0.is_done() {
            wrong!("{when}: {}", read.0);
        }
        same(&read.1, expected, 0).map_err(|finding| of(when, finding))
    };
    let before = subject.model.borrow().clone();
    // Not published: nothing is seen.
    let mut file = Seekable::new(device);
    std::io::Write::write_all(&mut file, &random(3)).map_err(|error| Finding::Wrong(error.to_string()))?;
    if std::io::Write::flush(&mut file).is_ok() {
        wrong!("a file of std::io was flushed, although nothing is seen before it is published");
    }
    expect("before it was published", &before)?;
    drop(file);
    expect("after it was closed without being published", &before)?;
    // Published by `finish` and by `close`.
    let open = || subject.host.open_with(&subject.url, OpenOptions::new().replace(true)).map_err(unexpected);
    let bytes = random(1000);
    let mut file = Seekable::new(open()?);
    let ended = std::io::Write::write_all(&mut file, &bytes).and_then(|()| file.finish());
    let device = ended.map_err(|error| Finding::Wrong(format!("a file of std::io: {error}")))?;
    expect("after a file of std::io was finished", &bytes)?;
    let written = subject.wait("a write", device.write_at(0, random(1)))?.map_err(unexpected)?;
    if written.0.done() > 0 {
        wrong!("it took a write after it was published");
    }
    if let Err(error) = subject.wait("a second publish", device.publish())? {
        wrong!("it was published twice: {error}");
    }
    let bytes = random(700);
    close(subject, &mut Seekable::new(open()?), &bytes)?;
    expect("after a file of futures::io was closed", &bytes)?;
    let size = subject.host.open(&subject.url).map_err(unexpected)?.size();
    if size.is_some_and(|size| size != bytes.len() as u64) {
        wrong!("{} bytes were published, but its size is {size:?}", bytes.len());
    }
    Ok(())
}

fn again(subject: &Subject) -> Result<(), Finding> {
    let open = || -> Result<Device, Finding> {
        let device = subject.open()?;
        if device.info().readable() {
            let read = device.read_at(0, vec![0; 8]);
            wait(&subject.host, "a read", read)?.map_err(unexpected)?;
        }
        Ok(device)
    };
    // Some devices open descriptors and start threads that stay, and others need no more of them: a leak grows in each round.
    let mut before = resources();
    let mut after = before;
    for _ in 0..3 {
        before = after;
        (0..50).try_for_each(|_| open().map(drop))?;
        // A thread ends a while after it was told to.
        for _ in 0..100 {
            after = resources();
            if after.0 <= before.0 && after.1 <= before.1 {
                return Ok(());
            }
            thread::sleep(std::time::Duration::from_millis(10));
        }
    }
    wrong!(
        "after 50 more devices there are {} descriptors and {} threads; before there were {} and {}",
        after.0,
        after.1,
        before.0,
        before.1
    )
}

/// Number of descriptors and of threads of this process; zeros where the system does not report them.
fn resources() -> (usize, usize) {
    let count = |folder: &str| std::fs::read_dir(folder).map_or(0, Iterator::count);
    (count("/proc/self/fd"), count("/proc/self/task"))
}
