//! The list of all versions of the objects in a folder of an S3 bucket with versions.
//!
//! The client of the store has no such list. The request is made here, and signed with the client's credentials.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsAuthorizer, AwsCredentialProvider};
use object_store::client::{HttpClient, HttpConnector, HttpRequest, HttpRequestBody};
use object_store::path::Path;
use object_store::{Attributes, ClientOptions, ObjectMeta};
use pactio_sdk::{Code, Entry, IoError};
use percent_encoding::percent_decode_str;
use quick_xml::Reader;
use quick_xml::escape::unescape;
use quick_xml::events::Event;
use reqwest::Url;

use crate::client::Made;
use crate::connection::{Connector, MAX_LIST_BYTES, too_long};
use crate::device::stat;
use crate::retries::Trouble;

/// Separates the key from the ID of the version in a name, as in a URL.
const MARK: &str = "?version=";

/// Lists the versions in a bucket.
#[derive(Debug)]
pub(crate) struct Versions {
    bucket: Url,
    region: String,
    /// `None` if requests are not signed.
    credentials: Option<AwsCredentialProvider>,
    connection: HttpClient,
}

impl Versions {
    /// A client of a bucket, which lists versions as well.
    pub(crate) fn client(
        builder: AmazonS3Builder,
        connector: Connector,
        options: &ClientOptions,
    ) -> object_store::Result<Made> {
        use AmazonS3ConfigKey::{
            Bucket, Endpoint, Region, S3Endpoint, SkipSignature, VirtualHostedStyleRequest,
        };
        let value = |key| builder.get_config_value(&key);
        let is_true =
            |key| value(key).is_some_and(|value| value.eq_ignore_ascii_case("true") || value == "1");
        let (bucket, region) = (value(Bucket).unwrap_or_default(), value(Region));
        let region = region.unwrap_or_else(|| "us-east-1".to_owned());
        // The address that the client makes of these settings. With virtual hosting, the endpoint names the bucket already.
        let address =
            match (value(S3Endpoint).or_else(|| value(Endpoint)), is_true(VirtualHostedStyleRequest)) {
                (Some(endpoint), true) => endpoint,
                (Some(endpoint), false) => format!("{}/{bucket}", endpoint.trim_end_matches('/')),
                (None, true) => format!("https://{bucket}.s3.{region}.amazonaws.com"),
                (None, false) => format!("https://s3.{region}.amazonaws.com/{bucket}"),
            };
        let (is_unsigned, connection) = (is_true(SkipSignature), connector.connect(options)?);
        let store = builder.build()?;
        let versions = Self {
            bucket: address.parse().map_err(generic)?,
            region,
            credentials: (!is_unsigned).then(|| store.credentials().clone()),
            connection,
        };
        Ok(Made::S3(Arc::new(store), Arc::new(versions)))
    }
}

/// The key of a name, and the ID of the version in it.
pub(crate) fn split(name: &str) -> (&str, Option<&str>) {
    match name.rsplit_once(MARK) {
        Some((key, id)) => (key, Some(id)),
        None => (name, None),
    }
}

/// A part of a list.
#[derive(Debug, Default, PartialEq)]
struct Page {
    /// The folders, by their keys with a slash at the end.
    folders: Vec<String>,
    versions: Vec<Version>,
    /// The key and the ID behind which the next part begins.
    next: Option<(String, String)>,
}

/// The elements of a version, by their names.
type Version = BTreeMap<String, String>;

impl Page {
    /// Adds the names behind `front` to the entries, and keys that cannot be names to the odd ones.
    fn add_to(&self, front: &str, only: Option<&str>, entries: &mut Vec<Entry>, odd: &mut Vec<String>) {
        for key in self.folders.iter().filter(|_| only.is_none()) {
            match key.strip_prefix(front).and_then(|name| name.strip_suffix('/')) {
                Some(name) if is_name(name) => entries.push(Entry::folder(name)),
                _ => odd.push(key.clone()),
            }
        }
        for version in &self.versions {
            let Some(key) = version.get("Key") else { continue };
            match key.strip_prefix(front) {
                Some(name) if only.is_some_and(|only| only != name) => {}
                // The object that some tools make, so that the folder exists.
                Some("") => {}
                Some(name) if is_name(name) => entries.extend(entry(name, key, version)),
                _ => odd.push(key.clone()),
            }
        }
    }
}

