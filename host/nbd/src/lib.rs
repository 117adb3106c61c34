//! Serves devices of pactio to clients of NBD: qemu, nbdcopy, fio, the Linux kernel.
//!
//! ```text
//!  client ── unix socket, TCP, TLS ──► handshake ──► Transmission ──► Device ──► plugins
//!                                       └ exports, by name
//! ```
//!
//! | file | has |
//! |------|-----|
//! | `server.rs` | exports, the socket, one task per connection |
//! | `handshake.rs` | fixed newstyle: options until the client chooses an export |
//! | `transmission.rs` | requests and replies |
//! | `export.rs` | size, flags and states of ranges of a device |
//! | `wire.rs` | the numbers and headers of the protocol |
//!
//! A read whose ranges failed in part is answered range by range, each failure at its offset. The state of ranges
//! (`base:allocation`) comes from [`Device::regions`](pactio::Device::regions).

#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod export;
mod handshake;
mod server;
mod stream;
mod tls;
mod transmission;
mod wire;

pub use server::{Address, Builder, Server};
pub use tls::tls_config;
