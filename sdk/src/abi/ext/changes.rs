//! The changes of a tree, the requests that wait for the next one, and the source of the changes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Change, Records};
use crate::{Cause, Code, IoError, RequestId};

/// Keeps the last changes of a tree, and answers the requests of [`Watch`](super::Watch). Cheap to clone; all clones share the
/// changes.
///
/// The last 4096 changes are kept, fewer if their names are long. A caller that comes too late gets
/// [`ChangeKind::Missed`](super::ChangeKind::Missed).
///
/// ```
/// use pactio_sdk::{Change, ChangeKind, ChangeLog, Records, Watch};
///
/// struct Tree(ChangeLog);
///
/// impl Watch for Tree {
///     fn watch(&self, from: u64, changes: Records<Change>) {
///         self.0.answer(from, changes);
///     }
/// }
/// # let tree = Tree(ChangeLog::default());
/// // Where a name is made:
/// tree.0.add(Change::new(ChangeKind::Made, "music/new.ogg"));
/// ```
#[derive(Clone, Debug, Default)]
pub struct ChangeLog(Arc<Mutex<Log>>);

#[derive(Debug)]
struct Log {
    kept: VecDeque<Change>,
    /// The bytes of all kept names.
    name_bytes: usize,
    /// The cursor of the first kept change.
    first: u64,
    /// The cursor behind the last change that was given to a caller.
    told: u64,
    /// Requests that wait for a change behind the last one.
    waiting: Vec<Records<Change>>,
    /// The reason why no more changes come.
    ended: Option<Cause>,
}

/// Number of changes that are kept.
const MAX_KEPT: usize = 4096;

/// Bytes of the names that are kept.
const MAX_NAME_BYTES: usize = 1 << 20;

impl Default for Log {
    fn default() -> Self {
        Self {
            kept: VecDeque::new(),
            name_bytes: 0,
            // 0 stands for a caller that begins.
            first: 1,
            told: 1,
            waiting: Vec::new(),
            ended: None,
        }
    }
}

impl Log {
    /// The cursor of the next change.
    fn end(&self) -> u64 {
        self.first + self.kept.len() as u64
    }

    fn push(&mut self, change: Change) {
        // No caller was told of the last change, and this one is the same: such as many writes to one file.
        if self.told < self.end() && self.kept.back() == Some(&change) {
            return;
        }
        self.name_bytes += change.name.len();
        self.kept.push_back(change);
        while self.kept.len() > MAX_KEPT || self.name_bytes > MAX_NAME_BYTES {
            let Some(oldest) = self.kept.pop_front() else { break };
            self.name_bytes -= oldest.name.len();
            self.first += 1;
        }
    }

    /// Adds the changes behind a cursor, as many as there is room for; gives the cursor behind them.
    fn fill(&mut self, from: u64, changes: &mut Records<Change>) -> u64 {
        let skip = from.checked_sub(self.first).and_then(|skip| usize::try_from(skip).ok());
        let behind = skip.filter(|skip| *skip < self.kept.len()).map(|skip| self.kept.range(skip..));
        let count = behind.map_or(0, |behind| behind.take_while(|change| changes.push(change)).count());
        let next = match count {
            // They were dropped, or the first one needs more room than there is.
            0 => {
                changes.push(&Change::missed());
                self.end()
            }
            count => from + count as u64,
        };
        self.told = self.told.max(next);
        next
    }
}

impl ChangeLog {
    fn lock(&self) -> MutexGuard<'_, Log> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a change, and answers the requests that wait. The same change twice in a row is told once, unless a caller was told
    /// between them.
    pub fn add(&self, change: Change) {
        let mut log = self.lock();
        let from = log.end();
        log.push(change);
        let waiting = std::mem::take(&mut log.waiting);
        let filled: Vec<_> = waiting
            .into_iter()
            .map(|mut changes| {
                let next = log.fill(from, &mut changes);
                (changes, next)
            })
            .collect();
        drop(log);
        // Not under the lock, since an answer may run the caller's code.
        filled.into_iter().for_each(|(changes, next)| changes.complete(Some(next)));
    }

    /// Answers a request of [`Watch`](super::Watch), at once or when there is a change. The tree is being watched by now.
    pub fn answer(&self, from: u64, mut changes: Records<Change>) {
        let mut log = self.lock();
        if let Some(cause) = log.ended.clone() {
            drop(log);
            return changes.fail(&cause);
        }
        if from == log.end() {
            // Those that wait no more would be kept until the next change.
            let gone: Vec<_> = log.waiting.extract_if(.., |changes| changes.is_cancelled()).collect();
            log.waiting.push(changes);
            drop(log);
            return gone.into_iter().for_each(|changes| changes.error(IoError::CANCELLED));
        }
        let next = match from {
            0 => log.end(),
            from => log.fill(from, &mut changes),
        };
        log.told = log.told.max(next);
        drop(log);
        changes.complete(Some(next));
    }

