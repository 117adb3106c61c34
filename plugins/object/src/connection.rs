//! Connections to servers, and the changes that requests and answers need on their way. [`retries`](crate::retries) sends requests
//! again.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody,
    HttpService, ReqwestConnector,
};
use pactio_sdk::{Code, IoError};
use reqwest::StatusCode;

use crate::retries::{Trouble, with_retries};
use crate::{odd, sums};

/// Makes the connections of a client of `object_store`.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    /// No attempt begins later than this after the first.
    pub(crate) retry_for: Duration,
    /// The ways in which credentials can be given.
    pub(crate) credentials: &'static str,
    /// The metadata service of this machine may be asked for credentials.
    pub(crate) metadata: bool,
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        let Self { retry_for, credentials, metadata } = *self;
        Ok(HttpClient::new(Connection { client, retry_for, credentials, metadata }))
    }
}

#[derive(Debug)]
struct Connection {
    client: HttpClient,
    retry_for: Duration,
    credentials: &'static str,
    metadata: bool,
}

#[async_trait]
impl HttpService for Connection {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        if !self.metadata && request.uri().host().is_some_and(is_metadata_service) {
            let text = format!("there are no credentials; {}", self.credentials);
            let trouble = Trouble::new(IoError::from_code(Code::PERMISSION_DENIED), text);
            return Err(HttpError::new(HttpErrorKind::Unknown, trouble));
        }
        // The kind says that the client above does not send the request again.
        with_retries(self.retry_for, || self.attempt(request.clone()))
            .await
            .map_err(|trouble| HttpError::new(HttpErrorKind::Unknown, trouble))
    }
}

impl Connection {
    /// Sends a request once. Faults of the server or the connection, damaged uploads and unconfirmed copies become a
    /// `Trouble`. Lists lose their odd keys. Other answers, also refusals, go to the client above as they are.
    async fn attempt(&self, request: HttpRequest) -> Result<HttpResponse, Trouble> {
        let is_copy = COPY_SOURCES.into_iter().any(|name| request.headers().contains_key(name));
        let response = match self.client.execute(request).await {
            Ok(response) => response,
            Err(error) => {
                let trouble = Trouble::of_connection(&error, error.kind() == HttpErrorKind::Timeout);
                let is_unknown = error.kind() == HttpErrorKind::Unknown;
                // The client, too, does not send a request again after a failure of this kind.
                return Err(if is_unknown { trouble.permanent() } else { trouble });
            }
        };
        let Some(mut trouble) = Trouble::of_status(response.status(), response.headers()) else {
            if matches!(response.status(), StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN) {
                return refused(response).await;
            }
            sums::note(response.headers());
            if sums::is_damaged(response.headers()) {
                let text = "the server received other bytes than those that were sent: its check sum differs"
                    .to_owned();
                return Err(Trouble::refused(IoError::from_code(Code::CORRUPT).temporary(), text));
            }
            return match response.status().is_success() {
                true if is_copy => copied(response).await,
                true if odd::is_listing() => named(response).await,
                _ => Ok(response),
            };
        };
        trouble.explain(&explanation(response.into_body()).await);
        Err(trouble)
    }
}

/// The text of a server with an error.
async fn explanation(body: HttpResponseBody) -> Vec<u8> {
    let (mut body, mut text) = (body.bytes_stream(), Vec::new());
    while text.len() < Trouble::MAX_EXPLANATION_BYTES
        && let Some(Ok(bytes)) = body.next().await
    {
        text.extend_from_slice(&bytes);
    }
    text
}

/// Makes a failure of a refusal whose code says more than its status. Others go on to the client, which judges by the status.
async fn refused(response: HttpResponse) -> Result<HttpResponse, Trouble> {
    let (parts, body) = response.into_parts();
    let text = explanation(body).await;
    let has = |code: &str| String::from_utf8_lossy(&text).contains(&format!("<Code>{code}</Code>"));
    // The bytes were damaged or cut short on the way: temporary, so that the request is sent again.
    let spoilt_on_the_way =
        ["XAmzContentSHA256Mismatch", "BadDigest", "Md5Mismatch", "IncompleteBody", "RequestTimeout"];
    let error = if spoilt_on_the_way.into_iter().any(has) {
        IoError::from_code(Code::CORRUPT).temporary()
    } else if has("QuotaExceeded") || has("InsufficientCapacity") {
        IoError::from_code(Code::NO_SPACE)
    } else {
        return Ok(HttpResponse::from_parts(parts, text.into()));
    };
    let mut trouble = Trouble::answered(error, format!("the server answered {}", parts.status));
    trouble.explain(&text);
    Err(trouble)
}

