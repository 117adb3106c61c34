//! An object that is written by one PUT, whose body is streamed in chunks: its length is unknown at the start.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt, Shared};
use futures_util::stream;
use object_store::{Error, MultipartUpload, PutPayload, PutResult, UploadPart};
use pactio_sdk::{Code, IoError};
use reqwest::header::HeaderMap;
use reqwest::{Body, Method, Request, StatusCode, Url};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::{Server, error, explained, put_result};
use crate::retries::Trouble;

/// A piece of the body.
enum Piece {
    /// Bytes, and the channel that reports that they were sent.
    Part(PutPayload, oneshot::Sender<()>),
    /// The body is complete.
    End,
}

/// The outcome of the request.
type Outcome = Shared<BoxFuture<'static, Result<PutOutcome, Trouble>>>;

/// The tag of the object, if the server gave one.
type PutOutcome = Option<String>;

/// An upload in one request.
pub(super) struct Streamed {
    pieces: UnboundedSender<Piece>,
    outcome: Outcome,
    progress: Arc<Progress>,
    request: AbortHandle,
}

/// How far the body has come.
#[derive(Default)]
struct Progress {
    /// The connection has taken the end of the body.
    is_ended: AtomicBool,
    /// Since when the connection has had bytes, or the whole body, without asking for more.
    waiting: Mutex<Option<Instant>>,
}

impl Progress {
    fn set_waiting(&self, is_waiting: bool) {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = is_waiting.then(Instant::now);
    }

    /// Returns when the connection has taken nothing for `timeout`.
    async fn stalled(&self, timeout: Duration) {
        loop {
            tokio::time::sleep(timeout / 4).await;
            let waiting = *self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.is_some_and(|since| since.elapsed() > timeout) {
                return;
            }
        }
    }
}

impl std::fmt::Debug for Streamed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Streamed").finish_non_exhaustive()
    }
}

impl Streamed {
    /// Begins the request, on the runtime of the caller. Its outcome is shared: parts that were not sent fail with it, and
    /// the completion waits for it.
    pub(super) fn begin(server: Arc<Server>, url: Url, headers: HeaderMap) -> Self {
        let (pieces, received) = unbounded_channel();
        let progress = Arc::new(Progress::default());
        let timeout = server.timeout;
        let (put, watched) = (put(server, url, headers, received, progress.clone()), progress.clone());
        let request = tokio::spawn(async move {
            tokio::select! {
                outcome = put => outcome,
                () = watched.stalled(timeout) => {
                    let text = format!("the server took nothing, or did not answer, for {timeout:?}");
                    Err(Trouble::refused(IoError::from_code(Code::TIMED_OUT), text))
                }
            }
        });
        let abort = request.abort_handle();
        let outcome = async move {
            // The task was aborted, or it panicked.
            request.await.unwrap_or_else(|_| {
                let failed = IoError::from_code(Code::FAILED);
                Err(Trouble::refused(failed, "the request was ended".to_owned()))
            })
        };
        Self { pieces, outcome: outcome.boxed().shared(), progress, request: abort }
    }
}

/// The server said that it has the object before it got all of it.
fn too_early() -> Trouble {
    Trouble::refused(IoError::from_code(Code::IO), "the server answered before it had all bytes".to_owned())
}

/// A request that is not awaited any more ends.
impl Drop for Streamed {
    fn drop(&mut self) {
        self.request.abort();
    }
}

/// Makes the request with the pieces as its body, and gives the tag of the object.
async fn put(
    server: Arc<Server>,
    url: Url,
    headers: HeaderMap,
    pieces: UnboundedReceiver<Piece>,
    progress: Arc<Progress>,
) -> Result<PutOutcome, Trouble> {
    let mut request = Request::new(Method::PUT, url);
    *request.headers_mut() = headers;
    *request.body_mut() = Some(Body::wrap_stream(body(pieces, progress)));
    let response = server.execute(&server.streaming, request).await?;
    let status = response.status();
    if status.is_success() {
        return Ok(put_result(response.headers()).e_tag);
    }
    let trouble = Trouble::of_status(status, response.headers()).unwrap_or_else(|| {
        let code = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Code::PERMISSION_DENIED,
            StatusCode::NOT_FOUND => Code::NOT_FOUND,
            StatusCode::METHOD_NOT_ALLOWED => Code::UNSUPPORTED,
            StatusCode::PAYLOAD_TOO_LARGE => Code::TOO_LARGE,
            _ => Code::IO,
        };
        let mut text = format!("the server answered {status}");
        if status == StatusCode::LENGTH_REQUIRED {
            text += "; with part= larger than the object, the object is sent with its length";
        }
        Trouble::refused(IoError::from_code(code).permanent(), text)
    });
    Err(explained(trouble, response).await)
}

/// The body: its end is marked, so that an upload that is given up does not look complete to the server.
fn body(
    pieces: UnboundedReceiver<Piece>,
    progress: Arc<Progress>,
) -> impl stream::Stream<Item = std::io::Result<Bytes>> {
    let state = (pieces, progress, Vec::<Bytes>::new().into_iter(), None::<oneshot::Sender<()>>);
    stream::try_unfold(state, |(mut pieces, progress, mut chunks, mut sent)| async move {
        // The connection asks for more: from now on, it waits for the writer, and not the writer for it.
        progress.set_waiting(false);
        loop {
            if let Some(chunk) = chunks.next() {
                progress.set_waiting(true);
                return Ok(Some((chunk, (pieces, progress, chunks, sent))));
            }
            // The connection asks for more when it has taken the bytes before.
            if let Some(sent) = sent.take() {
                let _ = sent.send(());
            }
            match pieces.recv().await {
                Some(Piece::Part(payload, done)) => {
                    (chunks, sent) = (payload.iter().cloned().collect::<Vec<_>>().into_iter(), Some(done));
                }
                Some(Piece::End) => {
                    // Ordering: Release, paired with the Acquire of `complete`.
                    progress.is_ended.store(true, Ordering::Release);
                    progress.set_waiting(true);
                    return Ok(None);
                }
                None => return Err(std::io::Error::other("the upload was given up")),
            }
        }
    })
}

#[async_trait]
impl MultipartUpload for Streamed {
    /// Puts the bytes behind those of the call before. The future is ready when they were sent.
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (done, sent) = oneshot::channel();
        let _ = self.pieces.send(Piece::Part(data, done));
        let outcome = self.outcome.clone();
        async move {
            tokio::select! {
                biased;
                Ok(()) = sent => Ok(()),
                // The request has ended before it has taken these bytes.
                outcome = outcome => Err(error(outcome.err().unwrap_or_else(too_early))),
            }
        }
        .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult, Error> {
        let _ = self.pieces.send(Piece::End);
        let e_tag = self.outcome.clone().await.map_err(error)?;
        // Ordering: Acquire, paired with the Release where the body ends.
        if !self.progress.is_ended.load(Ordering::Acquire) {
            return Err(error(too_early()));
        }
        Ok(PutResult { e_tag, version: None, extensions: Default::default() })
    }

    async fn abort(&mut self) -> Result<(), Error> {
        // The connection is closed before the end of the body, so that the server does not take the object for complete.
        self.request.abort();
        let _ = self.outcome.clone().await;
        Ok(())
    }
}
