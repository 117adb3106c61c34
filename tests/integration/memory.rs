//! The memory plugin against a plain buffer.

use pactio::Code;
use pactio_tests::{host, in_time, open, random};

#[test]
fn random_reads_and_writes_are_those_of_a_plain_buffer() {
    in_time(|| {
        const SIZE: usize = 3000;
        let mut random = random();
        for url in [
            format!("memory:?size={SIZE}"),
            format!("queued:{SIZE}"),
            format!("memory:?size={SIZE} | identity | cow"),
            format!("queued:{SIZE} | cow | identity"),
        ] {
            let host = host(&["pactio_memory", "fixture_queued", "fixture_identity", "pactio_cow"]);
            let device = host.open(&url).unwrap();
            let mut model = vec![0; SIZE];
            device.blocking_write_all_at(0, &model).unwrap();
            host.block_on(async {
                for _ in 0..3000 {
                    let start = random.usize(..SIZE + 100);
                    let len = random.usize(..200);
                    let there = start.min(SIZE)..(start + len).min(SIZE);
                    let report = match random.u8(..4) {
                        0 => {
                            let data: Vec<u8> = (0..len).map(|_| random.u8(..)).collect();
                            model[there.clone()].copy_from_slice(&data[..there.len()]);
                            device.write_at(start as u64, data).await.unwrap().0
                        }
                        1 => {
                            let data: Vec<u8> = (0..len).map(|_| random.u8(..)).collect();
                            model[there.clone()].copy_from_slice(&data[..there.len()]);
                            device.write_at(start as u64, &data[..]).await.unwrap().0
                        }
                        2 => {
                            let (report, bytes) = device.read_at(start as u64, vec![0; len]).await.unwrap();
                            assert_eq!(bytes[..there.len()], model[there.clone()]);
                            report
                        }
                        _ => {
                            let mut bytes = vec![0xee; len];
                            let (report, ()) = device.read_at(start as u64, &mut bytes).await.unwrap();
                            assert_eq!(bytes[..there.len()], model[there.clone()]);
                            assert!(bytes[there.len()..].iter().all(|&byte| byte == 0xee), "{report}");
                            report
                        }
                    };
                    assert_eq!((report.len(), report.done()), (len, there.len()));
                }
            });
        }
    });
}

#[test]
fn options_that_make_no_sense_are_explained() {
    let host = host(&["pactio_memory"]);
    for (url, message) in [
        ("memory:", "'memory:': the option 'size' is missing: the size of the device"),
        (
            "memory:?size=big",
            "'memory:?size=big': option 'size' is 'big', but must be a size such as 4096, 64KiB or 1.5GiB",
        ),
        ("memory:?size=1&fill=256", "'memory:?size=1&fill=256': option 'fill' is 256, but must be 0 to 255"),
        ("memory:?sise=1", "'memory:?sise=***': 'memory:' has no option 'sise'; did you mean 'size'?"),
        (
            "memory:?size=16777215TiB",
            "cannot open 'memory:?size=16777215TiB' with plugin 'memory': 18446742974197923840 bytes of memory cannot be had",
        ),
    ] {
        let error = host.open(url).unwrap_err();
        assert_eq!(error.to_string(), message);
        assert!(matches!(error.code(), Some(Code::INVALID_INPUT | Code::OUT_OF_MEMORY)), "{error}");
    }
}

#[test]
fn large_requests_of_many_threads() {
    in_time(|| {
        let (host, device) = open("pactio_memory", "memory:?size=16MiB");
        std::thread::scope(|scope| {
            for thread in 0..4u8 {
                let (host, device) = (&host, &device);
                scope.spawn(move || {
                    let position = u64::from(thread) << 22;
                    let data = vec![thread + 1; 1 << 22];
                    host.block_on(device.write_all_at(position, data)).unwrap();
                    let mut bytes = vec![0; 1 << 22];
                    device.blocking_read_exact_at(position, &mut bytes).unwrap();
                    assert!(bytes.iter().all(|&byte| byte == thread + 1), "thread {thread}");
                });
            }
        });
    });
}
