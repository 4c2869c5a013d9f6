//! What a server's bytes mean: a reply, or a failure with the provider's own words.

use crate::record::{Api, Cost, Failure, Kind, Reply};
use serde::Deserialize;
use serde_json::Value;
use std::borrow::Cow;

/// Longest detail that is kept, in characters.
const LONGEST_DETAIL: usize = 400;
/// So much of a body that is no JSON is looked at, in bytes.
const LOOKED_AT: usize = 64 << 10;

#[derive(Deserialize)]
struct Completion<'a> {
    #[serde(borrow)]
    choices: Vec<Choice<'a>>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow)]
    message: Message<'a>,
    #[serde(borrow)]
    finish_reason: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    content: Option<Cow<'a, str>>,
    #[serde(borrow)]
    refusal: Option<Cow<'a, str>>,
    #[serde(default)]
    tool_calls: Option<&'a serde_json::value::RawValue>,
}

#[derive(Deserialize, Clone, Copy, Default)]
struct Usage {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
}

/// More tokens than any model reads: a count beyond is the server's mistake and is clamped.
pub const MOST_TOKENS: u64 = 1 << 32;

/// Read a body that came with status 200. The details of failures are not shortened: see `shorten`.
///
/// `sent` is the request's length in bytes, for an estimate where the server counts nothing.
pub fn read(api: Api, body: &[u8], sent: usize) -> Result<Reply, Failure> {
    match api {
        Api::Chat => match serde_json::from_slice::<Completion>(body) {
            Ok(completion) => chat(completion, body, sent),
            // Content as parts, numbers where text should be, ...: the slow way forgives more.
            Err(_) => general(api, body, sent),
        },
        _ => general(api, body, sent),
    }
}

fn chat(completion: Completion, body: &[u8], sent: usize) -> Result<Reply, Failure> {
    let Some(choice) = completion.choices.first() else {
        // An error object inside a 200, perhaps.
        return general(Api::Chat, body, sent);
    };
    let tools = choice.message.tool_calls.is_some_and(|calls| !matches!(calls.get(), "null" | "[]"));
    let (text, refusal) = match (&choice.message.content, &choice.message.refusal) {
        (Some(text), _) if !text.is_empty() => (text, false),
        (_, Some(words)) if !words.is_empty() => (words, true),
        _ => (&Cow::Borrowed(""), false),
    };
    let mut reply = Reply {
        text: text.to_string(),
        finish: choice.finish_reason.as_ref().map(ToString::to_string),
        refusal,
        rich: tools || completion.choices.len() > 1,
        ..Reply::default()
    };
    complete(&mut reply, completion.usage, sent)?;
    Ok(reply)
}

fn general(api: Api, body: &[u8], sent: usize) -> Result<Reply, Failure> {
    let value: Value = serde_json::from_slice(body).map_err(|error| not_json(body, &error))?;
    if let Some(failure) = error_inside(&value) {
        return Err(failure);
    }
    let usage = value.get("usage").filter(|usage| usage.is_object()).map(|usage| {
        let count = |names: [&str; 2]| {
            names
                .iter()
                .find_map(|name| usage.get(*name))
                .and_then(|n| n.as_u64().or_else(|| n.as_f64().filter(|f| *f >= 0.0).map(|f| f as u64)))
                .unwrap_or(0)
        };
        Usage { prompt_tokens: count(["prompt_tokens", "input_tokens"]), completion_tokens: count(["completion_tokens", "output_tokens"]) }
    });
    let mut reply = Reply::default();
    match api {
        Api::Embedding => {
            if value.get("data").and_then(Value::as_array).is_none_or(Vec::is_empty) {
                return Err(empty("the reply holds no embedding", usage, sent));
            }
            reply.rich = true;
        }
        Api::Other => reply.rich = true,
        Api::Chat | Api::Completion => {
            let choices = value.get("choices").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            let Some(choice) = choices.first() else {
                return Err(empty("the reply holds no choices", usage, sent));
            };
            reply.finish = choice.get("finish_reason").and_then(Value::as_str).map(Into::into);
            if api == Api::Completion {
                reply.text = text_of(choice.get("text"));
            } else {
                let message = choice.get("message");
                let field = |name: &str| message.and_then(|m| m.get(name));
                reply.text = text_of(field("content"));
                if reply.text.is_empty() {
                    reply.text = text_of(field("refusal"));
                    reply.refusal = !reply.text.is_empty();
                }
                reply.rich = field("tool_calls").and_then(Value::as_array).is_some_and(|calls| !calls.is_empty());
            }
            reply.rich |= choices.len() > 1;
        }
    }
    complete(&mut reply, usage, sent)?;
    Ok(reply)
}

