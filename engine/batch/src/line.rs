//! One line of a batch: what is accepted, and why not.

use crate::beyond::{base, no_key, Beyond};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use wordmill_core::json::{self, Fields};

/// Longest `custom_id`, in bytes.
const LONGEST_ID: usize = 512;
/// More of these in a line and it may be nested too deeply.
const BRACKETS: usize = 127;

/// What every line of a batch has to keep to.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// As every line must say it, e.g. `/v1/chat/completions`.
    pub endpoint: String,
    /// The models that may be asked.
    pub models: HashSet<String>,
    /// Longest line, in bytes.
    pub most_bytes: usize,
    /// A block is full with so many lines, ...
    pub block_lines: usize,
    /// ... or so many bytes.
    pub block_bytes: usize,
    /// Whether a line may name a server by its address; one of `models` it may in any case.
    #[serde(default)]
    pub servers: bool,
    /// Names of keys that may go with an address.
    #[serde(default)]
    pub keys: HashSet<String>,
    /// The server of lines that name none by its address, and the name of its key.
    #[serde(default)]
    pub url: Option<String>,
    #[serde(default)]
    pub key: Option<String>,
    /// Servers that are not asked, by their names, and why.
    #[serde(default)]
    pub refused: HashMap<String, String>,
}

/// A line that is not sent, and why.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Bad {
    /// Its number, from 0.
    pub line: u64,
    pub code: String,
    pub message: String,
    pub custom_id: Option<String>,
}

/// What is wrong with a line.
pub struct Fault {
    pub code: &'static str,
    pub message: String,
    pub custom_id: Option<String>,
}

/// A line that can be sent.
pub struct Line<'a> {
    pub custom_id: Cow<'a, str>,
    /// As its lane is called: a model of the catalog, or `model@address`.
    pub model: Cow<'a, str>,
    pub body: &'a RawValue,
    /// It names a server by its address.
    pub server: bool,
    /// Its answer is checked, or handed to a function.
    pub python: bool,
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

pub fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    serde_json::from_str::<Text>(value.get()).ok().map(|text| text.0)
}

/// Read a line, without its end.
pub fn read<'a>(line: &'a [u8], rules: &Rules) -> Result<Line<'a>, Fault> {
    let mut custom_id = None;
    let fault = |code, message: String, custom_id: &Option<Cow<str>>| {
        Err(Fault { code, message, custom_id: custom_id.as_ref().map(ToString::to_string) })
    };
    if line.len() > rules.most_bytes {
        return fault("line_too_large", format!("the line is longer than {} bytes", rules.most_bytes), &custom_id);
    }
    let fields: Fields = match serde_json::from_slice(line) {
        Ok(fields) => fields,
        Err(error) => return fault("invalid_json", format!("the line is no JSON object: {error}"), &custom_id),
    };
    match fields.get("custom_id").map(text) {
        None => return fault("missing_custom_id", "custom_id is missing".into(), &custom_id),
        Some(Some(found)) if !found.is_empty() && found.len() <= LONGEST_ID => custom_id = Some(found),
        Some(_) => {
            return fault("invalid_custom_id", format!("custom_id must be a text of 1 to {LONGEST_ID} bytes"), &custom_id);
        }
    }
    if fields.get("method").is_some_and(|method| text(method).as_deref() != Some("POST")) {
        return fault("invalid_method", "method must be POST".into(), &custom_id);
    }
    let mut address = None;
    if let Some(url) = fields.get("url").map(text) {
        if url.as_deref() != Some(&rules.endpoint) {
            address = url.and_then(|url| base(url, &rules.endpoint));
            if address.is_none() {
                return fault("mismatched_endpoint", format!("url must be {}, as the batch says", rules.endpoint), &custom_id);
            }
        }
    }
    let Some(body) = fields.get("body") else {
        return fault("missing_body", "body is missing".into(), &custom_id);
    };
    let Ok(inner) = serde_json::from_str::<Fields>(body.get()) else {
        return fault("invalid_body", "body must be a JSON object".into(), &custom_id);
    };
    if inner.get("stream").is_some_and(|stream| stream.get() == "true") {
        return fault("invalid_body", "a batch cannot be streamed: leave out stream".into(), &custom_id);
    }
    let beyond = match no_key(&fields).and(no_key(&inner)).and_then(|()| Beyond::read(fields.get("wordmill"), address, rules)) {
        Ok(beyond) => beyond,
        Err((code, words)) => return fault(code, words, &custom_id),
    };
    let Some(model) = inner.get("model").and_then(text).filter(|model| !model.is_empty()) else {
        return fault("missing_model", "body.model is missing: the name of a model of the catalog".into(), &custom_id);
    };
    let model = match beyond.lane(model) {
        Ok(model) => model,
        Err((code, words)) => return fault(code, words, &custom_id),
    };
    let server = beyond.url.is_some();
    if let Some(words) = rules.refused.get(model.as_ref()) {
        return fault("url_refused", words.clone(), &custom_id);
    }
    if server && !rules.servers && !rules.models.contains(model.as_ref()) {
        let words = "servers of one's own may not be asked here (setting batch_urls): name a model of the catalog";
        return fault("url_refused", words.into(), &custom_id);
    }
    if !server && !rules.models.contains(model.as_ref()) {
        return fault("model_not_found", format!("there is no model {model:?} in the catalog"), &custom_id);
    }
    if let Err(words) = deep(line) {
        return fault("invalid_json", format!("the line is not JSON that is accepted: {words}"), &custom_id);
    }
    Ok(Line { custom_id: custom_id.unwrap_or_default(), model, body, server, python: beyond.python })
}

