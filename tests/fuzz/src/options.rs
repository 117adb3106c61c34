//! Any options of a filter open a device, or give an error with a text.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use pactio::Host;

/// Each kind of option occurs in one of these filters.
const FILTERS: [&str; 6] = ["cache", "delay", "fault", "limit", "retry", "stats"];

fn host() -> &'static Host {
    static HOST: OnceLock<Host> = OnceLock::new();
    HOST.get_or_init(|| {
        let builder = Host::builder().default_search_paths(false).worker_threads(1);
        let linked = [
            pactio_plugin_cache::PLUGIN,
            pactio_plugin_delay::PLUGIN,
            pactio_plugin_fault::PLUGIN,
            pactio_plugin_limit::PLUGIN,
            pactio_plugin_memory::PLUGIN,
            pactio_plugin_retry::PLUGIN,
            pactio_plugin_stats::PLUGIN,
        ];
        linked.into_iter().fold(builder, |builder, plugin| builder.plugin(plugin)).build().unwrap()
    })
}

fuzz_target!(|input: (u8, &str)| {
    let (filter, options) = input;
    let filter = FILTERS[usize::from(filter) % FILTERS.len()];
    // The options must not add another filter or name a file with a secret.
    let options = options.replace(['|', '@'], "");
    match host().open(&format!("memory:?size=1 | {filter}?{options}")) {
        Ok(device) => assert_eq!(device.size(), Some(1)),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
