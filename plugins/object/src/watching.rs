//! Changes of a folder of a store, which is listed again and again.

use std::collections::BTreeMap;

use futures_util::TryStreamExt;
use object_store::path::Path;
use pactio_sdk::{Change, ChangeKind, ChangeLog, Records, Watching};
use tokio::task::AbortHandle;

use crate::failure::failed;
use crate::odd::listing;
use crate::store::Store;

/// The task that lists a folder, until this is dropped.
pub(crate) struct Lister(AbortHandle);

impl Drop for Lister {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The keys of a folder at any depth, with what tells one content from another.
type Seen = BTreeMap<String, Content>;

#[derive(PartialEq, Eq)]
struct Content {
    size: u64,
    version: String,
}

/// Answers when the folder was listed once. It is listed again every [`Store::poll`].
pub(crate) async fn begin(watching: &Watching<Lister>, store: Store, folder: Path, changes: Records<Change>) {
    match look(&store, &folder).await {
        Ok(seen) => watching
            .begin(changes, |log| Ok(Lister(tokio::spawn(watch(store, folder, seen, log)).abort_handle()))),
        Err(error) => changes.fail(&failed("the list", &error)),
    }
}

/// Lists the folder again and again, and adds the differences to the log.
async fn watch(store: Store, folder: Path, mut seen: Seen, log: ChangeLog) {
    loop {
        tokio::time::sleep(store.poll).await;
        match look(&store, &folder).await {
            Ok(now) => {
                tell(&log, &seen, &now);
                seen = now;
            }
            Err(error) => {
                let cause = failed("the list", &error);
                if !cause.error().is_temporary() {
                    return log.end(cause);
                }
                // The next list that succeeds shows all changes until then.
                tracing::warn!("a watched folder cannot be listed: {cause}");
            }
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
