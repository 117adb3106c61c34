//! The streams that the protocol runs on: unix sockets, TCP, and TLS over TCP.

use futures_lite::{AsyncRead, AsyncWrite};

/// A connection.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A connection of any kind.
pub(crate) type AnyStream = Box<dyn Stream>;
