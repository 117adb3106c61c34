//! Looks names up in trees, in the order of the sources.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use pactio_sdk::{
    Capability, Cause, Code, Entry, IoError, Kind, Listing, Lower, Name, OpenError, OpenMode, Origin,
    PacketBox, Records, Stat, Write, read_records,
};

use crate::case::Case;
use crate::plan::Source;

/// An open tree, and the source that says where it is mounted.
pub(crate) struct Mounted {
    pub(crate) source: Source,
    pub(crate) tree: Lower,
    pub(crate) case: Case,
}

/// A source that was left out.
pub(crate) struct Absent {
    pub(crate) source: Source,
    pub(crate) reason: String,
}

/// The part of a path below a folder, if the path is in it.
fn below<'p>(case: Case, mut path: &'p [u8], mut folder: &[u8]) -> Option<&'p [u8]> {
    while !folder.is_empty() {
        let ((name, rest), (wanted, on)) = (split(path), split(folder));
        if !case.same(name, wanted) {
            return None;
        }
        (path, folder) = (rest, on);
    }
    Some(path)
}

/// The first name of a path, and the rest.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().position(|&byte| byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (path, b""),
    }
}

/// Bytes for the first answer of a tree. A name may be nearly that long.
const ANSWER: usize = 1 << 16;

/// Bytes for each later answer, so that a long list takes few answers.
const LONG_ANSWER: usize = 1 << 20;

impl Mounted {
    /// Translates a name of the mount to the name within the tree, if the tree can have it.
    fn inside<'n>(&self, name: &'n [u8]) -> Option<&'n [u8]> {
        below(self.case, name, self.source.at.as_bytes())
    }

    /// The entry of a folder of the mount that leads to the tree, if the tree is below that folder.
    fn on_the_way(&self, folder: &[u8]) -> Option<&[u8]> {
        let rest = below(self.case, self.source.at.as_bytes(), folder)?;
        (!rest.is_empty()).then(|| split(rest).0)
    }

    /// Begins to list a folder of the mount.
    fn begin(&self, folder: &[u8]) -> Result<Begun, IoError> {
        if let Some(inside) = self.inside(folder) {
            return self.ask(inside, 0).map(|packet| Begun::Asked(inside.to_vec(), packet));
        }
        let name = self.on_the_way(folder).ok_or(IoError::from_code(Code::NOT_FOUND))?;
        Ok(Begun::OnTheWay(name.into()))
    }

    /// Asks the tree for the entries of one of its folders, from entry number `from` on.
    fn ask(&self, inside: &[u8], from: u64) -> Result<PacketBox<Write>, IoError> {
        let tree = self.tree.extension::<dyn Listing>().ok_or(IoError::UNSUPPORTED)?;
        let room = if from == 0 { ANSWER } else { LONG_ANSWER };
        let mut packet = PacketBox::<Write>::new_buf(room)?;
        tree.list(inside, from, Records::new(packet.bind()?));
        Ok(packet)
    }
}

/// A list of a source that was begun.
enum Begun {
    /// The list has one entry: the folder that leads to the tree's place in the mount.
    OnTheWay(Name),
    /// The first answer is pending, for this folder of the tree.
    Asked(Vec<u8>, PacketBox<Write>),
}

fn is_missing(error: IoError) -> bool {
    error.code() == Code::NOT_FOUND
}

/// The object with a name in one of the trees.
pub(crate) enum Found {
    File(Lower),
    Folder,
}

/// Looks a name up in one tree; `None` if the tree does not have it. Blocks.
fn look(sources: &Arc<Vec<Mounted>>, index: usize, name: &[u8]) -> Result<Option<Found>, OpenError> {
    let mounted = &sources[index];
    let Some(inside) = mounted.inside(name) else {
        let on_the_way = mounted.on_the_way(name).is_some();
        return Ok(on_the_way.then_some(Found::Folder));
    };
    if inside.is_empty() {
        return Ok(Some(Found::Folder));
    }
    let found = look_inside(mounted, inside)?;
    if found.is_some() || mounted.case == Case::Exact {
        return Ok(found);
    }
    let actual = pollster::block_on(resolve(&Arc::downgrade(sources), index, inside));
    let actual = actual.map_err(|cause| OpenError::new(cause.error(), cause.to_string()))?;
    actual.map_or(Ok(None), |actual| look_inside(mounted, &actual))
}

