//! The library of the plugin `archive`.

pactio_sdk::export_plugin!(pactio_plugin_archive::PLUGIN);
