//! A completion in OpenAI's form: as one body, or as the events of a stream.

use crate::json;

/// What one choice holds.
pub(crate) enum Content {
    Text(String),
    /// The words of a model that declines a structured answer.
    Refusal(String),
    /// A call of a tool; `arguments` is the text of a JSON object.
    Call {
        name: String,
        arguments: String,
    },
}

pub(crate) struct Choice {
    pub(crate) content: Content,
    /// The tokens ran out.
    pub(crate) cut: bool,
}

/// All that is answered to one chat request.
pub(crate) struct Completion<'a> {
    pub(crate) id: u64,
    /// Unix seconds.
    pub(crate) created: u64,
    pub(crate) model: &'a str,
    pub(crate) choices: Vec<Choice>,
    pub(crate) prompt_tokens: u64,
    pub(crate) completion_tokens: u64,
}

impl Choice {
    const fn finish(&self) -> &'static str {
        match (&self.content, self.cut) {
            (_, true) => "length",
            (Content::Call { .. }, _) => "tool_calls",
            _ => "stop",
        }
    }
}

macro_rules! put {
    ($out:expr, $($part:expr),+) => {{ $($out.extend_from_slice($part.as_bytes());)+ }};
}

impl Completion<'_> {
    /// Appends the body of an answer that does not stream.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        self.open(out, "chat.completion");
        for (index, choice) in self.choices.iter().enumerate() {
            put!(out, if index == 0 { "" } else { "," }, "{\"index\":");
            json::number(out, index as u64);
            put!(out, ",\"message\":{\"role\":\"assistant\",\"content\":");
            match &choice.content {
                Content::Text(text) => {
                    json::string(out, text);
                    put!(out, ",\"refusal\":null");
                }
                Content::Refusal(text) => {
                    put!(out, "null,\"refusal\":");
                    json::string(out, text);
                }
                Content::Call { name, arguments } => {
                    put!(out, "null,\"refusal\":null,\"tool_calls\":[{");
                    self.call(out, index, name, arguments);
                    put!(out, "}]");
                }
            }
            put!(out, "},\"logprobs\":null,\"finish_reason\":\"", choice.finish(), "\"}");
        }
        put!(out, "],\"usage\":");
        self.usage(out);
        put!(out, "}");
    }

    /// Appends the events of a stream; the ends of the events that are worth a pause.
    pub(crate) fn stream(&self, out: &mut Vec<u8>, with_usage: bool) -> Vec<usize> {
        let mut ends = Vec::new();
        for (index, choice) in self.choices.iter().enumerate() {
            self.event(out, index, "{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null}", None, with_usage);
            match &choice.content {
                Content::Text(text) => self.pieces(out, index, "content", text, with_usage, &mut ends),
                Content::Refusal(text) => self.pieces(out, index, "refusal", text, with_usage, &mut ends),
                Content::Call { name, arguments } => {
                    for (number, piece) in pieces(arguments).enumerate() {
                        let mut delta = b"{\"tool_calls\":[{\"index\":0,".to_vec();
                        if number == 0 {
                            self.call(&mut delta, index, name, piece);
                        } else {
                            put!(delta, "\"function\":{\"arguments\":");
                            json::string(&mut delta, piece);
                            put!(delta, "}");
                        }
                        put!(delta, "}]}");
                        self.event(out, index, &String::from_utf8_lossy(&delta), None, with_usage);
                        ends.push(out.len());
                    }
                }
            }
            self.event(out, index, "{}", Some(choice.finish()), with_usage);
        }
        if with_usage {
            put!(out, "data: ");
            self.open(out, "chat.completion.chunk");
            put!(out, "],\"usage\":");
            self.usage(out);
            put!(out, "}\n\n");
        }
        put!(out, "data: [DONE]\n\n");
        ends
    }

    fn pieces(&self, out: &mut Vec<u8>, index: usize, field: &str, text: &str, usage: bool, ends: &mut Vec<usize>) {
        for piece in pieces(text) {
            let delta = format!("{{\"{field}\":{}}}", json::quoted(piece));
            self.event(out, index, &delta, None, usage);
            ends.push(out.len());
        }
    }

    fn event(&self, out: &mut Vec<u8>, index: usize, delta: &str, finish: Option<&str>, with_usage: bool) {
        put!(out, "data: ");
        self.open(out, "chat.completion.chunk");
        put!(out, "{\"index\":");
        json::number(out, index as u64);
        put!(out, ",\"delta\":", delta, ",\"logprobs\":null,\"finish_reason\":");
        match finish {
            Some(finish) => put!(out, "\"", finish, "\"}]"),
            None => put!(out, "null}]"),
        }
        put!(out, if with_usage { ",\"usage\":null}\n\n" } else { "}\n\n" });
    }

    fn open(&self, out: &mut Vec<u8>, object: &str) {
        put!(out, "{\"id\":\"chatcmpl-");
        json::hex(out, self.id, 16);
        put!(out, "\",\"object\":\"", object, "\",\"created\":");
        json::number(out, self.created);
        put!(out, ",\"model\":");
        json::string(out, self.model);
        put!(out, ",\"system_fingerprint\":\"rehearsal\",\"choices\":[");
    }

    fn call(&self, out: &mut Vec<u8>, index: usize, name: &str, arguments: &str) {
        put!(out, "\"id\":\"call_");
        json::hex(out, self.id.wrapping_add(index as u64), 16);
        put!(out, "\",\"type\":\"function\",\"function\":{\"name\":");
        json::string(out, name);
        put!(out, ",\"arguments\":");
        json::string(out, arguments);
        put!(out, "}");
    }

    fn usage(&self, out: &mut Vec<u8>) {
        put!(out, "{\"prompt_tokens\":");
        json::number(out, self.prompt_tokens);
        put!(out, ",\"completion_tokens\":");
        json::number(out, self.completion_tokens);
        put!(out, ",\"total_tokens\":");
        json::number(out, self.prompt_tokens + self.completion_tokens);
        put!(out, "}");
    }
}

