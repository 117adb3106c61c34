//! `pactio scan`

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use pactio::{Code, Device, Host};
use pactio_sdk::Error as PacketError;

use super::failure::{Failure, to_stdout};
use super::pattern::Pattern;
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

    /// Longest match of a regular expression.
    #[arg(long, default_value = "4KiB", value_parser = size, value_name = "SIZE", requires = "regex")]
    longest: u64,

    /// Only matches at multiples of this.
    #[arg(long, default_value = "1", value_parser = size, value_name = "SIZE")]
    align: u64,

    /// Begin at this position, such as 0x7f0000001000 or 64KiB.
    #[arg(long, value_parser = address, value_name = "POSITION")]
    offset: Option<u64>,

    /// End after so many bytes [default: at the end of the device].
    #[arg(long, value_parser = address, value_name = "SIZE")]
    length: Option<u64>,

    /// Only regions whose name contains this, such as heap.
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

/// Bytes that are searched at once.
const PIECE: u64 = 1 << 20;

/// Bytes of a match that are shown.
const SHOWN: usize = 32;

/// What was found in one piece.
#[derive(Default)]
struct Found {
    /// Where, how long, and the first bytes.
    matches: Vec<(u64, usize, Vec<u8>)>,
    holes: Vec<(Range<u64>, PacketError)>,
    searched: u64,
}

pub(super) fn run(host: &Host, arguments: &Arguments) -> Result<(), Failure> {
    let pattern = arguments.pattern().map_err(Failure::usage)?;
    let device = host.open(&arguments.url)?;
    let pieces = pieces(&arguments.spans(host, &device)?);
    let total: u64 = pieces.iter().map(|piece| piece.own.end - piece.own.start).sum();
    let progress = Progress::start("searching", Some(total));
    let wanted = device.capabilities().limits.in_flight().unwrap_or(1).clamp(1, 8) as usize;
    let threads = thread::available_parallelism().map_or(1, usize::from).max(wanted).min(pieces.len().max(1));
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (sender, receiver) = sync_channel(threads * 2);
    thread::scope(|scope| {
        for _ in 0..threads {
            let sender = sender.clone();
            scope.spawn(|| search(&device, &pattern, arguments.align, &pieces, &next, &stop, sender));
        }
        drop(sender);
        let mut report = Report::new(arguments);
        let (mut early, mut expected) = (BTreeMap::new(), 0);
        let result = (|| {
            for (index, found) in receiver {
                early.insert(index, found);
                while let Some(found) = early.remove(&expected) {
                    expected += 1;
                    progress.set(pieces[..expected].last().map_or(0, |piece| piece.before));
                    if !report.take(found?)? {
                        return Ok(());
                    }
                }
            }
            Ok::<_, Failure>(())
        })();
        // Whoever still searches finds nobody to tell.
        stop.store(true, Ordering::Relaxed);
        progress.finish();
        result?;
        report.end()
    })
}

/// The life of a thread: piece after piece.
fn search(
    device: &Device,
    pattern: &Pattern,
    align: u64,
    pieces: &[Piece],
    next: &AtomicUsize,
    stop: &AtomicBool,
    sender: SyncSender<(usize, Result<Found, Failure>)>,
) {
    let mut buffer = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let index = next.fetch_add(1, Ordering::Relaxed);
        let Some(piece) = pieces.get(index) else { return };
        let found = search_piece(device, pattern, align, piece, &mut buffer);
        if sender.send((index, found)).is_err() {
            return;
        }
    }
}

fn search_piece(
    device: &Device,
    pattern: &Pattern,
    align: u64,
    piece: &Piece,
    buffer: &mut Vec<u8>,
) -> Result<Found, Failure> {
    let Range { start, end } = piece.own;
    // A match may begin here and end in the next piece.
    let behind = (pattern.longest as u64 - 1).min(piece.room);
    buffer.resize((end - start + behind) as usize, 0);
    let report = device.blocking_read_at(start, &mut buffer[..])?;
    let mut found = Found::default();
    for done in report.done_ranges() {
        let own_end = ((end - start) as usize).min(done.end).saturating_sub(done.start);
        found.searched += own_end as u64;
        pattern.search(&buffer[done.clone()], own_end, |from, to| {
            let at = start + (done.start + from) as u64;
            if at.is_multiple_of(align) {
                let bytes = &buffer[done.clone()][from..to];
                found.matches.push((at, bytes.len(), bytes[..bytes.len().min(SHOWN)].to_vec()));
            }
        });
    }
    for (range, error) in report.failed_ranges() {
        let (from, to) = (start + range.start as u64, (start + range.end as u64).min(end));
        if from < to {
            found.holes.push((from..to, error));
        }
    }
    Ok(found)
}

/// A part of a span that one thread searches.
struct Piece {
    own: Range<u64>,
    /// So much of the span lies behind it.
    room: u64,
    /// So much lies before it and in it, of all.
    before: u64,
}

fn pieces(spans: &[Range<u64>]) -> Vec<Piece> {
    let (mut pieces, mut before) = (Vec::new(), 0);
    for span in spans {
        let mut start = span.start;
        while start < span.end {
            let end = span.end.min(start.saturating_add(PIECE));
            before += end - start;
            pieces.push(Piece { own: start..end, room: span.end - end, before });
            start = end;
        }
    }
    pieces
}