/// What only a look into every text finds: half of a surrogate pair, too many levels.
fn deep(line: &[u8]) -> Result<(), String> {
    let escapes = memchr::memmem::find(line, b"\\u").is_some();
    if escapes || memchr::memchr2_iter(b'{', b'[', line).nth(BRACKETS).is_some() {
        json::canonical(line)?;
    }
    Ok(())
}

/// A line without the white space around it; None for a blank one.
pub fn trimmed(line: &[u8]) -> Option<&[u8]> {
    let line = line.trim_ascii();
    (!line.is_empty()).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub fn rules() -> Rules {
        Rules {
            endpoint: "/v1/chat/completions".into(),
            models: ["mock".to_string()].into(),
            most_bytes: 4096,
            block_lines: 3,
            block_bytes: 1 << 20,
            ..Rules::default()
        }
    }

    fn code(line: &str) -> &'static str {
        read(line.as_bytes(), &rules()).err().map_or("", |fault| fault.code)
    }

    #[test]
    fn a_line_is_read() {
        let line =
            read(br#"{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"model":"mock","messages":[]}}"#, &rules())
                .ok()
                .unwrap();
        assert_eq!((line.custom_id.as_ref(), line.model.as_ref()), ("a", "mock"));
        assert_eq!(line.body.get(), r#"{"model":"mock","messages":[]}"#);
        assert_eq!(code(r#"{"custom_id":"a","body":{"model":"mock"}}"#), "");
    }

    #[test]
    fn each_fault_has_its_name() {
        for (line, expected) in [
            ("[1]", "invalid_json"),
            ("{", "invalid_json"),
            (r#"{"body":{"model":"mock"}}"#, "missing_custom_id"),
            (r#"{"custom_id":7,"body":{"model":"mock"}}"#, "invalid_custom_id"),
            (r#"{"custom_id":"","body":{"model":"mock"}}"#, "invalid_custom_id"),
            (r#"{"custom_id":"a","method":"GET","body":{"model":"mock"}}"#, "invalid_method"),
            (r#"{"custom_id":"a","url":"/v1/embeddings","body":{"model":"mock"}}"#, "mismatched_endpoint"),
            (r#"{"custom_id":"a"}"#, "missing_body"),
            (r#"{"custom_id":"a","body":[]}"#, "invalid_body"),
            (r#"{"custom_id":"a","body":{"model":"mock","stream":true}}"#, "invalid_body"),
            (r#"{"custom_id":"a","body":{}}"#, "missing_model"),
            (r#"{"custom_id":"a","body":{"model":"other"}}"#, "model_not_found"),
            (r#"{"custom_id":"a","body":{"model":"mock","x":"\ud800"}}"#, "invalid_json"),
        ] {
            assert_eq!(code(line), expected, "{line}");
        }
        let deep = format!(r#"{{"custom_id":"a","body":{{"model":"mock","x":{}{}}}}}"#, "[".repeat(200), "]".repeat(200));
        assert_eq!(code(&deep), "invalid_json");
        assert_eq!(code(&format!(r#"{{"custom_id":"a","x":"{}"}}"#, "y".repeat(5000))), "line_too_large");
    }

    #[test]
    fn a_fault_names_the_line_by_its_own_name() {
        let fault = read(br#"{"custom_id":"mine","body":{"model":"other"}}"#, &rules()).err().unwrap();
        assert_eq!(fault.custom_id.as_deref(), Some("mine"));
        assert_eq!(fault.message, "there is no model \"other\" in the catalog");
    }
}
