//! The core filter: files that were made here byte by byte, and the dump that `gcore` made of a process, where that is installed.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use pactio::{Code, Device, Host, Region};
use pactio_tests::{Part, Records, core_file, host, in_time};

fn open(host: &Host, folder: &Path, content: &[u8], options: &str) -> Result<Device, pactio::Error> {
    let path = folder.join("dump");
    fs::write(&path, content).unwrap();
    host.open(&format!("file:{} | core{options}", path.display()))
}

fn core_host() -> Host {
    host(&["pactio_core", "pactio_file", "pactio_process"])
}

#[test]
fn memory_is_at_its_addresses_and_what_was_not_dumped_is_a_hole() {
    in_time(|| {
        let (folder, host) = (tempfile::tempdir().unwrap(), core_host());
        let (code, data) =
            (vec![0xcc; 0x1000], (0..0x1800u32).map(|at| (at % 251) as u8).collect::<Vec<_>>());
        let parts: [Part<'_>; 4] = [
            (0x40_0000, 0x1000, 5, &code),
            (0x60_0000, 0x3000, 6, &data),
            (0x60_3000, 0x1000, 4, &[]),
            (0xffff_8000_0000_0000, 0x1000, 6, &code),
        ];
        let device = open(&host, folder.path(), &core_file(4, &parts), "").unwrap();
        let (report, bytes) = host.block_on(device.read_at(0x60_0010, vec![9; 0x2000])).unwrap();
        assert_eq!(report.to_string(), "6128 of 8192 bytes; 6128..8192: not mapped");
        assert_eq!(&bytes[..6128], &data[0x10..]);
        // The read covers memory and the gaps before and behind it.
        let (report, bytes) = host.block_on(device.read_at(0x3f_fff0, vec![9; 0x1020])).unwrap();
        assert_eq!(report.to_string(), "4096 of 4128 bytes; 0..16: not mapped; 4112..4128: not mapped");
        assert!(bytes[16..4112].iter().all(|byte| *byte == 0xcc));
        assert_eq!(host.block_on(device.read::<u32>(0xffff_8000_0000_0ffc)).unwrap(), 0xcccc_cccc);
        let error = host.block_on(device.read::<u32>(u64::MAX - 8)).unwrap_err();
        assert_eq!(error.code(), Some(Code::NOT_MAPPED));
        assert!(host.block_on(device.write(0x60_0000, &0u8)).is_err());
        let regions = host.block_on(device.regions()).unwrap();
        let seen: Vec<_> = regions
            .iter()
            .map(|region| {
                (region.range.start, region.range.end, region.readable, region.writable, region.executable)
            })
            .collect();
        assert_eq!(
            seen,
            [
                (0x40_0000, 0x40_1000, true, false, true),
                (0x60_0000, 0x60_1800, true, true, false),
                (0x60_1800, 0x60_3000, false, true, false),
                (0x60_3000, 0x60_4000, false, false, false),
                (0xffff_8000_0000_0000, 0xffff_8000_0000_1000, true, true, false),
            ]
        );
        assert_eq!((regions[0].name.to_str(), regions[1].name.to_str()), (Some("/usr/lib/a file"), Some("")));
        let device = open(&host, folder.path(), &core_file(4, &parts[..2]), "?address=physical").unwrap();
        assert_eq!(host.block_on(device.read::<u8>(0x1_0060_0001)).unwrap(), 1);
    });
}

