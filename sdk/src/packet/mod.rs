//! Packets, views and reports: the core of pactio.
//!
//! A **packet** is one request: a header and its bytes. A **view** is a range of a packet that owes an answer. The last answer
//! completes the packet.
//!
//! ```text
//!   PacketBox (owner, future)                    BoundPacketView (device)
//!        │                                            │ split_at
//!        ▼                                            ├────────────┐
//!   ┌─────────┬──────────────────────────┐            ▼            ▼
//!   │ header  │ bytes 0 ............ len │  ◄──── [0, 4096)   [4096, len)
//!   └─────────┴──────────────────────────┘         done        error(END)
//!        │ state word: 2 views → 1 → 0 ─► wake ─► Report: 0..4096 done, 4096..len failed
//! ```
//!
//! Permissions are named from the packet's side: a device may write to a `Packet<Write>`, which makes it a read
//! request, and read from a `Packet<Read>`, which makes it a write request.
//!
//! # Rules
//!
//! - **A request in flight owns its memory.** Dropping a [`PacketBox`] detaches it; header and bytes live until the
//!   last view is answered.
//! - **Dropping a view is failure.** Success is always explicit: [`TransferredPacket`] and the allocated forms state the number
//!   of bytes that were moved; a range without an answer fails with [`IoError::UNANSWERED`](crate::IoError::UNANSWERED).
//! - **The account is exact.** A [`Report`] covers every byte of the request, done or failed with its error.
//! - **One order.** Bytes, then the result, then the count, then the wake.
//!
//! # Files
//!
//! Reading order: `state` (the atomic word), `header` (the part that both sides of the ABI see), `block` (allocation and reuse),
//! `failures` (the record of failures), `owner`, `view`, `allocated`, `transferred`, `any`, `report`; then kinds of packets:
//! `full`, `vec`, `lent`, `complex`; then `output` (receivers of segments), `attributes` and `own_table` (both of one request),
//! `stream`; `rebound` and `continuation` (interception); `store` and `into_packet` (buffers that callers pass). The
//! [guide](crate::guide) has all of it on one page.

mod allocated;
mod any;
mod arrivals;
mod attributes;
mod block;
mod complex;
mod continuation;
mod derived;
mod failures;
mod full;
mod header;
mod into_packet;
mod lent;
mod memory;
mod output;
mod own_table;
mod owner;
mod permission;
mod rebound;
mod report;
mod returned;
mod state;
mod store;
mod stream;
mod transferred;
mod unbound;
mod unfilled;
mod vec;
mod view;

#[cfg(all(test, pactio_loom))]
pub(crate) mod models;
#[cfg(all(test, pactio_shuttle))]
mod storms;
#[cfg(all(test, not(any(pactio_loom, pactio_shuttle))))]
mod tests;

pub use allocated::{AllocatedPacket, ReadPacketObj, ReadWritePacketObj, WritePacketObj};
pub use any::{AllocedOrTransferred, AnyPacket, Errorable, MaybeAlloced, Splittable, StandardPktVariations};
pub use attributes::Attributes;
pub use complex::{ComplexPacket, DirectMemory, Generated, Lazy, PacketBytes};
pub use derived::DerivedPacket;
pub use full::FullPacket;
pub use header::Packet;
pub(crate) use into_packet::MAX_ON_STACK;
pub use into_packet::{CopiedBack, IntoPacket, WriteFrom};
pub use lent::{KeptPacket, RefPacket, SharedPacket, StableBytes};
pub use memory::AlignedBytes;
#[cfg(feature = "std")]
pub use memory::{MemoryPool, PooledBytes};
pub use output::{OutputFunction, OutputRef, OutputStore, PacketOutput, Segment};
pub use owner::PacketBox;
pub use permission::{Filled, PacketPerms, Read, ReadWrite, Write};
pub use rebound::{ReboundPacket, ReboundStream};
pub use report::Report;
pub use returned::{ReturnedPart, ReturnedParts};
pub use store::{PacketMut, PacketStore};
pub use stream::{PacketStream, StreamSegment};
pub use transferred::TransferredPacket;
pub use unbound::PacketView;
pub use unfilled::{Filling, Unfilled};
pub use vec::{OwnedPacket, VecPacket};
pub use view::{BoundPacketView, RequestId};

/// Packets and views in the ABI's fingerprint.
#[cfg(feature = "plugin")]
pub(crate) const fn describe_boundary(
    print: crate::fingerprint::Fingerprint,
) -> crate::fingerprint::Fingerprint {
    view::boundary::describe(header::boundary::describe(print))
}

/// Gives the third value in every real build.
///
/// Under the model checker, the environment variable `PACTIO_MUTANT` plants one known mistake: the second value where the name
/// fits. The models must fail in that case; `sdk/mutants.sh` tries all mistakes.
macro_rules! mutant {
    ($name:literal, $mistake:expr, $right:expr) => {
        if cfg!(pactio_loom) && crate::packet::planted($name) { $mistake } else { $right }
    };
}
pub(crate) use mutant;

#[cfg(pactio_loom)]
pub(crate) fn planted(name: &str) -> bool {
    static PLANTED: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    PLANTED.get_or_init(|| std::env::var("PACTIO_MUTANT").ok()).as_deref() == Some(name)
}

#[cfg(not(pactio_loom))]
pub(crate) const fn planted(_name: &str) -> bool {
    false
}
