//! The object plugin and web servers as they are: without ranges, without HEAD, with redirects, links and lists.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};

use pactio::{Code, OpenOptions};
use pactio_tests::{in_time, servers};

use super::objects::{Manners, Server, body, object_host, open};

#[test]
fn a_server_without_ranges_is_read_forward_by_one_request() {
    in_time(|| {
        let len = 20_000_000;
        let (host, server) = (object_host(), Server::start(&body(len)));
        server.set(|shared| shared.manners.ignores_ranges = true);
        // On a loaded machine, an answer may come late; it is not to be asked for again.
        let device = open(&host, &server.url().replace("timeout=2s", "timeout=300s"));
        // The first read finds it out.
        assert!(
            host.block_on(device.read_exact_at(5_000_000, vec![0; 10])).unwrap()
                == body(len)[5_000_000..][..10]
        );
        server.set(|shared| shared.heads.clear());
        let mut at = 5_000_010;
        while at < len {
            let part = (len - at).min(700_000);
            let bytes = host.block_on(device.read_exact_at(at as u64, vec![0; part])).unwrap();
            assert!(bytes == body(len)[at..at + part], "{at}");
            at += part;
        }
        let requests = server.shared.lock().unwrap().heads.len();
        assert_eq!(requests, 1, "all bytes came with one answer");
        // Backwards, from the start again; and all at once.
        assert!(host.block_on(device.read_exact_at(7, vec![0; 10])).unwrap() == body(20)[7..17]);
        assert!(host.block_on(device.read_exact_at(0, vec![0; len])).unwrap() == body(len));
        let requests = server.shared.lock().unwrap().heads.len();
        assert!(requests < 10, "{requests} requests");
    });
}

#[test]
fn a_read_far_behind_the_start_is_refused_if_the_server_has_no_ranges() {
    in_time(|| {
        let len = 70 << 20;
        let (host, server) = (object_host(), Server::start(&vec![7; len]));
        server.set(|shared| shared.manners.ignores_ranges = true);
        let device = open(&host, &server.url());
        let error = host.block_on(device.read_exact_at(len as u64 - 100, vec![0; 10])).unwrap_err();
        assert_eq!(error.code(), Some(Code::UNSUPPORTED), "{error}");
        assert!(error.to_string().contains("the server has no ranges"), "{error}");
    });
}

#[test]
fn servers_that_refuse_heads_or_say_no_lengths_are_read() {
    in_time(|| {
        let (host, server) = (object_host(), Server::start(&body(100_000)));
        for manners in [
            Manners { refuses_heads: true, ..Manners::default() },
            Manners { refuses_heads: true, ignores_ranges: true, ..Manners::default() },
            Manners { lengthless: true, ..Manners::default() },
            Manners { lengthless: true, ignores_ranges: true, ..Manners::default() },
        ] {
            server.set(|shared| shared.manners = manners);
            let device = open(&host, &server.url());
            assert_eq!(device.size(), Some(100_000));
            assert!(
                host.block_on(device.read_exact_at(50_000, vec![0; 50_000])).unwrap()
                    == body(100_000)[50_000..]
            );
        }
    });
}

#[test]
fn secrets_are_sent_to_their_server_and_to_no_other() {
    in_time(|| {
        let (host, server, other) = (object_host(), Server::start(&body(1000)), Server::start(&body(1000)));
        let secrets = |server: &Server| {
            let heads = std::mem::take(&mut server.shared.lock().unwrap().heads);
            assert!(!heads.is_empty());
            let value =
                |headers: &std::collections::HashMap<String, String>, name: &str| headers.get(name).cloned();
            let all: Vec<_> = heads
                .iter()
                .map(|(_, headers)| (value(headers, "authorization"), value(headers, "x-key")))
                .collect();
            assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "{all:?}");
            all[0].clone()
        };
        let url = format!("{}&token=hunter2&header=X-Key:%20abc", server.url());
        let read = |url: &str| host.block_on(open(&host, url).read_exact_at(990, vec![0; 10])).unwrap();
        assert!(read(&url) == body(1000)[990..]);
        assert_eq!(secrets(&server), (Some("Bearer hunter2".to_owned()), Some("abc".to_owned())));
        server.set(|shared| shared.elsewhere = Some(other.url()));
        assert!(read(&url) == body(1000)[990..]);
        assert_eq!(secrets(&other), (None, None));
        // To itself, and for ever.
        server.set(|shared| shared.elsewhere = Some("/folder/file".to_owned()));
        let error = host.open(&url).unwrap_err();
        assert!(error.to_string().contains("redirects more than 10 times"), "{error}");
        server.set(|shared| shared.elsewhere = Some("ftp://127.0.0.1/x".to_owned()));
        let error = host.open(&url).unwrap_err();
        assert!(error.to_string().contains("of another protocol"), "{error}");
    });
}

#[test]
fn a_list_that_breaks_off_is_asked_for_again() {
    in_time(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let list = br#"[{"name": "one", "type": "file", "size": 5}]"#;
            // The last connection is the test's, at its end.
            for (number, stream) in listener.incoming().enumerate() {
                let mut stream = BufReader::new(stream.unwrap());
                let mut line = String::new();
                stream.read_line(&mut line).unwrap();
                if !line.starts_with("GET /folder/ ") {
                    return (number, line);
                }
                while line != "\r\n" {
                    line.clear();
                    stream.read_line(&mut line).unwrap();
                }
                let sent = if number < 2 { 10 } else { list.len() };
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                    list.len()
                );
                stream.get_mut().write_all(&[head.as_bytes(), &list[..sent]].concat()).unwrap();
            }
            unreachable!("a listener has no end")
        });
        let host = object_host();
        let names = |folder: &pactio::Device| -> Vec<_> {
            let listed = host.block_on(folder.list("")).unwrap();
            listed.into_iter().map(|entry| entry.name.to_string()).collect()
        };
        assert_eq!(names(&open(&host, &format!("http:{address}/folder/"))), ["one"]);
        TcpStream::connect(address).unwrap().write_all(b"end\r\n").unwrap();
        let (requests, line) = server.join().unwrap();
        assert!(requests >= 3 && line == "end\r\n", "{requests} requests, then {line}");
    });
}

