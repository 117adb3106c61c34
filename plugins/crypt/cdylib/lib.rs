//! The library of the plugin `crypt`.

pactio_sdk::export_plugin!(pactio_plugin_crypt::PLUGIN);
