//! Looks names up in trees, in their order.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use pactio_sdk::{
    BackendDevice, Code, Entry, IoError, Lower, OpenError, OpenMode, Origin, PacketBox, Records, Write,
    read_records,
};

use crate::plan::Source;

/// An open tree, and where it is mounted.
pub(crate) struct Mounted {
    pub(crate) source: Source,
    pub(crate) tree: Lower,
}

/// Room for the first answer of a tree. A name may be nearly as long.
const ANSWER: usize = 1 << 16;

/// Room for those behind it: a long list takes few of them.
const LONG_ANSWER: usize = 1 << 20;

impl Mounted {
    /// The name within the tree of a name in the mount, if it could be there.
    fn inside<'n>(&self, name: &'n str) -> Option<&'n str> {
        let at = self.source.at.as_str();
        match name.strip_prefix(at) {
            Some(rest) if at.is_empty() => Some(rest),
            Some("") => Some(""),
            Some(rest) => rest.strip_prefix('/'),
            None => None,
        }
    }

    /// The name in a folder of the mount on the way to the tree, if the tree is below that folder.
    fn on_the_way(&self, folder: &str) -> Option<&str> {
        let at = self.source.at.as_str();
        let rest = if folder.is_empty() { at } else { at.strip_prefix(folder)?.strip_prefix('/')? };
        rest.split('/').next().filter(|name| !name.is_empty())
    }

    /// Begins to list a folder of the mount.
    fn begin(&self, folder: &str) -> Result<Begun, IoError> {
        if self.inside(folder).is_some() {
            return self.ask(folder, 0).map(Begun::Asked);
        }
        let name = self.on_the_way(folder).ok_or(IoError::from_code(Code::NOT_FOUND))?;
        Ok(Begun::OnTheWay(Entry { name: name.to_owned(), is_folder: true, size: None }))
    }

    /// Asks the tree for what is in a folder of the mount, from a number on.
    fn ask(&self, folder: &str, from: u64) -> Result<PacketBox<Write>, IoError> {
        let inside = self.inside(folder).ok_or(IoError::from_code(Code::NOT_FOUND))?;
        let tree = self.tree.listing().ok_or(IoError::UNSUPPORTED)?;
        let room = if from == 0 { ANSWER } else { LONG_ANSWER };
        let mut packet = PacketBox::<Write>::new_buf(room)?;
        tree.list(inside, from, Records::new(packet.bind()?));
        Ok(packet)
    }
}

/// The list of a source, as far as it is there at once.
enum Begun {
    OnTheWay(Entry),
    /// The first answer is to come.
    Asked(PacketBox<Write>),
}

fn is_missing(error: IoError) -> bool {
    error.code() == Code::NOT_FOUND
}

/// What has a name in one of the trees.
pub(crate) enum Found {
    File(Lower),
    Folder,
}

/// Looks a name up in one tree; nothing, if it is not there.
fn look(mounted: &Mounted, name: &str) -> Result<Option<Found>, OpenError> {
    let Some(inside) = mounted.inside(name) else {
        let on_the_way = mounted.on_the_way(name).is_some();
        return Ok(on_the_way.then_some(Found::Folder));
    };
    if inside.is_empty() {
        return Ok(Some(Found::Folder));
    }
    match mounted.tree.open(inside, OpenMode::READ) {
        Ok(device) if device.opening().is_some() => Ok(Some(Found::Folder)),
        Ok(device) => Ok(Some(Found::File(device))),
        Err(error) if error.error().code() == Code::IS_DIRECTORY => Ok(Some(Found::Folder)),
        Err(error) if is_missing(error.error()) => Ok(None),
        // What is there but cannot be opened does not let what it hides be seen.
        Err(error) => Err(error),
    }
}

/// What serves a name: of the first tree that has it.
pub(crate) fn find(sources: &[Mounted], name: &str) -> Result<Option<Found>, OpenError> {
    for mounted in sources {
        match look(mounted, name) {
            Ok(None) => {}
            Ok(found) => return Ok(found),
            Err(error) => {
                let text = format!("the source '{}': {}", mounted.source.name, error.message());
                return Err(OpenError::new(error.error(), text));
            }
        }
    }
    Ok(None)
}

/// The trees, while the mount is open.
fn alive(sources: &Weak<Vec<Mounted>>) -> Result<Arc<Vec<Mounted>>, IoError> {
    sources.upgrade().ok_or(IoError::UNANSWERED)
}

/// Everything in a folder, of all trees that have it, by name: each name as the first tree has it.
pub(crate) async fn list(sources: &Weak<Vec<Mounted>>, folder: &str) -> Result<Vec<Entry>, IoError> {
    // All are asked before the first is waited for.
    let begun: Vec<_> = alive(sources)?.iter().map(|mounted| mounted.begin(folder)).collect();
    let mut all = BTreeMap::new();
    let mut found = folder.is_empty();
    for (index, begun) in begun.into_iter().enumerate() {
        let entries = match begun {
            Ok(Begun::OnTheWay(entry)) => Ok(vec![entry]),
            Ok(Begun::Asked(packet)) => finish(sources, index, folder, packet).await,
            Err(error) => Err(error),
        };
        match entries {
            Ok(entries) => {
                found = true;
                for entry in entries {
                    all.entry(entry.name.clone()).or_insert(entry);
                }
            }
            Err(error) if is_missing(error) || error.code() == Code::IS_DIRECTORY => {}
            Err(error) => return Err(error),
        }
    }
    if found { Ok(all.into_values().collect()) } else { Err(IoError::from_code(Code::NOT_FOUND)) }
}

/// The list of one source whose first answer is to come.
async fn finish(
    sources: &Weak<Vec<Mounted>>,
    index: usize,
    folder: &str,
    mut packet: PacketBox<Write>,
) -> Result<Vec<Entry>, IoError> {
    let (mut all, mut from) = (Vec::new(), 0);
    loop {
        (&mut packet).await;
        packet.err_on_zero()?;
        let (entries, next) = packet.simple_contiguous_slice().and_then(read_records::<Entry>)?;
        let none = entries.is_empty();
        all.extend(entries);
        match next {
            None => return Ok(all),
            Some(next) if none || next <= from => return Err(IoError::from_code(Code::CORRUPT)),
            Some(next) => from = next,
        }
        packet = alive(sources)?[index].ask(folder, from)?;
    }
}

/// Every tree that has a name, in their order.
pub(crate) fn origins(sources: &[Mounted], name: &str) -> Result<Vec<Origin>, IoError> {
    let mut all = Vec::new();
    for mounted in sources {
        let found = look(mounted, name);
        let (is_folder, size) = match &found {
            Ok(None) => continue,
            Ok(Some(Found::Folder)) => (true, None),
            Ok(Some(Found::File(device))) => (false, device.info().size()),
            // It is there, but nobody knows more.
            Err(_) => (false, None),
        };
        let (source, priority) = (mounted.source.name.clone(), mounted.source.priority);
        all.push(Origin { source, priority, is_folder, size });
    }
    if all.is_empty() { Err(IoError::from_code(Code::NOT_FOUND)) } else { Ok(all) }
}