/// A text cut behind its spaces into pieces of one or two words, as models send them.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    const LEAST: usize = 6;
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = rest.bytes().enumerate().position(|(at, byte)| at >= LEAST && byte.is_ascii_whitespace());
        let (piece, tail) = rest.split_at(end.map_or(rest.len(), |end| end + 1));
        rest = tail;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completion(content: Content) -> Completion<'static> {
        let choices = vec![Choice { content, cut: false }];
        Completion { id: 255, created: 9, model: "m\"1", choices, prompt_tokens: 3, completion_tokens: 4 }
    }

    #[test]
    fn a_body_is_json_in_openais_form() {
        let mut out = Vec::new();
        completion(Content::Text("line\nline".into())).write(&mut out);
        let body: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(body["id"], "chatcmpl-00000000000000ff");
        assert_eq!(body["model"], "m\"1");
        assert_eq!(body["choices"][0]["message"]["content"], "line\nline");
        assert_eq!(body["choices"][0]["finish_reason"], "stop");
        assert_eq!(body["usage"]["total_tokens"], 7);
    }

    #[test]
    fn a_stream_adds_up_to_the_body() {
        let text = "A first sentence of some words, and caf\u{e9} \u{1f600} at the end.";
        for content in [Content::Text(text.into()), Content::Call { name: "f".into(), arguments: text.into() }] {
            let mut out = Vec::new();
            let ends = completion(content).stream(&mut out, true);
            assert!(ends.len() > 3 && ends.last().unwrap() < &out.len());
            let events = String::from_utf8(out).unwrap();
            let mut whole = String::new();
            let mut last = serde_json::Value::Null;
            for event in events.split("\n\n").filter(|event| !event.is_empty() && *event != "data: [DONE]") {
                last = serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap();
                let delta = &last["choices"][0]["delta"];
                whole += delta["content"].as_str().unwrap_or("");
                whole += delta["tool_calls"][0]["function"]["arguments"].as_str().unwrap_or("");
            }
            assert_eq!(whole, text);
            assert_eq!(last["usage"]["completion_tokens"], 4);
            assert!(events.ends_with("data: [DONE]\n\n"));
        }
    }

    #[test]
    fn pieces_lose_nothing() {
        for text in ["", "a", "one two three four", "\u{e9}\u{e9}\u{e9}\u{e9} \u{e9}  x ", "{\"a\": \"b c d e f\"}"] {
            assert_eq!(pieces(text).collect::<String>(), text);
        }
    }
}