#[test]
fn a_link_with_a_query_is_read_and_not_shown() {
    in_time(|| {
        let (host, server) = (object_host(), Server::start(&body(1000)));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("link");
        let link = format!("http://{}/folder/file?X-Signature=hunter2%2F&a=b+c", server.address);
        fs::write(&path, format!("{link}\n")).unwrap();
        let url = format!("http:?retry-for=0s&link=file:{}", path.display());
        let device = open(&host, &url);
        assert!(host.block_on(device.read_exact_at(990, vec![0; 10])).unwrap() == body(1000)[990..]);
        let heads = server.shared.lock().unwrap().heads.clone();
        assert!(heads.iter().all(|(line, _)| line.contains("?X-Signature=hunter2%2F&a=b+c ")), "{heads:?}");
        drop(server);
        let error = host.open(&url).unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
        let error = host.open("http:?link=ftp://x/y").unwrap_err();
        assert!(error.to_string().contains("link= is no address that begins with http://"), "{error}");
    });
}

#[test]
fn folders_of_nginx_and_python_are_listed_and_their_files_read() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("sub")).unwrap();
    fs::write(folder.path().join("sub/a b&\u{e4}%.bin"), body(100_000)).unwrap();
    fs::write(folder.path().join("top"), b"top").unwrap();
    let servers = [servers::nginx(folder.path(), None), servers::python(folder.path())];
    in_time(move || {
        let host = object_host();
        for server in servers.into_iter().flatten() {
            let tree = open(&host, &format!("http://127.0.0.1:{}/?unversioned=true", server.port));
            let names = |folder: &str| -> Vec<(String, bool)> {
                let listed = host.block_on(tree.list(folder)).unwrap();
                listed
                    .iter()
                    .map(|entry| (entry.name.to_str().unwrap().to_owned(), entry.is_folder()))
                    .collect()
            };
            assert_eq!(names(""), [("sub".to_owned(), true), ("top".to_owned(), false)]);
            assert_eq!(names("sub"), [("a b&\u{e4}%.bin".to_owned(), false)]);
            let file = tree.open("sub/a b&\u{e4}%.bin").unwrap();
            assert!(
                host.block_on(file.read_exact_at(99_000, vec![0; 1000])).unwrap() == body(100_000)[99_000..]
            );
            let folder = open(&host, &format!("http://127.0.0.1:{}/sub?unversioned=true", server.port));
            assert_eq!(
                host.block_on(folder.list("")).unwrap().len(),
                1,
                "a folder may be named without its slash"
            );
            assert_eq!(host.block_on(tree.list("none")).unwrap_err().code(), Some(Code::NOT_FOUND));
        }
    });
}

#[test]
fn a_large_object_is_put_in_one_request_and_is_whole_or_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let Some(server) = servers::nginx(folder.path(), None) else { return };
    in_time(move || {
        let (host, bytes) = (object_host(), body(30_000_000));
        let new = OpenOptions::new().write(true).create(true).truncate(true);
        let url = format!("http://127.0.0.1:{}/deep/large?part=5MiB", server.port);
        let device = host.open_with(&url, new).unwrap();
        for (index, part) in bytes.chunks(1 << 20).enumerate() {
            host.block_on(device.write_all_at((index as u64) << 20, part.to_vec())).unwrap();
        }
        assert!(!folder.path().join("deep/large").exists());
        host.block_on(device.publish()).unwrap();
        assert!(fs::read(folder.path().join("deep/large")).unwrap() == bytes);
        // An upload that is given up leaves the object as it was.
        let device = host.open_with(&url, new).unwrap();
        host.block_on(device.write_all_at(0, vec![9; 12 << 20])).unwrap();
        drop(device);
        assert!(fs::read(folder.path().join("deep/large")).unwrap() == bytes);
    });
}

#[test]
fn a_server_that_answers_before_the_end_of_an_upload_has_not_got_it() {
    use std::io::{Read as _, Write as _};

    in_time(|| {
        let host = object_host();
        for (answer, expected) in [
            (
                "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n",
                "the server answered before it had all bytes",
            ),
            (
                "HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\n\r\nmuch",
                "413 Payload Too Large: much",
            ),
            // It takes some bytes and says nothing.
            ("", "the server took nothing, or did not answer"),
        ] {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            let (done, wait) = std::sync::mpsc::channel::<()>();
            let server = std::thread::spawn(move || {
                let (mut connection, _) = listener.accept().unwrap();
                let mut bytes = vec![0; 1 << 16];
                connection.read_exact(&mut bytes).unwrap();
                connection.write_all(answer.as_bytes()).unwrap();
                // The connection stays open.
                let _ = wait.recv();
            });
            let new = OpenOptions::new().write(true).create(true).truncate(true);
            let url = format!("http://127.0.0.1:{port}/large?part=5MiB&timeout=1s&retry-for=0s");
            let device = host.open_with(&url, new).unwrap();
            let result = host.block_on(async {
                for part in 0..40u64 {
                    device.write_all_at(part << 20, vec![1; 1 << 20]).await?;
                }
                device.publish().await
            });
            let error = result.unwrap_err().to_string();
            assert!(error.contains(expected), "{expected}: {error}");
            drop((device, done));
            server.join().unwrap();
        }
    });
}
