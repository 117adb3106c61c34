//! A filter that retries requests that failed temporarily: `file:/net/image | retry?attempts=5&delay=10ms`.

mod backend;
mod device;

use pactio_sdk::OptionSpec;

pactio_sdk::plugin! {
    id: "retry",
    description: "repeats requests with temporary failures",
    schemes: ["retry"],
    options: [
        OptionSpec::integer("attempts", "how often it is tried, with the first time").range("1", "1000").default("5"),
        OptionSpec::duration("delay", "wait so long before the second attempt, and twice as long before each that follows")
            .range("0s", "1h")
            .default("10ms"),
        OptionSpec::duration("longest", "but not longer than this").range("0s", "1h").default("5s"),
        OptionSpec::flag("io", "try again after input/output errors too, which mostly stay").default("false"),
    ],
    filter: backend::Retry,
}
