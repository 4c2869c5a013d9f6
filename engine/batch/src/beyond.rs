//! What a line may ask beyond OpenAI's form: its object `wordmill`, and an address in `url`.

use crate::line::{text, Rules};
use serde_json::value::RawValue;
use std::borrow::Cow;
use wordmill_core::json::Fields;

/// Model, address and key together, in bytes: what a catalog has room for.
const LONGEST: usize = 170;
const KNOWN: [&str; 4] = ["url", "key", "validate", "post"];
/// Fields that would carry a key, whatever their case.
const SECRET: [&str; 6] = ["api_key", "apikey", "api-key", "authorization", "headers", "extra_headers"];

/// The wishes of one line.
#[derive(Default)]
pub struct Beyond<'a> {
    /// The address of a server of its own, without a slash at its end, ...
    pub url: Option<Cow<'a, str>>,
    /// ... and the name of the key for it.
    pub key: Option<Cow<'a, str>>,
    /// The answer is checked, or handed to a function.
    pub python: bool,
}

/// A code and a sentence.
pub type Wrong = (&'static str, String);

impl<'a> Beyond<'a> {
    /// Read them. `url`: an address that stood in the line's own `url`.
    pub fn read(value: Option<&'a RawValue>, url: Option<Cow<'a, str>>, rules: &Rules) -> Result<Self, Wrong> {
        let wrong = |words: &str| Err(("invalid_wordmill", words.to_string()));
        let mut found = Beyond { url, ..Beyond::default() };
        if let Some(value) = value {
            let Ok(fields) = serde_json::from_str::<Fields>(value.get()) else {
                return wrong("wordmill must be a JSON object");
            };
            no_key(&fields)?;
            if let Some((name, _)) = fields.0.iter().find(|(name, _)| !KNOWN.contains(&name.as_ref())) {
                let name: String = name.chars().take(40).collect();
                return wrong(&format!("wordmill has no field {name:?}: there are {}", KNOWN.join(", ")));
            }
            if let Some(given) = fields.get("url") {
                if found.url.is_some() {
                    return wrong("the address stands twice: in url and in wordmill.url");
                }
                found.url = Some(text(given).ok_or_else(|| ("invalid_wordmill", "wordmill.url must be a text".to_string()))?);
            }
            if let Some(given) = fields.get("key") {
                // What is no known name may be a key itself, and is not repeated.
                found.key = text(given).filter(|name| rules.keys.contains(name.as_ref()));
                if found.key.is_none() {
                    let words = "wordmill.key must name a stored key of yours for that server, or a variable that an admin allows \
                                 (setting batch_keys); a key itself never stands in a line";
                    return Err(("unknown_key", words.to_string()));
                }
                if found.url.is_none() {
                    return wrong("wordmill.key goes with wordmill.url: a model of the catalog has its own key");
                }
            }
            found.python = ["validate", "post"].iter().any(|name| fields.get(name).is_some_and(|value| value.get() != "null"));
        }
        if found.url.is_none() {
            found.url = rules.url.clone().map(Cow::Owned);
            found.key = rules.key.clone().map(Cow::Owned);
        }
        if let Some(url) = &mut found.url {
            *url = Cow::Owned(address(url).map_err(|words| ("invalid_url", words.to_string()))?.to_string());
        }
        Ok(found)
    }

    /// What the lane of such a line is called: itself for a model of the catalog.
    pub fn lane(&self, model: Cow<'a, str>) -> Result<Cow<'a, str>, Wrong> {
        let Some(url) = &self.url else { return Ok(model) };
        let name = match &self.key {
            None => format!("{model}@{url}"),
            Some(key) => format!("{model}@{url}@{key}"),
        };
        let odd = |letter: char| letter == '@' || letter.is_control() || letter.is_whitespace();
        if name.len() > LONGEST || model.contains(odd) {
            let words = format!(
                "a model that is asked by its address has a name without @ and spaces, and with the address at most {LONGEST} bytes"
            );
            return Err(("invalid_url", words));
        }
        Ok(Cow::Owned(name))
    }
}

/// An address in `url`, where OpenAI's form has a path: that of the server.
pub fn base<'a>(url: Cow<'a, str>, endpoint: &str) -> Option<Cow<'a, str>> {
    let path = endpoint.strip_prefix("/v1").unwrap_or(endpoint);
    let is_one = url.starts_with("http://") || url.starts_with("https://");
    (is_one && url.ends_with(path)).then(|| Cow::Owned(url[..url.len() - path.len()].to_string()))
}

/// That no field would carry a key.
pub fn no_key(fields: &Fields) -> Result<(), Wrong> {
    match fields.0.iter().find(|(name, _)| SECRET.iter().any(|secret| name.eq_ignore_ascii_case(secret))) {
        None => Ok(()),
        Some((name, _)) => Err(("key_in_line", format!("a key never stands in a line: leave out {name}"))),
    }
}

