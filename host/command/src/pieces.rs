//! Reads ranges of a device from front to back with several requests in flight, and goes on behind holes.

use std::collections::VecDeque;
use std::ops::Range;

use pactio::{Code, Device, Error, Host, Region, Report, Task};

use super::failure::Failure;
use super::holes::Holes;
use super::{Flow, Range as Asked};

/// How `cat` and `hexdump` treat bytes that cannot be read.
#[derive(clap::Args, Clone, Copy)]
#[group(multiple = false)]
pub(super) struct AroundHoles {
    /// Print zeros for bytes that cannot be read, and report the ranges on standard error.
    #[arg(long)]
    pad: bool,

    /// Leave out bytes that cannot be read, and report the ranges on standard error. Of a device without a size, the regions are
    /// read.
    #[arg(long)]
    skip: bool,
}

impl AroundHoles {
    pub(super) fn is_set(self) -> bool {
        self.pad || self.skip
    }

    /// The pieces of a range of a device.
    ///
    /// # Errors
    ///
    /// If the range has no end.
    pub(super) fn pieces<'h>(
        self,
        host: &'h Host,
        device: Device,
        asked: Asked,
        flow: Flow,
    ) -> Result<Pieces<'h>, Failure> {
        let end = asked.length.map_or(u64::MAX, |length| asked.offset.saturating_add(length));
        // Systems report a size of 0 for files that are made when they are read.
        let size = device.size().filter(|size| *size > 0);
        let has_regions = device.capabilities().has(pactio::Capability::MAP);
        let one = |span: Range<u64>| vec![span];
        let spans = match size {
            Some(size) => one(asked.offset.min(size)..end.min(size)),
            None if self.skip && has_regions => regions(host, &device, asked.offset..end)?,
            None if asked.length.is_none() && has_regions => {
                return Err(Failure::usage("the device has no size; say with --length where to end"));
            }
            None => one(asked.offset..end),
        };
        let is_one = spans.len() <= 1 && !(size.is_none() && self.skip && has_regions);
        Ok(Pieces { pad: self.pad, asked: is_one.then_some(asked), ..Pieces::new(host, device, spans, flow) })
    }
}

/// The parts of a range that regions with bytes have.
fn regions(host: &Host, device: &Device, range: Range<u64>) -> Result<Vec<Range<u64>>, Failure> {
    let spans = merged(&host.block_on(device.regions())?).into_iter();
    let spans = spans.map(|span| span.start.max(range.start)..span.end.min(range.end));
    Ok(spans.filter(|span| !span.is_empty()).collect())
}

/// The ranges of regions with bytes. Adjacent ones are one.
pub(super) fn merged(regions: &[Region]) -> Vec<Range<u64>> {
    let mut spans: Vec<Range<u64>> = Vec::new();
    for region in regions.iter().filter(|region| region.has_bytes() && !region.range.is_empty()) {
        match spans.last_mut() {
            Some(last) if last.end == region.range.start => last.end = region.range.end,
            _ => spans.push(region.range.clone()),
        }
    }
    spans
}

/// The bytes of a range.
pub(super) struct Piece {
    pub(super) position: u64,
    pub(super) bytes: Vec<u8>,
    /// The ranges of `bytes` that were read. The other bytes are zeros.
    pub(super) done: Vec<Range<usize>>,
}

/// The pieces of some ranges.
pub(super) struct Pieces<'h> {
    host: &'h Host,
    device: Device,
    spans: VecDeque<Range<u64>>,
    block_size: usize,
    depth: usize,
    in_flight: VecDeque<(u64, Reading)>,
    /// Bytes that could not be read count as done.
    pad: bool,
    /// The range that was asked for, if it is read as one: its end may be the end of the device.
    asked: Option<Asked>,
    /// The end of the bytes that exist.
    end: u64,
    pub(super) holes: Holes,
    spare: Vec<Vec<u8>>,
}

type Reading = Task<Result<(Report, Vec<u8>), Error>>;

impl<'h> Pieces<'h> {
    pub(super) fn new(host: &'h Host, device: Device, spans: Vec<Range<u64>>, flow: Flow) -> Self {
        let depth = flow.in_flight(&device).into();
        Self {
            host,
            device,
            spans: spans.into(),
            block_size: flow.block_size,
            depth,
            in_flight: VecDeque::new(),
            pad: false,
            asked: None,
            end: 0,
            holes: Holes::default(),
            spare: Vec::new(),
        }
    }

    fn fill(&mut self) {
        while self.in_flight.len() < self.depth
            && let Some(span) = self.spans.front_mut()
        {
            // The end is unknown: one request at a time looks for it.
            let is_endless = span.end == u64::MAX;
            let len = (span.end - span.start).min(self.block_size as u64);
            if len == 0 {
                self.spans.pop_front();
                continue;
            }
            if is_endless && !self.in_flight.is_empty() {
                return;
            }
            let position = span.start;
            span.start += len;
            let mut buffer = self.spare.pop().unwrap_or_default();
            buffer.clear();
            buffer.resize(len as usize, 0);
            let device = self.device.clone();
            let reading = self.host.spawn(async move { device.read_at(position, buffer).await });
            self.in_flight.push_back((position, reading));
        }
    }

    /// The next piece; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Piece>, Failure> {
        self.fill();
        let Some((position, reading)) = self.in_flight.pop_front() else { return Ok(None) };
        let (report, mut bytes) = reading.await?;
        let mut done: Vec<Range<usize>> = report.done_ranges().collect();
        for (range, error) in report.failed_ranges() {
            if error.code() == Code::IS_DIRECTORY {
                return Err(Failure::folder(self.device.url()));
            }
            if self.asked.is_some() && error.code() == Code::END && range.end == bytes.len() {
                self.spans.clear();
                self.in_flight.clear();
                bytes.truncate(range.start);
                break;
            }
            bytes[range.clone()].fill(0);
            self.holes.add(position + range.start as u64..position + range.end as u64, error);
        }
        self.end = self.end.max(position + bytes.len() as u64);
        if self.pad {
            let all = 0..bytes.len();
            done = vec![all];
        }
        Ok(Some(Piece { position, bytes, done }))
    }

    /// Gives the memory of a piece back.
    pub(super) fn recycle(&mut self, piece: Piece) {
        self.spare.push(piece.bytes);
    }

    /// Reports the ranges that could not be read, and a range that does not exist.
    pub(super) fn account(&self) -> Result<(), Failure> {
        self.holes.print();
        let url = self.device.url();
        if let Some(failure) = self.holes.failure(url) {
            return Err(failure);
        }
        let Some(Asked { offset, length }) = self.asked else { return Ok(()) };
        let there = self.end.saturating_sub(offset);
        match length {
            Some(length) if there < length => Err(Failure::incomplete(format!(
                "{there} of {length} bytes at {offset:#x} of '{url}'; {there}..{length}: past the end of the device"
            ))),
            None if there == 0 && self.device.size().is_some_and(|size| offset > size) => {
                Err(Failure::incomplete(format!(
                    "there is nothing at {offset:#x} of '{url}'; it ends at {:#x}",
                    self.device.size().unwrap_or(0)
                )))
            }
            _ => Ok(()),
        }
    }
}
