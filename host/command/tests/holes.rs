//! The command and memory with holes: around them, and into a dump.

mod place;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

use place::{Ends, Place};
use rustix::process::{Pid, Signal, kill_process};

/// A raw image at three places, of which the second has a hole behind it, and the third is cut off.
fn image(place: &Place) -> Vec<u8> {
    let image = place.file("image", 0x3000);
    fs::write(place.path("map"), "1000-2000 0\n2000-3000 1000\n8000-9000 2000\n").unwrap();
    image
}

#[test]
fn cat_and_hexdump_get_around_holes() {
    let place = Place::new().with("core");
    let image = image(&place);
    let url = "file:image | core?map=map";
    place.check(&["cat", url, "--offset", "0x1000", "--length", "0x8000"], 1);
    let (padded, said) = place.check(&["cat", url, "--offset", "0x1000", "--length", "0x8000", "--pad"], 0);
    let expected = [&image[..0x2000], &[0; 0x5000], &image[0x2000..]].concat();
    assert!(padded == expected, "{said}");
    assert_eq!(said, "pactio: 0x3000-0x8000 cannot be read: not mapped\n");
    // Without a length, all regions are read.
    let (skipped, said) = place.check(&["cat", url, "--skip"], 0);
    assert!(skipped == image && said.is_empty(), "{said}");
    let range = ["--offset", "0x2ff8", "--length", "0x5010"];
    let (text, _) = place.check(&[&["hexdump", url, "--skip"][..], &range].concat(), 0);
    let text = String::from_utf8(text).unwrap();
    let positions: Vec<&str> = text.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(positions, ["00002ff8", "00008000", "00008008"], "{text}");
    let (lines, _) = place.check(&[&["hexdump", url, "--skip", "--json"][..], &range].concat(), 0);
    let lines = String::from_utf8(lines).unwrap();
    assert!(lines.contains("\"position\":12280") && lines.contains("\"position\":32768"), "{lines}");
    // Lost bytes of a dump are a failure, whatever is printed for them.
    fs::write(place.path("map"), "1000-2000 2800\n").unwrap();
    let (padded, said) = place.check(&["cat", url, "--offset", "0x1000", "--length", "0x1000", "--pad"], 3);
    assert!(padded == [&image[0x2800..], &[0; 0x800]].concat(), "{said}");
    assert!(
        said.contains("2048 bytes of 'file:image | core?map=map' could not be read: corrupt data"),
        "{said}"
    );
    // The end of a device is no hole.
    let (rest, _) = place.check(&["cat", "file:image", "--offset", "0x2ff0", "--pad"], 0);
    assert!(rest == image[0x2ff0..]);
    place.check(&["cat", url, "--pad"], 2);
    place.check(&["cat", url, "--pad", "--skip"], 2);
}

#[test]
fn a_dump_of_a_process_is_a_core_file_with_its_memory_and_names() {
    let place = Place::new().with("process").with("core");
    let marker = format!("pactio-dumps-{}", std::process::id());
    let mut sleep = Command::new("/bin/sleep");
    let sleep = sleep.arg("600").env("MARKER", &marker).stdout(Stdio::null());
    let child = Ends(sleep.stderr(Stdio::null()).spawn().unwrap());
    let pid = child.0.id();
    while !fs::read_link(format!("/proc/{pid}/exe")).unwrap().ends_with("sleep")
        || !fs::read_to_string(format!("/proc/{pid}/maps")).unwrap().contains("[stack]")
    {
        std::thread::yield_now();
    }
    let url = format!("process:{pid}");
    fs::write(place.path("dump"), "what was here before").unwrap();
    let (_, said) = place.check(&["dump", &url, "dump"], 0);
    assert!(said.contains(" regions; 0 bytes could not be read"), "{said}");
    let dump = "file:dump | core";
    let there = place.printed(&["scan", &url, "--text", &marker]);
    assert!(there.contains("  [stack]+0x"), "{there}");
    let addresses = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split("  ").next().unwrap().to_owned()).collect()
    };
    assert_eq!(addresses(&place.printed(&["scan", dump, "--text", &marker])), addresses(&there));
    // The dump has the same regions with bytes, and the names and offsets of files.
    let maps = |url: &str| -> Vec<serde_json::Value> {
        let text = place.printed(&["maps", url, "--json"]);
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let is_file = |region: &serde_json::Value| {
        region["name"].as_str().unwrap().starts_with('/') && region["has_bytes"] == true
    };
    let files = |url: &str| -> Vec<_> {
        let regions = maps(url).into_iter().filter(is_file);
        regions
            .map(|region| ["start", "end", "rights", "name", "file_offset"].map(|key| region[key].clone()))
            .collect()
    };
    assert!(files(&url).len() > 3);
    assert_eq!(files(dump), files(&url));
    // Bytes of the program's own file, through the dump.
    let text = maps(&url).into_iter().find(|region| region["rights"] == "r-x" && is_file(region)).unwrap();
    let (start, offset) = (text["start"].as_u64().unwrap(), text["file_offset"].as_u64().unwrap());
    let (bytes, _) = place.check(&["cat", dump, "--offset", &start.to_string(), "--length", "4096"], 0);
    let file = fs::read(text["name"].as_str().unwrap()).unwrap();
    assert!(bytes == file[offset as usize..][..4096]);
    // Pages of zeros take no room.
    let stat = fs::metadata(place.path("dump")).unwrap();
    assert!(stat.blocks() * 512 <= stat.len() + 65536, "{} of {}", stat.blocks() * 512, stat.len());
    assert_eq!(stat.mode() & 0o077, 0, "a dump is private");
    let left: Vec<_> = fs::read_dir(&place.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with(".pactio")), "{left:?}");
    // A debugger reads it.
    let at = there.split(' ').next().unwrap();
    let gdb = Command::new("gdb")
        .args(["-nx", "-batch", "-ex", &format!("x/s {at}"), "/bin/sleep", "dump"])
        .current_dir(&place.0)
        .output();
    match gdb {
        Ok(gdb) => {
            let text = String::from_utf8_lossy(&gdb.stdout).into_owned();
            assert!(text.contains(&marker), "{text}{}", String::from_utf8_lossy(&gdb.stderr));
        }
        // gdb is not installed everywhere, and the bytes are compared above.
        Err(error) => println!("not read by gdb: {error}"),
    }
}

