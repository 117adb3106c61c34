//! `pactio scan`
//!
//! Threads read pieces of the device and search them, and one takes what they found in order. A match belongs to the piece
//! that it begins in; what lies around a piece is read with it, as far as the pattern looks:
//!
//! ```text
//!           before |============ own ============| behind
//! ```

use std::collections::VecDeque;
use std::io::Write;
use std::ops::Range;
use std::thread;

use async_channel::{Receiver, Sender};
use pactio::{Code, Device, Host};
use pactio_sdk::Error as PacketError;

use super::failure::{Failure, to_stdout};
use super::pattern::{Pattern, Text};
use super::progress::Progress;
use super::{address, size};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The device.
    url: String,

    #[command(flatten)]
    what: What,

    /// Look for values with their highest byte first.
    #[arg(long, requires = "value")]
    big_endian: bool,

    /// Length up to which every match of a regular expression is found, at most 1MiB; one that is longer, or has to look
    /// further to be decided, may be found in parts or not at all.
    #[arg(long, default_value = "4KiB", value_parser = longest, value_name = "SIZE", requires = "regex")]
    longest: usize,

    /// Only matches at multiples of this.
    #[arg(long, default_value = "1", value_parser = alignment, value_name = "SIZE")]
    align: u64,

    /// Begin at this position, such as 0x7f0000001000 or 64KiB.
    #[arg(long, value_parser = address, value_name = "POSITION")]
    offset: Option<u64>,

    /// End after so many bytes [default: at the end of the device].
    #[arg(long, value_parser = address, value_name = "SIZE")]
    length: Option<u64>,

    /// Only regions whose name contains this, such as heap; with '', all but the holes of a sparse file.
    #[arg(long, value_name = "TEXT")]
    region: Option<String>,

    /// Only regions that can be written.
    #[arg(long)]
    writable: bool,

    /// Only say how many there are.
    #[arg(short, long)]
    count: bool,

    /// End after so many matches.
    #[arg(short, long, value_name = "COUNT")]
    limit: Option<u64>,
}

/// What is looked for.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct What {
    /// Bytes in hexadecimal, with ? for any digit, such as '48 8b ?? 05'.
    #[arg(long, value_name = "BYTES")]
    hex: Option<String>,

    /// Text.
    #[arg(long)]
    text: Option<String>,

    /// A regular expression over bytes, such as '(?i)password=\w+'.
    #[arg(long, value_name = "EXPRESSION")]
    regex: Option<String>,

    /// A value and its type, such as u32:1234, i16:-5 or f64:1.5.
    #[arg(long, value_name = "TYPE:VALUE")]
    value: Option<String>,
}

/// Bytes of a piece.
const PIECE: u64 = 1 << 20;

/// Matches of a piece that are kept at once.
const BATCH: u64 = 1 << 14;

/// Bytes of a match that are shown.
const SHOWN: usize = 32;

pub(super) fn run(host: &Host, arguments: &Arguments) -> Result<(), Failure> {
    let search = arguments.search().map_err(Failure::usage)?;
    let device = host.open(&arguments.url)?;
    let (end, asked) = (arguments.end_of(&device)?, arguments.range());
    let spans = match end {
        Some(end) => {
            let all = asked.start.min(end)..asked.end.min(end);
            Vec::from_iter([all])
        }
        None => regions(host, &device, arguments)?,
    };
    let len = |span: &Range<u64>| span.end - span.start;
    // Otherwise the end is found by reading, and nobody reads far behind it.
    let is_known = spans.last().is_none_or(|span| span.end < u64::MAX);
    let count = if is_known { spans.iter().map(|span| len(span).div_ceil(PIECE)).sum() } else { 1 };
    let wanted = device.capabilities().limits.in_flight().unwrap_or(1).clamp(1, 8) as usize;
    let threads = thread::available_parallelism().map_or(1, usize::from).max(wanted);
    let threads = threads.min(usize::try_from(count).unwrap_or(usize::MAX));
    let progress = Progress::start("searching", is_known.then(|| spans.iter().map(len).sum()));
    let mut report = Report::new(arguments, &search, &device, end.is_some() || !is_known);
    let (jobs, queue) = async_channel::unbounded();
    let result = thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| work(&device, &search, &queue));
        }
        report.collect(jobs, pieces(&spans), threads * 2, &progress)
    });
    progress.finish();
    result?;
    report.end()
}

/// A part of a span that is searched at once.
struct Piece {
    own: Range<u64>,
    span: Range<u64>,
}

fn pieces(spans: &[Range<u64>]) -> impl Iterator<Item = Piece> {
    spans.iter().flat_map(|span| {
        let starts = span.clone().step_by(PIECE as usize);
        starts
            .map(|start| Piece { own: start..span.end.min(start.saturating_add(PIECE)), span: span.clone() })
    })
}

