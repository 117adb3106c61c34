//! The library of the plugin `object`.

pactio_sdk::export_plugin!(pactio_plugin_object::PLUGIN);
