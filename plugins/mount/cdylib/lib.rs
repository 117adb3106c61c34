//! The library of the plugin `mount`.

pactio_sdk::export_plugin!(pactio_plugin_mount::PLUGIN);
