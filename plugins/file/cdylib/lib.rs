//! The library of the plugin `file`.

pactio_sdk::export_plugin!(pactio_plugin_file::PLUGIN);
