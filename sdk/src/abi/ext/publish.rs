//! `pactio.publish/1`: written bytes become visible as a whole, in one step.

use super::{Answer, Capability, Operation};
use crate::io::Publication;
use crate::{BoundPacketView, PacketBox, Write};

#[cfg(feature = "plugin")]
use super::extension::Operates;

/// Publishes the written bytes: until then, no other reader sees them, and the previous content stays.
///
/// Objects of a store are written in this way, and files that are opened to be [replaced](crate::OpenMode::REPLACE). A device has
/// this extension only while it is written in this way. A device that is closed without being published discards the written
/// bytes, and writes a record of level warn if there were any.
pub trait Publish: Send + Sync {
    /// Makes the bytes that were written visible, in place of the previous content; the new size is the size of the written
    /// bytes. All writes were answered before. If this fails, the previous content stays. The answer may come later.
    ///
    /// A published device takes no more writes: they fail with [`Code::READ_ONLY`](crate::Code::READ_ONLY). Publishing it again
    /// gives the same answer.
    fn publish(&self, answer: Answer);
}

impl Capability {
    /// [`Publish`].
    pub const PUBLISH: Self = Self::of_storage("pactio.publish/1", "publish");
}

impl Operation for dyn Publish {
    const OPERATION: Capability = Capability::PUBLISH;

    fn operate(&self, _: u64, _: &[u8], view: BoundPacketView<Write>) {
        self.publish(Answer::new(view));
    }

    #[cfg(feature = "plugin")]
    fn of<T: Operates<Self> + 'static>(operates: &T) -> &Self {
        operates
    }
}

#[cfg(feature = "plugin")]
impl<T: Operates<dyn Publish> + ?Sized> Publish for T {
    fn publish(&self, answer: Answer) {
        self.operate(0, &[], answer.into_view());
    }
}

/// The future that publishes a device: `ask` hands the request to the device at the first poll.
#[doc(hidden)]
pub fn publication(ask: impl FnOnce(BoundPacketView<Write>) + Send + 'static) -> Publication {
    Box::pin(async move {
        let mut packet = PacketBox::<Write>::new_buf(1)?;
        ask(packet.bind()?);
        (&mut packet).await;
        packet.min_cause().map_or(Ok(()), |(_, cause)| Err(cause))
    })
}
