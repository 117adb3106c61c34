//! The library of the plugin `core`.

pactio_sdk::export_plugin!(pactio_plugin_core::PLUGIN);
