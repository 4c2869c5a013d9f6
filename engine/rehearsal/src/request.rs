//! What a client asks, as OpenAI's API writes it. Fields that change nothing here are not read.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::Deserialize;
use serde_json::value::RawValue;

/// Body of `/chat/completions`.
#[derive(Default, Deserialize)]
pub(crate) struct Chat<'a> {
    #[serde(borrow, default)]
    pub(crate) model: Text<'a>,
    #[serde(borrow)]
    pub(crate) messages: Vec<Message<'a>>,
    #[serde(borrow)]
    pub(crate) response_format: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) tools: Option<&'a RawValue>,
    pub(crate) tool_choice: Option<ToolChoice>,
    pub(crate) max_tokens: Option<u64>,
    pub(crate) max_completion_tokens: Option<u64>,
    pub(crate) n: Option<u32>,
    pub(crate) seed: Option<i64>,
    pub(crate) stop: Option<Stop>,
    pub(crate) stream: Option<bool>,
    pub(crate) stream_options: Option<StreamOptions>,
}

#[derive(Deserialize)]
pub(crate) struct Message<'a> {
    pub(crate) role: Role,
    #[serde(borrow, default)]
    pub(crate) content: Text<'a>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    System,
    Developer,
    User,
    Assistant,
    Tool,
    Function,
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum ToolChoice {
    Mode(String),
    Named { function: Named },
}

#[derive(Deserialize)]
pub(crate) struct Named {
    pub(crate) name: String,
}

#[derive(Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum Stop {
    One(String),
    Any(Vec<String>),
}

impl Stop {
    pub(crate) fn words(&self) -> &[String] {
        match self {
            Self::One(word) => std::slice::from_ref(word),
            Self::Any(words) => words,
        }
    }
}

#[derive(Deserialize)]
pub(crate) struct StreamOptions {
    #[serde(default)]
    pub(crate) include_usage: bool,
}

/// Body of `/embeddings`.
#[derive(Deserialize)]
pub(crate) struct Embeddings<'a> {
    #[serde(borrow, default)]
    pub(crate) model: Text<'a>,
    pub(crate) input: Input,
    pub(crate) dimensions: Option<usize>,
    pub(crate) encoding_format: Option<String>,
}

/// One text or several; a text may also come as its tokens.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum Input {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<u32>),
    ManyTokens(Vec<Vec<u32>>),
}

impl Input {
    /// The texts; tokens as their numbers.
    pub(crate) fn texts(&self) -> Vec<String> {
        let words = |tokens: &Vec<u32>| tokens.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        match self {
            Self::Text(text) => vec![text.clone()],
            Self::Texts(texts) => texts.clone(),
            Self::Tokens(tokens) => vec![words(tokens)],
            Self::ManyTokens(many) => many.iter().map(words).collect(),
        }
    }
}

/// A string, null (which reads as empty), or a list of parts whose texts are joined.
///
/// Borrows from the body where the JSON string has no escapes.
#[derive(Clone, Default)]
pub(crate) struct Text<'a>(pub(crate) Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a string, null or a list of content parts")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Text(Cow::Owned(text.to_owned())))
    }

    fn visit_string<E>(self, text: String) -> Result<Self::Value, E> {
        Ok(Text(Cow::Owned(text)))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Text::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Self::Value, A::Error> {
        let mut whole = String::new();
        while let Some(Part(text)) = parts.next_element()? {
            if !whole.is_empty() && !text.is_empty() {
                whole.push('\n');
            }
            whole.push_str(&text);
        }
        Ok(Text(Cow::Owned(whole)))
    }
}

/// A content part: its text, or nothing where it is an image or a sound.
struct Part<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Part<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PartVisitor)
    }
}

struct PartVisitor;

impl<'de> Visitor<'de> for PartVisitor {
    type Value = Part<'de>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a content part")
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Part(Cow::Owned(text.to_owned())))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
        let mut text = Text::default();
        while let Some(name) = fields.next_key::<Cow<'de, str>>()? {
            if matches!(&*name, "text" | "refusal") {
                text = fields.next_value()?;
            } else {
                fields.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Part(text.0))
    }
}

impl Chat<'_> {
    /// How many tokens the answer may have.
    pub(crate) fn most_tokens(&self) -> u64 {
        self.max_completion_tokens.or(self.max_tokens).unwrap_or(u64::MAX)
    }

    /// What is wrong with the request, in OpenAI's words, and which field it is.
    pub(crate) fn fault(&self) -> Option<(String, &'static str)> {
        if self.messages.is_empty() {
            return Some(("Invalid 'messages': empty array. Expected an array with minimum length 1.".into(), "messages"));
        }
        if self.most_tokens() == 0 {
            return Some(("Invalid 'max_tokens': expected a value >= 1, but got 0 instead.".into(), "max_tokens"));
        }
        match self.n {
            None | Some(1..=128) => None,
            Some(n) => Some((format!("Invalid 'n': expected a value from 1 to 128, but got {n} instead."), "n")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<String, String> {
        let chat: Chat<'_> = serde_json::from_str(body).map_err(|error| error.to_string())?;
        Ok(chat.messages.iter().map(|message| format!("{:?}: {}", message.role, message.content.0)).collect::<Vec<_>>().join("; "))
    }

    #[test]
    fn content_is_a_string_or_parts_or_null() {
        let body = r#"{"model": "m", "unknown": {"a": [1]}, "messages": [
            {"role": "system", "content": "plain"},
            {"role": "user", "content": "esc\"aped", "name": "x"},
            {"role": "user", "content": [{"type": "text", "text": "one"}, {"image_url": {"url": "u"}, "type": "image_url"}, {"type": "text", "text": "two"}]},
            {"role": "assistant", "content": null, "tool_calls": []}]}"#;
        assert_eq!(read(body).unwrap(), "System: plain; User: esc\"aped; User: one\ntwo; Assistant: ");
    }

    #[test]
    fn a_plain_string_is_borrowed() {
        let body = r#"{"messages": [{"role": "user", "content": "plain"}]}"#;
        let chat: Chat<'_> = serde_json::from_str(body).unwrap();
        assert!(matches!(chat.messages[0].content.0, Cow::Borrowed("plain")));
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert!(read(r#"{"messages": [{"role": "robot", "content": "x"}]}"#).unwrap_err().starts_with("unknown variant `robot`"));
        assert!(read(r#"{"model": "m"}"#).unwrap_err().starts_with("missing field `messages`"));
        let empty: Chat<'_> = serde_json::from_str(r#"{"messages": []}"#).unwrap();
        assert_eq!(empty.fault().unwrap().1, "messages");
    }
}
