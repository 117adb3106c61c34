//! Lists that do not fit into one answer.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::vec::IntoIter;

use super::{Entry, Records};
use crate::IoError;

/// The rests of lists of a tree that cannot be had again cheaply, or not the same: who goes on gets what was there when it began.
/// Several may be read at once. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Rests(Arc<Mutex<VecDeque<Rest>>>);

#[derive(Debug)]
struct Rest {
    folder: String,
    /// The number of its first entry.
    from: u64,
    entries: IntoIter<Entry>,
}

/// So many rests are kept; the oldest may be of somebody who will never go on.
const KEPT: usize = 16;

impl Rests {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Rest>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was kept of a folder, for a call that goes on at `from`.
    pub fn take(&self, folder: &str, from: u64) -> Option<IntoIter<Entry>> {
        let mut rests = self.lock();
        let index = rests.iter().position(|rest| rest.from == from && rest.folder == folder)?;
        rests.remove(index).map(|rest| rest.entries)
    }

    /// Answers with as many of `entries` as fit, the first of which has the number `from`, and keeps the rest.
    pub fn answer(
        &self,
        folder: String,
        from: u64,
        mut entries: IntoIter<Entry>,
        mut answer: Records<Entry>,
    ) {
        let mut next = from;
        while let Some(entry) = entries.as_slice().first() {
            if !answer.push(entry) {
                // Who cannot take even one has too little room for its name.
                if next == from {
                    return answer.error(IoError::TOO_LARGE);
                }
                // First, since who goes on may be there before the answer is through.
                self.keep(Rest { folder, from: next, entries });
                return answer.complete(Some(next));
            }
            entries.next();
            next += 1;
        }
        answer.complete(None);
    }

    /// The same for all of a list, from the first entry on.
    pub fn answer_all(&self, folder: String, from: u64, all: Vec<Entry>, answer: Records<Entry>) {
        let mut rest = all.into_iter();
        rest.by_ref().take(usize::try_from(from).unwrap_or(usize::MAX)).for_each(drop);
        self.answer(folder, from, rest, answer);
    }

    /// What was kept, or else a list that is made at once.
    pub fn answer_with(
        &self,
        folder: String,
        from: u64,
        answer: Records<Entry>,
        list: impl FnOnce(&str) -> Result<Vec<Entry>, IoError>,
    ) {
        if let Some(rest) = self.take(&folder, from) {
            return self.answer(folder, from, rest, answer);
        }
        match list(&folder) {
            Ok(all) => self.answer_all(folder, from, all, answer),
            Err(error) => answer.error(error),
        }
    }

    fn keep(&self, rest: Rest) {
        let mut rests = self.lock();
        if rests.len() == KEPT {
            rests.pop_front();
        }
        rests.push_back(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PacketBox, Write, read_records};

    fn entries(count: u32) -> IntoIter<Entry> {
        let entry = |index| Entry { name: format!("{index:03}"), is_folder: false, size: None };
        (0..count).map(entry).collect::<Vec<_>>().into_iter()
    }

    /// One answer of a list: its entries, and where to go on.
    fn answer(rests: &Rests, from: u64, list: IntoIter<Entry>) -> (Vec<Entry>, Option<u64>) {
        let mut packet = PacketBox::<Write>::new_buf(200).unwrap();
        rests.answer("folder".to_owned(), from, list, Records::new(packet.bind().unwrap()));
        let done = packet.error_clamp();
        read_records(&packet.simple_contiguous_slice().unwrap()[..done]).unwrap()
    }

    #[test]
    fn all_who_go_on_find_their_rests_and_nothing_is_kept_of_what_is_through() {
        let rests = Rests::default();
        let mut going: Vec<_> = (0..KEPT).map(|_| answer(&rests, 0, entries(20))).collect();
        while going[0].1.is_some() {
            for (got, next) in &mut going {
                let from = next.unwrap();
                let (part, behind) = answer(&rests, from, rests.take("folder", from).unwrap());
                got.extend(part);
                *next = behind;
            }
        }
        assert!(going.iter().all(|(got, next)| got.as_slice() == entries(20).as_slice() && next.is_none()));
        assert!(rests.lock().is_empty());
    }

    #[test]
    fn the_oldest_rest_makes_room() {
        let rests = Rests::default();
        let next = (0..KEPT + 4).map(|_| answer(&rests, 0, entries(20)).1.unwrap()).min().unwrap();
        assert_eq!(rests.lock().len(), KEPT);
        assert!(rests.take("other", next).is_none() && rests.take("folder", next + 1).is_none());
        assert!(rests.take("folder", next).is_some());
    }
}
