//! Listing of a bucket: names in byte order, folded at a delimiter, in pages that stay right while objects
//! come and go.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use super::error::{Error, Result};
use super::object::Version;

/// The largest page that Cloud Storage gives, and the size without a wish.
const MAX_PAGE: usize = 1000;

/// Selection of a listing. Empty strings mean unset.
#[derive(Debug, Clone, Default)]
pub struct ListQuery {
    pub prefix: String,
    pub delimiter: String,
    /// Also lists an object whose name ends with the delimiter, besides its prefix.
    pub include_trailing_delimiter: bool,
    /// First name listed.
    pub start: String,
    /// First name no longer listed.
    pub end: String,
    pub versions: bool,
    /// 0 or more than 1000 means 1000.
    pub page_size: usize,
    pub page_token: String,
}

#[derive(Debug, Default)]
pub struct Page {
    pub objects: Vec<Arc<Version>>,
    pub prefixes: Vec<String>,
    pub next_page_token: Option<String>,
}

/// The last thing that a page gave: the next begins right after it.
enum Position {
    Object { name: String, generation: i64 },
    Prefix(String),
}

impl Position {
    fn encode(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(match self {
            Self::Object { name, generation } => format!("o{generation}/{name}"),
            Self::Prefix(prefix) => format!("p{prefix}"),
        })
    }

    fn decode(token: &str) -> Option<Self> {
        let text = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
        if let Some(prefix) = text.strip_prefix('p') {
            return Some(Self::Prefix(prefix.to_owned()));
        }
        let (generation, name) = text.strip_prefix('o')?.split_once('/')?;
        Some(Self::Object { name: name.to_owned(), generation: generation.parse().ok()? })
    }

    /// True when an earlier page gave this generation.
    fn has_given(&self, version: &Version) -> bool {
        match self {
            Self::Object { name, generation } => {
                (version.name.as_str(), version.generation) <= (name.as_str(), *generation)
            }
            Self::Prefix(prefix) => version.name.starts_with(prefix.as_str()),
        }
    }
}

pub(super) fn list(objects: &BTreeMap<String, Vec<Arc<Version>>>, query: &ListQuery) -> Result<Page> {
    let after = match query.page_token.as_str() {
        "" => None,
        token => Some(Position::decode(token).ok_or_else(|| Error::invalid("Invalid page token."))?),
    };
    let mut from = query.start.as_str().max(query.prefix.as_str());
    if let Some(Position::Object { name, .. } | Position::Prefix(name)) = &after {
        from = from.max(name.as_str());
    }
    let page_size = if query.page_size == 0 { MAX_PAGE } else { query.page_size.min(MAX_PAGE) };

    let mut page = Page::default();
    let mut last = None;
    let named = objects.range::<str, _>((Bound::Included(from), Bound::Unbounded));
    for version in named.flat_map(|(_, versions)| versions) {
        let name = version.name.as_str();
        if !name.starts_with(&query.prefix) || (!query.end.is_empty() && name >= query.end.as_str()) {
            break; // names are sorted, and the first one is not before the prefix
        }
        let given = after.as_ref().is_some_and(|position| position.has_given(version));
        if given || !(query.versions || version.is_live()) {
            continue;
        }
        let folded = fold(name, query);
        if folded.is_some_and(|prefix| page.prefixes.last().is_some_and(|last| last == prefix))
            && !lists_itself(name, query)
        {
            continue;
        }
        if page.objects.len() + page.prefixes.len() >= page_size {
            page.next_page_token = last.as_ref().map(Position::encode);
            break;
        }
        match folded {
            Some(prefix) if !lists_itself(name, query) => {
                page.prefixes.push(prefix.to_owned());
                last = Some(Position::Prefix(prefix.to_owned()));
            }
            _ => {
                if let Some(prefix) = folded {
                    page.prefixes.push(prefix.to_owned());
                }
                page.objects.push(version.clone());
                last = Some(Position::Object { name: name.to_owned(), generation: version.generation });
            }
        }
    }
    page.prefixes.dedup();
    Ok(page)
}

/// The prefix that stands for this name, if it has the delimiter after the prefix asked for.
fn fold<'a>(name: &'a str, query: &ListQuery) -> Option<&'a str> {
    if query.delimiter.is_empty() {
        return None;
    }
    let rest = &name[query.prefix.len()..];
    let end = rest.find(&query.delimiter)? + query.prefix.len() + query.delimiter.len();
    Some(&name[..end])
}

fn lists_itself(name: &str, query: &ListQuery) -> bool {
    query.include_trailing_delimiter && fold(name, query) == Some(name)
}