/// A process that waits for ten minutes.
fn sleeper() -> Ends {
    let child = Command::new("/bin/sleep").arg("600").stdout(Stdio::null()).spawn().unwrap();
    let pid = child.id();
    // clock_nanosleep
    let call = if cfg!(target_arch = "x86_64") { "230 " } else { "115 " };
    while !fs::read_to_string(format!("/proc/{pid}/syscall")).is_ok_and(|text| text.starts_with(call)) {
        std::thread::yield_now();
    }
    Ends(child)
}

/// The letter of a process's state.
fn state(pid: u32) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1[..1].to_owned()
}

#[test]
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn a_dump_of_a_stopped_process_has_its_registers_and_the_process_runs_on() {
    let place = Place::new().with("process").with("core");
    let child = sleeper();
    let pid = child.0.id();
    // The last two numbers are the stack pointer and the instruction pointer.
    let call = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap();
    let pointers: Vec<u64> = call
        .split_whitespace()
        .rev()
        .take(2)
        .map(|text| u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap())
        .collect();
    place.check(&["dump", &format!("process:{pid}"), "dump", "--stop"], 0);
    while state(pid) != "S" {
        std::thread::yield_now();
    }
    let dump = fs::read(place.path("dump")).unwrap();
    let word = |at: usize| u64::from_le_bytes(dump[at..at + 8].try_into().unwrap());
    // The first program header is that of the notes, and the first note has the registers.
    let notes = word(word(32) as usize + 8) as usize;
    let kind = u32::from_le_bytes(dump[notes + 8..notes + 12].try_into().unwrap());
    assert_eq!(kind, 1, "NT_PRSTATUS");
    let registers = notes + 20 + 112;
    assert_eq!(
        u64::from(u32::from_le_bytes(dump[notes + 20 + 32..][..4].try_into().unwrap())),
        u64::from(pid)
    );
    let (instruction, stack) = (word(registers + 16 * 8), word(registers + 19 * 8));
    assert_eq!([instruction, stack], pointers[..]);
    if let Ok(gdb) = Command::new("gdb")
        .args(["-nx", "-batch", "-ex", "info registers rip", "-ex", "info proc", "/bin/sleep", "dump"])
        .current_dir(&place.0)
        .output()
    {
        let text = String::from_utf8_lossy(&gdb.stdout).into_owned();
        assert!(text.contains(&format!("{instruction:#x}")) && text.contains("/bin/sleep 600"), "{text}");
    }
    let (_, said) = place.check(&["dump", "process:self", "self", "--stop"], 1);
    assert!(said.contains("cannot stop process") && !place.path("self").exists(), "{said}");
    fs::write(place.path("image"), [0; 4096]).unwrap();
    let (_, said) = place.check(&["dump", "file:image | core?at=0", "none", "--stop"], 1);
    assert!(said.contains("is no process that could be stopped"), "{said}");
}

