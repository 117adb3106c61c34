//! Has pieces searched by threads, and reports the matches in order.

use std::collections::VecDeque;
use std::fmt::Write;
use std::ops::Range;

use async_channel::{Receiver, Sender};
use pactio::{Code, Device, Name, Region};
use serde_json::json;

use super::Arguments;
use super::window::{Found, Piece, Search, Window};
use crate::failure::Failure;
use crate::holes::Holes;
use crate::output::{Output, hex};
use crate::progress::Progress;
use crate::standard::say;

/// Number of bytes of a match that are shown.
const SHOWN: usize = 32;

/// A piece for a thread, memory for it, and the channel for the answer.
pub(super) struct Job {
    piece: Piece,
    memory: Vec<u8>,
    answer: Sender<Result<Found, Failure>>,
}

/// The loop of a thread: searches piece after piece.
pub(super) fn work(device: &Device, search: &Search, queue: &Receiver<Job>) {
    while let Ok(Job { piece, memory, answer }) = queue.recv_blocking() {
        // The receiver is closed when enough was found.
        if !answer.is_closed() {
            let window = Window::read(device, &search.pattern, &piece, memory);
            let _ = answer.send_blocking(window.map(|window| Found::first(window, search)));
        }
    }
}

/// Reports the matches.
pub(super) struct Report<'a> {
    arguments: &'a Arguments,
    search: &'a Search,
    device: &'a Device,
    /// The regions of the device, if it has names for them.
    regions: &'a [Region],
    output: Output,
    matches: u64,
    searched: u64,
    holes: Holes,
    /// The next match begins at this position or behind it.
    next: u64,
    /// The device is searched as a whole, and nothing lies behind its end. One of several regions may be cut off.
    is_whole: bool,
    /// The end of the device, if it was found by reading.
    end: Option<u64>,
    /// Why a piece could not be read at all.
    failed: Option<Failure>,
}

impl<'a> Report<'a> {
    pub(super) fn new(
        arguments: &'a Arguments,
        search: &'a Search,
        device: &'a Device,
        regions: &'a [Region],
        is_whole: bool,
    ) -> Self {
        Self {
            arguments,
            search,
            device,
            regions,
            output: Output::new(arguments.form),
            matches: 0,
            searched: 0,
            holes: Holes::default(),
            next: 0,
            is_whole,
            end: None,
            failed: None,
        }
    }

    /// Has pieces searched, up to `ahead` at a time, and takes the matches in order until there are enough.
    pub(super) fn collect(
        &mut self,
        jobs: Sender<Job>,
        mut pieces: impl Iterator<Item = Piece>,
        ahead: usize,
        progress: &Progress,
    ) -> Result<(), Failure> {
        let (mut in_flight, mut spare) = (VecDeque::new(), Vec::new());
        loop {
            while in_flight.len() < ahead
                && let Some(piece) = pieces.next()
            {
                let (answer, found) = async_channel::bounded(1);
                in_flight.push_back((piece.own.end - piece.own.start, found));
                let _ = jobs.send_blocking(Job { piece, memory: spare.pop().unwrap_or_default(), answer });
            }
            let Some((len, found)) = in_flight.pop_front() else { return Ok(()) };
            let mut found = match found.recv_blocking() {
                Ok(Ok(found)) => found,
                Ok(Err(failure)) => {
                    self.failed = Some(failure);
                    return Ok(());
                }
                // The thread panicked, and so does the scope that it is in.
                Err(_) => return Ok(()),
            };
            if !self.take(&mut found)? {
                return Ok(());
            }
            spare.push(found.window.bytes);
            progress.add(len);
        }
    }