    /// No more changes come, since [`end`](Self::end) was called.
    pub fn has_ended(&self) -> bool {
        self.lock().ended.is_some()
    }

    /// Ends the wait of a cancelled request, if it waits.
    pub fn cancel(&self, request: RequestId) {
        let cancelled: Vec<_> =
            self.lock().waiting.extract_if(.., |changes| changes.request() == request).collect();
        cancelled.into_iter().for_each(|changes| changes.error(IoError::CANCELLED));
    }

    /// No more changes come: fails the requests that wait, and all later ones.
    pub fn end(&self, cause: Cause) {
        let mut log = self.lock();
        log.ended = Some(cause.clone());
        let waiting = std::mem::take(&mut log.waiting);
        drop(log);
        waiting.into_iter().for_each(|changes| changes.fail(&cause));
    }
}

/// A tree that is watched from the first request of [`Watch`](super::Watch) on. `S` is the source of the changes, such as a
/// handle of the system, which adds them to the log until it is dropped.
///
/// ```
/// use pactio_sdk::{Change, Records, Watch, Watching};
///
/// /// Adds the changes to a `ChangeLog`.
/// struct Source;
/// # use pactio_sdk::{Cause, ChangeLog};
/// # impl Source {
/// #     fn start(_: ChangeLog) -> Result<Self, Cause> { Ok(Self) }
/// # }
///
/// struct Tree(Watching<Source>);
///
/// impl Watch for Tree {
///     fn watch(&self, from: u64, changes: Records<Change>) {
///         match from {
///             0 => self.0.begin(changes, Source::start),
///             _ => self.0.go_on(from, changes),
///         }
///     }
/// }
/// # let _ = Tree(Watching::default());
/// ```
#[derive(Debug)]
pub struct Watching<S>(Mutex<Option<(ChangeLog, S)>>);

