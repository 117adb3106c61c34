//! Decompresses a long file block by block, from the front or from a place where it was before.
//!
//! ```text
//!  │ block │ block │ block │ block │ block │ ...
//!  ▲                               ▲         a copy of the state every few blocks, where the codec can give one
//!  └─ the check sum runs along, so it is known when the last block comes out
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use crc32fast::Hasher;
use pactio_sdk::{Code, Error, PacketBox, Write};

use crate::codec::{Corrupt, Steps};
use crate::decoding::{Block, Ticket};
use crate::packed::{Packed, Part, fail};

/// What is decompressed and kept at once.
pub(crate) const BLOCK: u64 = 1 << 20;

/// What is read at once.
const CHUNK: u64 = 512 << 10;

/// A copy of the state is kept at every so many blocks.
const MARK: u64 = 4;

/// How far a long file is.
#[derive(Default)]
pub(crate) struct Long {
    /// Where the last one stopped.
    parked: Option<Box<Cursor>>,
    marks: BTreeMap<u64, Box<Cursor>>,
}

/// A place in a file, always at the beginning of a block when nobody works on it.
struct Cursor {
    steps: Steps,
    /// The next block.
    block: u64,
    /// What comes next of what is compressed.
    position: u64,
    crc: Hasher,
    ended: bool,
    /// The block that is being made, and how much of it there is.
    begun: Option<(Block, usize)>,
    chunk: Chunk,
}

/// What was read of what is compressed.
#[derive(Default)]
struct Chunk {
    packet: Option<PacketBox<Write>>,
    start: u64,
}

impl Chunk {
    /// What there is from a position on.
    fn from(&self, position: u64) -> &[u8] {
        let bytes = self.packet.as_ref().and_then(|packet| packet.simple_contiguous_slice().ok());
        let skip = position.checked_sub(self.start).and_then(|skip| usize::try_from(skip).ok());
        bytes.zip(skip).and_then(|(bytes, skip)| bytes.get(skip..)).unwrap_or_default()
    }
}

impl Cursor {
    fn fork(&self) -> Option<Box<Self>> {
        Some(Box::new(Self {
            steps: self.steps.fork()?,
            block: self.block,
            position: self.position,
            crc: self.crc.clone(),
            ended: self.ended,
            begun: None,
            chunk: Chunk::default(),
        }))
    }
}

impl Packed {
    /// Goes on with whatever is waited for.
    pub(crate) fn go_on_in_blocks(self: &Arc<Self>, ticket: Ticket) {
        let this = self.clone();
        self.decoding.pool.submit(move || this.run(None, ticket));
    }

    /// Works on a cursor until nobody waits, or there is more to be read.
    fn run(self: &Arc<Self>, cursor: Option<Box<Cursor>>, ticket: Ticket) {
        let _working = self.working();
        let mut cursor = cursor;
        loop {
            let next = cursor.take().map_or_else(|| self.next(), |begun| Ok(Some(begun)));
            let mut at_work = match next {
                Ok(Some(cursor)) => cursor,
                Ok(None) => return,
                Err(error) => return self.give_up(error),
            };
            match self.block(&mut at_work) {
                Ok(Some(block)) => {
                    self.came_out(&at_work, block);
                    let mut state = self.lock();
                    state.long.parked = Some(at_work);
                }
                Ok(None) => return self.read_on(at_work, ticket),
                Err(Corrupt) => return self.give_up(Error::from_code(Code::Corrupt)),
            }
        }
    }

