//! A filter that answers later: `file:/data/image | delay?latency=10ms&jitter=5ms`.

#![forbid(unsafe_code)]

mod backend;
mod device;

use pactio_sdk::OptionSpec;

pactio_sdk::plugin! {
    id: "delay",
    description: "answers later, for tests",
    schemes: ["delay"],
    options: [
        OptionSpec::duration("latency", "how much later").range("0s", "1h").default("10ms"),
        OptionSpec::duration("jitter", "the largest random addition to the latency").range("0s", "1h").default("0s"),
        OptionSpec::integer("seed", "begins the random numbers").default("1"),
    ],
    check: "memory:?size=100KiB | delay?latency=1ms&jitter=1ms",
    filter: backend::Delay,
}