impl Arguments {
    fn pattern(&self) -> Result<Pattern, String> {
        let What { hex, text, regex, value } = &self.what;
        let longest = usize::try_from(self.longest).unwrap_or(usize::MAX).clamp(1, PIECE as usize);
        match (hex, text, regex, value) {
            (Some(hex), ..) => Pattern::hex(hex),
            (_, Some(text), ..) => Pattern::bytes(text.as_bytes()),
            (_, _, Some(regex), _) => Pattern::regex(regex, longest),
            (.., value) => Pattern::value(value.as_deref().unwrap_or_default(), self.big_endian),
        }
    }

    /// What is searched: the regions of the device that can be read, or all of it.
    fn spans(&self, host: &Host, device: &Device) -> Result<Vec<Range<u64>>, Failure> {
        let start = self.offset.unwrap_or(0);
        let end = self.length.map_or(u64::MAX, |length| start.saturating_add(length));
        let by_region = self.region.is_some() || self.writable;
        if !device.capabilities().regions {
            if by_region {
                return Err(Failure::usage("the device has no regions; leave --region and --writable out"));
            }
            let Some(size) = device.size().or(self.length.map(|_| end)) else {
                return Err(Failure::usage("the device has no size; say with --length where to end"));
            };
            let all = start.min(size)..end.min(size);
            return Ok(Vec::from_iter([all]));
        }
        let mut spans: Vec<Range<u64>> = Vec::new();
        for region in host.block_on(device.regions())? {
            let named = self.region.as_ref().is_none_or(|text| region.name.contains(text));
            if !region.readable || !named || (self.writable && !region.writable) {
                continue;
            }
            let part = region.range.start.max(start)..region.range.end.min(end);
            match spans.last_mut() {
                // What touches is searched across.
                Some(last) if last.end == part.start && !part.is_empty() => last.end = part.end,
                _ if !part.is_empty() => spans.push(part),
                _ => {}
            }
        }
        Ok(spans)
    }
}

/// Says what was found.
struct Report<'a> {
    arguments: &'a Arguments,
    matches: u64,
    searched: u64,
    /// Holes that touch and have the same cause are one.
    holes: Vec<(Range<u64>, PacketError)>,
    /// A match that does not overlap others ends here.
    last_end: u64,
}

impl<'a> Report<'a> {
    fn new(arguments: &'a Arguments) -> Self {
        Self { arguments, matches: 0, searched: 0, holes: Vec::new(), last_end: 0 }
    }

    /// `false` if that is enough.
    fn take(&mut self, found: Found) -> Result<bool, Failure> {
        self.searched += found.searched;
        for (range, error) in found.holes {
            match self.holes.last_mut() {
                Some((last, cause)) if last.end == range.start && cause.code() == error.code() => {
                    last.end = range.end;
                }
                _ => self.holes.push((range, error)),
            }
        }
        let mut text = Vec::new();
        for (at, len, bytes) in found.matches {
            if self.arguments.limit.is_some_and(|limit| self.matches >= limit) {
                break;
            }
            // One that began in the piece before and was found there.
            if self.arguments.what.regex.is_some() && at < self.last_end {
                continue;
            }
            self.last_end = at + len as u64;
            self.matches += 1;
            if !self.arguments.count {
                line(&mut text, at, len, &bytes);
            }
        }
        to_stdout(&text)?;
        Ok(self.arguments.limit.is_none_or(|limit| self.matches < limit))
    }

    fn end(self) -> Result<(), Failure> {
        if self.arguments.count {
            to_stdout(format!("{}\n", self.matches).as_bytes())?;
        }
        let lost: u64 = self.holes.iter().map(|(range, _)| range.end - range.start).sum();
        for (range, error) in self.holes.iter().take(20) {
            eprintln!("pactio: {:#x}-{:#x} cannot be read: {error}", range.start, range.end);
        }
        if self.holes.len() > 20 {
            eprintln!("pactio: and {} more ranges", self.holes.len() - 20);
        }
        let matches = if self.matches == 1 { "match" } else { "matches" };
        eprintln!("{} {matches} in {} bytes; {lost} bytes could not be read", self.matches, self.searched);
        // Memory of a process has holes; a range that was asked for has not.
        if self.arguments.length.is_some() && self.holes.iter().any(|(_, error)| error.code() == Code::End) {
            return Err(Failure::incomplete("a part of the range does not exist"));
        }
        Ok(())
    }
}

/// `0x7ffd1c0a1000  70 61 63 74 69 6f  |pactio|`
fn line(text: &mut Vec<u8>, at: u64, len: usize, bytes: &[u8]) {
    let _ = write!(text, "{at:#014x} ");
    for byte in bytes {
        let _ = write!(text, " {byte:02x}");
    }
    let more = if len > bytes.len() { " ..." } else { "" };
    let shown: String =
        bytes.iter().map(|byte| if (0x20..0x7f).contains(byte) { *byte as char } else { '.' }).collect();
    let _ = writeln!(text, "{more}  |{shown}|");
}
