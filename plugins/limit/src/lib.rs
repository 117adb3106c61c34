//! A filter that bounds rate and concurrency: `file:/data/image | limit?rate=10MiB&in-flight=4`.

#![forbid(unsafe_code)]

mod backend;
mod device;

use pactio_sdk::OptionSpec;

pactio_sdk::plugin! {
    id: "limit",
    description: "bounds bytes and requests per second, and requests in flight",
    schemes: ["limit"],
    options: [
        OptionSpec::size("rate", "most bytes per second [default: any number]").range("1", "1TiB"),
        OptionSpec::integer("requests", "most requests per second [default: any number]").range("1", "1000000000"),
        OptionSpec::integer("in-flight", "most requests in flight [default: any number]").range("1", "1000000"),
    ],
    check: "memory:?size=100KiB | limit?in-flight=4&rate=1GiB",
    filter: backend::Limit,
}