#[test]
fn lime_dumps_and_raw_images_are_memory_too() {
    in_time(|| {
        let (folder, host) = (tempfile::tempdir().unwrap(), core_host());
        let header = |start: u64, last: u64| {
            [&b"EMiL\x01\0\0\0"[..], &start.to_le_bytes(), &last.to_le_bytes(), &[0; 8]].concat()
        };
        let dump =
            [header(0x1000, 0x1fff), vec![1; 0x1000], header(0x10_0000, 0x10_000f), vec![2; 16]].concat();
        let device = open(&host, folder.path(), &dump, "").unwrap();
        assert_eq!(host.block_on(device.read::<[u8; 2]>(0x1ffe)).unwrap(), [1; 2]);
        assert_eq!(host.block_on(device.read_exact_at(0x10_0000, vec![0; 16])).unwrap(), [2; 16]);
        assert_eq!(host.block_on(device.regions()).unwrap().len(), 2);
        let error = host.block_on(device.read::<u8>(0x2000)).unwrap_err();
        assert_eq!(error.code(), Some(Code::NOT_MAPPED));
        let device = open(&host, folder.path(), b"abcdef", "?at=0x1000").unwrap();
        assert_eq!(host.block_on(device.read::<[u8; 2]>(0x1002)).unwrap(), *b"cd");
        let map = folder.path().join("map");
        fs::write(&map, "# low memory\n0x2000-3000 10 boot rom\n\n8000-8010 0\n").unwrap();
        let image: Vec<u8> = (0..0x1010u32).map(|at| (at % 253) as u8).collect();
        let device = open(&host, folder.path(), &image, &format!("?map={}", map.display())).unwrap();
        assert_eq!(host.block_on(device.read::<u8>(0x2005)).unwrap(), 0x15);
        assert_eq!(host.block_on(device.read::<u8>(0x8005)).unwrap(), 5);
        assert_eq!(host.block_on(device.regions()).unwrap()[0].name, "boot rom");
    });
}

/// The files that the parsers are fuzzed with.
const AVML: &[u8] = include_bytes!("../fuzz/seeds/dumps/avml");
const KDUMP: &[u8] = include_bytes!("../fuzz/seeds/dumps/kdump");

#[test]
fn dumps_that_are_compressed_in_blocks_are_memory_and_damage_stays_where_it_is() {
    in_time(|| {
        let (folder, host) = (tempfile::tempdir().unwrap(), core_host());
        let device = open(&host, folder.path(), AVML, "").unwrap();
        assert_eq!(host.block_on(device.read_exact_at(0x1000, vec![0; 300])).unwrap(), b"xyz".repeat(100));
        // Again, from the block that was kept.
        assert_eq!(host.block_on(device.read::<[u8; 3]>(0x1001)).unwrap(), *b"yzx");

        let device = open(&host, folder.path(), KDUMP, "").unwrap();
        let pages = [b'-', b'a', b'b', b'-', b'c'].map(|byte| [byte; 4096]).concat();
        let (report, bytes) = host.block_on(device.read_at(0, vec![b'-'; 5 * 4096])).unwrap();
        assert!(bytes == pages);
        let gaps = "12288 of 20480 bytes; 0..4096: not mapped; 12288..16384: not mapped";
        assert_eq!(report.to_string(), gaps);
        let regions = host.block_on(device.regions()).unwrap();
        let expected = [(0, 0x1000, false), (0x1000, 0x3000, true), (0x4000, 0x5000, true)];
        assert_eq!(ranges(&regions), expected);

        // The last byte of the second page, which is compressed by snappy.
        let mut damaged = KDUMP.to_vec();
        let second = 4 * 4096 + 24;
        let [offset, len] =
            [0, 8].map(|at| u32::from_le_bytes(damaged[second + at..][..4].try_into().unwrap()));
        damaged[(offset + len) as usize - 1] = 0xff;
        let device = open(&host, folder.path(), &damaged, "").unwrap();
        let (report, bytes) = host.block_on(device.read_at(0x1ff0, vec![b'-'; 0x3010])).unwrap();
        let gaps = "4112 of 12304 bytes; 16..4112: corrupt data; 4112..8208: not mapped";
        assert_eq!(report.to_string(), gaps);
        assert!(bytes[..16] == [b'a'; 16] && bytes[8208..] == [b'c'; 4096]);

        // The last page is cut off.
        let device = open(&host, folder.path(), &KDUMP[..KDUMP.len() - 1], "").unwrap();
        let error = host.block_on(device.read::<u8>(0x4000)).unwrap_err();
        assert_eq!(error.code(), Some(Code::CORRUPT));
        assert_eq!(host.block_on(device.read::<u8>(0x2fff)).unwrap(), b'b');
        assert_eq!(ranges(&host.block_on(device.regions()).unwrap()), expected);
    });
}

