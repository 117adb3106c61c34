//! The library of the plugin `limit`.

pactio_sdk::export_plugin!(pactio_plugin_limit::PLUGIN);
