//! The library of the plugin `verify`.

pactio_sdk::export_plugin!(pactio_plugin_verify::PLUGIN);
