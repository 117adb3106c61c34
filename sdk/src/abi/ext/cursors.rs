//! The rest of a list between two answers, so that all answers are of one snapshot.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::vec::IntoIter;

use super::{Record, Records};
use crate::{Cause, IoError};

/// Keeps the unsent tail of a list, so that a caller that continues sees the snapshot it started with, and the list is made once
/// and not once for each answer.
///
/// Several lists may be read at once: the tails of the last 16 are kept. A caller that continues after its tail was dropped gets
/// a new list from its cursor on. Cheap to clone; all clones share the tails.
///
/// `T` is what a device keeps of each record: the record itself, or a name for which the record is [made](Self::answer_lazily) when
/// it is sent.
#[derive(Debug)]
pub struct ListCursors<T>(Arc<Mutex<VecDeque<Tail<T>>>>);

#[derive(Debug)]
struct Tail<T> {
    /// The list: a folder, or empty where a device has one list.
    key: Vec<u8>,
    /// The cursor of its first record.
    from: u64,
    records: IntoIter<T>,
}

/// Number of tails that are kept. The oldest may be of a caller that never continues.
const MAX_TAILS: usize = 16;

impl<T> Default for ListCursors<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Clone for ListCursors<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> ListCursors<T> {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Tail<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tail that was kept of the list `key`, for a caller that continues at `from`.
    pub fn take(&self, key: &[u8], from: u64) -> Option<IntoIter<T>> {
        let mut tails = self.lock();
        let index = tails.iter().position(|tail| tail.from == from && tail.key == key)?;
        tails.remove(index).map(|tail| tail.records)
    }

    /// Answers from the kept tail, or else from a list that `list` makes. The cursor is the number of a record. `record` makes
    /// the record of an element; `None` leaves the element out, such as a name that is gone by now.
    pub fn answer_lazily<R: Record>(
        &self,
        key: Vec<u8>,
        from: u64,
        answer: Records<R>,
        list: impl FnOnce(&[u8]) -> Result<Vec<T>, Cause>,
        record: impl Fn(&T) -> Option<R>,
    ) {
        let push =
            |answer: &mut Records<R>, element: &T| record(element).is_none_or(|record| answer.push(&record));
        let rest = match self.take(&key, from) {
            Some(tail) => Ok(tail),
            None => list(&key).map(|all| behind(all, from)),
        };
        match rest {
            Ok(rest) => self.answer_by(key, from, rest, answer, push, |at, _| at + 1),
            Err(cause) => answer.fail(&cause),
        }
    }

    /// Answers with as many records as there is room for, and keeps the rest. `push` adds one, or gives `false` if there is no
    /// room.
    fn answer_by<R: Record>(
        &self,
        key: Vec<u8>,
        from: u64,
        mut records: IntoIter<T>,
        mut answer: Records<R>,
        push: impl Fn(&mut Records<R>, &T) -> bool,
        after: impl Fn(u64, &T) -> u64,
    ) {
        let mut next = from;
        let mut any = false;
        while let Some(record) = records.as_slice().first() {
            if !push(&mut answer, record) {
                // After an answer without a record, the caller would ask again for ever.
                if !any {
                    return answer.error(IoError::TOO_LARGE);
                }
                // The tail is kept before the answer, since the caller may continue before this function returns.
                self.keep(Tail { key, from: next, records });
                return answer.complete(Some(next));
            }
            next = after(next, record);
            any = true;
            records.next();
        }
        answer.complete(None);
    }

    fn keep(&self, tail: Tail<T>) {
        let mut tails = self.lock();
        if tails.len() == MAX_TAILS {
            tails.pop_front();
        }
        tails.push_back(tail);
    }
}

impl<R: Record> ListCursors<R> {
    /// Answers with as many of `records` as there is room for, and keeps the rest. The first record has the cursor `from`.
    /// `after` gets the cursor of a record and the record, and gives the cursor behind it.
    pub fn answer(
        &self,
        key: Vec<u8>,
        from: u64,
        records: IntoIter<R>,
        answer: Records<R>,
        after: impl Fn(u64, &R) -> u64,
    ) {
        self.answer_by(key, from, records, answer, Records::push, after);
    }