#[test]
fn a_dump_that_is_compressed_as_a_whole_is_read_up_to_the_byte_that_it_is_cut_off_at() {
    in_time(|| {
        let (folder, host) = (tempfile::tempdir().unwrap(), core_host());
        let gzip = |content: &[u8]| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(content).unwrap();
            encoder.finish().unwrap()
        };
        let mut random = fastrand::Rng::with_seed(3);
        let memory: Vec<u8> = (0..300_000).map(|_| random.u8(..)).collect();
        let core = core_file(4, &[(0x10_0000, memory.len() as u64, 6, &memory)]);
        let packed = gzip(&core);
        let device = open(&host, folder.path(), &packed, "").unwrap();
        let read = host.block_on(device.read_exact_at(0x10_0000, vec![0; memory.len()])).unwrap();
        assert!(read == memory);
        // A dump that is compressed twice, in blocks and as a whole.
        let device = open(&host, folder.path(), &gzip(&gzip(KDUMP)), "").unwrap();
        assert_eq!(host.block_on(device.read::<u8>(0x2000)).unwrap(), b'b');

        let device = open(&host, folder.path(), &packed[..packed.len() / 2], "").unwrap();
        let (report, bytes) = host.block_on(device.read_at(0x10_0000, vec![0; memory.len()])).unwrap();
        let there = report.done();
        assert!((100_000..200_000).contains(&there) && bytes[..there] == memory[..there], "{report}");
        assert_eq!(report.min_error().unwrap().1.code(), Code::CORRUPT, "{report}");
        // All of it is memory, as far as the headers say.
        assert_eq!(ranges(&host.block_on(device.regions()).unwrap()).last().unwrap().1, 0x10_0000 + 300_000);

        let mut damaged = packed.clone();
        let middle = damaged.len() - 5;
        damaged[middle] ^= 1;
        let error = open(&host, folder.path(), &damaged, "").unwrap_err().to_string();
        assert!(error.contains("a gzip stream is damaged"), "{error}");
        let error = open(&host, folder.path(), b"\x1f\x8b\x08", "").unwrap_err().to_string();
        assert!(error.contains("a gzip stream ends before the dump begins"), "{error}");
    });
}

/// Start, end, and whether the range can be read.
fn ranges(regions: &[Region]) -> Vec<(u64, u64, bool)> {
    regions.iter().map(|region| (region.range.start, region.range.end, region.readable)).collect()
}

#[test]
fn pages_that_a_core_leaves_out_are_those_of_the_file_with_the_same_build_id() {
    in_time(|| {
        let (folder, host) = (tempfile::tempdir().unwrap(), core_host());
        let program = fs::read("/bin/sleep").unwrap();
        let root = folder.path().join("root");
        fs::create_dir_all(root.join("usr/lib")).unwrap();
        fs::write(root.join("usr/lib/a file"), &program).unwrap();
        // The core has the first page, and the kernel left the others out.
        let pages = program.len().next_multiple_of(4096) + 4096;
        let core = core_file(4, &[(0x40_0000, pages as u64, 5, &program[..4096])]);
        let with = format!("?files={}", root.display());
        let device = open(&host, folder.path(), &core, &with).unwrap();
        let (report, bytes) = host.block_on(device.read_at(0x40_0000, vec![9; pages])).unwrap();
        assert!(bytes[..program.len()] == program);
        assert!(bytes[program.len()..pages - 4096].iter().all(|byte| *byte == 0));
        assert_eq!(report.done(), pages - 4096, "nothing is mapped behind the last page: {report}");
        let regions = host.block_on(device.regions()).unwrap();
        assert!(regions.iter().all(Region::has_bytes), "{regions:?}");
        // Without the option, with another file, or with none, these pages are missing.
        let first = |with: &str| {
            let device = open(&host, folder.path(), &core, with).unwrap();
            let (report, _) = host.block_on(device.read_at(0x40_0000, vec![9; pages])).unwrap();
            report.done()
        };
        assert_eq!(first(""), 4096);
        fs::write(root.join("usr/lib/a file"), fs::read("/bin/cat").unwrap()).unwrap();
        assert_eq!(first(&with), 4096);
        fs::remove_file(root.join("usr/lib/a file")).unwrap();
        assert_eq!(first(&with), 4096);
    });
}

