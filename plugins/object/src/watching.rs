//! Changes of a folder of a store, which is listed again and again.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::TryStreamExt;
use object_store::path::Path;
use pactio_sdk::{Change, ChangeKind, ChangeLog, Code, IoError, Records, RequestId};
use tokio::task::AbortHandle;

use crate::failure::failed;
use crate::odd::listing;
use crate::runtime::runtime;
use crate::store::Store;

/// Watches a folder from the first request on.
#[derive(Default)]
pub(crate) struct Watching(Mutex<Option<Watch>>);

struct Watch {
    log: ChangeLog,
    task: AbortHandle,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The keys of a folder at any depth, with what tells one content from another.
type Seen = BTreeMap<String, Content>;

#[derive(PartialEq, Eq)]
struct Content {
    size: u64,
    version: String,
}

impl Watching {
    fn log(&self) -> Option<ChangeLog> {
        let watch = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        watch.as_ref().map(|watch| watch.log.clone())
    }

    /// Answers with the changes behind a cursor.
    pub(crate) fn go_on(&self, from: u64, changes: Records<Change>) {
        match self.log() {
            Some(log) => log.answer(from, changes),
            None => changes.error(IoError::from_code(Code::INVALID_INPUT)),
        }
    }

    pub(crate) fn cancel(&self, request: RequestId) {
        if let Some(log) = self.log() {
            log.cancel(request);
        }
    }

    /// Answers when the folder was listed once. It is listed again every `pause`.
    pub(crate) async fn begin(&self, store: Store, folder: Path, pause: Duration, changes: Records<Change>) {
        if let Some(log) = self.log().filter(|log| !log.has_ended()) {
            return log.answer(0, changes);
        }
        let seen = match look(&store, &folder).await {
            Ok(seen) => seen,
            Err(error) => return changes.fail(&failed("the list", &error)),
        };
        let runtime = match runtime() {
            Ok(runtime) => runtime,
            Err(_) => return changes.error(IoError::from_code(Code::FAILED)),
        };
        let log = ChangeLog::default();
        let task = runtime.spawn(watch(store, folder, pause, seen, log.clone())).abort_handle();
        // Of two that begin at the same time, the later one replaces the other, whose caller begins again.
        let replaced =
            self.0.lock().unwrap_or_else(PoisonError::into_inner).replace(Watch { log: log.clone(), task });
        if let Some(replaced) = replaced {
            replaced.log.end(IoError::from_code(Code::CHANGED).into());
        }
        log.answer(0, changes);
    }
}

/// Lists the folder again and again, and adds what is different to the log.
async fn watch(store: Store, folder: Path, pause: Duration, mut seen: Seen, log: ChangeLog) {
    loop {
        tokio::time::sleep(pause).await;
        match look(&store, &folder).await {
            Ok(now) => {
                tell(&log, &seen, &now);
                seen = now;
            }
            // The store may be back later; all changes until then are found then.
            Err(error) => tracing::warn!("a watched folder cannot be listed: {error}"),
        }
    }
}

/// Adds the difference to the log, in the order of the keys.
fn tell(log: &ChangeLog, before: &Seen, now: &Seen) {
    let add = |kind, name: &str| log.add(Change::new(kind, name));
    for name in before.keys().filter(|name| !now.contains_key(*name)) {
        add(ChangeKind::Removed, name);
    }
    for (name, content) in now {
        match before.get(name) {
            None => add(ChangeKind::Made, name),
            Some(old) if old != content => add(ChangeKind::Modified, name),
            Some(_) => {}
        }
    }
}

async fn look(store: &Store, folder: &Path) -> object_store::Result<Seen> {
    let front = if folder.as_ref().is_empty() { String::new() } else { format!("{folder}/") };
    let keys = async {
        let objects = store.objects.list(Some(folder));
        objects
            .try_fold(Seen::new(), |mut seen, object| {
                // The object with the key of the folder itself only marks it.
                if let Some(name) = object.location.as_ref().strip_prefix(&*front) {
                    let version = object.e_tag.unwrap_or_else(|| object.last_modified.to_rfc3339());
                    seen.insert(name.to_owned(), Content { size: object.size, version });
                }
                std::future::ready(Ok(seen))
            })
            .await
    };
    listing(keys).await.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_difference_of_two_lists_is_told_in_order() {
        let seen = |all: &[(&str, &str)]| -> Seen {
            all.iter()
                .map(|(name, version)| {
                    ((*name).to_owned(), Content { size: 1, version: (*version).to_owned() })
                })
                .collect()
        };
        let log = ChangeLog::default();
        let ask = |from| {
            let mut packet = pactio_sdk::PacketBox::<pactio_sdk::Write>::new_buf(1000).unwrap();
            log.answer(from, Records::new(packet.bind().unwrap()));
            let (changes, next) =
                pactio_sdk::read_records::<Change>(packet.simple_contiguous_slice().unwrap()).unwrap();
            (changes.iter().map(Change::to_string).collect::<Vec<_>>(), next.unwrap())
        };
        let (_, from) = ask(0);
        tell(
            &log,
            &seen(&[("a", "1"), ("b", "1"), ("c", "1")]),
            &seen(&[("a", "1"), ("c", "2"), ("d", "1")]),
        );
        assert_eq!(ask(from).0, ["removed 'b'", "modified 'c'", "made 'd'"]);
    }
}
