//! A filter that retries requests that failed temporarily: `file:/net/image | retry?within=60s&delay=10ms`.

#![forbid(unsafe_code)]

mod backend;
mod device;

use pactio_sdk::OptionSpec;

pactio_sdk::plugin! {
    id: "retry",
    description: "repeats requests with temporary failures",
    schemes: ["retry"],
    options: [
        OptionSpec::duration("within", "the last attempt begins at most this time after the first").range("0s", "24h").default("60s"),
        OptionSpec::integer("attempts", "the most attempts, with the first one").range("1", "1000000"),
        OptionSpec::duration("delay", "the first pause is random, up to this; the bound of each later pause is twice as long")
            .range("0s", "1h")
            .default("10ms"),
        OptionSpec::duration("longest", "the bound of a pause grows up to this").range("0s", "1h").default("5s"),
        OptionSpec::flag("io", "try again after input/output errors too, which mostly stay").default("false"),
    ],
    filter: backend::Retry,
}
