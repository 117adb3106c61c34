//! The memory of requests: read in parts, handed over as a whole, and used again.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Deref, Range};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use async_channel::{Sender, unbounded};
use pactio_sdk::{IntoPacket, IoError, KeptPacket, PacketPerms, StableBytes};

use crate::{Buffer, Host};

/// Memory of this size and more is used again, or freed on a thread of the host: freeing it takes the system a while.
const LARGE: usize = 64 << 10;

/// Keeps the memory of earlier requests for later ones. Bytes come back through a channel, so that the thread that drops them
/// does no work.
#[derive(Clone)]
pub(super) struct Pool {
    free: Arc<Free>,
    back: Sender<Vec<u8>>,
}

struct Free {
    /// Sorted by size.
    kept: Mutex<Vec<Vec<u8>>>,
    /// Most bytes that are kept.
    most: u64,
}

impl Free {
    fn kept(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Memory of at least `len` bytes with any content; `None` if there is none.
    fn take(&self, len: usize) -> Option<Vec<u8>> {
        if len >= LARGE {
            let mut kept = self.kept();
            let index = kept.partition_point(|bytes| bytes.len() < len);
            // Memory of more than twice the length is not taken.
            if kept.get(index).is_some_and(|bytes| bytes.len() / 2 <= len) {
                return Some(kept.remove(index));
            }
        }
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len).ok()?;
        // Small memory is filled with zeros here. `vec!` gets large memory as zeros of the system, without touching it.
        if len < LARGE {
            bytes.resize(len, 0);
            return Some(bytes);
        }
        drop(bytes);
        Some(vec![0; len])
    }

    /// Keeps memory, or frees it if there is enough.
    fn keep(&self, bytes: Vec<u8>) {
        let mut kept = self.kept();
        let all: u64 = kept.iter().map(|bytes| bytes.len() as u64).sum();
        if all + bytes.len() as u64 <= self.most {
            let index = kept.partition_point(|other| other.len() < bytes.len());
            kept.insert(index, bytes);
        }
    }
}

impl Pool {
    /// A pool that keeps at most `most` bytes.
    pub(super) fn new(host: &Host, most: u64) -> Self {
        let (back, came_back) = unbounded::<Vec<u8>>();
        let free = Arc::new(Free { kept: Mutex::default(), most });
        let keeper = free.clone();
        let keep = async move {
            while let Ok(bytes) = came_back.recv().await {
                keeper.keep(bytes);
            }
        };
        host.spawn(keep).detach();
        Self { free, back }
    }

    /// Memory for a request, which is allocated with its first part.
    pub(super) fn asset(&self) -> Arc<AssetMemory> {
        Arc::new(AssetMemory { memory: OnceLock::new(), taken: Mutex::default(), pool: Some(self.clone()) })
    }
}

enum Bytes {
    /// Memory of the pool, of which the request uses the first bytes.
    Own(Vec<u8>, usize),
    Buffer(Buffer),
}

/// The memory of a request. While its [parts](Part) exist, the parts have the bytes, and no other code reaches these bytes.
pub(super) struct AssetMemory {
    /// `None` if there was no memory.
    memory: OnceLock<Option<Memory>>,
    /// Start and end of each part that was taken.
    taken: Mutex<BTreeMap<usize, usize>>,
    pool: Option<Pool>,
}

/// Bytes and their address, which stays the same when this value is moved.
struct Memory {
    start: NonNull<u8>,
    len: usize,
    bytes: Loaded,
}

// SAFETY: the bytes belong to this value.
unsafe impl Send for Memory {}
// SAFETY: through a shared value, this module reads only the address and the length, not the bytes.
unsafe impl Sync for Memory {}

impl Memory {
    fn of(mut bytes: Bytes, pool: Option<Pool>) -> Self {
        let (start, len) = match &mut bytes {
            Bytes::Own(bytes, len) => (StableBytes::start(bytes), *len),
            Bytes::Buffer(buffer) => (StableBytes::start(buffer), buffer.len()),
        };
        Self { start, len, bytes: Loaded { bytes: Some(bytes), pool } }
    }
}

impl AssetMemory {
    /// The memory of a buffer.
    pub(super) fn of(buffer: Buffer) -> Arc<Self> {
        let memory = OnceLock::from(Some(Memory::of(Bytes::Buffer(buffer), None)));
        Arc::new(Self { memory, taken: Mutex::default(), pool: None })
    }

    /// A part of the memory, which has `len` bytes in all.
    ///
    /// # Errors
    ///
    /// If there is no memory.
    ///
    /// # Panics
    ///
    /// If the range is not in the memory, or a part of it was taken before.
    pub(super) fn part(self: Arc<Self>, range: Range<usize>, len: usize) -> Result<Part, ()> {
        let allocate = || {
            let bytes = self.pool.as_ref().and_then(|pool| pool.free.take(len));
            bytes.map(|bytes| Memory::of(Bytes::Own(bytes, len), self.pool.clone()))
        };
        let memory = self.memory.get_or_init(allocate).as_ref().ok_or(())?;
        assert!(range.start <= range.end && range.end <= memory.len, "a part lies in the memory");
        {
            let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
            let before = taken.range(..range.end).next_back();
            assert!(before.is_none_or(|(_, end)| *end <= range.start), "each byte belongs to one part");
            taken.insert(range.start, range.end);
        }
        // SAFETY: the range lies in the memory.
        let start = unsafe { memory.start.add(range.start) };
        Ok(Part { start, len: range.len(), _asset: self })
    }
}