    /// Answers from the kept tail, or else from a list that `list` makes. The cursor is the number of a record.
    pub fn answer_with(
        &self,
        key: Vec<u8>,
        from: u64,
        answer: Records<R>,
        list: impl FnOnce(&[u8]) -> Result<Vec<R>, Cause>,
    ) {
        if let Some(tail) = self.take(&key, from) {
            return self.answer(key, from, tail, answer, |at, _| at + 1);
        }
        match list(&key) {
            Ok(all) => self.answer_all(key, from, all, answer),
            Err(cause) => answer.fail(&cause),
        }
    }

    /// Answers from a whole list that was just made. The cursor is the number of a record.
    pub fn answer_all(&self, key: Vec<u8>, from: u64, all: Vec<R>, answer: Records<R>) {
        self.answer(key, from, behind(all, from), answer, |at, _| at + 1);
    }
}

/// The elements behind the first `from`.
fn behind<T>(all: Vec<T>, from: u64) -> IntoIter<T> {
    let mut rest = all.into_iter();
    rest.by_ref().take(usize::try_from(from).unwrap_or(usize::MAX)).for_each(drop);
    rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Entry, PacketBox, Write, read_records};

    fn entries(count: u32) -> IntoIter<Entry> {
        (0..count).map(|index| Entry::file(format!("{index:03}"), None)).collect::<Vec<_>>().into_iter()
    }

    /// One answer of a list: its entries, and the cursor of the next.
    fn answer(cursors: &ListCursors<Entry>, from: u64, list: IntoIter<Entry>) -> (Vec<Entry>, Option<u64>) {
        let mut packet = PacketBox::<Write>::new_buf(200).unwrap();
        let records = Records::new(packet.bind().unwrap());
        cursors.answer(b"folder".to_vec(), from, list, records, |at, _| at + 1);
        read_records(packet.simple_contiguous_slice().unwrap()).unwrap()
    }

    #[test]
    fn every_caller_that_continues_finds_its_tail_and_none_is_left_at_the_end() {
        let cursors = ListCursors::default();
        let mut going: Vec<_> = (0..MAX_TAILS).map(|_| answer(&cursors, 0, entries(20))).collect();
        while going[0].1.is_some() {
            for (got, next) in &mut going {
                let from = next.unwrap();
                let (part, behind) = answer(&cursors, from, cursors.take(b"folder", from).unwrap());
                got.extend(part);
                *next = behind;
            }
        }
        assert!(going.iter().all(|(got, next)| got.as_slice() == entries(20).as_slice() && next.is_none()));
        assert!(cursors.lock().is_empty(), "a tail is left");
    }

    #[test]
    fn the_oldest_tail_makes_room() {
        let cursors = ListCursors::default();
        let next = (0..MAX_TAILS + 4).map(|_| answer(&cursors, 0, entries(20)).1.unwrap()).min().unwrap();
        assert_eq!(cursors.lock().len(), MAX_TAILS);
        assert!(cursors.take(b"other", next).is_none() && cursors.take(b"folder", next + 1).is_none());
        assert!(cursors.take(b"folder", next).is_some());
    }

    #[test]
    fn a_list_is_made_once_for_all_its_answers() {
        let (cursors, mut made) = (ListCursors::default(), 0);
        let (mut got, mut from) = (Vec::new(), Some(0));
        while let Some(at) = from {
            let mut packet = PacketBox::<Write>::new_buf(200).unwrap();
            let records = Records::new(packet.bind().unwrap());
            cursors.answer_with(Vec::new(), at, records, |_| {
                made += 1;
                Ok(entries(100).collect())
            });
            let (part, next) = read_records::<Entry>(packet.simple_contiguous_slice().unwrap()).unwrap();
            got.extend(part);
            from = next;
        }
        assert_eq!((got.as_slice(), made), (entries(100).as_slice(), 1));
    }
}
