//! Elasticsearch, asked and told. `bulk` decides what its answers mean.

use crate::http::{ask, client, Client};
use crate::settings::unescaped;
use base64::prelude::{Engine as _, BASE64_STANDARD};
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{HeaderValue, AUTHORIZATION, CONTENT_TYPE};
use hyper::{Method, Request};
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::HashMap;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Search {
    client: Client<Full<Bytes>>,
    base: String,
    authorization: Option<HeaderValue>,
}

/// An item of a `_bulk`'s answer.
#[derive(Debug, Deserialize)]
pub struct Item<'a> {
    pub status: u16,
    #[serde(borrow)]
    pub error: Option<Refusal<'a>>,
}

/// Why Elasticsearch does not do something.
#[derive(Debug, Deserialize)]
pub struct Refusal<'a> {
    #[serde(borrow, rename = "type", default)]
    pub kind: Cow<'a, str>,
    #[serde(borrow, default)]
    pub reason: Cow<'a, str>,
}

/// What came back to a `_bulk`.
pub enum Told {
    /// Every document was taken.
    All,
    /// The answer's items, in the order of the documents.
    Some(Bytes),
    /// It was refused whole: status and words.
    Refused(u16, String),
    /// Nobody knows what became of it.
    Nothing(String),
}

impl Search {
    /// `url`: with user and password where they are wanted. The error is a sentence.
    pub fn new(url: &str) -> Result<Self, String> {
        let (scheme, rest) = url.split_once("://").ok_or("elasticsearch_url is no address.")?;
        let (user, place) = rest.rsplit_once('@').map_or((None, rest), |(user, place)| (Some(user), place));
        let authorization = match user {
            Some(user) => {
                let (name, password) = user.split_once(':').unwrap_or((user, ""));
                let pair = format!("{}:{}", unescaped(name), unescaped(password));
                let mut value = HeaderValue::from_str(&format!("Basic {}", BASE64_STANDARD.encode(pair)))
                    .map_err(|_| "The user of elasticsearch_url cannot be sent.".to_string())?;
                value.set_sensitive(true);
                Some(value)
            }
            None => None,
        };
        Ok(Search { client: client(), base: format!("{scheme}://{}", place.trim_end_matches('/')), authorization })
    }

    async fn ask(&self, method: Method, path: &str, form: &'static str, body: Bytes) -> Result<(u16, Bytes), String> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base)).header(CONTENT_TYPE, form);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(Full::new(body)).map_err(|error| error.to_string())?;
        let response = ask(&self.client, request).await?;
        Ok((response.status().as_u16(), response.into_body()))
    }

    /// Whether there is such an index. The error is what stands in the way.
    pub async fn has(&self, index: &str) -> Result<bool, String> {
        match self.ask(Method::HEAD, &format!("/{index}"), "application/json", Bytes::new()).await? {
            (200, _) => Ok(true),
            (404, _) => Ok(false),
            (status, body) => Err(refused(status, &body)),
        }
    }

    /// The results that are there of these documents, by id: their status, and the line of the segment.
    pub async fn results(&self, index: &str, ids: &[String]) -> Result<HashMap<String, (String, String)>, String> {
        #[derive(Deserialize)]
        struct Docs {
            docs: Vec<Doc>,
        }
        #[derive(Deserialize)]
        struct Doc {
            _id: String,
            _source: Option<Source>,
            error: Option<serde_json::Value>,
        }
        #[derive(Deserialize)]
        struct Source {
            status: String,
            result: String,
        }
        let body = serde_json::to_vec(&serde_json::json!({ "ids": ids })).map_err(|error| error.to_string())?;
        let path = format!("/{index}/_mget?_source_includes=status,result");
        let (status, body) = self.ask(Method::POST, &path, "application/json", body.into()).await?;
        if status != 200 {
            return Err(refused(status, &body));
        }
        let found: Docs = serde_json::from_slice(&body).map_err(|error| format!("its answer is not understood: {error}"))?;
        let mut results = HashMap::new();
        for doc in found.docs {
            if let Some(error) = doc.error {
                return Err(reason(&error));
            }
            if let Some(Source { status, result }) = doc._source {
                results.insert(doc._id, (status, result));
            }
        }
        Ok(results)
    }

    /// Tell it many documents.
    pub async fn bulk(&self, index: &str, body: Bytes) -> Told {
        let path = format!("/{index}/_bulk?filter_path=errors,items.*.status,items.*.error.type,items.*.error.reason");
        match self.ask(Method::POST, &path, "application/x-ndjson", body).await {
            Ok((200, body)) if body.starts_with(b"{\"errors\":false") => Told::All,
            Ok((200, body)) => Told::Some(body),
            Ok((status, body)) => Told::Refused(status, refused(status, &body)),
            Err(words) => Told::Nothing(words),
        }
    }
}

/// The items of an answer to `_bulk`. The error is a sentence without its end.
pub fn items(body: &[u8]) -> Result<Vec<Item<'_>>, String> {
    #[derive(Deserialize)]
    struct Answer<'a> {
        #[serde(borrow)]
        items: Vec<HashMap<&'a str, Item<'a>>>,
    }
    let answer: Answer = serde_json::from_slice(body).map_err(|error| format!("its answer is not understood: {error}"))?;
    Ok(answer.items.into_iter().flat_map(HashMap::into_values).collect())
}

fn refused(status: u16, body: &[u8]) -> String {
    let parsed: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let why = parsed.as_ref().and_then(|body| body.get("error")).map(reason).unwrap_or_default();
    format!("it says {status} {why}").trim_end().to_string()
}

fn reason(error: &serde_json::Value) -> String {
    let text = |name: &str| error.get(name).and_then(serde_json::Value::as_str);
    match (text("type"), text("reason")) {
        (Some(kind), Some(reason)) => format!("{kind}: {reason}"),
        _ => error.as_str().unwrap_or("an error").to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_item_by_item() {
        let body =
            br#"{"errors":true,"items":[{"index":{"status":201}},{"index":{"status":429,"error":{"type":"t","reason":"say \"no\""}}}]}"#;
        let items = items(body).unwrap();
        assert_eq!(items.iter().map(|item| item.status).collect::<Vec<_>>(), [201, 429]);
        assert_eq!(items[1].error.as_ref().unwrap().reason, "say \"no\"");
        assert!(super::items(b"{").is_err());
    }

    #[test]
    fn a_refusal_has_words() {
        assert_eq!(refused(403, br#"{"error":{"type":"a","reason":"b"}}"#), "it says 403 a: b");
        assert_eq!(refused(502, b"<html>"), "it says 502");
    }
}
