//! The rest of a list between two answers, so that all answers are of one snapshot.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::vec::IntoIter;

use super::{Record, Records};
use crate::{Cause, Code, IoError};

/// Keeps the unsent tail of a list, so that a caller that continues sees the snapshot it started with, and the list is made once
/// and not once for each answer.
///
/// Thousands of lists may be read at once: a cursor names its list. The tails of the last 4096 are kept, or fewer if they are
/// long, since a caller may never continue. A caller that continues after its tail was dropped, or asks for the same page twice,
/// gets [`Code::CHANGED`], and begins again. Cheap to clone; all clones share the tails.
///
/// `T` is what a device keeps of each record: the record itself, or a name for which the record is [made](Self::answer_lazily) when
/// it is sent.
#[derive(Debug)]
pub struct ListCursors<T>(Arc<Mutex<Kept<T>>>);

#[derive(Debug)]
struct Kept<T> {
    tails: VecDeque<Tail<T>>,
    /// Number of lists that were begun with a number of their own.
    lists: u32,
}

#[derive(Debug)]
struct Tail<T> {
    /// The list: a folder, or empty where a device has one list.
    key: Vec<u8>,
    /// The cursor of its first record.
    from: u64,
    records: IntoIter<T>,
}

/// Number of tails that are kept.
const MAX_TAILS: usize = 4096;

/// Number of records in all kept tails, unless the last tail alone has more.
const MAX_KEPT_RECORDS: usize = 1 << 22;

impl<T> Default for ListCursors<T> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Kept { tails: VecDeque::new(), lists: 0 })))
    }
}

impl<T> Clone for ListCursors<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> ListCursors<T> {
    fn lock(&self) -> MutexGuard<'_, Kept<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tail that was kept of the list `key`, for a caller that continues at `from`.
    pub fn take(&self, key: &[u8], from: u64) -> Option<IntoIter<T>> {
        let tails = &mut self.lock().tails;
        let index = tails.iter().position(|tail| tail.from == from && tail.key == key)?;
        tails.remove(index).map(|tail| tail.records)
    }

    fn keep(&self, tail: Tail<T>) {
        let mut oldest = Vec::new();
        let mut kept = self.lock();
        let mut records: usize = kept.tails.iter().map(|tail| tail.records.len()).sum();
        records += tail.records.len();
        while kept.tails.len() == MAX_TAILS || records > MAX_KEPT_RECORDS {
            let Some(tail) = kept.tails.pop_front() else { break };
            records -= tail.records.len();
            oldest.push(tail);
        }
        kept.tails.push_back(tail);
        drop(kept);
        // Not under the lock, since a long list takes a while to be dropped.
        drop(oldest);
    }

    /// The cursor of the first record of a new list: the number of the list, and behind it that of the record.
    fn begin(&self) -> u64 {
        let mut kept = self.lock();
        // 0 stands for a caller that begins.
        kept.lists = kept.lists.checked_add(1).unwrap_or(1);
        u64::from(kept.lists) << 32
    }

    /// Answers from the kept tail, or else from a list that `list` makes. `record` makes the record of an element; `None`
    /// leaves the element out, such as a name that is gone by now.
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
        let Some(answer) = self.continue_by(&key, from, answer, push) else { return };
        match list(&key) {
            Ok(all) => self.answer_by(key, self.begin(), all.into_iter(), answer, push, next),
            Err(cause) => answer.fail(&cause),
        }
    }

    /// Answers a caller that continues. Gives the answer back if the caller begins.
    fn continue_by<R: Record>(
        &self,
        key: &[u8],
        from: u64,
        answer: Records<R>,
        push: impl Fn(&mut Records<R>, &T) -> bool,
    ) -> Option<Records<R>> {
        if from == 0 {
            return Some(answer);
        }
        match self.take(key, from) {
            Some(tail) => self.answer_by(key.to_vec(), from, tail, answer, push, next),
            None => {
                let text = "the rest of the list is not kept any more: begin again";
                answer.fail(&Cause::new(IoError::from_code(Code::CHANGED), text));
            }
        }
        None
    }

    /// Answers with as many records as there is room for, and keeps the rest. The first record has the cursor `from`. `push` adds
    /// a record, or gives `false` if there is no room. `after` gives the cursor behind a record.
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
}

/// The cursor behind one more record.
fn next<T>(at: u64, _: &T) -> u64 {
    at + 1
}

impl<R: Record> ListCursors<R> {
    /// Answers with as many of `records` as there is room for, and keeps the rest: for a device with cursors of its own. The
    /// first record has the cursor `from`. `after` gets the cursor of a record and the record, and gives the cursor behind it.
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

    /// Answers a caller that continues a list. Gives the answer back if the caller begins: the device then makes the list, and
    /// calls [`answer_all`](Self::answer_all).
    pub fn continue_list(&self, key: &[u8], from: u64, answer: Records<R>) -> Option<Records<R>> {
        self.continue_by(key, from, answer, Records::push)
    }

