//! A filter that checks each block that is read against its hash: `file:/data/image | verify?hashes=image.sha256`.
//!
//! The hashes are a file: the SHA-256 of each block, 32 bytes each, one after the other; the last block may be shorter.
//! `make=true` makes the file when the device is opened, if it is missing, and other tools can make it too:
//!
//! ```sh
//! split -b 64K --filter=sha256sum image | cut -c -64 | xxd -r -p > image.sha256
//! ```
//!
//! The hashes detect bit rot and truncation. To detect changes of the hashes as well, give the hash of that file:
//! `root=$(sha256sum image.sha256 | cut -c -64)`.

#![forbid(unsafe_code)]

mod backend;
mod device;
mod hashes;

use pactio_sdk::OptionSpec;

pactio_sdk::plugin! {
    id: "verify",
    description: "compares read blocks with hashes",
    schemes: ["verify"],
    options: [
        OptionSpec::text("hashes", "the file with the SHA-256 of each block").required(),
        OptionSpec::size("block", "bytes that have a hash").default("64KiB").range("512", "16MiB"),
        OptionSpec::flag("make", "make the file if it is missing: all of the device is read"),
        OptionSpec::text("root", "the SHA-256 of that file, in hexadecimal digits: hashes that were changed are refused"),
    ],
    check: "file:{folder}/tree.zip | verify?hashes={folder}/tree.sha256&make=true&block=1KiB",
    below_read_only: true,
    filter: backend::Verify,
}
