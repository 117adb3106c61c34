//! The expected result of each byte.

use std::ops::Range;

use pactio_sdk::IoError;

use crate::plan::{Answer, Plan, Retry};

/// One byte of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Byte {
    /// Done, or failed with an error.
    pub result: Result<(), IoError>,
    /// The tag of its segment.
    pub tag: u64,
    /// How many times the byte may have been moved.
    pub moves: u8,
}

/// The bytes of a request.
#[derive(Debug)]
pub struct Model {
    /// One entry per byte.
    pub bytes: Vec<Byte>,
}

impl Model {
    /// The expected result of a request of `len` bytes, where `is_aligned(start, align)` says whether direct bytes are available.
    pub fn new(plan: &Plan, len: usize, is_aligned: &dyn Fn(usize, usize) -> bool) -> Self {
        let unanswered = Byte { result: Err(IoError::UNANSWERED), tag: 0, moves: 0 };
        let mut model = Self { bytes: vec![unanswered; len] };
        model.apply(plan, 0..len, 0, is_aligned);
        model
    }

    fn set(&mut self, range: Range<usize>, tag: u64, result: Result<(), IoError>, moved: bool) {
        for byte in &mut self.bytes[range] {
            *byte = Byte { result, tag, moves: byte.moves + u8::from(moved) };
        }
    }

    /// The first `done` bytes of `range` are done, the rest failed.
    fn part(&mut self, range: Range<usize>, tag: u64, done: usize, rest: IoError) {
        let middle = range.start + done.min(range.len());
        self.set(range.start..middle, tag, Ok(()), true);
        self.set(middle..range.end, tag, Err(rest), true);
    }

    fn apply(
        &mut self,
        plan: &Plan,
        range: Range<usize>,
        tag: u64,
        is_aligned: &dyn Fn(usize, usize) -> bool,
    ) {
        match plan {
            Plan::Split { at, front, back, .. } => {
                let middle = range.start + (*at).min(range.len());
                self.apply(front, range.start..middle, tag, is_aligned);
                self.apply(back, middle..range.end, tag, is_aligned);
            }
            Plan::Tag(tag, then) => self.apply(then, range, *tag, is_aligned),
            Plan::Elsewhere(then) => self.apply(then, range, tag, is_aligned),
            Plan::Rebind { fresh, failed, .. } => {
                // A rebound packet has tags of its own; the origin's answer carries the origin's tag.
                self.apply(fresh, range.clone(), tag, is_aligned);
                for index in range {
                    let byte = &mut self.bytes[index];
                    byte.tag = tag;
                    match (byte.result, failed) {
                        (_, Retry::Abandon) => byte.result = Err(IoError::UNANSWERED),
                        (Err(_), Retry::Transfer) => {
                            byte.result = Ok(());
                            byte.moves += 1;
                        }
                        (Err(_), Retry::Fail(error)) => byte.result = Err(*error),
                        (Err(_), Retry::Forward) | (Ok(()), _) => {}
                    }
                }
            }
            Plan::Transfer { buffer, done } => {
                let moved = (*buffer).min(range.len());
                match done {
                    None => self.part(range, tag, moved, IoError::END),
                    Some((done, error)) => self.part(range, tag, moved.min(*done), *error),
                }
            }
            Plan::TransferSplit { buffer, at, drops_front } => {
                let front = range.start..range.start + (*at).min(range.len());
                self.part(range, tag, *buffer, IoError::END);
                if *drops_front {
                    self.bytes[front].iter_mut().for_each(|byte| byte.result = Err(IoError::UNANSWERED));
                }
            }
            Plan::Alloc { align, bytes, answer } => {
                if !is_aligned(range.start, *align) {
                    self.set(range, tag, Err(IoError::UNSUPPORTED), false);
                } else {
                    match answer {
                        Answer::Complete(error) => self.part(range, tag, *bytes, *error),
                        Answer::Fail(error) => self.set(range, tag, Err(*error), true),
                        Answer::Drop => self.set(range, tag, Err(IoError::UNANSWERED), true),
                    }
                }
            }
            Plan::AllocSplit { .. } => {
                if is_aligned(range.start, 1) {
                    self.set(range, tag, Ok(()), true);
                } else {
                    self.set(range, tag, Err(IoError::UNSUPPORTED), false);
                }
            }
            Plan::Fail(error) | Plan::Any { error, .. } => self.set(range, tag, Err(*error), false),
            Plan::Drop | Plan::Panic => self.set(range, tag, Err(IoError::UNANSWERED), false),
        }
    }
}
