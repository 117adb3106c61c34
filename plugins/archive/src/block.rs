//! Decompressed bytes.

/// Decompressed bytes, at an address where copying is fast.
pub(crate) struct Block {
    memory: Vec<u8>,
    start: usize,
}

impl Block {
    const ALIGNMENT: usize = 64;

    pub(crate) fn zeroed(len: usize) -> Self {
        let memory = vec![0; len + Self::ALIGNMENT];
        let start = memory.as_ptr().align_offset(Self::ALIGNMENT).min(Self::ALIGNMENT);
        Self { memory, start }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.memory.len() - Self::ALIGNMENT + self.start]
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        let end = self.memory.len() - Self::ALIGNMENT + self.start;
        &mut self.memory[self.start..end]
    }
}
