//! The library of the plugin `retry`.

pactio_sdk::export_plugin!(pactio_plugin_retry::PLUGIN);
