//! An object that is written by one PUT, whose body is streamed in chunks: its length is unknown at the start.

use std::sync::Arc;

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

use super::{Server, error, explained, put_result};
use crate::connection::Trouble;

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
}

impl std::fmt::Debug for Streamed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Streamed").finish_non_exhaustive()
    }
}

impl Streamed {
    /// Begins the request, on the runtime of the caller.
    pub(super) fn begin(server: Arc<Server>, url: Url, headers: HeaderMap) -> Self {
        let (pieces, received) = unbounded_channel();
        let request = tokio::spawn(put(server, url, headers, received));
        let outcome = async move {
            request.await.unwrap_or_else(|_| {
                let failed = IoError::from_code(Code::FAILED);
                Err(Trouble::refused(failed, "the request was ended".to_owned()))
            })
        };
        Self { pieces, outcome: outcome.boxed().shared() }
    }
}

async fn put(
    server: Arc<Server>,
    url: Url,
    headers: HeaderMap,
    pieces: UnboundedReceiver<Piece>,
) -> Result<PutOutcome, Trouble> {
    let mut request = Request::new(Method::PUT, url);
    *request.headers_mut() = headers;
    *request.body_mut() = Some(Body::wrap_stream(body(pieces)));
    let response = server.execute(request).await?;
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
fn body(pieces: UnboundedReceiver<Piece>) -> impl stream::Stream<Item = std::io::Result<Bytes>> {
    let state = (pieces, Vec::<Bytes>::new().into_iter(), None::<oneshot::Sender<()>>);
    stream::try_unfold(state, |(mut pieces, mut chunks, mut sent)| async move {
        loop {
            if let Some(chunk) = chunks.next() {
                return Ok(Some((chunk, (pieces, chunks, sent))));
            }
            // The connection asks for more when it has taken the bytes before.
            if let Some(sent) = sent.take() {
                let _ = sent.send(());
            }
            match pieces.recv().await {
                Some(Piece::Part(payload, done)) => {
                    (chunks, sent) = (payload.iter().cloned().collect::<Vec<_>>().into_iter(), Some(done));
                }
                Some(Piece::End) => return Ok(None),
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
            if sent.await.is_ok() {
                return Ok(());
            }
            // The request has ended before it has taken these bytes.
            let early =
                || Trouble::refused(IoError::from_code(Code::IO), "the server answered too early".to_owned());
            Err(error(outcome.await.err().unwrap_or_else(early)))
        }
        .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult, Error> {
        let _ = self.pieces.send(Piece::End);
        let e_tag = self.outcome.clone().await.map_err(error)?;
        Ok(PutResult { e_tag, version: None, extensions: Default::default() })
    }

    async fn abort(&mut self) -> Result<(), Error> {
        // Without its end, the body is an error, and the connection is closed.
        self.pieces = unbounded_channel().0;
        let _ = self.outcome.clone().await;
        Ok(())
    }
}
