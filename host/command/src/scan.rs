//! `pactio scan`
//!
//! Threads read pieces of the device and search them, and one thread takes the matches in order. A match belongs to the piece
//! in which it begins. The bytes around a piece are read with it, as far as the pattern looks:
//!
//! ```text
//!           before |============ own ============| behind
//! ```

mod report;
mod window;

use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::thread;

use pactio::{Device, Host, Region};

use self::report::{Report, work};
use self::window::{BATCH, Piece, Search};
use super::failure::Failure;
use super::given::GivenUrl;
use super::output::Form;
use super::pattern::Pattern;
use super::progress::Progress;
use super::size;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The device.
    url: GivenUrl,

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
    #[arg(long, value_parser = size, value_name = "POSITION")]
    offset: Option<u64>,

    /// End after this number of bytes [default: at the end of the device].
    #[arg(long, value_parser = size, value_name = "SIZE")]
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

    #[command(flatten)]
    form: Form,

    /// End after this number of matches.
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

    /// A file with a text on each line, all of which are looked for at once.
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    texts: Option<PathBuf>,

    /// A regular expression over bytes, such as '(?i)password=\w+'.
    #[arg(long, value_name = "EXPRESSION")]
    regex: Option<String>,

    /// A value and its type, such as u32:1234, i16:-5 or f64:1.5.
    #[arg(long, value_name = "TYPE:VALUE")]
    value: Option<String>,
}

/// Size of a piece in bytes.
const PIECE: u64 = 1 << 20;

/// Ends with the code 0 if there is a match, 1 if there is none, 2 if the search failed, 3 if a part could not be searched.
pub(super) fn run(host: &Host, arguments: &Arguments) -> Result<(), Failure> {
    search(host, arguments).map_err(Failure::of_search)
}

fn search(host: &Host, arguments: &Arguments) -> Result<(), Failure> {
    let search = arguments.search().map_err(Failure::usage)?;
    let device = arguments.url.open(host)?;
    if host.block_on(device.stat())?.is_folder() {
        return Err(Failure::folder(device.url()));
    }
    let (end, asked) = (arguments.end_of(&device)?, arguments.range());
    let has_regions = device.capabilities().has(pactio::Capability::MAP);
    // The names of regions are printed with the matches.
    let is_needed = end.is_none() || (has_regions && !arguments.count);
    let regions = match is_needed.then(|| host.block_on(device.regions())) {
        Some(Ok(regions)) => regions,
        // A device with a size is searched without the names.
        Some(Err(error)) if end.is_none() => return Err(error.into()),
        _ => Vec::new(),
    };
    let spans = match end {
        Some(end) => {
            let all = asked.start.min(end)..asked.end.min(end);
            Vec::from_iter([all])
        }
        None => spans(&regions, arguments),
    };
    let len = |span: &Range<u64>| span.end - span.start;
    // Otherwise the end is found by reading, with one thread, so that no thread reads far behind the end.
    let is_known = spans.last().is_none_or(|span| span.end < u64::MAX);
    let count = if is_known { spans.iter().map(|span| len(span).div_ceil(PIECE)).sum() } else { 1 };
    let wanted = device.capabilities().limits().in_flight().unwrap_or(1).clamp(1, 8) as usize;
    let threads = thread::available_parallelism().map_or(1, usize::from).max(wanted);
    let threads = threads.min(usize::try_from(count).unwrap_or(usize::MAX));
    let progress = Progress::start("searching", is_known.then(|| spans.iter().map(len).sum()));
    let mut report = Report::new(arguments, &search, &device, &regions, end.is_some() || !is_known);
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

fn pieces(spans: &[Range<u64>]) -> impl Iterator<Item = Piece> {
    spans.iter().flat_map(|span| {
        let starts = span.clone().step_by(PIECE as usize);
        starts
            .map(|start| Piece { own: start..span.end.min(start.saturating_add(PIECE)), span: span.clone() })
    })
}

impl Arguments {
    fn search(&self) -> Result<Search, String> {
        let What { hex, text, texts, regex, value } = &self.what;
        let pattern = match (hex, text, texts, regex, value) {
            (Some(hex), ..) => Pattern::hex(hex),
            (_, Some(text), ..) => Pattern::bytes(text.as_bytes()),
            (_, _, Some(path), ..) => match fs::read(path) {
                Ok(lines) => Pattern::texts(&lines),
                Err(error) => Err(error.to_string()),
            }
            .map_err(|error| format!("the texts '{}': {error}", path.display())),
            (.., Some(regex), _) => Pattern::regex(regex, self.longest),
            (.., value) => Pattern::value(value.as_deref().unwrap_or_default(), self.big_endian),
        }?;
        let most = self.limit().min(if self.count { u64::MAX } else { BATCH });
        Ok(Search { pattern, align: self.align, most })
    }

    fn limit(&self) -> u64 {
        self.limit.unwrap_or(u64::MAX)
    }

    /// The requested positions, whether they exist or not.
    fn range(&self) -> Range<u64> {
        let start = self.offset.unwrap_or(0);
        start..self.length.map_or(u64::MAX, |length| start.saturating_add(length))
    }

    /// The position at which the search of a device ends at the latest, or `None` if its regions are searched. Bytes in no region
    /// may still be readable, such as the holes of a file. So regions are searched only if the device has no size, or on request.
    fn end_of(&self, device: &Device) -> Result<Option<u64>, Failure> {
        let by_region = self.region.is_some() || self.writable;
        let has_regions = device.capabilities().has(pactio::Capability::MAP);
        match device.size() {
            _ if by_region && has_regions => Ok(None),
            _ if by_region => {
                Err(Failure::usage("the device has no regions; leave --region and --writable out"))
            }
            // Systems report a size of 0 for files that are made when they are read.
            Some(0) => Ok(Some(u64::MAX)),
            Some(size) => Ok(Some(size)),
            None if has_regions => Ok(None),
            None if self.length.is_some() => Ok(Some(u64::MAX)),
            None => Err(Failure::usage("the device has no size; say with --length where to end")),
        }
    }
}

/// The requested regions.
fn spans(regions: &[Region], arguments: &Arguments) -> Vec<Range<u64>> {
    let (Range { start, end }, text) = (arguments.range(), arguments.region.as_deref().unwrap_or_default());
    let mut spans: Vec<Range<u64>> = Vec::new();
    for region in regions {
        let is_meant = region.name.to_string().contains(text) && (region.writable || !arguments.writable);
        let part = region.range.start.max(start)..region.range.end.min(end);
        if !region.has_bytes() || !is_meant || part.is_empty() {
            continue;
        }
        match spans.last_mut() {
            // Adjacent regions are searched as one.
            Some(last) if last.end == part.start => last.end = part.end,
            _ => spans.push(part),
        }
    }
    spans
}

fn alignment(text: &str) -> Result<u64, String> {
    match size(text)? {
        0 => Err("positions are multiples of 1 at least".to_owned()),
        align => Ok(align),
    }
}

fn longest(text: &str) -> Result<usize, String> {
    const MAX_MATCH_BYTES: u64 = 1 << 20;
    match size(text)? {
        bytes @ 1..=MAX_MATCH_BYTES => Ok(bytes as usize),
        _ => Err("the longest match has between 1 byte and 1MiB".to_owned()),
    }
}
