//! The macro that makes a plugin of a backend.

/// Makes a plugin of one backend: exports the entry that hosts look for, and puts the [`StaticManifest`](crate::StaticManifest) into the
/// file.
///
/// The crate is a `cdylib`. `backend` is a constant expression; its type implements [`Backend`](crate::Backend). `version`,
/// `license`, `options`, `requires` and `check`, which is the URL that `pactio check` opens, may be left out: the first two are
/// the crate's then, the others empty. With `filter`
/// instead of `backend`, its devices sit on others, which [`OpenRequest::lower`](crate::OpenRequest::lower) gives; with
/// `below_read_only: true` before that, these are only opened to be read. See the
/// [crate's page](crate) for a whole plugin.
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
#[macro_export]
macro_rules! export_plugin {
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
        $crate::__export_plugin!(
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
        $crate::__export_plugin!(
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
macro_rules! __export_plugin {
    ($manifest:expr, $backend:expr) => {
        const _: () = {
            unsafe extern "C" fn create(
                library: $crate::abi::Library,
                out: *mut ::core::mem::MaybeUninit<$crate::abi::BackendObj>,
            ) -> u32 {
                // SAFETY: the host promises that `out` is valid for a write.
                unsafe { $crate::__private::create(library, || $backend, out) }
            }

            const MANIFEST: $crate::StaticManifest = $manifest;

            #[used]
            #[cfg_attr(target_vendor = "apple", unsafe(link_section = "__DATA,__pactio"))]
            #[cfg_attr(not(target_vendor = "apple"), unsafe(link_section = ".pactio"))]
            static BYTES: [u8; MANIFEST.encoded_len()] = MANIFEST.encode();

            #[unsafe(no_mangle)]
            #[used]
            static PACTIO_PLUGIN: $crate::abi::PluginEntry = $crate::abi::PluginEntry {
                magic: $crate::abi::MAGIC,
                size: ::core::mem::size_of::<$crate::abi::PluginEntry>() as u32,
                abi_major: $crate::abi::ABI_MAJOR,
                abi_minor: $crate::abi::ABI_MINOR,
                fingerprint: $crate::abi::FINGERPRINT,
                layout: $crate::abi::layout(),
                manifest: $crate::abi::StaticBytes::new(&BYTES),
                create,
                attach: $crate::__private::ATTACH,
            };
        };
    };
}

#[doc(hidden)]
pub mod __private {
    use core::mem::MaybeUninit;

    use crate::abi::{BackendObj, Library, backend_object};
    use crate::plugin::guarded::GuardedBackend;
    use crate::{Backend, IoError, firewall};

    /// Has the records of a library go to its host.
    #[cfg(feature = "tracing")]
    pub const ATTACH: Option<crate::abi::Attach> = Some(crate::plugin::log::attach);

    /// Without the feature, nobody takes what the host gives.
    #[cfg(not(feature = "tracing"))]
    pub const ATTACH: Option<crate::abi::Attach> = None;

    /// What was given, or else the default behind it.
    pub const fn first<T: Copy>(values: &[T]) -> T {
        values[0]
    }

    /// The body of a plugin's [`CreateBackend`](crate::abi::CreateBackend).
    ///
    /// # Safety
    ///
    /// `out` is valid for a write.
    pub unsafe fn create<B: Backend>(
        library: Library,
        make: impl FnOnce() -> B,
        out: *mut MaybeUninit<BackendObj>,
    ) -> u32 {
        let made = firewall::contain(|| -> BackendObj {
            let backend = GuardedBackend::new(make(), library.clone());
            backend_object(backend, library)
        });
        match made {
            Ok(object) => {
                // SAFETY: as required.
                unsafe { out.write(MaybeUninit::new(object)) };
                0
            }
            Err(_) => IoError::PANICKED.to_raw(),
        }
    }
}
