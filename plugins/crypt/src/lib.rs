//! A filter that encrypts the data of the device below, with AES-XTS: `file:/data/disk | crypt?key-file=/etc/disk.key`.
//!
//! The sizes and positions stay the same: each block is encrypted with its number as the tweak, as `cryptsetup` does with
//! `aes-xts-plain64`. That hides content, but does not detect changes: a block that was changed below decrypts to other bytes.
//! Put [`verify`](https://docs.rs/pactio-plugin-verify) below it to detect changes.
//!
//! ```text
//!  read ──► whole blocks: decrypted in the requester's memory ─┐
//!       └─► parts of blocks: in a buffer ──────────────────────┴──► below
//!  write ─► whole blocks: encrypted into a buffer ─────────────┐
//!        └► parts of blocks: read, changed, written ───────────┴──► below
//! ```

#![forbid(unsafe_code)]

mod backend;
mod cipher;
mod device;
mod exclusion;
mod write;

use pactio_sdk::OptionSpec;

// For the bench, which compares the filter with the same code alone.
#[doc(hidden)]
pub use cipher::Cipher;

pactio_sdk::plugin! {
    id: "crypt",
    description: "encrypts blocks with AES-XTS",
    schemes: ["crypt"],
    options: [
        OptionSpec::text("key-file", "a file of 64 bytes (AES-256) or 32 bytes (AES-128): the two keys of XTS"),
        OptionSpec::text("key", "the same in hexadecimal digits; others may see the URLs of a program").secret(),
        OptionSpec::size("block", "the unit of encryption: a power of two").default("512").range("512", "64KiB"),
    ],
    check: "memory:?size=96KiB | crypt?key=000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f",
    filter: backend::Crypt,
}