    /// Answers what is there by now, and finds the place to go on at: the next block that somebody waits for, or
    /// else the first; nothing, if nobody waits.
    fn next(&self) -> Result<Option<Box<Cursor>>, Error> {
        let mut served: Vec<(Part, Arc<Block>)> = Vec::new();
        let mut cancelled = Vec::new();
        let mut state = self.lock();
        for part in std::mem::take(&mut state.waiting) {
            if part.view.is_cancelled() {
                cancelled.push(part);
            } else if let Some(kept) = self.kept(part.block) {
                served.push((part, kept));
            } else {
                state.waiting.push(part);
            }
        }
        let parked = state.long.parked.take();
        let at = parked.as_ref().map_or(0, |cursor| cursor.block);
        let blocks = || state.waiting.iter().map(|part| part.block);
        let wanted = blocks().filter(|&block| block >= at).min().or_else(|| blocks().min());
        let next = match wanted {
            None => {
                state.running = false;
                state.long.parked = parked;
                Ok(None)
            }
            Some(wanted) => {
                let parked = parked.filter(|cursor| cursor.block <= wanted);
                let mark = state.long.marks.range(..=wanted).next_back().map(|(_, mark)| mark);
                let mark = mark.filter(|mark| parked.as_ref().is_none_or(|parked| parked.block < mark.block));
                match mark.and_then(|mark| mark.fork()).or(parked) {
                    Some(cursor) => Ok(Some(cursor)),
                    None => self.begin().map(Some),
                }
            }
        };
        drop(state);
        fail(cancelled, Error::CANCELLED);
        served.into_iter().for_each(|(part, block)| part.answer(block.bytes()));
        next
    }

    fn begin(&self) -> Result<Box<Cursor>, Error> {
        let steps = Steps::new(self.source.codec).map_err(|Corrupt| Error::from_code(Code::OutOfMemory))?;
        Ok(Box::new(Cursor {
            steps,
            block: 0,
            position: 0,
            crc: Hasher::new(),
            ended: false,
            begun: None,
            chunk: Chunk::default(),
        }))
    }

    /// Makes the cursor's next block; nothing, if there has to be more to be read.
    fn block(&self, cursor: &mut Cursor) -> Result<Option<Block>, Corrupt> {
        let source = &self.source;
        let len = (source.size - cursor.block * BLOCK).min(BLOCK) as usize;
        let (mut block, mut filled) = cursor.begun.take().unwrap_or_else(|| (Block::zeroed(len), 0));
        // The last block is there when the codec has said so as well.
        let last = (cursor.block + 1) * BLOCK >= source.size;
        while filled < len || (last && !cursor.ended) {
            let packed = cursor.chunk.from(cursor.position);
            if packed.is_empty() && cursor.position < source.packed && !cursor.ended {
                cursor.begun = Some((block, filled));
                return Ok(None);
            }
            if cursor.ended {
                return Err(Corrupt);
            }
            let mut beyond = [0];
            let out = if filled < len { &mut block.bytes_mut()[filled..] } else { &mut beyond[..] };
            let step = cursor.steps.step(packed, out)?;
            if filled == len && step.produced > 0 {
                // There is more than there should be.
                return Err(Corrupt);
            }
            cursor.position += step.consumed as u64;
            filled += step.produced;
            // What is behind one end of the codec may be another beginning.
            cursor.ended = step.ended && (filled == len || cursor.position == source.packed);
            if step.consumed == 0 && step.produced == 0 && !cursor.ended {
                return Err(Corrupt);
            }
        }
        cursor.crc.update(block.bytes());
        if last && cursor.crc.clone().finalize() != source.crc {
            return Err(Corrupt);
        }
        cursor.block += 1;
        Ok(Some(block))
    }

    /// A block is there: gives it to who waits, and keeps it.
    fn came_out(&self, cursor: &Cursor, block: Block) {
        let number = cursor.block - 1;
        self.decoding.decoded(block.bytes().len());
        let block = Arc::new(block);
        self.keep(number, block.clone());
        let mut state = self.lock();
        let parts: Vec<Part> = state.waiting.extract_if(.., |part| part.block == number).collect();
        if cursor.block.is_multiple_of(MARK)
            && !cursor.ended
            && !state.long.marks.contains_key(&cursor.block)
            && let Some(mark) = cursor.fork()
        {
            state.long.marks.insert(cursor.block, mark);
        }
        drop(state);
        parts.into_iter().for_each(|part| part.answer(block.bytes()));
    }

    /// Reads more of what is compressed, and goes on when it is there.
    fn read_on(self: &Arc<Self>, mut cursor: Box<Cursor>, ticket: Ticket) {
        let start = cursor.position;
        let len = (self.source.packed - start).min(CHUNK);
        self.fetch(start, len, move |this, packet| {
            cursor.chunk = Chunk { packet: Some(packet), start };
            this.run(Some(cursor), ticket);
        });
    }
}
