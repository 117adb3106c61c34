//! A filter that makes requests fail: `file:/data/image | fault?read=10&seed=7`.
//!
//! The seed and the number of a request decide whether it fails, so that a run can be repeated.

mod backend;
mod device;

use pactio_sdk::OptionSpec;

pactio_sdk::plugin! {
    id: "fault",
    description: "makes requests fail, for tests",
    schemes: ["fault"],
    options: [
        OptionSpec::integer("read", "so many read requests of a hundred fail").range("0", "100").default("0"),
        OptionSpec::integer("write", "so many write requests of a hundred fail").range("0", "100").default("0"),
        OptionSpec::choice("error", "what they fail with", backend::NAMES).default("io"),
        OptionSpec::flag("partly", "the first part of what fails is done").default("false"),
        OptionSpec::integer("seed", "begins the random numbers").default("1"),
    ],
    filter: backend::Fault,
}