/// A part of the memory of a request.
pub(super) struct Part {
    start: NonNull<u8>,
    len: usize,
    /// Keeps the memory alive.
    _asset: Arc<AssetMemory>,
}

// SAFETY: the bytes belong to the part alone, so any thread that has the part may use them.
unsafe impl Send for Part {}
// SAFETY: a shared part gives no access to its bytes.
unsafe impl Sync for Part {}

// SAFETY: the memory is initialised, does not move, and is kept alive by the part; `AssetMemory::part` gives each byte to one
// part.
unsafe impl StableBytes for Part {
    fn start(&mut self) -> NonNull<u8> {
        self.start
    }

    fn len(&self) -> usize {
        self.len
    }
}

impl<P: PacketPerms> IntoPacket<P> for Part {
    type Store = KeptPacket<Self, P>;

    fn into_packet(self) -> Result<Self::Store, IoError> {
        KeptPacket::new(self)
    }
}

/// Bytes that were read. Dropping them returns large memory to its pool.
pub(super) struct Loaded {
    bytes: Option<Bytes>,
    pool: Option<Pool>,
}

impl Loaded {
    pub(super) fn empty() -> Self {
        Self { bytes: None, pool: None }
    }

    /// The bytes of a request that has ended; `None` while a part or another handle of the memory exists.
    pub(super) fn of(asset: Arc<AssetMemory>) -> Option<Self> {
        let memory = Arc::into_inner(asset)?.memory.into_inner().flatten();
        Some(memory.map_or_else(Self::empty, |memory| memory.bytes))
    }

    pub(super) fn into_vec(mut self) -> Vec<u8> {
        match self.bytes.take() {
            None => Vec::new(),
            Some(Bytes::Own(mut bytes, len)) => {
                bytes.truncate(len);
                bytes
            }
            Some(Bytes::Buffer(buffer)) => buffer.to_vec(),
        }
    }

    pub(super) fn into_buffer(mut self) -> Option<Buffer> {
        match self.bytes.take() {
            Some(Bytes::Buffer(buffer)) => Some(buffer),
            _ => None,
        }
    }
}

impl Deref for Loaded {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.bytes {
            None => &[],
            Some(Bytes::Own(bytes, len)) => &bytes[..*len],
            Some(Bytes::Buffer(buffer)) => buffer,
        }
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        if let (Some(Bytes::Own(bytes, _)), Some(pool)) = (self.bytes.take(), &self.pool)
            && bytes.len() >= LARGE
        {
            // If the host is gone, the memory is freed here.
            let _ = pool.back.try_send(bytes);
        }
    }
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Loaded({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asset() -> (Host, Arc<AssetMemory>) {
        let host = Host::builder().default_search_paths(false).build().unwrap();
        let asset = Pool::new(&host, 1 << 20).asset();
        (host, asset)
    }

    #[test]
    fn bytes_are_given_out_when_no_part_is_left() {
        let (_host, memory) = asset();
        let parts = [memory.clone().part(10..20, 100), memory.clone().part(0..10, 100)].map(Result::ok);
        let [Some(mut first), Some(second)] = parts else { panic!("there is memory for 100 bytes") };
        // SAFETY: the part has ten bytes, and nothing else reaches them.
        unsafe { first.start().write_bytes(7, 10) };
        drop(first);
        assert!(Loaded::of(memory.clone()).is_none(), "a part exists, and the caller has the memory, too");
        drop(second);
        let loaded = Loaded::of(memory).unwrap();
        assert_eq!((loaded.len(), &loaded[10..20]), (100, &[7; 10][..]));
    }

    #[test]
    #[should_panic(expected = "each byte belongs to one part")]
    fn no_byte_is_in_two_parts() {
        let (_host, memory) = asset();
        let _first = memory.clone().part(10..20, 100);
        let _second = memory.part(19..30, 100);
    }

    #[test]
    fn memory_is_used_again_and_bounded() {
        let free = Free { kept: Mutex::default(), most: 300 << 10 };
        for len in [100 << 10, 200 << 10, 150 << 10] {
            free.keep(vec![1; len]);
        }
        assert_eq!(free.kept().iter().map(Vec::len).collect::<Vec<_>>(), [100 << 10, 200 << 10]);
        assert_eq!(free.take(120 << 10).unwrap().len(), 200 << 10, "the smallest that is large enough");
        assert_eq!(free.take(80 << 10).unwrap().len(), 100 << 10);
        assert_eq!(free.take(80 << 10).unwrap(), vec![0; 80 << 10], "new");
    }
}
