//! `pactio serve`, with a client that sends what it is told to.

mod place;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Stdio};

use place::Place;

/// Starts a server, and waits for its address.
fn serve(place: &Place, arguments: &[&str]) -> (Child, String) {
    let mut command = place.command(&[&["serve", "nbd"], arguments].concat());
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (child, line.trim_end().to_owned())
}

/// A connection to the only export, without structured replies.
fn connect(socket: &Path) -> UnixStream {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.read_exact(&mut [0; 18]).unwrap();
    // Fixed newstyle without zeros, and the option EXPORT_NAME with the empty name.
    stream.write_all(&[&3u32.to_be_bytes()[..], b"IHAVEOPT", &[0, 0, 0, 1, 0, 0, 0, 0]].concat()).unwrap();
    stream.read_exact(&mut [0; 10]).unwrap();
    stream
}

/// Sends a command, and gives its error.
fn request(stream: &mut UnixStream, flags: u16, command: u16, offset: u64, data: &[u8]) -> u32 {
    let mut bytes = 0x2560_9513u32.to_be_bytes().to_vec();
    bytes.extend(flags.to_be_bytes());
    bytes.extend(command.to_be_bytes());
    bytes.extend(1u64.to_be_bytes());
    bytes.extend(offset.to_be_bytes());
    bytes.extend((data.len() as u32).to_be_bytes());
    bytes.extend(data);
    stream.write_all(&bytes).unwrap();
    let mut reply = [0; 16];
    stream.read_exact(&mut reply).unwrap();
    u32::from_be_bytes(reply[4..8].try_into().unwrap())
}

fn signal(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

#[test]
fn a_server_ends_cleanly_and_what_was_written_with_fua_outlives_it() {
    let place = Place::new();
    place.file("disk", 100_000);
    let (mut child, uri) = serve(&place, &["file:disk", "--write", "--socket", "s"]);
    let socket = place.path("s");
    assert_eq!(uri, format!("nbd+unix:///?socket={}", socket.display()));
    let mut stream = connect(&socket);
    assert_eq!(request(&mut stream, 1, 1, 50, b"kept"), 0);
    // It is killed, and another one takes the socket that was left behind.
    signal(&child, rustix::process::Signal::KILL);
    child.wait().unwrap();
    assert_eq!(fs::read(place.path("disk")).unwrap()[50..54], *b"kept");
    let (mut child, _) = serve(&place, &["file:disk", "--socket", "s"]);
    let mut stream = connect(&socket);
    assert_eq!(request(&mut stream, 0, 1, 50, b"lost"), 1, "without --write, the export can only be read");
    signal(&child, rustix::process::Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(!socket.exists());
    assert_eq!(fs::read(place.path("disk")).unwrap()[50..54], *b"kept");
}

#[test]
fn addresses_are_printed_and_wrong_ones_are_refused() {
    let place = Place::new();
    place.file("disk", 1000);
    let (mut child, line) = serve(&place, &["file:disk", "--tcp", "127.0.0.1:0", "--json"]);
    let uri: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert!(uri["uri"].as_str().unwrap().starts_with("nbd://127.0.0.1:"), "{line}");
    // A test that was started in the background may ignore SIGINT.
    signal(&child, rustix::process::Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let (_, said) = place.check(&["serve", "nbd", "file:disk", "--tcp", "0.0.0.0:0"], 1);
    assert!(said.contains("can be reached from other machines, which needs TLS"), "{said}");
    let (_, said) = place.check(&["serve", "nbd", "file:disk", "--socket", "disk"], 1);
    assert!(said.contains("cannot listen at 'disk'"), "{said}");
    assert_eq!(fs::read(place.path("disk")).unwrap().len(), 1000);
    let (_, said) = place.check(&["serve", "nbd", "file:none", "--socket", "s"], 1);
    assert!(said.contains("there is no such file"), "{said}");
    place.check(&["serve", "nbd", "file:disk", "--tls-certificate", "x"], 2);
}