/// The variable that has this program count signals, and do nothing else.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
const COUNTS: &str = "PACTIO_TEST_COUNTS_SIGNALS";

/// The process of the test below: counts a real-time signal until its input ends.
#[test]
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn counts_signals() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    if std::env::var_os(COUNTS).is_none() {
        return;
    }
    let count = || {
        COUNT.fetch_add(1, Ordering::SeqCst);
    };
    // SAFETY: the action only adds to an atomic number.
    unsafe { signal_hook::low_level::register(libc::SIGRTMIN() + 3, count) }.unwrap();
    println!("counts");
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap();
    println!("counted {}", COUNT.load(Ordering::SeqCst));
}

#[test]
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn signals_that_come_while_a_process_is_stopped_are_not_lost() {
    use std::io::{BufRead, BufReader};
    use std::sync::atomic::{AtomicBool, Ordering};
    let place = Place::new().with("process");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "counts_signals", "--nocapture"])
        .env(COUNTS, "yes")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let child = Ends(child);
    let mut lines = BufReader::new(output).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.ends_with("counts")));
    /// Ends the sender, also if a dump fails.
    struct Ended<'a>(&'a AtomicBool);
    impl Drop for Ended<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let (pid, ends) = (child.0.id(), AtomicBool::new(false));
    let sent = std::thread::scope(|scope| {
        let ended = Ended(&ends);
        let sender = scope.spawn(|| {
            let mut sent = 0;
            while !ends.load(Ordering::SeqCst) {
                // SAFETY: the call touches no memory of this process. The child exists until it is waited for.
                sent += usize::from(unsafe { libc::kill(pid.cast_signed(), libc::SIGRTMIN() + 3) } == 0);
                std::thread::sleep(std::time::Duration::from_micros(10));
            }
            sent
        });
        for _ in 0..20 {
            place.check(&["dump", &format!("process:{pid}"), "dump", "--stop"], 0);
        }
        drop(ended);
        sender.join().unwrap()
    });
    drop(input);
    let counted = lines.find_map(|line| line.strip_prefix("counted ").map(str::to_owned)).unwrap();
    assert_eq!(counted, sent.to_string());
}

#[test]
fn a_dump_that_is_interrupted_or_finds_no_space_leaves_the_file_and_the_process_as_they_were() {
    let place = Place::new().with("process").with("delay");
    fs::write(place.path("dump"), "what was here before").unwrap();
    let is_as_before = || {
        assert_eq!(fs::read(place.path("dump")).unwrap(), b"what was here before");
        let left: Vec<_> = fs::read_dir(&place.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| !name.to_string_lossy().starts_with(".pactio")), "{left:?}");
    };
    let child = sleeper();
    let pid = child.0.id();
    // A program that was started in the background of a script ignores this one.
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    let ignores_int = u64::from_str_radix(ignored.trim(), 16).unwrap() & 2 != 0;
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        if signal == Signal::INT && ignores_int {
            continue;
        }
        let url = format!("process:{pid} | delay?latency=1h");
        let mut command = place.command(&["dump", &url, "dump", "--stop"]);
        let command = command.stderr(Stdio::piped()).spawn().unwrap();
        while state(pid) != "t" {
            std::thread::yield_now();
        }
        let begun = Pid::from_raw(command.id().cast_signed()).unwrap();
        kill_process(begun, signal).unwrap();
        let ended = command.wait_with_output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(code), "{said}");
        assert!(said.contains("'dump' is as it was before"), "{said}");
        while state(pid) != "S" {
            std::thread::yield_now();
        }
        is_as_before();
    }
    // A file may have 64 KiB here, which looks like storage that is full.
    let pactio = place.command(&["dump", &format!("process:{pid}"), "dump"]);
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 64; exec \"$0\" \"$@\""]).arg(pactio.get_program());
    let output = limited.args(pactio.get_args()).current_dir(&place.0).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot write 'dump': ") && said.contains("too large"), "{said}");
    is_as_before();
}

#[test]
fn what_has_no_addresses_or_no_place_is_not_dumped() {
    let place = Place::new().with("process");
    let (_, said) = place.check(&["dump", "memory:?size=4KiB", "dump"], 1);
    assert!(said.contains("has no regions") && said.contains("pactio cp copies it"), "{said}");
    fs::create_dir(place.path("folder")).unwrap();
    let sleep = Command::new("/bin/sleep").arg("600").stdout(Stdio::null()).spawn().unwrap();
    let child = Ends(sleep);
    let url = format!("process:{}", child.0.id());
    for destination in ["folder", "none/dump"] {
        let (_, said) = place.check(&["dump", &url, destination], 1);
        assert!(said.contains(&format!("cannot write '{destination}'")), "{said}");
    }
}
