//! The object plugin and servers that are busy, that are started again, or that never answer.

use std::thread;
use std::time::{Duration, Instant};

use pactio::Code;
use pactio_tests::in_time;

use super::objects::{Manners, Server, body, object_host, open};

#[test]
fn a_server_that_is_started_again_within_seconds_fails_nothing() {
    in_time(|| {
        let (host, mut server) = (object_host(), Server::start(&body(3_000_000)));
        let device = open(&host, &server.url());
        let read = host.spawn({
            let device = device.clone();
            async move {
                for part in 0..30 {
                    let bytes = device.read_exact_at(part * 100_000, vec![0; 100_000]).await.unwrap();
                    assert!(bytes == body(3_000_000)[part as usize * 100_000..][..100_000]);
                }
            }
        });
        server.set(|shared| shared.manners.slow = Duration::from_millis(5));
        thread::sleep(Duration::from_millis(30));
        server.kill();
        thread::sleep(Duration::from_millis(1500));
        // Opening waits for the server, too.
        let url = server.url();
        let opened = thread::spawn({
            let host = host.clone();
            move || host.open(&url).map(|device| device.size())
        });
        thread::sleep(Duration::from_millis(500));
        server.restart();
        host.block_on(read);
        assert_eq!(opened.join().unwrap().unwrap(), Some(3_000_000));
    });
}

#[test]
fn temporary_is_told_from_permanent_across_the_boundary() {
    in_time(|| {
        let (host, server) = (object_host(), Server::start(&body(1000)));
        let url = format!("{}&retry-for=0s", server.url());
        let device = open(&host, &url);
        for (status, code, temporary) in [
            (429, Code::BUSY, true),
            (503, Code::BUSY, true),
            (500, Code::IO, true),
            (502, Code::IO, true),
            (504, Code::TIMED_OUT, true),
            (507, Code::NO_SPACE, false),
            (403, Code::PERMISSION_DENIED, false),
            (404, Code::NOT_FOUND, false),
        ] {
            let manners = Manners { busy: 1000, status: Some((status, None)), ..Manners::default() };
            server.set(|shared| shared.manners = manners);
            let error = host.block_on(device.read_exact_at(0, vec![0; 10])).unwrap_err();
            assert_eq!((error.code(), error.is_temporary()), (Some(code), temporary), "{status}: {error}");
            let error = host.open(&url).unwrap_err();
            assert_eq!((error.code(), error.is_temporary()), (Some(code), temporary), "{status}: {error}");
        }
        server.set(|shared| shared.manners = Manners { cut_after: Some(0), ..Manners::default() });
        let error = host.block_on(device.read_exact_at(0, vec![0; 10])).unwrap_err();
        assert!(error.is_temporary(), "{error}");
        drop(server);
        let error = host.block_on(device.read_exact_at(0, vec![0; 10])).unwrap_err();
        assert_eq!((error.code(), error.is_temporary()), (Some(Code::DISCONNECTED), true), "{error}");
    });
}

#[test]
fn the_pause_that_a_server_asks_for_is_kept() {
    in_time(|| {
        let (host, server) = (object_host(), Server::start(&body(1000)));
        let device = open(&host, &server.url());
        server.set(|shared| {
            (shared.manners.busy, shared.manners.status) = (2, Some((429, Some(1))));
        });
        let begun = Instant::now();
        host.block_on(device.read_exact_at(0, vec![0; 10])).unwrap();
        assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
        // A pause beyond the time ends the request at once, and the error names the pause.
        let hasty = open(&host, &format!("{}&retry-for=5s", server.url()));
        server.set(|shared| {
            (shared.manners.busy, shared.manners.status) = (1000, Some((503, Some(3600))));
        });
        let before = server.shared.lock().unwrap().requests;
        let error = host.block_on(hasty.read_exact_at(0, vec![0; 10])).unwrap_err();
        assert!(error.to_string().contains("the server asks to wait for 3600s"), "{error}");
        assert_eq!(server.shared.lock().unwrap().requests, before + 1);
    });
}

#[test]
fn opening_does_not_wait_twice_for_a_server_that_never_answers() {
    in_time(|| {
        let (host, server) = (object_host(), Server::start(&body(1000)));
        server.set(|shared| shared.manners.slow = Duration::from_secs(8));
        let url = server.url().replace("timeout=2s", "timeout=300ms");
        let error = host.open(&url).unwrap_err();
        assert_eq!(error.code(), Some(Code::TIMED_OUT), "{error}");
        assert_eq!(server.shared.lock().unwrap().requests, 1);
    });
}

#[test]
fn options_without_a_meaning_for_the_scheme_are_refused() {
    in_time(|| {
        let host = object_host();
        for (url, what) in [
            ("http://127.0.0.1:1/x?region=r", "the option 'region' has no meaning for http:, only for s3:"),
            ("s3:bucket/key?account=a", "the option 'account' has no meaning for s3:, only for az:"),
            ("gs:bucket/key?profile=p", "the option 'profile' has no meaning for gs:, only for s3:"),
            (
                "local:/tmp/x?endpoint=http://h",
                "the option 'endpoint' has no meaning for local:, only for s3:, gs:, az:",
            ),
        ] {
            let error = host.open(url).unwrap_err();
            assert!(error.to_string().contains(what), "{error}");
            assert_eq!(error.code(), Some(Code::INVALID_INPUT), "{error}");
        }
    });
}
