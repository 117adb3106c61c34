//! Decompresses a long file block by block, from the front or from an earlier place.
//!
//! ```text
//!  │ block │ block │ block │ block │ block │ ...
//!  ▲                               ▲         a copy of the state every few blocks, where the codec can give one
//!  └─ the check sum runs along, so it is known when the last block comes out
//! ```

use std::cmp::Reverse;
use std::sync::Arc;

use pactio_sdk::{Code, IoError, PacketBox, Write};

use crate::block::Block;
use crate::checkpoints::Checkpoints;
use crate::codec::Corrupt;
use crate::compressed::{CompressedFile, Part, State};
use crate::cursor::Cursor;
use crate::decoding::Ticket;

/// Number of bytes that are decompressed and kept at once.
pub(crate) const BLOCK: u64 = 1 << 20;

/// Number of compressed bytes that are read at once.
const CHUNK: u64 = 512 << 10;

/// Number of blocks that are made for other parts before the part that waits longest is served.
const PATIENCE: u32 = 8;

/// The decompression state of a long file.
#[derive(Default)]
pub(crate) struct StreamingFile {
    /// The place where the last decompression stopped.
    parked: Option<Place>,
    marks: Checkpoints<Cursor>,
    /// The block that was made last. A sequential reader reads the rest of this block next, and the cache may not have kept it.
    last: Option<(u64, Arc<Block>)>,
    /// Number of blocks that were made in a row without the block of the part that waits longest.
    passed: u32,
}

/// A place in a file, and the compressed bytes that were read from there on.
struct Place {
    cursor: Box<Cursor>,
    chunk: Chunk,
}

/// Compressed bytes that were read.
#[derive(Default)]
struct Chunk {
    packet: Option<PacketBox<Write>>,
    start: u64,
}

impl Chunk {
    /// The bytes from a position on.
    fn from(&self, position: u64) -> &[u8] {
        let bytes = self.packet.as_ref().and_then(|packet| packet.simple_contiguous_slice().ok());
        let skip = position.checked_sub(self.start).and_then(|skip| usize::try_from(skip).ok());
        bytes.zip(skip).and_then(|(bytes, skip)| bytes.get(skip..)).unwrap_or_default()
    }
}

impl From<Cursor> for Place {
    fn from(cursor: Cursor) -> Self {
        Self { cursor: Box::new(cursor), chunk: Chunk::default() }
    }
}

impl StreamingFile {
    /// The block that was made last, if it is this one.
    pub(crate) fn last(&self, block: u64) -> Option<Arc<Block>> {
        self.last.as_ref().filter(|(number, _)| *number == block).map(|(_, bytes)| bytes.clone())
    }
}

/// The block that is made next: the first one from `parked_at` on that a most urgent part awaits, or else the first such block.
/// After [`PATIENCE`] blocks for other parts, it is the block of the part that waits longest.
fn wanted_block(state: &State, parked_at: u64) -> Option<u64> {
    if state.long.passed >= PATIENCE {
        return state.waiting.first().map(|part| part.block);
    }
    // The urgency of each part is read once, since it may change meanwhile.
    let next = state
        .waiting
        .iter()
        .min_by_key(|part| (Reverse(part.view.urgency()), part.block < parked_at, part.block));
    next.map(|part| part.block)
}

impl CompressedFile {
    /// Continues with the blocks that parts wait for.
    pub(crate) fn go_on_in_blocks(self: &Arc<Self>, ticket: Ticket) {
        let this = self.clone();
        self.decoding.pool.submit_urgent(self.attributes.urgency(), move || this.run(None, ticket));
    }

    /// Decompresses from a place on, until no part waits, or more input has to be read. `place` is `None` at the start: then
    /// the first awaited block decides.
    fn run(self: &Arc<Self>, place: Option<Place>, ticket: Ticket) {
        let _working = self.working();
        let mut place = place;
        loop {
            let next = place.take().map_or_else(|| self.serve_and_continue(), |begun| Ok(Some(begun)));
            let Place { mut cursor, chunk } = match next {
                Ok(Some(place)) => place,
                Ok(None) => return,
                Err(error) => return self.abandon(error),
            };
            let packed = chunk.from(cursor.position());
            match cursor.make(&self.source.coded, BLOCK, packed) {
                Ok(Some(block)) => {
                    self.came_out(&cursor, block);
                    self.lock().long.parked = Some(Place { cursor, chunk });
                }
                Ok(None) => return self.read_on(cursor, ticket),
                // No parts were taken out that would have to fail as well.
                Err(Corrupt) => return self.abandon_as_corrupt(|_| {}),
            }
        }
    }