/// Headers of requests to copy an object in the store, and only of these.
const COPY_SOURCES: [&str; 3] = ["x-amz-copy-source", "x-goog-copy-source", "x-ms-copy-source"];

/// An answer to a request to copy, if the copy is done. S3 and Google send the status of success before they copy, and the result
/// behind it; Azure may copy later.
async fn copied(response: HttpResponse) -> Result<HttpResponse, Trouble> {
    let failed = |error, text: &str| Trouble::answered(error, text.to_owned());
    if let Some(state) = response.headers().get("x-ms-copy-status") {
        if state == "success" {
            return Ok(response);
        }
        let mut trouble =
            failed(IoError::from_code(Code::IO), "the store has not finished the copy; its state");
        trouble.explain(state.as_bytes());
        return Err(trouble);
    }
    let (parts, body) = response.into_parts();
    let (mut body, mut text) = (body.bytes_stream(), Vec::new());
    while let Some(bytes) = body.next().await {
        let broke_off =
            |error: HttpError| Trouble::of_connection(&error, error.kind() == HttpErrorKind::Timeout);
        let bytes = bytes.map_err(broke_off)?;
        // Blanks keep the connection alive while the store copies.
        let bytes = if text.is_empty() { bytes.trim_ascii_start() } else { &bytes };
        text.extend_from_slice(&bytes[..bytes.len().min(Trouble::MAX_EXPLANATION_BYTES)]);
        text.truncate(Trouble::MAX_EXPLANATION_BYTES);
    }
    let has = |part: &str| text.windows(part.len()).any(|window| window == part.as_bytes());
    // A part of an upload can be copied, too.
    if (has("CopyObjectResult>") || has("CopyPartResult>")) && has("ETag>") {
        return Ok(HttpResponse::from_parts(parts, text.into()));
    }
    let temporary = ["InternalError", "SlowDown", "ServiceUnavailable", "OperationAborted"];
    let error = IoError::from_code(Code::IO);
    let is_temporary = temporary.into_iter().any(|code| has(&format!("<Code>{code}</Code>")));
    let error = if is_temporary { error.temporary() } else { error };
    let mut trouble = failed(error, "the store did not confirm the copy");
    trouble.explain(&text);
    Err(trouble)
}

/// Most bytes of a list.
pub(crate) const MAX_LIST_BYTES: usize = 64 << 20;

/// The failure of a list that is longer.
pub(crate) fn too_long() -> Trouble {
    let text = "the list of the folder is longer than 64 MiB".to_owned();
    Trouble::refused(IoError::from_code(Code::TOO_LARGE), text)
}

/// A list without the keys that the client cannot name.
async fn named(response: HttpResponse) -> Result<HttpResponse, Trouble> {
    let (parts, body) = response.into_parts();
    let (mut body, mut list) = (body.bytes_stream(), Vec::new());
    while let Some(bytes) = body.next().await {
        let broke_off =
            |error: HttpError| Trouble::of_connection(&error, error.kind() == HttpErrorKind::Timeout);
        list.extend_from_slice(&bytes.map_err(broke_off)?);
        if list.len() > MAX_LIST_BYTES {
            return Err(too_long());
        }
    }
    let list = match String::from_utf8(list) {
        Ok(text) => odd::take_out(&text).into(),
        Err(bytes) => bytes.into_bytes().into(),
    };
    Ok(HttpResponse::from_parts(parts, list))
}

/// The addresses at which machines of the large clouds offer credentials.
fn is_metadata_service(host: &str) -> bool {
    matches!(
        host.trim_end_matches('.'),
        "169.254.169.254"
            | "169.254.170.2"
            | "169.254.170.23"
            | "[fd00:ec2::254]"
            | "[fd00:ec2::23]"
            | "metadata.google.internal"
            | "metadata"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_services_are_known() {
        for host in
            ["169.254.169.254", "metadata.google.internal", "metadata.google.internal.", "169.254.170.2"]
        {
            assert!(is_metadata_service(host), "{host}");
        }
        for host in ["127.0.0.1", "s3.amazonaws.com", "169.254.1.1"] {
            assert!(!is_metadata_service(host), "{host}");
        }
    }
}