impl<S> Default for Watching<S> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<S> Watching<S> {
    fn lock(&self) -> MutexGuard<'_, Option<(ChangeLog, S)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self) -> Option<ChangeLog> {
        self.lock().as_ref().map(|(log, _)| log.clone())
    }

    /// Answers a request that begins. Unless the tree is watched already, `start` makes the source of the changes: they are added
    /// from its return on. `start` may be called twice at the same time.
    pub fn begin(&self, changes: Records<Change>, start: impl FnOnce(ChangeLog) -> Result<S, Cause>) {
        let is_live = |log: &ChangeLog| !log.has_ended();
        if let Some(log) = self.log().filter(is_live) {
            return log.answer(0, changes);
        }
        let log = ChangeLog::default();
        let source = match start(log.clone()) {
            Ok(source) => source,
            Err(cause) => return changes.fail(&cause),
        };
        let mut current = self.lock();
        // Dropped without the lock.
        let (log, _unused) = match &*current {
            // Another request has begun meanwhile.
            Some((other, _)) if is_live(other) => (other.clone(), Some((log, source))),
            _ => (log.clone(), current.replace((log, source))),
        };
        drop(current);
        log.answer(0, changes);
    }

    /// Answers a request that goes on behind a cursor.
    pub fn go_on(&self, from: u64, changes: Records<Change>) {
        match self.log() {
            Some(log) => log.answer(from, changes),
            None => changes.error(IoError::from_code(Code::INVALID_INPUT)),
        }
    }

    /// Ends the wait of a cancelled request, if it waits.
    pub fn cancel(&self, request: RequestId) {
        if let Some(log) = self.log() {
            log.cancel(request);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ChangeKind, PacketBox, Write, read_records};

    fn made(name: impl Into<crate::Name>) -> Change {
        Change::new(ChangeKind::Made, name)
    }

    /// A request that was sent, and its answer if that came.
    struct Asked(PacketBox<Write>);

    impl Asked {
        fn new(log: &ChangeLog, from: u64, room: usize) -> Self {
            let mut packet = PacketBox::<Write>::new_buf(room).unwrap();
            log.answer(from, Records::new(packet.bind().unwrap()));
            Self(packet)
        }

        fn answer(&self) -> Option<(Vec<Change>, u64)> {
            self.0.is_complete().then(|| {
                let (changes, next) = read_records(self.0.simple_contiguous_slice().unwrap()).unwrap();
                (changes, next.unwrap())
            })
        }
    }

    #[test]
    fn each_caller_is_told_each_change_once_and_in_order() {
        let log = ChangeLog::default();
        log.add(made("before"));
        let (none, mut at) = Asked::new(&log, 0, 200).answer().unwrap();
        assert!(none.is_empty());
        let mut told = Vec::new();
        for number in 0..100 {
            let waits = (number % 3 == 0).then(|| Asked::new(&log, at, 200));
            assert!(waits.as_ref().is_none_or(|asked| asked.answer().is_none()));
            log.add(made(format!("{number:03}")));
            if let Some(asked) = waits {
                let (changes, next) = asked.answer().unwrap();
                told.extend(changes);
                at = next;
            } else if number % 7 == 0 {
                let (changes, next) = Asked::new(&log, at, 200).answer().unwrap();
                told.extend(changes);
                at = next;
            }
            // Only a caller at the end waits.
            while at != log.lock().end() {
                let (changes, next) = Asked::new(&log, at, 200).answer().unwrap();
                told.extend(changes);
                at = next;
            }
        }
        assert!(told.into_iter().eq((0..100).map(|number| made(format!("{number:03}")))));
    }

    #[test]
    fn what_was_dropped_is_missed_and_the_same_is_told_once() {
        let log = ChangeLog::default();
        let (_, at) = Asked::new(&log, 0, 200).answer().unwrap();
        (0..3).for_each(|_| log.add(made("same")));
        assert_eq!(Asked::new(&log, at, 200).answer(), Some((vec![made("same")], at + 1)));
        log.add(made("same"));
        assert_eq!(Asked::new(&log, at + 1, 200).answer(), Some((vec![made("same")], at + 2)));
        (0..=MAX_KEPT).for_each(|number| log.add(made(number.to_string())));
        let (changes, next) = Asked::new(&log, at, 200).answer().unwrap();
        assert_eq!((changes, next), (vec![Change::missed()], log.lock().end()));
        // Cursors of another log, and a name that is too long for the answer.
        assert_eq!(Asked::new(&log, u64::MAX, 200).answer().unwrap().0, [Change::missed()]);
        log.add(made("long ".repeat(100)));
        assert_eq!(Asked::new(&log, next, 200).answer().unwrap().0, [Change::missed()]);
        (0..40).for_each(|number| log.add(made(format!("{number}{}", "x".repeat(1 << 15)))));
        assert!(log.lock().name_bytes <= MAX_NAME_BYTES && log.lock().kept.len() < 40);
    }

    #[test]
    fn a_tree_is_watched_once_and_again_after_its_end() {
        use std::cell::RefCell;

        let (watching, logs) = (Watching::<u32>::default(), RefCell::new(Vec::new()));
        let ask = |from: u64, fails: bool| {
            let mut packet = PacketBox::<Write>::new_buf(200).unwrap();
            let changes = Records::new(packet.bind().unwrap());
            match from {
                0 => watching.begin(changes, |log| {
                    if fails {
                        return Err(IoError::from_code(Code::NOT_FOUND).into());
                    }
                    logs.borrow_mut().push(log);
                    Ok(logs.borrow().len() as u32)
                }),
                _ => watching.go_on(from, changes),
            }
            Asked(packet)
        };
        let failed = |asked: &Asked| asked.0.report().err_any().unwrap_err().code();
        assert_eq!(failed(&ask(7, false)), Code::INVALID_INPUT, "no request has begun");
        assert_eq!(failed(&ask(0, true)), Code::NOT_FOUND);
        let at = ask(0, false).answer().unwrap().1;
        assert_eq!((ask(0, false).answer().unwrap().1, logs.borrow().len()), (at, 1), "the source is shared");
        let waits = ask(at, false);
        watching.cancel(waits.0.request());
        assert_eq!(failed(&waits), Code::CANCELLED);
        logs.borrow()[0].end(IoError::from_code(Code::DISCONNECTED).into());
        assert_eq!(failed(&ask(at, false)), Code::DISCONNECTED);
        let at = ask(0, false).answer().unwrap().1;
        logs.borrow()[1].add(made("new"));
        assert_eq!(ask(at, false).answer().unwrap().0, [made("new")]);
    }

    #[test]
    fn requests_that_wait_are_cancelled_dropped_and_ended() {
        let log = ChangeLog::default();
        let at = Asked::new(&log, 0, 200).answer().unwrap().1;
        let (cancelled, other) = (Asked::new(&log, at, 200), Asked::new(&log, at, 200));
        log.cancel(cancelled.0.request());
        assert_eq!(cancelled.0.report().err_any(), Err(IoError::CANCELLED));
        assert!(other.answer().is_none());
        drop(other);
        let last = Asked::new(&log, at, 200);
        assert_eq!(log.lock().waiting.len(), 1, "the one that was dropped waits");
        let gone = Cause::from(IoError::from_code(Code::NOT_FOUND));
        log.end(gone);
        assert_eq!(last.0.report().err_any(), Err(IoError::from_code(Code::NOT_FOUND)));
        assert!(Asked::new(&log, 0, 200).0.report().err_any().is_err());
    }
}