impl Versions {
    /// Lists all pages of a folder: the entries, and the keys that cannot be names. With `only`, the versions of that one object.
    pub(crate) async fn list(
        &self,
        folder: &Path,
        only: Option<&str>,
    ) -> object_store::Result<(Vec<Entry>, Vec<String>)> {
        let front = if folder.as_ref().is_empty() { String::new() } else { format!("{folder}/") };
        let (mut entries, mut odd, mut len, mut next) = (Vec::new(), Vec::new(), 0, None);
        loop {
            let text = self.page(&format!("{front}{}", only.unwrap_or_default()), next.as_ref()).await?;
            len += text.len();
            if len > MAX_LIST_BYTES {
                return Err(generic(too_long()));
            }
            let page = page(&text).ok_or_else(|| {
                let text = "the server's answer is not a list of versions".to_owned();
                generic(Trouble::refused(IoError::from_code(Code::CORRUPT), text))
            })?;
            page.add_to(&front, only, &mut entries, &mut odd);
            // A server that gives the same place again would be asked for ever.
            if page.next.is_none() || page.next == next {
                return Ok((entries, odd));
            }
            next = page.next;
        }
    }

    /// Requests the part of the list behind `next`, and gives the text of the answer.
    async fn page(&self, prefix: &str, next: Option<&(String, String)>) -> object_store::Result<String> {
        let mut url = self.bucket.clone();
        url.query_pairs_mut()
            .append_pair("delimiter", "/")
            .append_pair("encoding-type", "url")
            .append_pair("prefix", prefix)
            .append_pair("versions", "");
        if let Some((key, id)) = next {
            url.query_pairs_mut().append_pair("key-marker", key).append_pair("version-id-marker", id);
        }
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        // Blanks are signed in this form.
        *request.uri_mut() = url.as_str().replace('+', "%20").parse().map_err(generic)?;
        if let Some(credentials) = &self.credentials {
            let credential = credentials.get_credential().await?;
            AwsAuthorizer::new(&credential, "s3", &self.region).try_authorize(&mut request, None)?;
        }
        let response = self.connection.execute(request).await.map_err(generic)?;
        let status = response.status();
        let bytes: Vec<Bytes> = response.into_body().bytes_stream().try_collect().await.map_err(generic)?;
        let bytes = bytes.concat();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if status.is_success() {
            return Ok(text);
        }
        let code = match status.as_u16() {
            401 | 403 => Code::PERMISSION_DENIED,
            404 => Code::NOT_FOUND,
            501 => Code::UNSUPPORTED,
            _ => Code::IO,
        };
        let what = format!("the server answered {status} to the request for a list of versions");
        let mut trouble = Trouble::refused(IoError::from_code(code), what);
        trouble.explain(text.as_bytes());
        Err(generic(trouble))
    }
}

fn generic(source: impl Error + Send + Sync + 'static) -> object_store::Error {
    object_store::Error::Generic { store: "S3", source: Box::new(source) }
}

fn is_name(name: &str) -> bool {
    Path::parse(name).is_ok_and(|path| path.as_ref() == name) && !name.contains('/')
}

/// The entry of a version, under the name `object` with its ID; `None` if an element is missing or cannot be read.
fn entry(object: &str, key: &str, version: &Version) -> Option<Entry> {
    let id = version.get("VersionId")?;
    let meta = ObjectMeta {
        location: Path::parse(key).ok()?,
        last_modified: version.get("LastModified")?.parse().ok()?,
        size: version.get("Size")?.parse().ok()?,
        e_tag: version.get("ETag").cloned(),
        version: Some(id.clone()),
    };
    let mut stat = stat(&meta, &Attributes::new());
    if version.get("IsLatest").is_some_and(|latest| latest == "true") {
        stat.metadata.push(("latest".to_owned(), "true".to_owned()));
    }
    Some(Entry::new(format!("{object}{MARK}{id}"), stat))
}

