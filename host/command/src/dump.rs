//! `pactio dump`
//!
//! ```text
//!  regions ──► pieces, in order ──► temporary file: │ header │ memory ... │ notes │ program headers │ ──► replaces FILE
//!                 │ pages of zeros are holes of the file
//!                 └ bytes that cannot be read: a segment without bytes in the file, and the account
//! ```
//!
//! The program headers come last, since their number is known when all memory has been read.

use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use pactio::{Host, Region};

use super::Flow;
use super::failure::Failure;
use super::given::GivenUrl;
use super::interrupt::Interrupt;
use super::pieces::Pieces;
use super::progress::Progress;
use super::standard::say;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
use super::stopped::Stopped;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The device, such as process:1234.
    url: GivenUrl,
    /// The file. It is replaced when the dump is complete; bytes that are not mapped may be missing from it.
    #[arg(value_hint = clap::ValueHint::FilePath)]
    file: PathBuf,
    /// Stop the process for the time of the dump: the memory is of one moment, and the dump has the registers.
    #[arg(long)]
    stop: bool,
    #[command(flatten)]
    flow: Flow,
}

/// Bytes per page of memory, and the alignment of segments in the file.
const PAGE: u64 = 4096;

/// The machine, in the numbers of ELF.
const MACHINE: u16 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };

const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const NT_PRPSINFO: u32 = 3;
const NT_AUXV: u32 = 6;
const NT_FILE: u32 = 0x4649_4c45;

pub(super) fn run(host: &Host, arguments: &Arguments) -> Result<(), Failure> {
    let device = arguments.url.open(host)?;
    if !device.capabilities().has(pactio::Capability::MAP) {
        let text = format!("'{}' has no regions, so it is no memory at addresses", device.url());
        return Err(Failure::new(text).with_hint("pactio cp copies it"));
    }
    let stat = host.block_on(device.stat())?;
    let pid = stat.metadata.iter().find(|(key, _)| key == "pid").map(|(_, pid)| pid.clone());
    let interrupt = Interrupt::listen()?;
    let mut notes = pid.as_deref().map(process_notes).unwrap_or_default();
    let stopped = match (arguments.stop, pid.as_deref()) {
        (true, Some(pid)) => Some(Stopped::stop(pid)?),
        (true, None) => {
            return Err(Failure::new(format!("'{}' is no process that could be stopped", device.url())));
        }
        (false, _) => None,
    };
    notes.splice(0..0, stopped.iter().flat_map(Stopped::notes));
    let regions = host.block_on(device.regions())?;
    // The file that a link names is replaced, not the link.
    let place = fs::canonicalize(&arguments.file).unwrap_or_else(|_| arguments.file.clone());
    let folder = match place.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let cannot =
        |error: io::Error| Failure::new(format!("cannot write '{}': {error}", arguments.file.display()));
    match fs::metadata(&place) {
        Ok(there) if there.is_dir() => return Err(cannot(io::ErrorKind::IsADirectory.into())),
        // A device or a pipe would be replaced by the file.
        Ok(there) if !there.is_file() => return Err(cannot(io::Error::other("it is no regular file"))),
        _ => {}
    }
    let file = tempfile::Builder::new().prefix(".pactio-dump-").tempfile_in(folder).map_err(cannot)?;
    let spans = super::pieces::merged(&regions);
    let total = spans.iter().map(|span| span.end - span.start).sum();
    let progress = Progress::start("dumping", Some(total));
    let mut pieces = Pieces::new(host, device, spans, arguments.flow);
    let mut core = Core::new(file.as_file()).map_err(cannot)?;
    host.block_on(futures_lite::future::or(
        async {
            let text = format!("'{}' is as it was before", arguments.file.display());
            Err(Failure::interrupted(interrupt.wait().await, &text))
        },
        async {
            while let Some(piece) = pieces.next().await? {
                core.add(piece.position, &piece.bytes, &piece.done).map_err(cannot)?;
                progress.add(piece.bytes.len() as u64);
                pieces.recycle(piece);
                // The other future is polled, too, if all reads are complete before this thread has written.
                futures_lite::future::yield_now().await;
            }
            Ok(())
        },
    ))?;
    drop(stopped);
    progress.finish();
    let (held, count) = (core.held, regions.len());
    core.finish(&regions, notes).map_err(cannot)?;
    let lost = pieces.holes.bytes();
    say(format_args!("{held} bytes in {count} regions; {lost} bytes could not be read"));
    // A process that has ended meanwhile, for example: a dump that is there already may be better.
    pieces
        .account()
        .map_err(|failure| failure.and(&format!("'{}' is as it was before", arguments.file.display())))?;
    // Others may read it as they may read a core file: not at all.
    file.persist(&place).map_err(|error| cannot(error.error))?;
    Ok(())
}

