//! Web servers: what a plain HTTP server offers, also without ranges, without HEAD, and without a protocol for lists.
//!
//! ```text
//!  size, version:  HEAD ── refused ─► GET of one byte
//!  bytes:          GET with a range, of one version ── range ignored ─► all bytes from the start, which the caller reads forward
//!  list:           GET of the folder: JSON or links of a page ── none ─► PROPFIND (WebDAV)
//!  write:          one PUT, whose body is streamed
//! ```

mod listing;
mod upload;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
use object_store::http::{HttpBuilder, HttpStore};
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, ClientOptions, CopyOptions, Error, GetOptions, GetRange, GetResult,
    GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions,
    PutPayload, PutResult,
};
use pactio_sdk::{Code, Entry, IoError, Kind, Stat};
use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_MATCH,
    IF_UNMODIFIED_SINCE, LAST_MODIFIED, LOCATION, RANGE,
};
use reqwest::{Body, Client, Method, Request, Response, StatusCode, Url};

use crate::connection::{MAX_LIST_BYTES, too_long};
use crate::retries::{Trouble, with_retries};

/// A web server, or one address of it.
#[derive(Clone, Debug)]
pub(crate) struct WebStore {
    server: Arc<Server>,
    /// Lists folders of WebDAV.
    dav: Arc<HttpStore>,
}

/// The connections to a server.
pub(crate) struct Server {
    /// Follows no redirects.
    pub(crate) client: Client,
    /// The same, for requests that may take any time.
    pub(crate) streaming: Client,
    /// An answer, or its next bytes, may take this time.
    pub(crate) timeout: Duration,
    /// The address of the server.
    pub(crate) base: Url,
    /// The address of every object: a link with a query, such as a signed one.
    pub(crate) link: Option<Url>,
    /// Headers for this server only: user and password, token, and the user's own.
    pub(crate) secrets: HeaderMap,
    pub(crate) retry_for: Duration,
}

/// Neither the link nor the headers are shown.
impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}

impl fmt::Display for WebStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.server.base.fmt(f)
    }
}

const STORE: &str = "HTTP";

/// The size of an object in an answer that does not say it.
pub(crate) const UNKNOWN_SIZE: u64 = u64::MAX;

/// Most redirects of one request.
const MAX_REDIRECTS: usize = 10;

/// Most bytes of an object that are read to find its size, if the server does not say it.
const MAX_COUNTED_BYTES: u64 = 64 << 20;

/// An error of the store for a failure.
fn error(trouble: Trouble) -> Error {
    Error::Generic { store: STORE, source: Box::new(trouble) }
}

/// A failure that another attempt does not change.
fn refused(code: Code, text: impl Into<String>) -> Error {
    error(Trouble::refused(IoError::from_code(code).permanent(), text.into()))
}

