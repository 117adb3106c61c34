//! Looks names up in trees, in their order. It waits, so it is for threads that may.

use std::collections::BTreeMap;

use pactio_sdk::{
    Below, Code, Device, Entry, Error, OpenError, OpenMode, Origin, PacketBox, Records, Write, read_records,
};

use crate::plan::Source;

/// An open tree, and where it is mounted.
pub(crate) struct Mounted {
    pub(crate) source: Source,
    pub(crate) tree: Below,
}

/// Room for one answer. A name may be nearly as long.
const ANSWER: usize = 1 << 16;

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

    fn list(&self, folder: &str) -> Result<Vec<Entry>, Error> {
        let mut all = Vec::new();
        let mut from = 0;
        loop {
            let tree = self.tree.listing().ok_or(Error::UNSUPPORTED)?;
            let mut packet = PacketBox::<Write>::new_buf(ANSWER)?;
            tree.list(folder, from, Records::new(packet.bind()?));
            pollster::block_on(&mut packet);
            packet.err_on_zero()?;
            let (entries, next) = packet.simple_contiguous_slice().and_then(read_records::<Entry>)?;
            let none = entries.is_empty();
            all.extend(entries);
            match next {
                None => return Ok(all),
                Some(next) if none || next <= from => return Err(Error::from_code(Code::Corrupt)),
                Some(next) => from = next,
            }
        }
    }
}

fn is_missing(error: Error) -> bool {
    error.code() == Code::NotFound
}

/// What has a name in one of the trees.
pub(crate) enum Found {
    File(Below),
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
        Err(error) if error.error().code() == Code::IsDirectory => Ok(Some(Found::Folder)),
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

/// Everything in a folder, of all trees that have it, by name: each name as the first tree has it.
pub(crate) fn list(sources: &[Mounted], folder: &str) -> Result<Vec<Entry>, Error> {
    let mut all = BTreeMap::new();
    let mut found = folder.is_empty();
    for mounted in sources {
        let entries = if let Some(inside) = mounted.inside(folder) {
            match mounted.list(inside) {
                Ok(entries) => entries,
                Err(error) if is_missing(error) || error.code() == Code::IsDirectory => continue,
                Err(error) => return Err(error),
            }
        } else if let Some(name) = mounted.on_the_way(folder) {
            vec![Entry { name: name.to_owned(), is_folder: true, size: None }]
        } else {
            continue;
        };
        found = true;
        for entry in entries {
            all.entry(entry.name.clone()).or_insert(entry);
        }
    }
    if found { Ok(all.into_values().collect()) } else { Err(Error::from_code(Code::NotFound)) }
}

/// Every tree that has a name, in their order.
pub(crate) fn origins(sources: &[Mounted], name: &str) -> Result<Vec<Origin>, Error> {
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
    if all.is_empty() { Err(Error::from_code(Code::NotFound)) } else { Ok(all) }
}
