//! The library of the plugin `memory`.

pactio_sdk::export_plugin!(pactio_plugin_memory::PLUGIN);