/// Content as a text, or as a list of parts of which the texts count.
fn text_of(content: Option<&Value>) -> String {
    match content {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => {
            parts.iter().filter_map(|part| part.as_str().or_else(|| part.get("text").and_then(Value::as_str))).collect()
        }
        _ => String::new(),
    }
}

/// Count tokens and refuse a reply that says nothing.
fn complete(reply: &mut Reply, usage: Option<Usage>, sent: usize) -> Result<(), Failure> {
    let counted = counted(usage);
    reply.estimated = counted.is_none();
    (reply.input_tokens, reply.output_tokens) = counted.unwrap_or_else(|| (estimate(sent), estimate(reply.text.len())));
    // A model that used up its tokens while thinking has no text but a reason: not asked again.
    let has_reason = matches!(reply.finish.as_deref(), Some("length" | "content_filter"));
    if reply.text.is_empty() && !reply.rich && !has_reason {
        return Err(empty("the reply has no content", usage, sent));
    }
    Ok(())
}

/// Tokens of the prompt and of the answer, where the server counted some.
fn counted(usage: Option<Usage>) -> Option<(u64, u64)> {
    usage
        .map(|usage| (usage.prompt_tokens.min(MOST_TOKENS), usage.completion_tokens.min(MOST_TOKENS)))
        .filter(|(prompt, answer)| prompt + answer > 0)
}

/// A reply that says nothing costs what the server counted all the same.
fn empty(words: &str, usage: Option<Usage>, sent: usize) -> Failure {
    let (prompt, answer) = counted(usage).unwrap_or_else(|| (estimate(sent), 0));
    Failure::new(Kind::Empty, words).costing(Cost::Tokens(prompt, answer))
}

/// About four bytes a token.
pub fn estimate(bytes: usize) -> u64 {
    (bytes as u64).div_ceil(4)
}

fn not_json(body: &[u8], error: &serde_json::Error) -> Failure {
    let words = error.to_string();
    if words.contains("surrogate") || words.contains("end of hex escape") {
        return Failure::new(Kind::InvalidText, "the reply holds half of a surrogate pair, which is no text");
    }
    let start = String::from_utf8_lossy(&body[..body.len().min(LOOKED_AT)]);
    let what = if start.trim_start().starts_with('<') { "a web page, not JSON" } else { "not JSON" };
    Failure::new(Kind::InvalidJson, format!("the reply is {what} ({words}): {start}"))
}

/// Some servers answer 200 with an error object.
fn error_inside(value: &Value) -> Option<Failure> {
    let error = value.get("error").filter(|error| !error.is_null())?;
    if value.get("choices").is_some() || value.get("data").is_some() {
        return None;
    }
    let code = error.get("code").and_then(|c| c.as_u64().or_else(|| c.as_str()?.parse().ok())).unwrap_or(500);
    let status = u16::try_from(code).ok().filter(|code| (400..600).contains(code)).unwrap_or(500);
    let words = words(value);
    Some(Failure::new(kind_of(status, &words), words))
}

/// A failure out of a status that is no success; its detail is not shortened.
pub fn refuse(status: u16, body: &[u8]) -> Failure {
    let words = match serde_json::from_slice::<Value>(body) {
        Ok(value) => words(&value),
        Err(_) => String::from_utf8_lossy(&body[..body.len().min(LOOKED_AT)]).to_string(),
    };
    let detail = words.trim();
    Failure::new(kind_of(status, &words), if detail.is_empty() { format!("HTTP {status}") } else { format!("HTTP {status}: {detail}") })
}

fn kind_of(status: u16, words: &str) -> Kind {
    let lower = words.to_lowercase();
    match status {
        429 if lower.contains("insufficient_quota") || lower.contains("exceeded your current quota") => Kind::Payment,
        429 => Kind::Throttled,
        402 => Kind::Payment,
        401 | 403 => Kind::Unauthorized,
        503 | 529 => Kind::Overloaded,
        408 | 409 | 425 | 500..=599 => Kind::ServerError,
        400 | 404 if names_no_model(&lower) => Kind::UnknownModel,
        _ => Kind::Rejected,
    }
}

fn names_no_model(lower: &str) -> bool {
    lower.contains("model_not_found")
        || (lower.contains("model")
            && ["does not exist", "not found", "no such model", "unknown model", "not a valid model", "invalid model"]
                .iter()
                .any(|words| lower.contains(words)))
}