/// A piece for a thread, memory for it, and who waits for it.
struct Job {
    piece: Piece,
    memory: Vec<u8>,
    answer: Sender<Result<Found, Failure>>,
}

/// The life of a thread: piece after piece.
fn work(device: &Device, search: &Search, queue: &Receiver<Job>) {
    while let Ok(Job { piece, memory, answer }) = queue.recv_blocking() {
        // Nobody waits any more when enough was found.
        if !answer.is_closed() {
            let window = Window::read(device, &search.pattern, &piece, memory);
            let _ = answer.send_blocking(window.map(|window| Found::first(window, search)));
        }
    }
}

/// What is looked for, and how.
struct Search {
    pattern: Pattern,
    align: u64,
    /// So many matches are looked for at once.
    most: u64,
}

/// A piece that was read, and what lies around it.
struct Window {
    bytes: Vec<u8>,
    /// Position of the first byte.
    start: u64,
    parts: Vec<Part>,
    /// So many bytes of the piece were read.
    searched: u64,
    holes: Vec<(Range<u64>, PacketError)>,
}

/// Bytes without a hole in between.
struct Part {
    bytes: Range<usize>,
    /// Where matches of the piece may begin.
    begins: Range<usize>,
    /// Nothing is behind it.
    ends: bool,
}

impl Window {
    fn read(device: &Device, pattern: &Pattern, piece: &Piece, mut bytes: Vec<u8>) -> Result<Self, Failure> {
        let Piece { own, span } = piece;
        let start = own.start - (own.start - span.start).min(pattern.before as u64);
        let end = own.end + (span.end - own.end).min(pattern.behind as u64);
        bytes.resize((end - start) as usize, 0);
        let report = device.blocking_read_at(start, &mut bytes[..])?;
        let own = (own.start - start) as usize..(own.end - start) as usize;
        let mut window = Self { bytes, start, parts: Vec::new(), searched: 0, holes: Vec::new() };
        for (range, result) in report.ranges() {
            let inside = range.start.max(own.start)..range.end.min(own.end);
            if inside.is_empty() {
                continue;
            }
            let positions = start + inside.start as u64..start + inside.end as u64;
            match result {
                Ok(()) => {
                    let ends = range.end < report.len() || end == span.end;
                    // A match without bytes may also be at the very end.
                    let at_end = usize::from(ends && range.end == inside.end);
                    let begins = inside.start..inside.end + at_end;
                    window.searched += inside.len() as u64;
                    window.parts.push(Part { bytes: range, begins, ends });
                }
                Err(error) => window.holes.push((positions, error)),
            }
        }
        Ok(window)
    }

    /// The first match that begins at `from` or behind it.
    fn find(&self, search: &Search, mut from: usize) -> Option<Range<usize>> {
        let first = self.parts.partition_point(|part| part.begins.end <= from);
        for Part { bytes, begins, ends } in &self.parts[first..] {
            let text = Text { bytes: &self.bytes[bytes.clone()], ends: *ends };
            from = from.max(begins.start);
            while let Some(aligned) = self.aligned(from, search.align).filter(|at| begins.contains(at))
                && let Some(found) = search.pattern.find(text, aligned - bytes.start)
            {
                let found = bytes.start + found.start..bytes.start + found.end;
                if !begins.contains(&found.start) {
                    break;
                }
                if self.aligned(found.start, search.align) == Some(found.start) {
                    return Some(found);
                }
                from = found.start + 1;
            }
        }
        None
    }

    /// Where the first aligned position is from here on.
    fn aligned(&self, from: usize, align: u64) -> Option<usize> {
        let position = self.start.checked_add(from as u64)?.checked_next_multiple_of(align)?;
        usize::try_from(position - self.start).ok()
    }
}

/// A window, and what was found in it so far.
struct Found {
    window: Window,
    /// The first matches since the search went on.
    matches: Vec<Range<usize>>,
    /// How many there were behind those.
    more: u64,
    /// Where the search goes on.
    from: usize,
    /// Nothing is there any more.
    is_over: bool,
}

impl Found {
    fn first(window: Window, search: &Search) -> Self {
        let mut found = Self { window, matches: Vec::new(), more: 0, from: 0, is_over: false };
        found.search_on(search);
        found
    }

    fn count(&self) -> u64 {
        self.matches.len() as u64 + self.more
    }

    fn search_on(&mut self, search: &Search) {
        self.matches.clear();
        self.more = 0;
        while !self.is_over && self.count() < search.most {
            match self.window.find(search, self.from) {
                Some(found) => {
                    self.from = search.pattern.next(&found);
                    if (self.matches.len() as u64) < BATCH {
                        self.matches.push(found);
                    } else {
                        self.more += 1;
                    }
                }
                None => self.is_over = true,
            }
        }
    }

