//! A filter that counts requests, bytes, errors and times: `file:/data/image | stats`. Its figures are the device's statistics.

#![forbid(unsafe_code)]

mod backend;
mod device;

pactio_sdk::plugin! {
    id: "stats",
    description: "counts requests, bytes, errors and times",
    schemes: ["stats"],
    filter: backend::Stats,
}
