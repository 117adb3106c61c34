//! The macros that make a plugin from a backend.

use crate::StaticManifest;
use crate::abi::{PluginEntry, StaticBytes};

/// A plugin as a value, made by [`plugin!`](crate::plugin): a library exports it, or a program links it in.
#[derive(Clone, Copy)]
pub struct LinkedPlugin {
    manifest: StaticManifest,
    entry: PluginEntry,
}

impl LinkedPlugin {
    #[doc(hidden)]
    pub const fn new(manifest: StaticManifest, entry: PluginEntry) -> Self {
        Self { manifest, entry }
    }

    /// The manifest of the plugin.
    pub const fn manifest(&self) -> &StaticManifest {
        &self.manifest
    }

    /// The entry, which a host reads.
    #[doc(hidden)]
    pub const fn entry(&self) -> PluginEntry {
        self.entry
    }

    /// The entry of a library, with the manifest that is in a section of the library's file.
    #[doc(hidden)]
    pub const fn exported(&self, manifest: &'static [u8]) -> PluginEntry {
        PluginEntry { manifest: StaticBytes::new(manifest), ..self.entry }
    }
}

impl core::fmt::Debug for LinkedPlugin {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("LinkedPlugin").field(&self.manifest.id).finish()
    }
}

/// Makes a plugin from one backend, as the constant `PLUGIN`, for a crate that programs link in; another crate makes the library
/// with [`export_plugin!`](crate::export_plugin).
///
/// The fields are those of [`export_plugin!`](crate::export_plugin).
///
/// ```
/// # use pactio_sdk::*;
/// # struct Nothing;
/// # struct Empty;
/// # impl BackendDevice for Empty {
/// #     fn info(&self) -> DeviceInfo { DeviceInfo::with_size(0) }
/// #     fn read(&self, _: u64, view: BoundPacketView<Write>) { view.error(IoError::END) }
/// # }
/// # impl Backend for Nothing {
/// #     type Device = Empty;
/// #     fn open(&self, _: &OpenRequest<'_>) -> Result<Empty, OpenError> { Ok(Empty) }
/// # }
/// // The crate `nothing`: a program calls `Host::builder().plugin(nothing::PLUGIN)`.
/// pactio_sdk::plugin! {
///     id: "nothing",
///     description: "devices without a byte",
///     schemes: ["nothing"],
///     backend: Nothing,
/// }
/// // The crate of the library, a `cdylib`: `pactio_sdk::export_plugin!(nothing::PLUGIN);`
/// assert_eq!(PLUGIN.manifest().id, "nothing");
/// ```
#[macro_export]
macro_rules! plugin {
    (
        id: $id:expr,
        $(version: $version:expr,)?
        $(license: $license:expr,)?
        description: $description:expr,
        schemes: [$($scheme:expr),+ $(,)?],
        $(options: [$($option:expr),* $(,)?],)?
        $(requires: [$($feature:expr),* $(,)?],)?
        $(check: $check:expr,)?
        backend: $backend:expr $(,)?
    ) => {
        /// The plugin, to be exported by a library or linked into a program.
        pub const PLUGIN: $crate::LinkedPlugin = $crate::__plugin!(
            $crate::StaticManifest {
                id: $id,
                version: $crate::__private::first(&[$($version,)? ::core::env!("CARGO_PKG_VERSION")]),
                license: $crate::__private::first(&[$($license,)? ::core::env!("CARGO_PKG_LICENSE")]),
                description: $description,
                schemes: &[$($scheme),+],
                filter: false,
                below_read_only: false,
                options: &[$($($option),*)?],
                requires: &[$($($feature),*)?],
                check: $crate::__private::first(&[$($check,)? ""]),
                unwinds: ::core::cfg!(panic = "unwind"),
            },
            $backend
        );
    };
    (
        id: $id:expr,
        $(version: $version:expr,)?
        $(license: $license:expr,)?
        description: $description:expr,
        schemes: [$($scheme:expr),+ $(,)?],
        $(options: [$($option:expr),* $(,)?],)?
        $(requires: [$($feature:expr),* $(,)?],)?
        $(check: $check:expr,)?
        $(below_read_only: $below_read_only:expr,)?
        filter: $filter:expr $(,)?
    ) => {
        /// The plugin, to be exported by a library or linked into a program.
        pub const PLUGIN: $crate::LinkedPlugin = $crate::__plugin!(
            $crate::StaticManifest {
                id: $id,
                version: $crate::__private::first(&[$($version,)? ::core::env!("CARGO_PKG_VERSION")]),
                license: $crate::__private::first(&[$($license,)? ::core::env!("CARGO_PKG_LICENSE")]),
                description: $description,
                schemes: &[$($scheme),+],
                filter: true,
                below_read_only: $crate::__private::first(&[$($below_read_only,)? false]),
                options: &[$($($option),*)?],
                requires: &[$($($feature),*)?],
                check: $crate::__private::first(&[$($check,)? ""]),
                unwinds: ::core::cfg!(panic = "unwind"),
            },
            $filter
        );
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __plugin {
    ($manifest:expr, $backend:expr) => {{
        const MANIFEST: $crate::StaticManifest = $manifest;
        static BYTES: [u8; MANIFEST.encoded_len()] = MANIFEST.encode();

        unsafe extern "C" fn create(
            library: $crate::abi::Library,
            out: *mut ::core::mem::MaybeUninit<$crate::abi::BackendObj>,
        ) -> u32 {
            // SAFETY: the host promises that `out` is valid for a write.
            unsafe { $crate::__private::create(MANIFEST.id, library, || $backend, out) }
        }

        $crate::LinkedPlugin::new(
            MANIFEST,
            $crate::abi::PluginEntry {
                magic: $crate::abi::MAGIC,
                size: ::core::mem::size_of::<$crate::abi::PluginEntry>() as u32,
                abi_major: $crate::abi::ABI_MAJOR,
                abi_minor: $crate::abi::ABI_MINOR,
                fingerprint: $crate::abi::FINGERPRINT,
                layout: $crate::abi::Layout::of_backend(),
                manifest: $crate::abi::StaticBytes::new(&BYTES),
                create: ::core::option::Option::Some(create),
                attach: $crate::__private::ATTACH,
            },
        )
    }};
}

/// Exports a plugin from a library: the entry that hosts look for, and the [`StaticManifest`] in the file.
///
/// The crate is a `cdylib`. `backend` is a constant expression; its type implements [`Backend`](crate::Backend). `version`,
/// `license`, `options`, `requires` and `check` may be left out: the first two then have the values of the crate, and the others
/// are empty. `check` is the URL that `pactio check` opens. With `filter` instead of `backend`, the plugin's devices sit on other
/// devices, which [`OpenRequest::lower`](crate::OpenRequest::lower) gives; with `below_read_only: true` before `filter`, these
/// are only opened to be read. See the [crate's page](crate) for a whole plugin.
///
/// ```
/// # use pactio_sdk::*;
/// # struct Nothing;
/// # struct Empty;
/// # impl BackendDevice for Empty {
/// #     fn info(&self) -> DeviceInfo { DeviceInfo::with_size(0) }
/// #     fn read(&self, _: u64, view: BoundPacketView<Write>) { view.error(IoError::END) }
/// # }
/// # impl Backend for Nothing {
/// #     type Device = Empty;
/// #     fn open(&self, _: &OpenRequest<'_>) -> Result<Empty, OpenError> { Ok(Empty) }
/// # }
/// pactio_sdk::export_plugin! {
///     id: "nothing",
///     version: "1.2.3",
///     license: "MIT",
///     description: "devices without a byte",
///     schemes: ["nothing", "void"],
///     options: [OptionSpec::flag("quiet", "say less").default("false")],
///     backend: Nothing,
/// }
/// ```
///
/// A crate that programs can also link in makes its plugin with [`plugin!`](crate::plugin), and the crate of the library exports
/// that plugin: `pactio_sdk::export_plugin!(nothing::PLUGIN);`. Only the library exports the symbol, so the symbols of two linked
/// plugins do not collide.
#[macro_export]
macro_rules! export_plugin {
    (id: $($fields:tt)*) => {
        const _: () = {
            $crate::plugin! { id: $($fields)* }
            $crate::export_plugin!(PLUGIN);
        };
    };
    ($plugin:path) => {
        const _: () = {
            const EXPORTED: $crate::LinkedPlugin = $plugin;

            #[used]
            #[cfg_attr(target_vendor = "apple", unsafe(link_section = "__DATA,__pactio"))]
            #[cfg_attr(not(target_vendor = "apple"), unsafe(link_section = ".pactio"))]
            static BYTES: [u8; EXPORTED.manifest().encoded_len()] = EXPORTED.manifest().encode();

            #[unsafe(no_mangle)]
            #[used]
            static PACTIO_PLUGIN: $crate::abi::PluginEntry = EXPORTED.exported(&BYTES);
        };
    };
}

#[doc(hidden)]
pub mod __private {
    use core::mem::MaybeUninit;

    use crate::abi::{BackendObj, Library};
    pub use crate::plugin::guarded::host_backend;
    use crate::plugin::guarded::{GuardedBackend, backend_object};
    use crate::{Backend, IoError, firewall};

    /// Sends the records of a library to its host.
    #[cfg(feature = "tracing")]
    pub const ATTACH: Option<crate::abi::Attach> = Some(crate::plugin::log::attach);

    /// Without the feature, the plugin takes nothing from the host.
    #[cfg(not(feature = "tracing"))]
    pub const ATTACH: Option<crate::abi::Attach> = None;

    /// The given value, or else the default behind it.
    pub const fn first<T: Copy>(values: &[T]) -> T {
        values[0]
    }

    /// The body of a plugin's [`CreateBackend`](crate::abi::CreateBackend).
    ///
    /// # Safety
    ///
    /// `out` is valid for a write.
    pub unsafe fn create<B: Backend>(
        id: &'static str,
        library: Library,
        make: impl FnOnce() -> B,
        out: *mut MaybeUninit<BackendObj>,
    ) -> u32 {
        let _ = crate::origin::OWN_ID.set(id);
        let made = firewall::contain(|| -> BackendObj {
            let backend = GuardedBackend::new(make(), library.clone());
            backend_object(backend, library)
        });
        match made {
            Ok(object) => {
                // SAFETY: the caller ensures that `out` is valid for a write.
                unsafe { out.write(MaybeUninit::new(object)) };
                0
            }
            Err(_) => IoError::PANICKED.to_raw(),
        }
    }
}