    /// Takes the matches of a piece. Gives `false` if no further piece is needed.
    fn take(&mut self, found: &mut Found) -> Result<bool, Failure> {
        self.searched += found.window.searched;
        for (range, error) in found.window.holes.drain(..) {
            if self.is_whole && error.code() == Code::END {
                self.end = self.end.or(Some(range.start));
            } else {
                self.holes.add(range, error);
            }
        }
        found.begin_at(self.next, self.search);
        loop {
            let left = self.arguments.limit() - self.matches;
            self.matches += found.count().min(left);
            if !self.arguments.count {
                for one in found.matches.iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
                    let (at, bytes) =
                        (found.window.start + one.start as u64, &found.window.bytes[one.clone()]);
                    let place = self.place(at);
                    self.output.line(
                        || line(at, bytes, place),
                        || {
                            let shown = hex(&bytes[..bytes.len().min(SHOWN)]);
                            let mut line = json!({ "position": at, "length": bytes.len(), "bytes": shown });
                            if let Some((name, offset)) = place {
                                (line["region"], line["offset"]) = (name.to_string().into(), offset.into());
                            }
                            line
                        },
                    )?;
                }
                // A match is printed as soon as it is found.
                self.output.flush()?;
            }
            if self.is_full() {
                return Ok(false);
            }
            if found.is_over {
                break;
            }
            found.search_on(self.search);
        }
        self.next = found.window.start.saturating_add(found.from as u64);
        Ok(self.end.is_none())
    }

    /// The name of the region of a position, and the offset in the file that is mapped there, or else in the region.
    fn place(&self, at: u64) -> Option<(&'a Name, u64)> {
        let index = self.regions.partition_point(|region| region.range.end <= at);
        let region =
            self.regions.get(index).filter(|region| region.range.start <= at && !region.name.is_empty())?;
        Some((&region.name, region.file_offset.unwrap_or(0).checked_add(at - region.range.start)?))
    }

    fn is_full(&self) -> bool {
        self.matches >= self.arguments.limit()
    }

    pub(super) fn end(mut self) -> Result<(), Failure> {
        if self.arguments.count {
            let matches = self.matches;
            self.output.line(|| format!("{matches}\n"), || json!({ "matches": matches }))?;
            self.output.flush()?;
        }
        self.holes.print();
        let matches = if self.matches == 1 { "match" } else { "matches" };
        let (searched, lost) = (self.searched, self.holes.bytes());
        say(format_args!("{} {matches} in {searched} bytes; {lost} bytes could not be read", self.matches));
        if let Some(failure) = self.failed {
            return Err(failure);
        }
        if let Some(failure) = self.holes.failure(self.device.url()) {
            return Err(failure);
        }
        if self.holes.is_cut_off() && self.arguments.length.is_some() {
            return Err(Failure::incomplete("a part of the range does not exist"));
        }
        self.account()?;
        if self.matches == 0 { Err(Failure::no_match()) } else { Ok(()) }
    }

    /// Reports the part of the requested range that does not exist.
    fn account(&self) -> Result<(), Failure> {
        let (Range { start, end }, url) = (self.arguments.range(), self.device.url());
        let size = self.device.size();
        let there = self.end.or(size.filter(|size| *size > 0)).unwrap_or(u64::MAX);
        match (self.arguments.length, size) {
            // The search ended when enough was found.
            _ if self.is_full() => Ok(()),
            (Some(length), _) if there < end => {
                let there = there.saturating_sub(start);
                Err(Failure::incomplete(format!(
                    "{there} of {length} bytes at {start:#x} of '{url}'; {there}..{length}: past the end of the device"
                )))
            }
            (None, Some(size)) if start > size && self.searched == 0 => Err(Failure::incomplete(format!(
                "there is nothing at {start:#x} of '{url}'; it ends at {size:#x}"
            ))),
            _ => Ok(()),
        }
    }
}

/// `0x7ffd1c0a1000  70 61 63 74 69 6f  |pactio|  libc.so.6+0x1a1000`
fn line(at: u64, bytes: &[u8], place: Option<(&Name, u64)>) -> String {
    let shown = &bytes[..bytes.len().min(SHOWN)];
    let mut text = format!("{at:#014x} ");
    for byte in shown {
        let _ = write!(text, " {byte:02x}");
    }
    let more = if bytes.len() > SHOWN { " ..." } else { "" };
    let shown: String =
        shown.iter().map(|byte| if (0x20..0x7f).contains(byte) { *byte as char } else { '.' }).collect();
    let place = place.map(|(name, offset)| {
        let name = name.to_string();
        format!("  {}+{offset:#x}", name.rsplit('/').next().unwrap_or_default())
    });
    let _ = writeln!(text, "{more}  |{shown}|{}", place.unwrap_or_default());
    text
}
