//! The plugin that this copy of the crate is in.

/// The id of the plugin that this copy of the crate belongs to; the first one, if a program links several in.
pub(crate) static OWN_ID: std::sync::OnceLock<&'static str> = std::sync::OnceLock::new();

/// The id of the plugin that this code is in, if it is in one.
#[cfg(not(any(pactio_loom, pactio_shuttle)))]
pub(crate) fn own_id() -> Option<&'static str> {
    OWN_ID.get().copied()
}
