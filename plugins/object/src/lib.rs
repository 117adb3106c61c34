//! Objects of stores: `s3:bucket/key`, `gs:bucket/key`, `az:container/key`, `https://host/path`, `local:/folder/file`.
//!
//! ```text
//!  read ──► pending ──► sorted, joined over small gaps ──► ranged requests, of one version ──► views, as bytes arrive
//!  write ─► parts of a size, in order ──► uploaded ──► seen by others when the device is published
//! ```

#![forbid(unsafe_code)]

mod backend;
mod client;
mod connection;
mod device;
mod failure;
mod fetch;
mod filling;
mod folder;
mod local;
mod odd;
mod profile;
mod retries;
mod runtime;
mod store;
mod sums;
mod upload;
mod versions;
mod watching;
mod web;

use pactio_sdk::OptionSpec;

pactio_sdk::plugin! {
    id: "object",
    description: "objects in S3, Google Cloud Storage, Azure, on web servers and in folders",
    schemes: ["s3", "gs", "az", "http", "https", "local"],
    options: [
        OptionSpec::text("endpoint", "address of the service, if it is not the maker's own: http://127.0.0.1:9000"),
        OptionSpec::text("region", "region of an S3 bucket"),
        OptionSpec::text("account", "account of an Azure container"),
        OptionSpec::text("key-id", "access key of S3"),
        OptionSpec::text("key", "secret key of S3, access key of Azure, or service account key (JSON) of Google").secret(),
        OptionSpec::text("token", "session or bearer token").secret(),
        OptionSpec::text("profile", "profile of ~/.aws/credentials and ~/.aws/config with keys, region and endpoint of S3"),
        OptionSpec::flag("metadata", "ask the metadata service of this machine for credentials"),
        OptionSpec::text("version", "version of an object in a bucket with versions"),
        OptionSpec::flag("versions", "list all versions of the objects in a folder of an S3 bucket, as name?version=ID"),
        OptionSpec::text("content-type", "media type of an object that is written: text/plain"),
        OptionSpec::flag("anonymous", "do not sign requests"),
        OptionSpec::text("header", "lines of headers for a web server: Name: value").secret(),
        OptionSpec::text("link", "address with a query, such as a signed link, in place of a path: https:?link=env:LINK").secret(),
        OptionSpec::text("ca", "file of certificates (PEM) that are trusted besides those of the system"),
        OptionSpec::flag("unversioned", "read objects for which the server gives neither a tag nor a date"),
        OptionSpec::size("gap", "ranges so close to each other are read as one").default("64KiB").range("0", "1GiB"),
        OptionSpec::size("part", "the size of each uploaded part").default("8MiB").range("5MiB", "1GiB"),
        OptionSpec::duration("retry-for", "how long a request is sent again while the server is busy or cannot be reached")
            .default("60s")
            .range("0s", "1h"),
        OptionSpec::duration("poll", "a watched folder is listed again after this time").default("10s").range("100ms", "24h"),
        OptionSpec::duration("timeout", "how long an answer, or the next bytes of it, may take").default("30s").range("1ms", "1h"),
    ],
    check: "local:{folder}/tree.zip",
    backend: backend::Objects,
}