/// Processes are stopped on one kind of machine only.
#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
struct Stopped;

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
impl Stopped {
    fn stop(_: &str) -> Result<Self, Failure> {
        Err(Failure::new("--stop needs Linux on x86-64"))
    }

    fn notes(&self) -> Vec<Note> {
        Vec::new()
    }
}

/// Type and content of a note.
type Note = (u32, Vec<u8>);

/// The notes of a process that it need not be stopped for: name and arguments; the auxiliary vector, by which debuggers find the
/// program and its loader.
fn process_notes(process: &str) -> Vec<Note> {
    let of = |name: &str| fs::read(format!("/proc/{process}/{name}")).unwrap_or_default();
    let mut notes = vec![(NT_PRPSINFO, information(process, &of("comm"), &of("cmdline")))];
    notes.extend(Some((NT_AUXV, of("auxv"))).filter(|(_, auxv)| !auxv.is_empty()));
    notes
}

/// The note `NT_PRPSINFO`: number, name and arguments of a process. The other fields are 0.
fn information(process: &str, name: &[u8], arguments: &[u8]) -> Vec<u8> {
    let mut note = vec![0; 136];
    note[24..28].copy_from_slice(&process.parse().unwrap_or(0u32).to_le_bytes());
    // Both texts end with a 0.
    let name = name.strip_suffix(b"\n").unwrap_or(name);
    let name = &name[..name.len().min(15)];
    note[40..40 + name.len()].copy_from_slice(name);
    let arguments = arguments.strip_suffix(&[0]).unwrap_or(arguments);
    let arguments: Vec<u8> =
        arguments.iter().take(79).map(|byte| if *byte == 0 { b' ' } else { *byte }).collect();
    note[56..56 + arguments.len()].copy_from_slice(&arguments);
    note
}

/// A core file that is being written.
struct Core<'f> {
    file: BufWriter<&'f File>,
    segments: Vec<Segment>,
    /// The end of the file.
    end: u64,
    /// Bytes of memory in the file.
    held: u64,
}

/// Addresses that are in the file, or not.
struct Segment {
    range: Range<u64>,
    /// The offset in the file; `None`, if the bytes could not be read.
    offset: Option<u64>,
}

impl<'f> Core<'f> {
    fn new(file: &'f File) -> io::Result<Self> {
        Ok(Self { file: BufWriter::new(file), segments: Vec::new(), end: PAGE, held: 0 })
    }

    /// Adds the bytes at a position, of which the ranges `done` were read.
    fn add(&mut self, position: u64, bytes: &[u8], done: &[Range<usize>]) -> io::Result<()> {
        let mut at = 0;
        for part in done {
            self.extend(position + at as u64..position + part.start as u64, false);
            self.extend(position + part.start as u64..position + part.end as u64, true);
            self.put(&bytes[part.clone()])?;
            at = part.end;
        }
        self.extend(position + at as u64..position + bytes.len() as u64, false);
        Ok(())
    }

    /// Adds addresses to the last segment, or begins one.
    fn extend(&mut self, range: Range<u64>, is_held: bool) {
        if range.is_empty() {
            return;
        }
        match self.segments.last_mut() {
            Some(last) if last.range.end == range.start && last.offset.is_some() == is_held => {
                last.range.end = range.end;
            }
            _ => {
                // Segments lie in the file as they lie in memory, up to a multiple of the page.
                self.end = self.end.next_multiple_of(PAGE) + range.start % PAGE;
                self.segments.push(Segment { range, offset: is_held.then_some(self.end) });
            }
        }
    }

