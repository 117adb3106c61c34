//! `pactio.flush/1`: pending writes can be made durable.

use super::{Answer, Capability, Operation};
use crate::{BoundPacketView, Write};

#[cfg(feature = "plugin")]
use super::extension::Operates;

/// Makes pending writes durable.
pub trait Flush: Send + Sync {
    /// Makes all writes that were answered before this call durable, as `scope` says. The answer may come later. A device that
    /// [publishes](super::Publish) its bytes, and cannot make them durable before, fails each flush until it is published.
    fn flush(&self, scope: FlushScope, answer: Answer);
}

/// The effect of a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FlushScope {
    /// The bytes are durable, with the metadata that is needed to find them.
    Data,
    /// The bytes and all metadata, such as times, are durable.
    All,
}

impl FlushScope {
    /// The number that crosses the boundary.
    #[cfg(feature = "plugin")]
    #[doc(hidden)]
    pub fn to_raw(self) -> u64 {
        match self {
            Self::Data => 0,
            Self::All => 1,
        }
    }

    /// A scope that this version does not know counts as the widest one.
    fn from_raw(raw: u64) -> Self {
        match raw {
            0 => Self::Data,
            _ => Self::All,
        }
    }
}

impl Capability {
    /// [`Flush`].
    pub const FLUSH: Self = Self::of_storage("pactio.flush/1", "flush");
}

impl Operation for dyn Flush {
    const OPERATION: Capability = Capability::FLUSH;

    fn operate(&self, number: u64, _: &[u8], view: BoundPacketView<Write>) {
        self.flush(FlushScope::from_raw(number), Answer::new(view));
    }

    #[cfg(feature = "plugin")]
    fn of<T: Operates<Self> + 'static>(operates: &T) -> &Self {
        operates
    }
}

#[cfg(feature = "plugin")]
impl<T: Operates<dyn Flush> + ?Sized> Flush for T {
    fn flush(&self, scope: FlushScope, answer: Answer) {
        self.operate(scope.to_raw(), &[], answer.into_view());
    }
}

#[cfg(all(test, feature = "plugin"))]
mod tests {
    use super::*;

    #[test]
    fn scopes_come_back_and_unknown_ones_count_as_all() {
        for scope in [FlushScope::Data, FlushScope::All] {
            assert_eq!(FlushScope::from_raw(scope.to_raw()), scope);
        }
        assert_eq!(FlushScope::from_raw(77), FlushScope::All);
    }
}
