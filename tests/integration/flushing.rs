//! A flush reaches the device below a filter that has no flush of its own.

use std::sync::atomic::{AtomicUsize, Ordering};

use pactio::{Capability, Host, OpenOptions};
use pactio_tests::in_time;

/// Flushes that the device got.
static FLUSHES: AtomicUsize = AtomicUsize::new(0);

mod counting {
    use std::sync::atomic::Ordering;

    use pactio_sdk::{
        Answer, Backend, BackendDevice, BoundPacketView, DeviceInfo, ExtensionQuery, Flush, FlushScope,
        OpenError, OpenRequest, Read, Write,
    };

    struct Counting;
    struct Device;

    impl Backend for Counting {
        type Device = Device;

        fn open(&self, _: &OpenRequest<'_>) -> Result<Device, OpenError> {
            Ok(Device)
        }
    }

    impl BackendDevice for Device {
        fn info(&self) -> DeviceInfo {
            DeviceInfo::with_size(4096)
        }

        fn read(&self, _: u64, view: BoundPacketView<Write>) {
            let zeros = vec![0; view.len()];
            view.transfer_data(&zeros).complete();
        }

        fn write(&self, _: u64, view: BoundPacketView<Read>) {
            view.accept().complete();
        }

        fn extensions<'d>(&'d self, query: &mut ExtensionQuery<'d>) {
            query.offer::<dyn Flush>(self);
        }
    }

    impl Flush for Device {
        fn flush(&self, _: FlushScope, answer: Answer) {
            super::FLUSHES.fetch_add(1, Ordering::SeqCst);
            answer.done();
        }
    }

    pactio_sdk::plugin! {
        id: "counting",
        description: "counts flushes",
        schemes: ["counting"],
        backend: Counting,
    }
}

/// Makes a filter that forwards reads, writes, and perhaps more.
macro_rules! filter {
    ($name:ident, $scheme:literal, [$($more:ident)?]) => {
        mod $name {
            use pactio_sdk::{Backend, Capability, Filter, Lower, OpenError, OpenRequest};

            struct Forwarding;
            struct Device(Lower);

            impl Backend for Forwarding {
                type Device = Device;

                fn open(&self, request: &OpenRequest<'_>) -> Result<Device, OpenError> {
                    request.lower().map(Device)
                }
            }

            impl Filter for Device {
                const FORWARDS: &'static [Capability] =
                    &[Capability::READ, Capability::WRITE, $(Capability::$more)?];

                fn lower(&self) -> &Lower {
                    &self.0
                }
            }

            pactio_sdk::plugin! {
                id: $scheme,
                description: "a filter",
                schemes: [$scheme],
                filter: Forwarding,
            }
        }
    };
}

filter!(silent, "silent", []);
filter!(forwarding, "forwarding", [FLUSH]);

#[test]
fn a_filter_without_a_flush_holds_none_back() {
    in_time(|| {
        let host = Host::builder()
            .default_search_paths(false)
            .plugin(counting::PLUGIN)
            .plugin(silent::PLUGIN)
            .plugin(forwarding::PLUGIN)
            .build()
            .unwrap();
        let writable = OpenOptions::new().read(true).write(true);
        for (number, url) in
            [(1, "counting: | silent | silent"), (2, "counting: | silent | forwarding | silent | forwarding")]
        {
            let device = host.open_with(url, writable).unwrap();
            assert!(device.capabilities().has(Capability::FLUSH), "{url}");
            host.block_on(device.write_all_at(0, vec![1; 10])).unwrap();
            host.block_on(device.flush()).unwrap();
            host.block_on(device.flush_data()).unwrap();
            assert_eq!(FLUSHES.load(Ordering::SeqCst), 2 * number, "{url}");
        }
    });
}
