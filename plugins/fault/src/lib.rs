//! A filter that makes requests fail: `file:/data/image | fault?read=10&seed=7`.
//!
//! The seed and the number of a request decide whether it fails, so that a run can be repeated.

#![forbid(unsafe_code)]

mod backend;
mod device;

use pactio_sdk::OptionSpec;

pactio_sdk::plugin! {
    id: "fault",
    description: "makes requests fail, for tests",
    schemes: ["fault"],
    options: [
        OptionSpec::integer("read", "the percentage of read requests that fail").range("0", "100").default("0"),
        OptionSpec::integer("write", "the percentage of write requests that fail").range("0", "100").default("0"),
        OptionSpec::choice("error", "the error of failed requests", backend::NAMES).default("io"),
        OptionSpec::flag("partly", "the first part of a failed request is done").default("false"),
        OptionSpec::integer("seed", "begins the random numbers").default("1"),
    ],
    filter: backend::Fault,
}