/// An address as the catalog wants it. One that is refused is not repeated: it may hold a password.
fn address(url: &str) -> Result<&str, &'static str> {
    let url = url.trim_end_matches('/');
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let odd = |letter: char| !letter.is_ascii_graphic() || "@?#\"<>\\^`{|}".contains(letter);
    match rest {
        Some(rest) if !rest.is_empty() && !rest.starts_with(['/', ':']) && !rest.contains(odd) => Ok(url),
        _ => Err("the address of a server is written as https://host/v1: without a user, a password, ? and #"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::read;

    fn rules() -> Rules {
        Rules {
            endpoint: "/v1/chat/completions".into(),
            models: ["mock".to_string(), "m@https://known/v1".to_string()].into(),
            most_bytes: 4096,
            block_lines: 3,
            block_bytes: 1 << 20,
            servers: true,
            keys: ["MY_KEY".to_string()].into(),
            refused: [("m@https://no/v1".to_string(), "it is refused".to_string())].into(),
            ..Rules::default()
        }
    }

    /// The lane and whether Python is needed; or the code and the words.
    fn ask(more: &str) -> (String, String) {
        let line = format!(r#"{{"custom_id":"a",{more}"body":{{"model":"m"}}}}"#);
        let answer = match read(line.as_bytes(), &rules()) {
            Ok(line) => (line.model.into_owned(), line.python.to_string()),
            Err(fault) => (fault.code.to_string(), fault.message),
        };
        answer
    }

    fn code(more: &str) -> String {
        ask(more).0
    }

    #[test]
    fn a_server_is_named_by_its_address() {
        assert_eq!(code(r#""wordmill":{"url":"https://host:1/v1/"},"#), "m@https://host:1/v1");
        assert_eq!(code(r#""wordmill":{"url":"https://host/v1","key":"MY_KEY"},"#), "m@https://host/v1@MY_KEY");
        assert_eq!(code(r#""url":"http://host/v1/chat/completions","#), "m@http://host/v1");
        assert_eq!(code(r#""url":"https://host/v1/chat/completions","wordmill":{"key":"MY_KEY"},"#), "m@https://host/v1@MY_KEY");
        assert_eq!(code(r#""url":"/v1/chat/completions","wordmill":{"url":"https://known/v1"},"#), "m@https://known/v1");
        assert_eq!(ask(r#""wordmill":{"url":"https://no/v1"},"#), ("url_refused".into(), "it is refused".into()));
    }

    #[test]
    fn a_batch_may_have_one_server_for_all_lines() {
        let rules = Rules { url: Some("https://all/v1".into()), key: Some("K".into()), ..rules() };
        let lane = |more: &str| {
            let line = format!(r#"{{"custom_id":"a",{more}"body":{{"model":"m"}}}}"#);
            let found = read(line.as_bytes(), &rules).ok().map(|line| line.model.into_owned());
            found
        };
        assert_eq!(lane("").as_deref(), Some("m@https://all/v1@K"));
        assert_eq!(lane(r#""wordmill":{"post":"a:b"},"#).as_deref(), Some("m@https://all/v1@K"));
        assert_eq!(lane(r#""wordmill":{"url":"https://own/v1"},"#).as_deref(), Some("m@https://own/v1"));
    }

    #[test]
    fn a_server_needs_the_right() {
        let rules = Rules { servers: false, ..rules() };
        let line = |url: &str| format!(r#"{{"custom_id":"a","wordmill":{{"url":"{url}"}},"body":{{"model":"m"}}}}"#);
        assert!(read(line("https://known/v1").as_bytes(), &rules).is_ok());
        let fault = read(line("https://host/v1").as_bytes(), &rules).err().unwrap();
        assert_eq!((fault.code, fault.custom_id.as_deref()), ("url_refused", Some("a")));
    }

    #[test]
    fn python_is_needed_for_checks_and_functions() {
        assert_eq!(ask(r#""wordmill":{"url":"https://h/v1","validate":{"choices":["a"]}},"#).1, "true");
        assert_eq!(ask(r#""wordmill":{"url":"https://h/v1","post":"a:b"},"#).1, "true");
        assert_eq!(ask(r#""wordmill":{"url":"https://h/v1","post":null},"#).1, "false");
    }

    #[test]
    fn what_is_wrong_is_said_and_no_secret_is_repeated() {
        for (more, expected) in [
            (r#""wordmill":[],"#, "invalid_wordmill"),
            (r#""wordmill":{"hidden":1},"#, "invalid_wordmill"),
            (r#""wordmill":{"url":5},"#, "invalid_wordmill"),
            (r#""wordmill":{"key":"MY_KEY"},"#, "invalid_wordmill"),
            (r#""url":"https://h/v1/chat/completions","wordmill":{"url":"https://h/v1"},"#, "invalid_wordmill"),
            (r#""wordmill":{"url":"https://h/v1","key":"sk-hidden-5"},"#, "unknown_key"),
            (r#""wordmill":{"url":"https://h/v1","key":5},"#, "unknown_key"),
            (r#""wordmill":{"url":"https://me:sk-hidden-5@h/v1"},"#, "invalid_url"),
            (r#""wordmill":{"url":"https://h/v1?key=sk-hidden-5"},"#, "invalid_url"),
            (r#""wordmill":{"url":"ftp://h/v1"},"#, "invalid_url"),
            (r#""wordmill":{"url":"https://"},"#, "invalid_url"),
            (r#""wordmill":{"url":"https:///v1"},"#, "invalid_url"),
            (r#""url":"https://h/v1/embeddings","#, "mismatched_endpoint"),
            (r#""api_key":"sk-hidden-5","#, "key_in_line"),
            (r#""wordmill":{"Authorization":"sk-hidden-5"},"#, "key_in_line"),
            ("", "model_not_found"),
        ] {
            let (code, words) = ask(more);
            assert_eq!(code, expected, "{more}");
            assert!(!words.contains("hidden-5"), "{words}");
        }
        let line = br#"{"custom_id":"a","body":{"model":"mock","api_key":"sk-hidden-5"}}"#;
        assert_eq!(read(line, &rules()).err().unwrap().message, "a key never stands in a line: leave out api_key");
        let line = br#"{"custom_id":"a","wordmill":{"url":"https://h/v1"},"body":{"model":"a@b"}}"#;
        assert_eq!(read(line, &rules()).err().unwrap().code, "invalid_url");
    }
}
