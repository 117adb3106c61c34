//! The library of the plugin `fault`.

pactio_sdk::export_plugin!(pactio_plugin_fault::PLUGIN);