    /// Makes this what a search from `position` on finds, where the match before ended. The search that was done began with the
    /// piece. If none of its matches lies across `position`, both find the same from there on; otherwise it is done again.
    fn begin_at(&mut self, position: u64, search: &Search) {
        let begin = usize::try_from(position.saturating_sub(self.window.start)).unwrap_or(usize::MAX);
        let before = self.matches.partition_point(|found| found.start < begin);
        let is_across = self.matches[..before].last().is_some_and(|last| search.pattern.next(last) > begin);
        let is_known = before < self.matches.len() || self.more == 0;
        if is_known && !is_across {
            self.matches.drain(..before);
            self.from = self.from.max(begin);
        } else {
            (self.from, self.is_over) = (begin, false);
            self.search_on(search);
        }
    }
}

impl Arguments {
    fn search(&self) -> Result<Search, String> {
        let What { hex, text, regex, value } = &self.what;
        let pattern = match (hex, text, regex, value) {
            (Some(hex), ..) => Pattern::hex(hex),
            (_, Some(text), ..) => Pattern::bytes(text.as_bytes()),
            (_, _, Some(regex), _) => Pattern::regex(regex, self.longest),
            (.., value) => Pattern::value(value.as_deref().unwrap_or_default(), self.big_endian),
        }?;
        let most = self.limit().min(if self.count { u64::MAX } else { BATCH });
        Ok(Search { pattern, align: self.align, most })
    }

    fn limit(&self) -> u64 {
        self.limit.unwrap_or(u64::MAX)
    }

    /// The positions that are meant, whether they exist or not.
    fn range(&self) -> Range<u64> {
        let start = self.offset.unwrap_or(0);
        start..self.length.map_or(u64::MAX, |length| start.saturating_add(length))
    }

    /// Where the search of a device ends at the latest, if that is not for its regions to say. What is in none of them may still
    /// be read, as the holes of a file: they are searched where there is no end, and if they are asked for.
    fn end_of(&self, device: &Device) -> Result<Option<u64>, Failure> {
        let by_region = self.region.is_some() || self.writable;
        let has_regions = device.capabilities().regions;
        match device.size() {
            _ if by_region && has_regions => Ok(None),
            _ if by_region => {
                Err(Failure::usage("the device has no regions; leave --region and --writable out"))
            }
            // A size of 0 is what systems say of files that are made when they are read.
            Some(0) => Ok(Some(u64::MAX)),
            Some(size) => Ok(Some(size)),
            None if has_regions => Ok(None),
            None if self.length.is_some() => Ok(Some(u64::MAX)),
            None => Err(Failure::usage("the device has no size; say with --length where to end")),
        }
    }
}

/// The regions that are asked for.
fn regions(host: &Host, device: &Device, arguments: &Arguments) -> Result<Vec<Range<u64>>, Failure> {
    let (Range { start, end }, text) = (arguments.range(), arguments.region.as_deref().unwrap_or_default());
    let mut spans: Vec<Range<u64>> = Vec::new();
    for region in host.block_on(device.regions())? {
        let is_meant = region.name.contains(text) && (region.writable || !arguments.writable);
        let part = region.range.start.max(start)..region.range.end.min(end);
        if !region.readable || !is_meant || part.is_empty() {
            continue;
        }
        match spans.last_mut() {
            // What touches is searched across.
            Some(last) if last.end == part.start => last.end = part.end,
            _ => spans.push(part),
        }
    }
    Ok(spans)
}

fn alignment(text: &str) -> Result<u64, String> {
    match size(text)? {
        0 => Err("positions are multiples of 1 at least".to_owned()),
        align => Ok(align),
    }
}

fn longest(text: &str) -> Result<usize, String> {
    const MOST: u64 = 1 << 20;
    match size(text)? {
        bytes @ 1..=MOST => Ok(bytes as usize),
        _ => Err("the longest match has between 1 byte and 1MiB".to_owned()),
    }
}

/// Says what was found.
struct Report<'a> {
    arguments: &'a Arguments,
    search: &'a Search,
    device: &'a Device,
    matches: u64,
    searched: u64,
    /// Holes that touch and have the same cause are one.
    holes: Vec<(Range<u64>, PacketError)>,
    /// The next match begins here or behind it.
    next: u64,
    /// The device is searched as a whole, and nothing lies behind its end. One of several regions may be cut off.
    is_whole: bool,
    /// The device was found to end here.
    end: Option<u64>,
    /// Why a piece could not be read at all.
    failed: Option<Failure>,
}