#[test]
fn the_lost_bytes_of_a_dump_that_is_cut_off_are_told_from_bytes_that_were_not_dumped() {
    in_time(|| {
        let (folder, host) = (tempfile::tempdir().unwrap(), core_host());
        let (one, other) = (vec![1; 0x1000], vec![2; 0x1000]);
        let file = core_file(
            4,
            &[(0x1000, 0x1000, 6, &one), (0x2000, 0x1000, 6, &other), (0x5000, 16, 4, &one[..16])],
        );
        let header = |start: u64, last: u64| {
            [&b"EMiL\x01\0\0\0"[..], &start.to_le_bytes(), &last.to_le_bytes(), &[0; 8]].concat()
        };
        let dump = [
            &header(0x1000, 0x1fff)[..],
            &one,
            &header(0x2000, 0x2fff),
            &other,
            &header(0x5000, 0x500f),
            &one[..16],
        ]
        .concat();
        // `tracing` evaluates the interest in a call site when the call site is first reached, or when a subscriber is added. So
        // the message is reached once before.
        open(&host, folder.path(), &dump[..0x800], "").unwrap();
        let check = |content: &[u8], lost: usize, there: usize| {
            let records = Records::default();
            let device =
                tracing::subscriber::with_default(records.subscriber("pactio::plugin=error"), || {
                    open(&host, folder.path(), content, "").unwrap()
                });
            let text = records.text();
            assert_eq!(
                text.contains(&format!("{lost} bytes of memory that its headers promise")),
                lost > 0,
                "{text}"
            );
            // A search reads all of it, and finds the lost bytes.
            let regions = host.block_on(device.regions()).unwrap();
            assert!(regions.iter().all(Region::has_bytes), "{regions:?}");
            let (report, bytes) = host.block_on(device.read_at(0x1000, vec![9; 0x2000])).unwrap();
            assert_eq!(
                (bytes.iter().filter(|byte| **byte != 9).count(), report.done()),
                (there, there),
                "{report}"
            );
            let codes: Vec<_> = report.failed_ranges().map(|(_, error)| error.code()).collect();
            assert!(codes.iter().all(|code| *code == Code::CORRUPT), "{report}");
            regions
        };
        let whole = [(0x1000, 0x2000, true), (0x2000, 0x3000, true), (0x5000, 0x5010, true)];
        assert_eq!(ranges(&check(&file, 0, 0x2000)), whole);
        assert_eq!(ranges(&check(&dump, 0, 0x2000)), whole);
        check(&file[..file.len() - 0x110], 0x110, 0x1f00);
        // In the dump, the header behind the cut is lost too.
        check(&dump[..dump.len() - 0x30 - 0x100], 0x100, 0x1f00);
        check(&file[..file.len() - 0x1810], 0x1810, 0x800);
        // A map with ranges beyond the end of its image.
        let map = folder.path().join("map");
        fs::write(&map, "1000-3000 0\n8000-9000 fffffffffffffff0").unwrap();
        let device = open(&host, folder.path(), &one, &format!("?map={}", map.display())).unwrap();
        let expected = [(0x1000, 0x2000, true), (0x2000, 0x3000, true), (0x8000, 0x9000, true)];
        assert_eq!(ranges(&host.block_on(device.regions()).unwrap()), expected);
        for (address, code) in [(0x2000, Code::CORRUPT), (0x8fff, Code::CORRUPT), (0x4000, Code::NOT_MAPPED)]
        {
            let error = host.block_on(device.read::<u8>(address)).unwrap_err();
            assert_eq!(error.code(), Some(code), "{address:#x}");
        }
    });
}