impl Server {
    /// The address of an object, or of a folder.
    fn url(&self, path: &Path, is_folder: bool) -> Url {
        if let Some(link) = &self.link {
            return link.clone();
        }
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path.parts());
            if is_folder {
                segments.push("");
            }
        }
        url
    }

    /// Sends a request until it is answered, and follows redirects. The answer may be a refusal.
    async fn send(
        &self,
        method: Method,
        url: Url,
        headers: HeaderMap,
        body: Option<Bytes>,
    ) -> Result<Response, Trouble> {
        with_retries(self.retry_for, || async {
            let response = self.follow(method.clone(), url.clone(), &headers, body.clone()).await?;
            match Trouble::of_status(response.status(), response.headers()) {
                Some(trouble) => Err(explained(trouble, response).await),
                None => Ok(response),
            }
        })
        .await
    }

    /// Sends a request and follows its redirects: never to another protocol or from HTTPS to HTTP, and with a body only for
    /// the statuses that keep the body.
    async fn follow(
        &self,
        method: Method,
        mut url: Url,
        headers: &HeaderMap,
        body: Option<Bytes>,
    ) -> Result<Response, Trouble> {
        for _ in 0..=MAX_REDIRECTS {
            let mut request = Request::new(method.clone(), url.clone());
            *request.headers_mut() = headers.clone();
            *request.body_mut() = body.clone().map(Body::from);
            let response = self.execute(&self.client, request).await?;
            let location = response.headers().get(LOCATION).filter(|_| is_redirect(response.status()));
            let Some(location) = location else { return Ok(response) };
            let text = String::from_utf8_lossy(location.as_bytes());
            let refuse = |why: &str| {
                let refused = IoError::from_code(Code::UNSUPPORTED);
                Trouble::refused(refused, format!("the server redirects {why}"))
            };
            let next = url.join(&text).map_err(|_| refuse("to something that is no address"))?;
            if !matches!(next.scheme(), "http" | "https")
                || (url.scheme() == "https" && next.scheme() == "http")
            {
                return Err(refuse("to an address without encryption, or of another protocol"));
            }
            if body.is_some() && !matches!(response.status().as_u16(), 307 | 308) {
                return Err(refuse(&format!("the {method} request, which would lose its content")));
            }
            url = next;
        }
        let text = format!("the server redirects more than {MAX_REDIRECTS} times");
        Err(Trouble::refused(IoError::from_code(Code::UNSUPPORTED), text))
    }

    /// Sends one request. Another server gets no secrets.
    async fn execute(&self, client: &Client, mut request: Request) -> Result<Response, Trouble> {
        let home = self.link.as_ref().unwrap_or(&self.base);
        if request.url().origin() == home.origin() {
            request.headers_mut().extend(self.secrets.clone());
        }
        // Lengths and ranges are those of the bytes as they are stored.
        request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        client.execute(request).await.map_err(|error| {
            // A request that cannot be built fails each time. The URL is not shown: its query may be a secret.
            let (is_permanent, is_timeout) = (error.is_builder(), error.is_timeout());
            let trouble = Trouble::of_connection(&error.without_url(), is_timeout);
            if is_permanent { trouble.permanent() } else { trouble }
        })
    }
}

/// The failure with the text that the server sent.
async fn explained(mut trouble: Trouble, mut response: Response) -> Trouble {
    let mut text = Vec::new();
    while text.len() < Trouble::MAX_EXPLANATION_BYTES
        && let Ok(Some(bytes)) = response.chunk().await
    {
        text.extend_from_slice(&bytes);
    }
    trouble.explain(&text);
    trouble
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// The answer, if it is a success.
async fn successful(response: Response) -> Result<Response, Error> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let code = match status.as_u16() {
        404 | 410 => Code::NOT_FOUND,
        401 | 403 | 407 => Code::PERMISSION_DENIED,
        412 => Code::CHANGED,
        405 | 501 => Code::UNSUPPORTED,
        _ => Code::IO,
    };
    let trouble =
        Trouble::refused(IoError::from_code(code).permanent(), format!("the server answered {status}"));
    Err(error(explained(trouble, response).await))
}

fn text_of<'h>(headers: &'h HeaderMap, name: &reqwest::header::HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// The range of a partial answer, and the size of the object: `bytes 0-99/1000`.
fn content_range(headers: &HeaderMap) -> Option<(u64, u64, u64)> {
    let (range, size) = text_of(headers, &CONTENT_RANGE)?.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, size) = (first.parse().ok()?, last.parse::<u64>().ok()?, size.parse().ok()?);
    (first <= last && last < size).then_some((first, last + 1, size))
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    text_of(headers, &CONTENT_LENGTH)?.parse().ok()
}

impl WebStore {
    pub(crate) fn new(server: Server) -> Result<Self, Error> {
        let server = Arc::new(server);
        // The requests of this client are made by `Server::send`, which tries them again itself.
        let retry = object_store::RetryConfig { max_retries: 0, ..Default::default() };
        let dav = HttpBuilder::new()
            .with_url(server.base.as_str())
            .with_retry(retry)
            .with_client_options(ClientOptions::new().with_allow_http(true))
            .with_http_connector(Dav(server.clone()))
            .build()?;
        Ok(Self { server, dav: Arc::new(dav) })
    }

