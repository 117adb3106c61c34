//! The answer of a request that has no bytes.

use core::fmt;

use crate::{BoundPacketView, Cause, IoError, Write};

/// Owes the answer of a flush or another request that has no bytes. Dropping it fails the request.
#[must_use = "dropping an answer fails its request"]
pub struct Answer(BoundPacketView<Write>);

impl Answer {
    /// Answers through a view of at least one byte. Devices receive a finished `Answer`.
    pub fn new(view: BoundPacketView<Write>) -> Self {
        Self(view)
    }

    #[cfg(feature = "plugin")]
    pub(crate) fn into_view(self) -> BoundPacketView<Write> {
        self.0
    }

    /// Answers that the request was done.
    pub fn done(self) {
        self.0.transfer_data(&[1]).complete();
    }

    /// Answers that the request failed.
    pub fn error(self, error: IoError) {
        self.0.error(error);
    }

    /// Answers that the request failed, with a text for people where the cause has one.
    pub fn fail(self, cause: &Cause) {
        self.0.fail(cause);
    }

    /// Answers that the request was done, or failed.
    pub fn result(self, result: Result<(), impl Into<Cause>>) {
        match result {
            Ok(()) => self.done(),
            Err(cause) => self.fail(&cause.into()),
        }
    }

    /// The requester does not want the result any more.
    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Answer")
    }
}
