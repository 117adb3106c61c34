//! `pactio.refused/1`: a tree reports the entries that it hides, and why.

use super::{Capability, Records, Refused};

/// Reports the entries that a tree does not show, such as those of an archive with names that lead out of it.
pub trait Refusals: Send + Sync {
    /// Lists the hidden entries, in the order of the storage. `from` is 0, or the cursor of the previous answer.
    fn refused(&self, from: u64, entries: Records<Refused>);
}

impl Capability {
    /// [`Refusals`].
    pub const REFUSED: Self = Self::of_storage("pactio.refused/1", "report hidden entries");
}

operation_of_records!(Refusals, REFUSED, refused, Refused);