/// Looks up a name of a tree.
fn look_inside(mounted: &Mounted, inside: &[u8]) -> Result<Option<Found>, OpenError> {
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
pub(crate) fn find(sources: &Arc<Vec<Mounted>>, name: &[u8]) -> Result<Option<Found>, OpenError> {
    for (index, mounted) in sources.iter().enumerate() {
        match look(sources, index, name) {
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

/// The entries of a folder from all trees that have the folder, by name. If several trees have a name, the entry of the first one
/// counts.
pub(crate) async fn list(sources: &Weak<Vec<Mounted>>, folder: &[u8]) -> Result<Vec<Entry>, Cause> {
    // All trees are asked before the first answer is awaited.
    let begun: Vec<_> = alive(sources)?.iter().map(|mounted| mounted.begin(folder)).collect();
    let case = alive(sources)?.first().map_or(Case::Exact, |mounted| mounted.case);
    let mut all = BTreeMap::new();
    let mut found = folder.is_empty();
    for (index, begun) in begun.into_iter().enumerate() {
        let entries = match begun {
            Ok(Begun::OnTheWay(name)) => Ok(vec![Entry::folder(name)]),
            Ok(Begun::Asked(inside, packet)) => list_one(sources, index, inside, packet).await,
            Err(error) => Err(error.into()),
        };
        match entries {
            Ok(entries) => {
                found = true;
                for entry in entries {
                    all.entry(case.key(&entry.name).into_owned()).or_insert(entry);
                }
            }
            Err(cause) if is_missing(cause.error()) || cause.error().code() == Code::IS_DIRECTORY => {}
            Err(cause) => return Err(cause),
        }
    }
    if found { Ok(all.into_values().collect()) } else { Err(IoError::from_code(Code::NOT_FOUND).into()) }
}

/// The list of one source; its first answer is pending. If the source does not have the folder and case is ignored, the list is
/// that of a folder whose name differs only in case.
async fn list_one(
    sources: &Weak<Vec<Mounted>>,
    index: usize,
    inside: Vec<u8>,
    packet: PacketBox<Write>,
) -> Result<Vec<Entry>, Cause> {
    let listed = finish(sources, index, &inside, packet).await;
    let is_missing = listed.as_ref().is_err_and(|cause| is_missing(cause.error()));
    if !is_missing || alive(sources)?[index].case == Case::Exact {
        return listed;
    }
    let Some(actual) = resolve(sources, index, &inside).await? else { return listed };
    let packet = alive(sources)?[index].ask(&actual, 0)?;
    finish(sources, index, &actual, packet).await
}

/// The path in a source that differs from this path at most in the case of its letters, if there is one. Of several names, the
/// equal one counts, or else the first that is listed.
async fn resolve(
    sources: &Weak<Vec<Mounted>>,
    index: usize,
    inside: &[u8],
) -> Result<Option<Vec<u8>>, Cause> {
    let (mut actual, mut rest) = (Vec::new(), inside);
    while !rest.is_empty() {
        let (wanted, behind) = split(rest);
        rest = behind;
        let packet = alive(sources)?[index].ask(&actual, 0)?;
        let entries = match finish(sources, index, &actual, packet).await {
            Ok(entries) => entries,
            Err(cause) if is_missing(cause.error()) || cause.error().code() == Code::IS_DIRECTORY => {
                return Ok(None);
            }
            Err(cause) => return Err(cause),
        };
        let exact = entries.iter().find(|entry| &*entry.name == wanted);
        let found = exact.or_else(|| entries.iter().find(|entry| Case::Ignored.same(&entry.name, wanted)));
        let Some(entry) = found else { return Ok(None) };
        if !actual.is_empty() {
            actual.push(b'/');
        }
        actual.extend_from_slice(&entry.name);
    }
    Ok(Some(actual))
}

/// The list of a folder of one source; its first answer is pending.
async fn finish(
    sources: &Weak<Vec<Mounted>>,
    index: usize,
    inside: &[u8],
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
        packet = alive(sources)?[index].ask(inside, from)?;
    }
}

/// All trees that have a name, in the order of the sources, and then the sources that were left out.
pub(crate) fn origins(
    sources: &Arc<Vec<Mounted>>,
    absent: &[Absent],
    name: &[u8],
) -> Result<Vec<Origin>, IoError> {
    let mut all = Vec::new();
    for (index, mounted) in sources.iter().enumerate() {
        let found = look(sources, index, name);
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
    all.extend(absent.iter().map(|absent| {
        Origin::absent(absent.source.name.clone(), absent.source.priority, absent.reason.clone())
    }));
    if all.is_empty() { Err(IoError::from_code(Code::NOT_FOUND)) } else { Ok(all) }
}
