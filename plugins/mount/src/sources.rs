//! Looks names up in trees, in the order of the sources.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use pactio_sdk::{
    Capability, Cause, Code, Entry, IoError, Kind, Listing, Lower, Name, OpenError, OpenMode, Origin,
    PacketBox, Records, Stat, Write, read_records,
};

use crate::plan::Source;

/// An open tree, and where it is mounted.
pub(crate) struct Mounted {
    pub(crate) source: Source,
    pub(crate) tree: Lower,
}

/// Bytes for the first answer of a tree. A name may be nearly that long.
const ANSWER: usize = 1 << 16;

/// Bytes for each later answer, so that a long list takes few answers.
const LONG_ANSWER: usize = 1 << 20;

impl Mounted {
    /// Translates a name of the mount to the name within the tree, if the tree can have it.
    fn inside<'n>(&self, name: &'n [u8]) -> Option<&'n [u8]> {
        let at = self.source.at.as_bytes();
        match name.strip_prefix(at) {
            Some(rest) if at.is_empty() => Some(rest),
            Some(b"") => Some(b""),
            Some(rest) => rest.strip_prefix(b"/"),
            None => None,
        }
    }

    /// The entry of a folder of the mount that leads to the tree, if the tree is below that folder.
    fn on_the_way(&self, folder: &[u8]) -> Option<&[u8]> {
        let at = self.source.at.as_bytes();
        let rest = if folder.is_empty() { at } else { at.strip_prefix(folder)?.strip_prefix(b"/")? };
        rest.split(|byte| *byte == b'/').next().filter(|name| !name.is_empty())
    }

    /// Begins to list a folder of the mount.
    fn begin(&self, folder: &[u8]) -> Result<Begun, IoError> {
        if self.inside(folder).is_some() {
            return self.ask(folder, 0).map(Begun::Asked);
        }
        let name = self.on_the_way(folder).ok_or(IoError::from_code(Code::NOT_FOUND))?;
        Ok(Begun::OnTheWay(name.into()))
    }

    /// Asks the tree for the entries of a folder of the mount, from entry number `from` on.
    fn ask(&self, folder: &[u8], from: u64) -> Result<PacketBox<Write>, IoError> {
        let inside = self.inside(folder).ok_or(IoError::from_code(Code::NOT_FOUND))?;
        let tree = self.tree.extension::<dyn Listing>().ok_or(IoError::UNSUPPORTED)?;
        let room = if from == 0 { ANSWER } else { LONG_ANSWER };
        let mut packet = PacketBox::<Write>::new_buf(room)?;
        tree.list(inside, from, Records::new(packet.bind()?));
        Ok(packet)
    }
}

/// The list of a source, as far as it is known at once.
enum Begun {
    /// It has one entry: the folder that leads to where the tree is mounted.
    OnTheWay(Name),
    /// The first answer is pending.
    Asked(PacketBox<Write>),
}

fn is_missing(error: IoError) -> bool {
    error.code() == Code::NOT_FOUND
}

/// The object with a name in one of the trees.
pub(crate) enum Found {
    File(Lower),
    Folder,
}

/// Looks a name up in one tree; `None` if the tree does not have it.
fn look(mounted: &Mounted, name: &[u8]) -> Result<Option<Found>, OpenError> {
    let Some(inside) = mounted.inside(name) else {
        let on_the_way = mounted.on_the_way(name).is_some();
        return Ok(on_the_way.then_some(Found::Folder));
    };
    if inside.is_empty() {
        return Ok(Some(Found::Folder));
    }
    match mounted.tree.open(inside, OpenMode::READ) {
        Ok(device) if device.has(Capability::OPEN) => Ok(Some(Found::Folder)),
        Ok(device) => Ok(Some(Found::File(device))),
        Err(error) if error.error().code() == Code::IS_DIRECTORY => Ok(Some(Found::Folder)),
        Err(error) if is_missing(error.error()) => Ok(None),
        // A name that exists but cannot be opened still hides the same name in other trees.
        Err(error) => Err(error),
    }
}

/// Finds the object that serves a name, in the first tree that has the name.
pub(crate) fn find(sources: &[Mounted], name: &[u8]) -> Result<Option<Found>, OpenError> {
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
pub(crate) async fn list(sources: &Weak<Vec<Mounted>>, folder: &[u8]) -> Result<Vec<Entry>, Cause> {
    // All trees are asked before the first answer is awaited.
    let begun: Vec<_> = alive(sources)?.iter().map(|mounted| mounted.begin(folder)).collect();
    let mut all = BTreeMap::new();
    let mut found = folder.is_empty();
    for (index, begun) in begun.into_iter().enumerate() {
        let entries = match begun {
            Ok(Begun::OnTheWay(name)) => Ok(vec![Entry::folder(name)]),
            Ok(Begun::Asked(packet)) => finish(sources, index, folder, packet).await,
            Err(error) => Err(error.into()),
        };
        match entries {
            Ok(entries) => {
                found = true;
                for entry in entries {
                    all.entry(entry.name.clone()).or_insert(entry);
                }
            }
            Err(cause) if is_missing(cause.error()) || cause.error().code() == Code::IS_DIRECTORY => {}
            Err(cause) => return Err(cause),
        }
    }
    if found { Ok(all.into_values().collect()) } else { Err(IoError::from_code(Code::NOT_FOUND).into()) }
}

/// The list of one source whose first answer is pending.
async fn finish(
    sources: &Weak<Vec<Mounted>>,
    index: usize,
    folder: &[u8],
    mut packet: PacketBox<Write>,
) -> Result<Vec<Entry>, Cause> {
    let (mut all, mut from) = (Vec::new(), 0);
    loop {
        (&mut packet).await;
        if let Some((0, cause)) = packet.min_cause() {
            return Err(cause);
        }
        let (entries, next) = packet.simple_contiguous_slice().and_then(read_records::<Entry>)?;
        let none = entries.is_empty();
        all.extend(entries);
        match next {
            None => return Ok(all),
            Some(next) if none || next <= from => return Err(IoError::from_code(Code::CORRUPT).into()),
            Some(next) => from = next,
        }
        packet = alive(sources)?[index].ask(folder, from)?;
    }
}

/// All trees that have a name, in the order of the sources.
pub(crate) fn origins(sources: &[Mounted], name: &[u8]) -> Result<Vec<Origin>, IoError> {
    let mut all = Vec::new();
    for mounted in sources {
        let found = look(mounted, name);
        let mut stat = Stat::default();
        (stat.kind, stat.size) = match &found {
            Ok(None) => continue,
            Ok(Some(Found::Folder)) => (Some(Kind::FOLDER), None),
            Ok(Some(Found::File(device))) => (Some(Kind::FILE), device.info().size()),
            // The name exists, but cannot be opened.
            Err(_) => (None, None),
        };
        all.push(Origin::new(mounted.source.name.clone(), mounted.source.priority, stat));
    }
    if all.is_empty() { Err(IoError::from_code(Code::NOT_FOUND)) } else { Ok(all) }
}