    /// Answers from the kept tail, or else from a list that `list` makes.
    pub fn answer_with(
        &self,
        key: Vec<u8>,
        from: u64,
        answer: Records<R>,
        list: impl FnOnce(&[u8]) -> Result<Vec<R>, Cause>,
    ) {
        let Some(answer) = self.continue_list(&key, from, answer) else { return };
        match list(&key) {
            Ok(all) => self.answer_all(key, all, answer),
            Err(cause) => answer.fail(&cause),
        }
    }

    /// Answers a caller that begins, from a list that was just made.
    pub fn answer_all(&self, key: Vec<u8>, all: Vec<R>, answer: Records<R>) {
        self.answer_by(key, self.begin(), all.into_iter(), answer, Records::push, next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Entry, PacketBox, Write, read_records};

    fn entries(list: u32, count: u32) -> Vec<Entry> {
        (0..count).map(|index| Entry::file(format!("{list:04} {index:03}"), None)).collect()
    }

    /// One answer of a list: its entries, and the cursor of the next; or the error.
    fn ask(
        cursors: &ListCursors<Entry>,
        from: u64,
        list: impl FnOnce() -> Vec<Entry>,
    ) -> Result<(Vec<Entry>, Option<u64>), IoError> {
        let mut packet = PacketBox::<Write>::new_buf(200).unwrap();
        let records = Records::new(packet.bind().unwrap());
        cursors.answer_with(b"folder".to_vec(), from, records, |_| Ok(list()));
        packet.simple_contiguous_slice().and_then(read_records)
    }

    #[test]
    fn every_caller_that_continues_finds_its_own_list_and_none_is_left_at_the_end() {
        let cursors = ListCursors::default();
        // The list is another one for each caller.
        let mut lists: Vec<_> =
            (0..MAX_TAILS as u32).map(|list| ask(&cursors, 0, || entries(list, 20)).unwrap()).collect();
        while lists[0].1.is_some() {
            for (got, next) in &mut lists {
                let (part, behind) = ask(&cursors, next.unwrap(), || panic!("it was made before")).unwrap();
                got.extend(part);
                *next = behind;
            }
        }
        for (list, (got, next)) in (0..).zip(lists) {
            assert!(got == entries(list, 20) && next.is_none());
        }
        assert!(cursors.lock().tails.is_empty(), "a tail is left");
    }

    #[test]
    fn the_oldest_tail_makes_room_and_its_caller_begins_again() {
        let cursors = ListCursors::default();
        let all: Vec<_> = (0..MAX_TAILS as u32 + 4)
            .map(|list| ask(&cursors, 0, || entries(list, 20)).unwrap().1.unwrap())
            .collect();
        assert_eq!(cursors.lock().tails.len(), MAX_TAILS);
        for (index, from) in all.into_iter().enumerate() {
            let answer = ask(&cursors, from, || panic!("it would be another list"));
            match index {
                0..4 => assert_eq!(answer.unwrap_err().code(), Code::CHANGED),
                _ => assert_eq!(answer.unwrap().0[0].name.to_str().unwrap()[..4], format!("{index:04}")),
            }
        }
        assert_eq!(ask(&cursors, 7, Vec::new).unwrap_err().code(), Code::CHANGED, "a cursor of no list");
    }

    #[test]
    fn long_tails_make_room_earlier() {
        let cursors = ListCursors::<u32>::default();
        let tail =
            |from| Tail { key: Vec::new(), from, records: vec![0; MAX_KEPT_RECORDS / 2 + 1].into_iter() };
        (1..=3).for_each(|from| cursors.keep(tail(from)));
        assert_eq!([1, 2, 3].map(|from| cursors.take(&[], from).is_some()), [false, false, true]);
    }

    #[test]
    fn records_are_made_when_they_are_sent() {
        let cursors = ListCursors::<u32>::default();
        let (mut got, mut from) = (Vec::new(), Some(0));
        while let Some(at) = from {
            let mut packet = PacketBox::<Write>::new_buf(200).unwrap();
            let records = Records::new(packet.bind().unwrap());
            // Every third one is gone by now.
            let record =
                |number: &u32| (!number.is_multiple_of(3)).then(|| Entry::file(format!("{number:03}"), None));
            cursors.answer_lazily(Vec::new(), at, records, |_| Ok((0..100).collect()), record);
            let (part, next) = read_records::<Entry>(packet.simple_contiguous_slice().unwrap()).unwrap();
            got.extend(part.into_iter().map(|entry| entry.name.to_string()));
            from = next;
        }
        let expected = (0..100).filter(|number| number % 3 > 0).map(|number| format!("{number:03}"));
        assert!(got.into_iter().eq(expected));
    }
}