/// Parses a part of a list; `None` if it is none. Marks of deletion are left out: they have no bytes.
fn page(text: &str) -> Option<Page> {
    let (mut page, mut reader) = (Page::default(), Reader::from_str(text));
    let (mut path, mut value) = (Vec::new(), String::new());
    let (mut is_encoded, mut version) = (false, Version::new());
    let mut next = (None, String::new());
    loop {
        match reader.read_event().ok()? {
            Event::Start(tag) => {
                path.push(String::from_utf8(tag.local_name().as_ref().to_vec()).ok()?);
                value.clear();
            }
            Event::Text(text) => value.push_str(&text.decode().ok()?),
            Event::GeneralRef(name) => {
                let name = format!("&{};", name.decode().ok()?);
                value.push_str(&unescape(&name).ok()?);
            }
            Event::End(_) => {
                let names: Vec<&str> = path.iter().map(String::as_str).collect();
                let value = std::mem::take(&mut value);
                // The first name is that of the list itself.
                match names[1..] {
                    ["EncodingType"] => is_encoded = value == "url",
                    ["NextKeyMarker"] => next.0 = Some(value),
                    ["NextVersionIdMarker"] => next.1 = value,
                    ["CommonPrefixes", "Prefix"] => page.folders.push(value),
                    ["Version", name] => drop(version.insert(name.to_owned(), value)),
                    ["Version"] => page.versions.push(std::mem::take(&mut version)),
                    _ => {}
                }
                path.pop();
                if path.is_empty() {
                    break;
                }
            }
            Event::Eof => return None,
            _ => {}
        }
    }
    // The element that tells the encoding may come behind the keys.
    let decode = |text: &mut String| {
        if is_encoded {
            let bytes = text.replace('+', " ");
            *text = percent_decode_str(&bytes).decode_utf8_lossy().into_owned();
        }
    };
    page.folders.iter_mut().for_each(decode);
    page.versions.iter_mut().filter_map(|version| version.get_mut("Key")).for_each(decode);
    page.next = next.0.map(|mut key| {
        decode(&mut key);
        (key, next.1)
    });
    Some(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_folders_and_the_mark_of_the_next_part_are_read() {
        let text = "<?xml version=\"1.0\"?>\n<ListVersionsResult xmlns=\"http://s3/\"><Name>bucket</Name><Prefix></Prefix>\
            <EncodingType>url</EncodingType><IsTruncated>true</IsTruncated><NextKeyMarker>a%2Bb+c</NextKeyMarker>\
            <NextVersionIdMarker>id&amp;2</NextVersionIdMarker>\
            <Version><Key>folder/a%2Bb+c</Key><VersionId>id&amp;1</VersionId><IsLatest>true</IsLatest>\
            <LastModified>2026-11-30T10:00:00.000Z</LastModified><ETag>&quot;tag&quot;</ETag><Size>17</Size>\
            <Owner><ID>x</ID></Owner></Version>\
            <DeleteMarker><Key>gone</Key><VersionId>3</VersionId></DeleteMarker>\
            <CommonPrefixes><Prefix>folder/sub/</Prefix></CommonPrefixes></ListVersionsResult>";
        let read = page(text).unwrap();
        assert_eq!(read.folders, ["folder/sub/"]);
        assert_eq!(read.next, Some(("a+b c".to_owned(), "id&2".to_owned())));
        let [version] = &read.versions[..] else { panic!("{read:?}") };
        let entry = entry("a+b c", "folder/a+b c", version).unwrap();
        assert_eq!(entry.name.to_str(), Some("a+b c?version=id&1"));
        assert_eq!((entry.stat.size, entry.stat.version.as_deref()), (Some(17), Some("\"tag\"")));
        assert_eq!(split("a+b c?version=id&1"), ("a+b c", Some("id&1")));
        assert_eq!(split("name"), ("name", None));
        for end in 0..text.len() {
            assert_eq!(page(&text[..end]), None, "cut at {end}");
        }
    }
}