#[test]
fn with_physical_addresses_the_longer_part_serves_where_kdump_has_memory_twice() {
    in_time(|| {
        let (folder, host) = (tempfile::tempdir().unwrap(), core_host());
        let fill = |byte: u8, pages: usize| vec![byte; pages * 0x1000];
        let (text, ram, module) = (fill(1, 1), fill(2, 8), [fill(3, 1), fill(4, 1)].concat());
        let parts: [Part<'_>; 3] = [
            (0xffff_ffff_8000_2000, 0x1000, 5, &text),
            (0xffff_8880_0000_0000, 0x8000, 6, &ram),
            (0xffff_ffff_c000_7000, 0x2000, 6, &module),
        ];
        let file = core_file(4, &parts);
        let device = open(&host, folder.path(), &file, "").unwrap();
        assert_eq!(host.block_on(device.read::<u8>(0xffff_ffff_8000_2000)).unwrap(), 1);
        let device = open(&host, folder.path(), &file, "?address=physical").unwrap();
        let regions = host.block_on(device.regions()).unwrap();
        let expected = [(0x1_0000_0000, 0x1_0000_8000, true), (0x1_0000_8000, 0x1_0000_9000, true)];
        assert_eq!(ranges(&regions), expected);
        let bytes = host.block_on(device.read_exact_at(0x1_0000_0000, vec![0; 0x9000])).unwrap();
        assert_eq!(bytes, [fill(2, 8), fill(4, 1)].concat());
    });
}

#[test]
fn a_part_that_ends_with_the_last_of_all_addresses_is_a_part() {
    in_time(|| {
        let (folder, host) = (tempfile::tempdir().unwrap(), core_host());
        let page: Vec<u8> = (0..0x1000u32).map(|at| (at % 251) as u8).collect();
        let file = core_file(4, &[(0x1000, 0x1000, 4, &page), (u64::MAX - 0xfff, 0x1000, 4, &page)]);
        let device = open(&host, folder.path(), &file, "").unwrap();
        // A request cannot cover the very last address.
        let bytes = host.block_on(device.read_exact_at(u64::MAX - 0xfff, vec![0; 0xfff])).unwrap();
        assert_eq!(bytes, page[..0xfff]);
        let regions = host.block_on(device.regions()).unwrap();
        assert_eq!(ranges(&regions)[1], (u64::MAX - 0xfff, u64::MAX, true));
    });
}

