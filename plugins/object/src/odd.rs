//! Keys that cannot be names in a tree, or that the client cannot ask for: empty parts (`a//b`), `.` and `..`, control
//! characters.
//!
//! The client refuses a whole list with one such key. So the keys are taken out of the server's answer before the client sees it,
//! and the folder reports them.

use std::cell::RefCell;
use std::mem;

use object_store::path::Path;
use percent_encoding::percent_decode_str;

tokio::task_local! {
    /// The odd keys of the list that is being made.
    static ODD: RefCell<Vec<String>>;
}

/// Makes a list, and gives the odd keys beside it.
pub(crate) async fn listing<T>(list: impl Future<Output = T>) -> (T, Vec<String>) {
    ODD.scope(RefCell::default(), async {
        let listed = list.await;
        (listed, ODD.with(|odd| mem::take(&mut *odd.borrow_mut())))
    })
    .await
}

/// Whether a list is being made.
pub(crate) fn is_listing() -> bool {
    ODD.try_with(|_| ()).is_ok()
}

/// Takes the elements with odd keys out of a list, and keeps these keys.
pub(crate) fn take_out(list: &str) -> String {
    let (kept, mut odd) = divide(list);
    let _ = ODD.try_with(|all| all.borrow_mut().append(&mut odd));
    kept
}

/// The elements of a list, and the element with the key in each: of S3 and Google, and of Azure.
const ELEMENTS: [(&str, &str); 4] =
    [("Contents", "Key"), ("CommonPrefixes", "Prefix"), ("Blob", "Name"), ("BlobPrefix", "Name")];

/// The list without the elements with odd keys, and these keys.
fn divide(list: &str) -> (String, Vec<String>) {
    let (mut kept, mut odd, mut rest) = (String::with_capacity(list.len()), Vec::new(), list);
    while let Some((front, element, behind)) = next_element(rest) {
        kept.push_str(front);
        // The client would list an encoded key in its encoded form, so that each one is odd.
        match encoded(element)
            .or_else(|| key(element).filter(|key| !is_name(key) || is_filled_folder(key, element)))
        {
            Some(key) => odd.push(key),
            None => kept.push_str(element),
        }
        rest = behind;
    }
    kept.push_str(rest);
    (kept, odd)
}

/// The text before the next element, the element, and the text behind it.
fn next_element(text: &str) -> Option<(&str, &str, &str)> {
    let begins = |tag: &str| {
        let is_of =
            |(name, _): &&(&str, &str)| tag[1..].strip_prefix(name).is_some_and(|rest| rest.starts_with('>'));
        ELEMENTS.iter().find(is_of).map(|(name, _)| *name)
    };
    let tags = text.match_indices('<').map(|(start, _)| start);
    let (start, name) = tags.filter_map(|start| Some((start, begins(&text[start..])?))).next()?;
    let end_tag = format!("</{name}>");
    let end = start + text[start..].find(&end_tag)? + end_tag.len();
    Some((&text[..start], &text[start..end], &text[end..]))
}

/// The key of an element.
fn key(element: &str) -> Option<String> {
    let (_, child) = ELEMENTS.iter().find(|(name, _)| element.starts_with(&format!("<{name}>")))?;
    let (_, behind) = element.split_once(&format!("<{child}>"))?;
    let (text, _) = behind.split_once(&format!("</{child}>"))?;
    Some(quick_xml::escape::unescape(text).map_or_else(|_| text.to_owned(), |text| text.into_owned()))
}

/// The key of an element of Azure whose key has characters that XML cannot have, and which the client would list in its encoded
/// form.
fn encoded(element: &str) -> Option<String> {
    let (_, behind) = element.split_once("<Name Encoded=\"true\">")?;
    let (text, _) = behind.split_once("</Name>")?;
    Some(String::from_utf8_lossy(&percent_decode_str(text).collect::<Vec<_>>()).into_owned())
}

/// Whether the client can list the key, and asks for this key under its path.
fn is_name(key: &str) -> bool {
    !key.starts_with('/')
        && Path::parse(key).is_ok_and(|path| path.as_ref() == key.strip_suffix('/').unwrap_or(key))
}

/// Whether a key is a folder by the slash at its end, but has bytes. Those without bytes only mark a folder.
fn is_filled_folder(key: &str, element: &str) -> bool {
    let text_in = |tag: &str| Some(element.split_once(&format!("<{tag}>"))?.1.split_once('<')?.0);
    // S3 and Azure.
    let len = text_in("Size").or_else(|| text_in("Content-Length"));
    key.ends_with('/') && len.is_some_and(|len| len != "0")
}

/// Why a key is not listed.
pub(crate) fn reason(key: &str) -> &'static str {
    if key.contains(|character: char| character.is_ascii_control()) {
        "the key has a control character, which the client of the store cannot request"
    } else if key.starts_with('/') || key.contains("//") {
        "the key has an empty part, which is no name in a folder"
    } else if key.split('/').any(|part| matches!(part, "." | "..")) {
        "the key has a part '.' or '..', which is no name in a folder"
    } else {
        "the key ends with '/', so that it is a folder, but has bytes, which the client cannot request"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_fits_the_key() {
        for (key, word) in
            [("a//", "empty"), ("/a/", "empty"), ("a/../", "'..'"), ("./", "'.'"), ("a/", "bytes")]
        {
            assert!(reason(key).contains(word), "{key}: {}", reason(key));
        }
    }

    #[test]
    fn odd_keys_are_taken_out_and_the_others_stay() {
        let element = |key: &str| format!("<Contents><Key>{key}</Key><Size>1</Size></Contents>");
        let prefix = |key: &str| format!("<CommonPrefixes><Prefix>{key}</Prefix></CommonPrefixes>");
        let list = |elements: &[String]| {
            format!("<?xml?><ListBucketResult><Prefix>a//</Prefix>{}</ListBucketResult>", elements.concat())
        };
        let odd = ["a//b", "a/../b", "./x", "tab\there", "line&#10;", "/front"];
        let good = ["a/b", "a&amp;b", "..x", " blank "];
        let all: Vec<String> =
            odd.iter().chain(&good).map(|key| element(key)).chain([prefix("a//"), prefix("b/")]).collect();
        let kept: Vec<String> = good.iter().map(|key| element(key)).chain([prefix("b/")]).collect();
        let (found, keys) = divide(&list(&all));
        assert_eq!(found, list(&kept));
        assert_eq!(keys, ["a//b", "a/../b", "./x", "tab\there", "line\n", "/front", "a//"]);
        let blobs = "<Blobs><Blob><Name>a/./b</Name></Blob><Blob><Name>c</Name></Blob><BlobPrefix><Name>d//</Name></BlobPrefix></Blobs>";
        assert_eq!(divide(blobs).0, "<Blobs><Blob><Name>c</Name></Blob></Blobs>");
        let marks = "<Contents><Key>d/</Key><Size>0</Size></Contents><Contents><Key>e/</Key><Size>7</Size></Contents>";
        assert_eq!(divide(marks).1, ["e/"]);
        let encoded = "<Blob><Name Encoded=\"true\">a%01b</Name></Blob>";
        assert_eq!(divide(encoded), (String::new(), vec!["a\u{1}b".to_owned()]));
        assert_eq!(divide("<Contents><Key>cut"), ("<Contents><Key>cut".to_owned(), Vec::new()));
    }
}