    /// The address has a query: it is one object, and nothing below or beside it can be named.
    pub(crate) fn is_link(&self) -> bool {
        self.server.link.is_some()
    }

    fn meta(location: &Path, headers: &HeaderMap, size: u64) -> ObjectMeta {
        let modified = text_of(headers, &LAST_MODIFIED).and_then(|date| httpdate::parse_http_date(date).ok());
        ObjectMeta {
            location: location.clone(),
            // The client's word for "no date".
            last_modified: modified.unwrap_or(UNIX_EPOCH).into(),
            size,
            e_tag: text_of(headers, &ETAG).map(str::to_owned),
            version: None,
        }
    }

    /// Finds the size and the version of an object.
    async fn look(&self, location: &Path) -> Result<(ObjectMeta, HeaderMap), Error> {
        let url = self.server.url(location, false);
        let response =
            self.server.send(Method::HEAD, url.clone(), HeaderMap::new(), None).await.map_err(error)?;
        let status = response.status().as_u16();
        // A link that is signed for GET is refused for HEAD like one without permission.
        if !(matches!(status, 400 | 405 | 501) || (self.is_link() && matches!(status, 401 | 403))) {
            let response = successful(response).await?;
            refuse_folder(&url, &response)?;
            if let Some(size) = content_length(response.headers()).filter(|size| *size > 0) {
                return Ok((Self::meta(location, response.headers(), size), response.headers().clone()));
            }
        }
        // Some servers report no size, or the size 0, for an object that they make when it is read.
        let range = HeaderMap::from_iter([(RANGE, HeaderValue::from_static("bytes=0-0"))]);
        let asked = url.clone();
        let response = self.server.send(Method::GET, url, range, None).await.map_err(error)?;
        if response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            return Ok((Self::meta(location, response.headers(), 0), response.headers().clone()));
        }
        let response = successful(response).await?;
        refuse_folder(&asked, &response)?;
        let headers = response.headers().clone();
        let known = match response.status() {
            StatusCode::PARTIAL_CONTENT => content_range(&headers).map(|(.., size)| size),
            _ => content_length(&headers),
        };
        let size = match known {
            Some(size) => size,
            // The server knows the part, and not the whole.
            None if response.status() == StatusCode::PARTIAL_CONTENT => {
                let whole =
                    self.server.send(Method::GET, asked, HeaderMap::new(), None).await.map_err(error)?;
                counted(successful(whole).await?).await?
            }
            None => counted(response).await?,
        };
        Ok((Self::meta(location, &headers, size), headers))
    }

    /// The entries of a folder.
    pub(crate) async fn entries(&self, folder: &Path) -> Result<Vec<Entry>, Error> {
        if self.is_link() {
            return Err(refused(Code::NOT_FOUND, "an address with a query has no folder"));
        }
        let url = self.server.url(folder, true);
        // A page that breaks off is asked for again.
        let page = with_retries(self.server.retry_for, || async {
            let response = self.server.send(Method::GET, url.clone(), HeaderMap::new(), None).await?;
            let is_missing = matches!(response.status().as_u16(), 404 | 410);
            match successful(response).await {
                Err(refusal) => Ok(Err((refusal, is_missing))),
                Ok(response) => page(response).await.map(Ok),
            }
        });
        let refusal = match page.await.map_err(error)? {
            Ok(Some(entries)) => return Ok(entries),
            Ok(None) => refused(Code::UNSUPPORTED, "the server shows no list of the folder"),
            Err((refusal, true)) => return Err(refusal),
            Err((refusal, false)) => refusal,
        };
        // Servers of WebDAV need not show a page.
        let listed = match self.dav.list_with_delimiter(Some(folder)).await {
            Ok(listed) => listed,
            Err(error) if crate::failure::error(&error).is_temporary() => return Err(error),
            Err(_) => return Err(refusal),
        };
        let entry = |path: &Path, stat| Some(Entry::new(path.filename()?, stat));
        let folders = listed.common_prefixes.iter().filter_map(Path::filename).map(Entry::folder);
        let files = listed.objects.iter().filter_map(|object| {
            let mut stat = Stat::of(Kind::FILE).with_size(object.size);
            stat.modified = Some(SystemTime::from(object.last_modified));
            stat.version.clone_from(&object.e_tag);
            entry(&object.location, stat)
        });
        Ok(folders.chain(files).collect())
    }

    /// Makes the folders above an object, as WebDAV servers need them. A server that cannot refuses the object again.
    async fn make_folders(&self, location: &Path) -> Result<(), Error> {
        let parts: Vec<_> = location.parts().collect();
        for count in 1..parts.len() {
            let folder = Path::from_iter(parts[..count].iter().cloned());
            let Ok(method) = Method::from_bytes(b"MKCOL") else { return Ok(()) };
            let url = self.server.url(&folder, true);
            self.server.send(method, url, HeaderMap::new(), None).await.map_err(error)?;
        }
        Ok(())
    }
}