    /// Answers the parts whose blocks are kept by now, and returns the place to continue at; `None`, if no part waits.
    fn serve_and_continue(&self) -> Result<Option<Place>, IoError> {
        let mut served: Vec<(Part, Arc<Block>)> = Vec::new();
        let mut unwanted = Vec::new();
        let mut state = self.lock();
        for part in std::mem::take(&mut state.waiting) {
            if let Some(error) = part.unwanted() {
                unwanted.push((part, error));
            } else if let Some(kept) = self.kept(part.block) {
                served.push((part, kept));
            } else {
                state.waiting.push(part);
            }
        }
        let parked = state.long.parked.take();
        let parked_at = parked.as_ref().map_or(0, |place| place.cursor.block());
        self.adopt_urgency(&state);
        let next = match wanted_block(&state, parked_at) {
            None => {
                state.running = false;
                state.long.parked = parked;
                Ok(None)
            }
            Some(wanted) => self.place_for(wanted, parked, &state.long.marks).map(Some),
        };
        drop(state);
        unwanted.into_iter().for_each(|(part, error)| part.view.error(error));
        served.into_iter().for_each(|(part, block)| part.answer(block.bytes()));
        next
    }

    /// The nearest place that is not behind the block: the parked place, a copy of an earlier state, or the front.
    fn place_for(
        &self,
        wanted: u64,
        parked: Option<Place>,
        marks: &Checkpoints<Cursor>,
    ) -> Result<Place, IoError> {
        let parked = parked.filter(|place| place.cursor.block() <= wanted);
        let parked_at = parked.as_ref().map(|place| place.cursor.block());
        let mark = marks.at_or_before(wanted).filter(|(block, _)| parked_at.is_none_or(|at| at < *block));
        match mark.and_then(|(_, mark)| mark.fork()).map(Place::from).or(parked) {
            Some(place) => Ok(place),
            None => self.begin(),
        }
    }

    fn begin(&self) -> Result<Place, IoError> {
        // Without input, only memory can be missing.
        let cursor = Cursor::new(self.source.coded.codec);
        cursor.map(Place::from).map_err(|Corrupt| IoError::from_code(Code::OUT_OF_MEMORY))
    }

    /// Gives a finished block to the parts that wait for it, and keeps the block for later reads. Every few blocks, a copy
    /// of the cursor is kept. `passed` counts the blocks that were made while the part that waits longest needs another one.
    fn came_out(&self, cursor: &Cursor, block: Block) {
        // The cursor is behind the block already.
        let number = cursor.block() - 1;
        self.decoding.decoded(block.bytes().len());
        let block = Arc::new(block);
        self.keep(number, block.clone());
        let mut state = self.lock();
        let passed = state.waiting.first().is_some_and(|longest| longest.block != number);
        let parts: Vec<Part> = state.waiting.extract_if(.., |part| part.block == number).collect();
        let long = &mut state.long;
        long.passed = if passed { long.passed + 1 } else { 0 };
        long.last = Some((number, block.clone()));
        long.marks.add(cursor.block(), || cursor.fork());
        drop(state);
        parts.into_iter().for_each(|part| part.answer(block.bytes()));
    }

    /// Reads more compressed bytes, and continues when they have arrived.
    fn read_on(self: &Arc<Self>, cursor: Box<Cursor>, ticket: Ticket) {
        let start = cursor.position();
        let len = (self.source.coded.packed - start).min(CHUNK);
        self.fetch(start, len, move |this, packet| {
            // The device below keeps the callback: a strong reference would be a cycle.
            let weak = Arc::downgrade(&this);
            // No check sum covers these bytes before the file's end, so a change of the archive is looked for now.
            this.source.storage.check(move |same| {
                let Some(this) = weak.upgrade() else { return };
                if let Err(changed) = same {
                    return this.abandon(changed);
                }
                let (pool, urgency) = (this.decoding.pool.clone(), this.attributes.urgency());
                let chunk = Chunk { packet: Some(packet), start };
                pool.submit_urgent(urgency, move || this.run(Some(Place { cursor, chunk }), ticket));
            });
        });
    }
}
