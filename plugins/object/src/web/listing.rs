//! Lists of folders as web servers show them: JSON of nginx, and pages whose links name the files.

use std::collections::BTreeMap;

use html5gum::{Token, Tokenizer};
use pactio_sdk::{Entry, Kind, Stat};
use percent_encoding::percent_decode_str;
use reqwest::Url;

/// Whether lists have this content type.
pub(super) fn is_possible(content_type: &str) -> bool {
    matches!(media_type(content_type), "application/json" | "text/html" | "application/xhtml+xml")
}

fn media_type(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

/// The entries that a page lists; `None` if it is no list.
pub(super) fn parse(folder: &Url, content_type: &str, text: &[u8]) -> Option<Vec<Entry>> {
    match media_type(content_type) {
        "application/json" => json(text),
        "text/html" | "application/xhtml+xml" => Some(links(folder, text)),
        _ => None,
    }
}

/// An entry of nginx with `autoindex_format json`.
#[derive(serde::Deserialize)]
struct Listed {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    mtime: String,
    size: Option<u64>,
}

fn json(text: &[u8]) -> Option<Vec<Entry>> {
    let mut listed: Vec<Listed> = serde_json::from_slice(text).ok()?;
    listed.retain(|listed| is_name(listed.name.as_bytes()));
    let entry = |listed: Listed| {
        if listed.kind == "directory" {
            return Entry::folder(listed.name.as_str());
        }
        let mut stat = Stat::of(Kind::FILE);
        stat.size = listed.size;
        stat.modified = httpdate::parse_http_date(&listed.mtime).ok();
        Entry::new(listed.name.as_str(), stat)
    };
    Some(listed.into_iter().map(entry).collect())
}

/// The links of a page to the names directly in the folder. Sizes and dates have a form of their own on each server, and are
/// not read.
fn links(folder: &Url, page: &[u8]) -> Vec<Entry> {
    let mut names: BTreeMap<Vec<u8>, bool> = BTreeMap::new();
    for token in Tokenizer::new(page) {
        let Ok(Token::StartTag(tag)) = token else { continue };
        if **tag.name != *b"a" {
            continue;
        }
        let Some(link) = tag.attributes.get(&b"href"[..]) else { continue };
        if let Some((name, is_folder)) = str::from_utf8(&link.value).ok().and_then(|link| name(folder, link))
        {
            *names.entry(name).or_default() |= is_folder;
        }
    }
    let entry = |(name, is_folder): (Vec<u8>, bool)| {
        if is_folder { Entry::folder(name) } else { Entry::new(name, Stat::of(Kind::FILE)) }
    };
    names.into_iter().map(entry).collect()
}

/// The name that a link has in a folder, and whether it is a folder.
fn name(folder: &Url, link: &str) -> Option<(Vec<u8>, bool)> {
    let link = folder.join(link).ok()?;
    if link.origin() != folder.origin() || link.query().is_some() || link.fragment().is_some() {
        return None;
    }
    let rest = link.path().strip_prefix(folder.path())?;
    let name = rest.strip_suffix('/').unwrap_or(rest);
    let decoded: Vec<u8> = percent_decode_str(name).collect();
    (!name.contains('/') && is_name(&decoded)).then_some((decoded, name.len() < rest.len()))
}

/// Whether a name may stand in a folder.
fn is_name(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..") && !name.iter().any(|byte| matches!(byte, b'/' | 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(page: &str) -> Vec<(String, bool)> {
        let folder = Url::parse("http://host:80/some/folder/").unwrap();
        let entries = parse(&folder, "text/html; charset=utf-8", page.as_bytes()).unwrap();
        entries.iter().map(|entry| (entry.name.to_string(), entry.is_folder())).collect()
    }

    #[test]
    fn pages_of_the_usual_servers_are_lists() {
        let expected = |names: &[(&str, bool)]| -> Vec<(String, bool)> {
            names.iter().map(|(name, is_folder)| ((*name).to_owned(), *is_folder)).collect()
        };
        // nginx
        let page = "<html><head><title>Index of /some/folder/</title></head><body><h1>Index of /some/folder/</h1><hr>\
                    <pre><a href=\"../\">../</a>\n<a href=\"sub/\">sub/</a>  30-Nov-2026 10:00  -\n\
                    <a href=\"a%20b%26c.bin\">a b&amp;c.bin</a>  30-Nov-2026 10:00  1234\n</pre><hr></body></html>";
        assert_eq!(listed(page), expected(&[("a b&c.bin", false), ("sub", true)]));
        // Apache, with links that sort
        let page = "<table><tr><th><a href=\"?C=N;O=D\">Name</a></th><th><a href=\"?C=M;O=A\">Last modified</a></th></tr>\
                    <tr><td><a href=\"/some/\">Parent Directory</a></td></tr><tr><td><a href=\"x.iso\">x.iso</a></td></tr></table>";
        assert_eq!(listed(page), expected(&[("x.iso", false)]));
        // lighttpd
        let page = "<tr class=\"d\"><td class=\"n\"><a href=\"../\">..</a>/</td></tr>\
                    <tr class=\"d\"><td class=\"n\"><a href=\"d/\">d</a>/</td></tr><tr><td class=\"n\"><a href=\"f.txt\">f.txt</a></td></tr>";
        assert_eq!(listed(page), expected(&[("d", true), ("f.txt", false)]));
        // Python
        let page = "<ul>\n<li><a href=\"deep/\">deep/</a></li>\n<li><a href=\"%C3%A4%3F.bin\">\u{e4}?.bin</a></li>\n</ul>";
        assert_eq!(listed(page), expected(&[("deep", true), ("\u{e4}?.bin", false)]));
    }

    #[test]
    fn links_to_other_places_are_no_entries() {
        let page = "<a href='http://other/some/folder/x'>x</a><a href='/x'>x</a><a href='sub/deep'>x</a><a href='#top'>x</a>\
                    <a href=''>x</a><a href='./'>x</a><a href='mailto:a@b'>x</a><a href='a%2Fb'>x</a><a name='y'>y</a>\
                    <A HREF='/some/folder/yes'>yes</A>";
        assert_eq!(listed(page), [("yes".to_owned(), false)]);
    }

    #[test]
    fn nginx_lists_in_json() {
        let folder = Url::parse("http://host/").unwrap();
        let text = r#"[{"name":"d","type":"directory","mtime":"Mon, 30 Nov 2026 10:00:00 GMT"},
                       {"name":"f","type":"file","mtime":"Mon, 30 Nov 2026 10:00:00 GMT","size":7},
                       {"name":"","type":"directory"},{"name":"../x","type":"file"},{"name":"..","type":"directory"}]"#;
        let entries = parse(&folder, "application/json", text.as_bytes()).unwrap();
        assert_eq!(entries.len(), 2);
        assert!(entries[0].is_folder() && entries[1].size() == Some(7));
        assert!(entries[1].stat.modified.is_some());
        assert!(parse(&folder, "application/json", b"{}").is_none());
        assert!(parse(&folder, "application/octet-stream", b"<a href='x'>").is_none());
    }
}
