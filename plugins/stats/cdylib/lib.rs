//! The library of the plugin `stats`.

pactio_sdk::export_plugin!(pactio_plugin_stats::PLUGIN);
