//! The library of the plugin `cow`.

pactio_sdk::export_plugin!(pactio_plugin_cow::PLUGIN);