    /// Writes the bytes of the last segment. Pages of zeros are holes of the file.
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        for page in bytes.chunks(PAGE as usize) {
            if page.iter().any(|byte| *byte != 0) {
                self.file.seek(SeekFrom::Start(self.end))?;
                self.file.write_all(page)?;
            }
            self.end += page.len() as u64;
        }
        self.held += bytes.len() as u64;
        Ok(())
    }

    /// Writes notes and headers.
    fn finish(mut self, regions: &[Region], all: Vec<Note>) -> io::Result<()> {
        let mut notes = Vec::new();
        for (kind, content) in all {
            note(&mut notes, kind, &content);
        }
        note(&mut notes, NT_FILE, &files(regions));
        let notes_at = self.end.next_multiple_of(PAGE);
        let headers_at = notes_at + (notes.len() as u64).next_multiple_of(PAGE);
        let mut headers = program_header(PT_NOTE, 0, notes_at, 0, notes.len() as u64, 0, 4);
        let mut count = 1u64;
        for segment in &self.segments {
            // A segment has the rights of its regions.
            let mut start = segment.range.start;
            let first = regions.partition_point(|region| region.range.end <= start);
            for region in regions[first..].iter().take_while(|region| region.range.start < segment.range.end)
            {
                let end = region.range.end.min(segment.range.end);
                let rights = u32::from(region.executable)
                    | u32::from(region.writable) << 1
                    | u32::from(region.readable) << 2;
                let (offset, held) = match segment.offset {
                    Some(offset) => (offset + (start - segment.range.start), end - start),
                    None => (0, 0),
                };
                headers.extend(program_header(PT_LOAD, rights, offset, start, held, end - start, PAGE));
                (start, count) = (end, count + 1);
            }
        }
        self.file.seek(SeekFrom::Start(notes_at))?;
        self.file.write_all(&notes)?;
        self.file.seek(SeekFrom::Start(headers_at))?;
        self.file.write_all(&headers)?;
        // More headers than the field can count are counted in a section header.
        let is_large = count >= 0xffff;
        let section_at = headers_at + headers.len() as u64;
        if is_large {
            let mut section = [0u8; 64];
            section[44..48].copy_from_slice(&(count as u32).to_le_bytes());
            self.file.write_all(&section)?;
        }
        let mut header = b"\x7fELF\x02\x01\x01".to_vec();
        header.resize(16, 0);
        const ET_CORE: u16 = 4;
        header.extend([ET_CORE.to_le_bytes(), MACHINE.to_le_bytes()].concat());
        header.extend(1u32.to_le_bytes());
        header.extend([0, headers_at, if is_large { section_at } else { 0 }].map(u64::to_le_bytes).concat());
        header.extend(0u32.to_le_bytes());
        let count = u16::try_from(count).unwrap_or(u16::MAX);
        let sections = u16::from(is_large);
        header.extend([64, 56, count, 64, sections, 0].map(u16::to_le_bytes).concat());
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&header)?;
        self.file.flush()
    }
}

fn program_header(
    kind: u32,
    flags: u32,
    offset: u64,
    address: u64,
    held: u64,
    size: u64,
    align: u64,
) -> Vec<u8> {
    let front = [kind, flags].map(u32::to_le_bytes).concat();
    [front, [offset, address, 0, held, size, align].map(u64::to_le_bytes).concat()].concat()
}

/// Appends a note of the name `CORE`.
fn note(notes: &mut Vec<u8>, kind: u32, content: &[u8]) {
    notes.extend([5, content.len() as u32, kind].map(u32::to_le_bytes).concat());
    notes.extend(b"CORE\0\0\0\0");
    notes.extend(content);
    notes.resize(notes.len().next_multiple_of(4), 0);
}

/// The content of a note with the mapped files: count, page size, ranges with their offsets in pages, paths.
fn files(regions: &[Region]) -> Vec<u8> {
    let mapped: Vec<_> =
        regions.iter().filter(|region| region.file.is_some() && region.name.starts_with(b"/")).collect();
    let mut words = vec![mapped.len() as u64, PAGE];
    for region in &mapped {
        words.extend([region.range.start, region.range.end, region.file_offset.unwrap_or(0) / PAGE]);
    }
    let mut content: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
    for region in mapped {
        content.extend_from_slice(&region.name);
        content.push(0);
    }
    content
}
