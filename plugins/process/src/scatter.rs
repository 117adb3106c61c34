//! Many writes in few system calls, in the order in which they came.

use std::collections::VecDeque;

use pactio_sdk::{BoundPacketView, IoError, Read, ReadPacketObj};

use crate::calls::{MAX_BYTES, MAX_RANGES, Ranges};
use crate::files::ProcFiles;
use crate::holes::why_not_written;
use crate::maps::Maps;
use crate::pages::PAGE;
use crate::target::Target;

/// A request without memory of its own is written in parts of this number of bytes.
const COPIED: usize = 1 << 20;

/// Collects writes and does them.
#[derive(Default)]
pub(crate) struct Scatter {
    waiting: VecDeque<(u64, ReadPacketObj)>,
    copied: Vec<u8>,
    files: ProcFiles,
}

impl Scatter {
    /// Takes a write of which `room` bytes exist.
    pub(crate) fn write(&mut self, target: &Target, address: u64, room: usize, view: BoundPacketView<Read>) {
        let view = if view.len() > room {
            let (view, behind) = view.split_at(room);
            behind.error(IoError::END);
            view
        } else {
            view
        };
        match view.try_alloc(1) {
            Ok(bytes) => self.take(address, bytes),
            Err(view) => {
                // The writes that came before it are done first.
                self.run(target);
                self.write_by_copy(target, address, view);
            }
        }
    }

    fn take(&mut self, mut address: u64, mut bytes: ReadPacketObj) {
        while bytes.len() > MAX_BYTES {
            let (front, rest) = bytes.split_at(MAX_BYTES);
            self.waiting.push_back((address, front));
            (address, bytes) = (address + MAX_BYTES as u64, rest);
        }
        self.waiting.push_back((address, bytes));
    }

    fn write_by_copy(&mut self, target: &Target, mut address: u64, view: BoundPacketView<Read>) {
        let (mut rest, mut maps) = (Some(view), Maps::default());
        while let Some(mut part) = rest.take() {
            if part.len() > COPIED {
                let (front, behind) = part.split_at(COPIED);
                (part, rest) = (front, Some(behind));
            }
            let len = part.len();
            self.copied.resize(len, 0);
            let part = part.transfer_data(&mut self.copied);
            let mut ranges = Ranges::with_capacity(1);
            ranges.push(address, self.copied.as_mut_ptr(), len);
            // SAFETY: `copied` has `len` bytes and lives through the call.
            match unsafe { ranges.write(target) } {
                Ok(done) if done == len => part.complete(),
                Ok(done) => {
                    let why = why_not_written(&mut maps, &self.files, target, address + done as u64);
                    part.complete_with(done, why);
                }
                Err(error) => part.error(error),
            }
            address += len as u64;
        }
    }

    /// Does all writes that were taken.
    pub(crate) fn run(&mut self, target: &Target) {
        let mut maps = Maps::default();
        while !self.waiting.is_empty() {
            let (mut ranges, mut bytes) = (Ranges::with_capacity(self.waiting.len().min(MAX_RANGES)), 0);
            for (address, part) in self.waiting.iter().take(MAX_RANGES) {
                if bytes > 0 && bytes + part.len() > MAX_BYTES {
                    break;
                }
                bytes += part.len();
                ranges.push(*address, part.as_ptr().cast_mut(), part.len());
            }
            // SAFETY: the parts are in `waiting`, and the system only reads them.
            match unsafe { ranges.write(target) } {
                Ok(done) => self.answer(target, &mut maps, ranges.len(), done),
                Err(error) => self.waiting.drain(..).for_each(|(_, part)| part.error(error)),
            }
        }
    }

    /// Answers the first `count` parts, of which `done` bytes were written; if bytes are left, they begin in a page that cannot
    /// be written.
    fn answer(&mut self, target: &Target, maps: &mut Maps, count: usize, done: usize) {
        let mut left = done;
        for _ in 0..count {
            let Some((address, part)) = self.waiting.pop_front() else { return };
            if left >= part.len() {
                left -= part.len();
                part.complete();
                continue;
            }
            let hole = address + left as u64;
            let behind = (hole | (PAGE - 1)).saturating_add(1).min(address + part.len() as u64);
            let (front, rest) = part.split_at(left);
            front.complete();
            let (missing, rest) = rest.split_at((behind - hole) as usize);
            missing.error(why_not_written(maps, &self.files, target, hole));
            if rest.is_empty() {
                rest.complete();
            } else {
                self.waiting.push_front((behind, rest));
            }
            return;
        }
    }
}
