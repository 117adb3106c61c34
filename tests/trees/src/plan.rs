//! Plans of operations on a view.

use pactio_sdk::{Code, IoError};

/// A stream of decisions.
pub trait Bytes {
    /// The next byte; zeros for ever at the end.
    fn byte(&mut self) -> u8;

    /// A number up to and including `most`.
    fn up_to(&mut self, most: usize) -> usize {
        let wide = u32::from_le_bytes([self.byte(), self.byte(), self.byte(), 0]) as usize;
        // Small numbers and edges are more interesting than other numbers.
        match self.byte() % 8 {
            0 => 0,
            1 => most,
            2 => wide % (most.min(8) + 1),
            _ => wide % (most + 1),
        }
    }
}

impl<F: FnMut() -> u8> Bytes for F {
    fn byte(&mut self) -> u8 {
        self()
    }
}

/// The bytes of a fuzzer.
impl Bytes for &[u8] {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.split_first() else { return 0 };
        *self = rest;
        *first
    }
}

/// The operation on a view of a known length.
#[derive(Debug)]
pub enum Plan {
    /// Cut the view; `swapped`: the back is answered first.
    Split { at: usize, front: Box<Plan>, back: Box<Plan>, swapped: bool },
    /// Give the view a tag.
    Tag(u64, Box<Plan>),
    /// Move the view to another thread.
    Elsewhere(Box<Plan>),
    /// Take the view over, answer the fresh view, then each range of the origin that failed: at the end, or part by part.
    Rebind { fresh: Box<Plan>, failed: Retry, parts: Parts },
    /// Move bytes with a device's buffer of this length, then answer with at most this number of bytes as done, if a number is
    /// given.
    Transfer { buffer: usize, done: Option<(usize, IoError)> },
    /// Move bytes with a device's buffer of this length, cut the range, complete the back, then complete or drop the front.
    TransferSplit { buffer: usize, at: usize, drops_front: bool },
    /// Ask for direct bytes at this alignment; transfer this number of bytes; answer.
    Alloc { align: usize, bytes: usize, answer: Answer },
    /// Ask for direct bytes and cut them, and transfer both parts in full.
    AllocSplit { at: usize },
    /// Fail the view.
    Fail(IoError),
    /// Drop the view.
    Drop,
    /// Panic with the view in hand.
    Panic,
    /// Store the view as any packet, cut it there, and fail both parts.
    Any { at: usize, error: IoError },
}

/// When a layer gets the parts that came back.
#[derive(Clone, Copy, Debug)]
pub enum Parts {
    /// When all parts came back.
    AtOnce,
    /// Each part as it comes back.
    Each,
    /// Each part as it comes back, answered on another thread, in two pieces.
    EachElsewhere,
}

/// The operation on a range of an origin after its fresh view failed.
#[derive(Clone, Copy, Debug)]
pub enum Retry {
    /// Move all of its bytes after all.
    Transfer,
    /// Fail the range with another error.
    Fail(IoError),
    /// Fail the range with its own error.
    Forward,
    /// Drop the rebound packet without settling.
    Abandon,
}

/// The answer to direct bytes.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// The transferred bytes are done, the rest failed with this error.
    Complete(IoError),
    /// All bytes failed.
    Fail(IoError),
    /// Dropped without an answer.
    Drop,
}

fn error(bytes: &mut impl Bytes) -> IoError {
    let codes = [Code::IO, Code::BUSY, Code::CORRUPT, Code::TIMED_OUT, Code::END, Code::CANCELLED];
    IoError::from_code(codes[bytes.byte() as usize % codes.len()])
}

impl Plan {
    /// A tree for a view of `len` bytes, at most `depth` levels deep.
    pub fn new(bytes: &mut impl Bytes, len: usize, depth: usize) -> Self {
        let choices = if depth == 0 { 9 } else { 16 };
        match bytes.byte() % choices {
            0 => Self::Transfer { buffer: len, done: None },
            1 => Self::Transfer { buffer: bytes.up_to(len + 3), done: None },
            2 => Self::Transfer { buffer: bytes.up_to(len), done: Some((bytes.up_to(len), error(bytes))) },
            3 => Self::Alloc {
                align: 1 << (bytes.byte() % 14),
                bytes: bytes.up_to(len),
                answer: match bytes.byte() % 4 {
                    0 => Answer::Fail(error(bytes)),
                    1 => Answer::Drop,
                    _ => Answer::Complete(error(bytes)),
                },
            },
            4 => Self::AllocSplit { at: bytes.up_to(len + 1) },
            5 => Self::Fail(error(bytes)),
            6 => match bytes.byte() % 4 {
                0 => Self::Panic,
                _ => Self::Drop,
            },
            7 => Self::Any { at: bytes.up_to(len + 1), error: error(bytes) },
            8 => Self::TransferSplit {
                buffer: bytes.up_to(len + 1),
                at: bytes.up_to(len + 1),
                drops_front: bytes.byte().is_multiple_of(2),
            },
            9 => Self::Tag(
                u64::from(bytes.byte()) << (bytes.byte() % 55),
                Box::new(Self::new(bytes, len, depth - 1)),
            ),
            10 => Self::Elsewhere(Box::new(Self::new(bytes, len, depth - 1))),
            11 => Self::Rebind {
                fresh: Box::new(Self::new(bytes, len, depth - 1)),
                failed: match bytes.byte() % 8 {
                    0 => Retry::Abandon,
                    1 | 2 => Retry::Fail(error(bytes)),
                    3 | 4 => Retry::Forward,
                    _ => Retry::Transfer,
                },
                parts: match bytes.byte() % 4 {
                    0 | 1 => Parts::AtOnce,
                    2 => Parts::Each,
                    _ => Parts::EachElsewhere,
                },
            },
            _ => {
                let at = bytes.up_to(len + 1);
                let front_len = at.min(len);
                Self::Split {
                    at,
                    front: Box::new(Self::new(bytes, front_len, depth - 1)),
                    back: Box::new(Self::new(bytes, len - front_len, depth - 1)),
                    swapped: bytes.byte().is_multiple_of(2),
                }
            }
        }
    }
}
