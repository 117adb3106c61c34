//! The library of the plugin `cache`.

pactio_sdk::export_plugin!(pactio_plugin_cache::PLUGIN);
