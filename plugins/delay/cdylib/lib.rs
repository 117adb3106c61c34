//! The library of the plugin `delay`.

pactio_sdk::export_plugin!(pactio_plugin_delay::PLUGIN);