/// Servers redirect the name of a folder to the same name with a slash: it is no object.
fn refuse_folder(asked: &Url, response: &Response) -> Result<(), Error> {
    let is_folder = !asked.path().ends_with('/') && response.url().path() == format!("{}/", asked.path());
    if is_folder { Err(refused(Code::NOT_FOUND, "it is a folder")) } else { Ok(()) }
}

/// The entries that a page lists; `None` if it is no list.
async fn page(response: Response) -> Result<Option<Vec<Entry>>, Trouble> {
    let kind = text_of(response.headers(), &CONTENT_TYPE).unwrap_or_default().to_owned();
    if !listing::is_possible(&kind) {
        // It may be a large file.
        return Ok(None);
    }
    // Links are relative to the address that the server redirected to.
    let url = response.url().clone();
    let (mut body, mut text) = (response.bytes_stream(), Vec::new());
    while let Some(bytes) = body.next().await {
        let broke_off = |error: reqwest::Error| Trouble::of_connection(&error, error.is_timeout());
        text.extend_from_slice(&bytes.map_err(broke_off)?);
        if text.len() > MAX_LIST_BYTES {
            return Err(too_long());
        }
    }
    Ok(listing::parse(&url, &kind, &text))
}

/// Counts the bytes of an object whose size the server does not say.
async fn counted(mut response: Response) -> Result<u64, Error> {
    let mut size = 0;
    loop {
        match response.chunk().await {
            Ok(Some(bytes)) => size += bytes.len() as u64,
            Ok(None) => return Ok(size),
            Err(error) => return Err(broke_off(&error)),
        }
        if size > MAX_COUNTED_BYTES {
            let text =
                "the server says no size, and there are more than 64 MiB; save it with another program first";
            return Err(refused(Code::UNSUPPORTED, text));
        }
    }
}

/// The error of an answer that broke off.
fn broke_off(cause: &reqwest::Error) -> Error {
    error(Trouble::of_connection(cause, cause.is_timeout()))
}