impl<'a> Report<'a> {
    fn new(arguments: &'a Arguments, search: &'a Search, device: &'a Device, is_whole: bool) -> Self {
        Self {
            arguments,
            search,
            device,
            matches: 0,
            searched: 0,
            holes: Vec::new(),
            next: 0,
            is_whole,
            end: None,
            failed: None,
        }
    }

    /// Has pieces searched, so many ahead, and takes what was found in order, until that is enough.
    fn collect(
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

    /// `false` if that is enough.
    fn take(&mut self, found: &mut Found) -> Result<bool, Failure> {
        self.searched += found.window.searched;
        for (range, error) in found.window.holes.drain(..) {
            match self.holes.last_mut() {
                _ if self.is_whole && error.code() == Code::End => self.end = self.end.or(Some(range.start)),
                Some((last, cause)) if last.end == range.start && *cause == error => last.end = range.end,
                _ => self.holes.push((range, error)),
            }
        }
        found.begin_at(self.next, self.search);
        loop {
            let left = self.arguments.limit() - self.matches;
            self.matches += found.count().min(left);
            if !self.arguments.count {
                let mut text = Vec::new();
                for one in found.matches.iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
                    line(&mut text, found.window.start + one.start as u64, &found.window.bytes[one.clone()]);
                }
                to_stdout(&text)?;
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

    fn is_full(&self) -> bool {
        self.matches >= self.arguments.limit()
    }

    fn end(mut self) -> Result<(), Failure> {
        if self.arguments.count {
            to_stdout(format!("{}\n", self.matches).as_bytes())?;
        }
        let bytes = |holes: &[(Range<u64>, PacketError)]| -> u64 {
            holes.iter().map(|(range, _)| range.end - range.start).sum()
        };
        for (range, error) in self.holes.iter().take(20) {
            eprintln!("pactio: {:#x}-{:#x} cannot be read: {error}", range.start, range.end);
        }
        if self.holes.len() > 20 {
            eprintln!("pactio: and {} more ranges", self.holes.len() - 20);
        }
        let matches = if self.matches == 1 { "match" } else { "matches" };
        let (searched, lost) = (self.searched, bytes(&self.holes));
        eprintln!("{} {matches} in {searched} bytes; {lost} bytes could not be read", self.matches);
        if let Some(failure) = self.failed {
            return Err(failure);
        }
        let is_cut_off = self.holes.iter().any(|(_, error)| error.code() == Code::End);
        // Memory has holes.
        self.holes.retain(|(_, error)| !matches!(error.code(), Code::NotMapped | Code::End));
        if !self.holes.is_empty() {
            let (lost, url) = (bytes(&self.holes), self.device.url());
            let mut causes: Vec<_> = self.holes.iter().map(|(_, error)| error.to_string()).collect();
            causes.sort();
            causes.dedup();
            let causes = causes.join(", ");
            return Err(Failure::new(format!("{lost} bytes of '{url}' could not be read: {causes}")));
        }
        if is_cut_off && self.arguments.length.is_some() {
            return Err(Failure::incomplete("a part of the range does not exist"));
        }
        self.account()
    }

    /// Says what does not exist of the range that was asked for.
    fn account(&self) -> Result<(), Failure> {
        let (Range { start, end }, url) = (self.arguments.range(), self.device.url());
        let size = self.device.size();
        let there = self.end.or(size.filter(|size| *size > 0)).unwrap_or(u64::MAX);
        match (self.arguments.length, size) {
            // It ended when enough was found.
            _ if self.is_full() => Ok(()),
            (Some(length), _) if there < end => {
                let there = there.saturating_sub(start);
                Err(Failure::incomplete(format!(
                    "{there} of {length} bytes at {start} of '{url}'; {there}..{length}: past the end of the device"
                )))
            }
            (None, Some(size)) if start > size && self.searched == 0 => {
                Err(Failure::incomplete(format!("there is nothing at {start} of '{url}'; it ends at {size}")))
            }
            _ => Ok(()),
        }
    }
}

/// `0x7ffd1c0a1000  70 61 63 74 69 6f  |pactio|`
fn line(text: &mut Vec<u8>, at: u64, bytes: &[u8]) {
    let shown = &bytes[..bytes.len().min(SHOWN)];
    let _ = write!(text, "{at:#014x} ");
    for byte in shown {
        let _ = write!(text, " {byte:02x}");
    }
    let more = if bytes.len() > SHOWN { " ..." } else { "" };
    let shown: String =
        shown.iter().map(|byte| if (0x20..0x7f).contains(byte) { *byte as char } else { '.' }).collect();
    let _ = writeln!(text, "{more}  |{shown}|");
}
