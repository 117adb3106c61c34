//! `pactio.resize/1`: the size can be changed.

use super::{Answer, Capability, Operation};
use crate::{BoundPacketView, Write};

#[cfg(feature = "plugin")]
use super::extension::Operates;

/// Changes the size of a device.
pub trait Resize: Send + Sync {
    /// Makes the device `size` bytes long. New bytes read as zeros. The answer may come later.
    fn resize(&self, size: u64, answer: Answer);
}

impl Capability {
    /// [`Resize`].
    pub const RESIZE: Self = Self::of_storage("pactio.resize/1", "resize");
}

impl Operation for dyn Resize {
    const OPERATION: Capability = Capability::RESIZE;

    fn operate(&self, number: u64, _: &[u8], view: BoundPacketView<Write>) {
        self.resize(number, Answer::new(view));
    }

    #[cfg(feature = "plugin")]
    fn of<T: Operates<Self> + 'static>(operates: &T) -> &Self {
        operates
    }
}

#[cfg(feature = "plugin")]
impl<T: Operates<dyn Resize> + ?Sized> Resize for T {
    fn resize(&self, size: u64, answer: Answer) {
        self.operate(size, &[], answer.into_view());
    }
}