/// The words of an error body: OpenAI's shape, FastAPI's, a bare message.
fn words(value: &Value) -> String {
    let error = value.get("error").unwrap_or(value);
    let message = error.as_str().map(str::to_string).or_else(|| {
        ["message", "detail", "error"].iter().find_map(|name| error.get(*name)).map(|found| match found {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        })
    });
    let code = error.get("code").or_else(|| error.get("type")).and_then(Value::as_str);
    match (message, code) {
        (Some(message), Some(code)) if !message.contains(code) => format!("{message} ({code})"),
        (Some(message), _) => message,
        (None, Some(code)) => code.to_string(),
        (None, None) => value.to_string(),
    }
}

/// At most `LONGEST_DETAIL` characters, on one line.
pub fn shorten(text: &str) -> String {
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= LONGEST_DETAIL {
        return line;
    }
    let cut: String = line.chars().take(LONGEST_DETAIL - 1).collect();
    cut + "…"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ok(body: &str) -> Reply {
        read(Api::Chat, body.as_bytes(), 400).unwrap()
    }

    fn kind(body: &str) -> Kind {
        read(Api::Chat, body.as_bytes(), 400).unwrap_err().kind
    }

    #[test]
    fn a_plain_reply() {
        let reply =
            ok(r#"{"choices":[{"message":{"content":"Yes."},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2}}"#);
        assert_eq!((reply.text.as_str(), reply.finish.as_deref()), ("Yes.", Some("stop")));
        assert_eq!((reply.input_tokens, reply.output_tokens, reply.estimated), (3, 2, false));
    }

    #[test]
    fn imperfect_replies_are_read() {
        assert_eq!(ok(r#"{"choices":[{"message":{"content":[{"type":"text","text":"A"},{"type":"text","text":"B"}]}}]}"#).text, "AB");
        let bare = ok(r#"{"choices":[{"message":{"content":"four"}}]}"#);
        assert_eq!((bare.input_tokens, bare.output_tokens, bare.estimated), (100, 1, true));
        assert!(ok(r#"{"choices":[{"message":{"content":null,"refusal":"No."}}]}"#).refusal);
        assert!(ok(r#"{"choices":[{"message":{"content":null,"tool_calls":[{"id":"1"}]}}]}"#).rich);
        let thinking = ok(r#"{"choices":[{"message":{"content":""},"finish_reason":"length"}]}"#);
        assert_eq!((thinking.text.as_str(), thinking.finish.as_deref()), ("", Some("length")));
    }

    #[test]
    fn a_count_beyond_reason_is_clamped_and_wraps_nowhere() {
        let most = u64::MAX;
        for content in ["Yes.", ""] {
            let body = format!(
                r#"{{"choices":[{{"message":{{"content":"{content}"}}}}],"usage":{{"prompt_tokens":{most},"completion_tokens":{most}}}}}"#
            );
            let tokens = match read(Api::Chat, body.as_bytes(), 400) {
                Ok(reply) => Cost::Tokens(reply.input_tokens, reply.output_tokens),
                Err(failure) => failure.cost,
            };
            assert_eq!(tokens, Cost::Tokens(MOST_TOKENS, MOST_TOKENS));
        }
    }

    #[test]
    fn what_is_no_reply_has_a_name() {
        assert_eq!(kind(r#"{"choices":[]}"#), Kind::Empty);
        assert_eq!(kind(r#"{"choices":[{"message":{"content":""},"finish_reason":"stop"}]}"#), Kind::Empty);
        assert_eq!(kind("<html>hello</html>"), Kind::InvalidJson);
        assert_eq!(kind(r#"{"choices":[{"message":{"content":"a"#), Kind::InvalidJson);
        assert_eq!(kind(r#"{"choices":[{"message":{"content":"\ud800"}}]}"#), Kind::InvalidText);
        assert_eq!(kind(r#"{"error":{"message":"busy","code":429}}"#), Kind::Throttled);
    }

    #[test]
    fn statuses_become_kinds() {
        let status = |status, body: &str| refuse(status, body.as_bytes()).kind;
        assert_eq!(status(429, r#"{"error":{"message":"slow down"}}"#), Kind::Throttled);
        assert_eq!(status(429, r#"{"error":{"code":"insufficient_quota","message":"pay"}}"#), Kind::Payment);
        assert_eq!(status(404, r#"{"error":{"code":"model_not_found","message":"?"}}"#), Kind::UnknownModel);
        assert_eq!(status(404, "Not Found"), Kind::Rejected);
        assert_eq!(status(422, r#"{"detail":[{"loc":["body","seed"],"msg":"extra"}]}"#), Kind::Rejected);
        assert_eq!(status(502, "bad gateway"), Kind::ServerError);
        assert_eq!(refuse(400, br#"{"error":{"message":"too long","type":"invalid"}}"#).detail, "HTTP 400: too long (invalid)");
    }
}