#[async_trait]
impl ObjectStore for WebStore {
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult, Error> {
        if options.head {
            let (meta, headers) = self.look(location).await?;
            let range = 0..meta.size;
            let payload = GetResultPayload::Stream(stream::empty().boxed());
            return Ok(GetResult {
                payload,
                meta,
                range,
                attributes: attributes(&headers),
                extensions: Default::default(),
            });
        }
        let mut headers = HeaderMap::new();
        let mut set = |name, value: String| {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        };
        if let Some(GetRange::Bounded(range)) = &options.range {
            set(RANGE, format!("bytes={}-{}", range.start, range.end - 1));
        }
        if let Some(tag) = options.if_match {
            set(IF_MATCH, tag);
        }
        if let Some(date) = options.if_unmodified_since {
            set(IF_UNMODIFIED_SINCE, httpdate::fmt_http_date(date.into()));
        }
        let url = self.server.url(location, false);
        let response = self.server.send(Method::GET, url, headers, None).await.map_err(error)?;
        let response = successful(response).await?;
        let headers = response.headers();
        let (range, size) = if response.status() == StatusCode::PARTIAL_CONTENT {
            let Some((first, end, size)) = content_range(headers) else {
                return Err(refused(
                    Code::UNSUPPORTED,
                    "the server sent a part of the object without saying which",
                ));
            };
            (first..end, size)
        } else {
            let size = content_length(headers).unwrap_or(UNKNOWN_SIZE);
            (0..size, size)
        };
        let (meta, attributes) = (Self::meta(location, headers, size), attributes(headers));
        let body = response.bytes_stream().map_err(|error| broke_off(&error));
        let payload = GetResultPayload::Stream(body.boxed());
        Ok(GetResult { payload, meta, range, attributes, extensions: Default::default() })
    }

    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult, Error> {
        let headers = content_type(&options.attributes);
        let url = self.server.url(location, false);
        let bytes = Bytes::from(payload);
        let put = || self.server.send(Method::PUT, url.clone(), headers.clone(), Some(bytes.clone()));
        let mut response = put().await.map_err(error)?;
        // Servers of WebDAV answer so if a folder above the object is missing.
        if matches!(response.status().as_u16(), 404 | 409) {
            self.make_folders(location).await?;
            response = put().await.map_err(error)?;
        }
        let response = successful(response).await?;
        Ok(put_result(response.headers()))
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>, Error> {
        // The body of the request cannot be sent again, so the folders are made before.
        self.make_folders(location).await?;
        Ok(Box::new(upload::Streamed::begin(
            self.server.clone(),
            self.server.url(location, false),
            content_type(&options.attributes),
        )))
    }

    fn delete_stream(
        &self,
        _: BoxStream<'static, Result<Path, Error>>,
    ) -> BoxStream<'static, Result<Path, Error>> {
        stream::once(async { Err(unneeded()) }).boxed()
    }

    fn list(&self, _: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta, Error>> {
        stream::once(async { Err(unneeded()) }).boxed()
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult, Error> {
        Err(unneeded())
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<(), Error> {
        Err(unneeded())
    }
}

/// The plugin lists web servers by [`WebStore::entries`], and neither copies nor removes objects.
fn unneeded() -> Error {
    refused(Code::UNSUPPORTED, "web servers cannot do that")
}

fn attributes(headers: &HeaderMap) -> Attributes {
    let mut attributes = Attributes::new();
    if let Some(kind) = text_of(headers, &CONTENT_TYPE) {
        attributes.insert(Attribute::ContentType, kind.to_owned().into());
    }
    attributes
}

/// The header for the media type of an object that is written.
fn content_type(attributes: &Attributes) -> HeaderMap {
    let value = attributes.get(&Attribute::ContentType).and_then(|kind| HeaderValue::try_from(&**kind).ok());
    value.map(|value| (CONTENT_TYPE, value)).into_iter().collect()
}

fn put_result(headers: &HeaderMap) -> PutResult {
    PutResult {
        e_tag: text_of(headers, &ETAG).map(str::to_owned),
        version: None,
        extensions: Default::default(),
    }
}

/// Sends the requests of the client for WebDAV, with the secrets of the server.
#[derive(Debug)]
struct Dav(Arc<Server>);

impl HttpConnector for Dav {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Self(self.0.clone())))
    }
}

#[async_trait]
impl HttpService for Dav {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let failed = |trouble| HttpError::new(HttpErrorKind::Unknown, trouble);
        let (parts, body) = request.into_parts();
        let url = Url::parse(&parts.uri.to_string())
            .map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
        // A request with a body does not follow each redirect, so an empty one counts as none.
        let body = body.as_bytes().cloned().filter(|body| !body.is_empty());
        let response = self.0.send(parts.method, url, parts.headers, body).await.map_err(failed)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response
            .bytes()
            .await
            .map_err(|error| failed(Trouble::of_connection(&error, error.is_timeout())))?;
        let mut answer = HttpResponse::new(body.into());
        (*answer.status_mut(), *answer.headers_mut()) = (status, headers);
        Ok(answer)
    }
}