#[test]
fn damaged_dumps_are_errors_that_say_what_is_wrong() {
    in_time(|| {
        let (folder, host) = (tempfile::tempdir().unwrap(), core_host());
        let says = |content: &[u8], options: &str, expected: &str| {
            let error = open(&host, folder.path(), content, options).unwrap_err().to_string();
            assert!(error.contains(expected), "{expected}: {error}");
        };
        let page = [1; 4096];
        let good = core_file(4, &[(0x1000, 4096, 4, &page)]);
        says(b"", "", "no dump of a known format");
        says(b"something", "", "say with at= or map= where it belongs");
        says(b"x", "?at=0x", "no address in hexadecimal");
        says(b"x", "?at=10&map=x", "not both");
        says(b"xx", "?at=ffffffffffffffff", "longer than there are addresses");
        says(b"\x7fELF", "", "goes on as none");
        says(&core_file(3, &[(0x1000, 4096, 4, &page)]), "", "no core file");
        let mut twice = core_file(4, &[(0x1000, 4096, 4, &page), (0x1800, 4096, 4, &page)]);
        let overlap = "the parts at 0x1000 and 0x1800 overlap; it is not clear which is meant";
        let error = open(&host, folder.path(), &twice, "").unwrap_err().to_string();
        assert!(error.ends_with(&format!("{overlap}; try core?address=physical")), "{error}");
        assert!(open(&host, folder.path(), &twice, "?address=physical").is_ok());
        // The dump of a process, which has no physical addresses.
        [1, 2].iter().for_each(|part| twice[64 + 56 * part + 24..][..8].fill(0));
        let error = open(&host, folder.path(), &twice, "").unwrap_err().to_string();
        assert!(error.ends_with(overlap), "{error}");
        says(&core_file(4, &[(u64::MAX - 100, 4096, 4, &[])]), "", "longer than there are addresses");
        says(&core_file(4, &[(0x1000, 0, 4, &[])]), "", "there is no memory in it");
        says(b"EMiL\x01\0\0\0cut", "", "is cut off");
        says(&[&b"EMiL\x02\0\0\0"[..], &[0; 24]].concat(), "", "none of version 1");
        says(b"x", "?map=/no/such/map", "the map /no/such/map");
        // A bad note loses only names: a note that is damaged, behind the end of the file, or longer than the file.
        let name = "/usr/lib/a file";
        for (at, bytes, name) in
            [(176, &[0xff; 12][..], ""), (64 + 8, &[0xff; 7], ""), (64 + 32, &[0xff; 7], name)]
        {
            let mut bad = good.clone();
            bad[at..][..bytes.len()].copy_from_slice(bytes);
            let device = open(&host, folder.path(), &bad, "").unwrap();
            assert_eq!(host.block_on(device.read::<u8>(0x1000)).unwrap(), 1);
            assert_eq!(host.block_on(device.regions()).unwrap()[0].name, name);
        }
        // A file that is cut at any place gives an error when it is opened or read, and causes no panic.
        let mut opened = 0;
        for len in (0..good.len()).step_by(7) {
            if let Ok(device) = open(&host, folder.path(), &good[..len], "") {
                opened += 1;
                assert!(host.block_on(device.read_exact_at(0x1000, vec![0; 4096])).is_err(), "{len}");
                let _ = host.block_on(device.regions());
            }
        }
        assert!(opened > 100, "{opened} files were opened");
        // The same holds if any byte is changed.
        let mut random = fastrand::Rng::with_seed(11);
        for _ in 0..2000 {
            let mut bad = good[..200].to_vec();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(4..200);
                bad[at] = random.u8(..);
            }
            if let Ok(device) = open(&host, folder.path(), &bad, "") {
                let _ = host.block_on(device.regions());
                let _ = host.block_on(device.read_at(0x1000, vec![0; 64]));
            }
        }
    });
}

#[test]
fn a_dump_of_a_process_is_what_the_process_has() {
    in_time(|| {
        let (folder, host) = (tempfile::tempdir().unwrap(), core_host());
        let child = crate::processes::Sleeper::start("/bin/sleep");
        let pid = child.0.id();
        // Waits until the process sleeps, and its memory does not change.
        while !fs::read_to_string(format!("/proc/{pid}/wchan")).is_ok_and(|text| text.contains("nanosleep"))
            && !fs::read_to_string(format!("/proc/{pid}/syscall")).is_ok_and(|text| text.starts_with("230 "))
        {
            std::thread::yield_now();
        }
        let prefix = folder.path().join("core");
        let made = Command::new("gcore")
            .args(["-a", "-o"])
            .arg(&prefix)
            .arg(pid.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        let core = format!("{}.{pid}", prefix.display());
        if !made.is_ok_and(|status| status.success()) || !Path::new(&core).exists() {
            println!("not compared: there is no gcore, or it may not");
        } else {
            let dump = host.open(&format!("file:{core} | core")).unwrap();
            let live = host.open(&format!("process:{pid}")).unwrap();
            let mut compared = 0;
            for region in host.block_on(dump.regions()).unwrap().iter().filter(|region| region.readable) {
                let len = (region.range.end - region.range.start) as usize;
                let (there, bytes) = host.block_on(dump.read_at(region.range.start, vec![0; len])).unwrap();
                let (report, alive) = host.block_on(live.read_at(region.range.start, vec![0; len])).unwrap();
                assert!(there.is_done(), "{region:?}: {there}");
                // The kernel's own pages change, and not every process may read them. Executable pages may have a breakpoint of
                // gdb.
                if report.is_done() && !region.executable {
                    let differ = bytes.iter().zip(&alive).filter(|(one, other)| one != other).count();
                    // The kernel writes the number of the processor that a thread runs on into the thread's memory.
                    assert!(differ == 0 || (region.writable && differ <= 16), "{region:?}: {differ} bytes");
                    compared += len;
                }
            }
            assert!(compared > 100_000, "{compared}");
        }
    });
}
