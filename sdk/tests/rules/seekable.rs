//! A device as a file.

use std::io::SeekFrom;

use futures_lite::future::block_on;
use pactio_sdk::*;

use crate::support::Plain;

fn file(len: usize) -> Seekable<LocalDevice<Plain>> {
    Seekable::new(LocalDevice::new(Plain::new(len)).unwrap())
}

#[test]
fn std_io_reads_writes_and_seeks_like_a_file() {
    use std::io::{Read, Seek, Write};

    let mut file = file(20);
    let mut buffer = [0; 8];
    file.read_exact(&mut buffer).unwrap();
    assert_eq!(buffer, [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(file.seek(SeekFrom::Current(-4)).unwrap(), 4);
    file.write_all(&[100; 3]).unwrap();
    assert_eq!(file.seek(SeekFrom::End(-2)).unwrap(), 18);
    let mut rest = Vec::new();
    assert_eq!(file.read_to_end(&mut rest).unwrap(), 2);
    assert_eq!(rest, [18, 19]);
    assert_eq!(file.read(&mut buffer).unwrap(), 0, "the end is no error");
    assert_eq!(file.write(&[1]).unwrap_err().kind(), std::io::ErrorKind::WriteZero);
    file.rewind().unwrap();
    file.read_exact(&mut buffer).unwrap();
    assert_eq!(buffer, [0, 1, 2, 3, 100, 100, 100, 7]);
    assert_eq!(file.seek(SeekFrom::Current(-9)).unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
    assert_eq!(file.position(), 8);
}

#[test]
fn futures_io_does_the_same() {
    use futures_lite::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

    block_on(async {
        let mut file = file(20);
        let mut buffer = [0; 8];
        file.read_exact(&mut buffer).await.unwrap();
        assert_eq!(buffer, [0, 1, 2, 3, 4, 5, 6, 7]);
        file.seek(SeekFrom::Start(4)).await.unwrap();
        file.write_all(&[100; 3]).await.unwrap();
        // A read after an accepted write sees the written bytes.
        file.seek(SeekFrom::Current(-1)).await.unwrap();
        let mut two = [0; 2];
        file.read_exact(&mut two).await.unwrap();
        assert_eq!(two, [100, 7]);
        file.seek(SeekFrom::End(-3)).await.unwrap();
        let mut rest = Vec::new();
        file.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, [17, 18, 19]);
        let error = async {
            file.write(&[1]).await?;
            file.flush().await
        };
        assert_eq!(error.await.unwrap_err().kind(), std::io::ErrorKind::WriteZero);
    });
}
