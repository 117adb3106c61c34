//! The library of the plugin `process`.

pactio_sdk::export_plugin!(pactio_plugin_process::PLUGIN);
