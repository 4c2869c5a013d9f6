//! A streamed chat completion, put together: server-sent events in, the body of an unstreamed answer out.

use crate::record::{Failure, Kind};
use crate::stream::Feed;
use serde_json::{json, Map, Value};
use std::collections::BTreeMap;

/// Longest single event of a stream.
const LONGEST_EVENT: usize = 1 << 20;
/// A mark that some servers begin their texts with.
const BOM: &[u8] = b"\xef\xbb\xbf";
/// What an answer or a call of a tool takes beside its texts, in bytes, about.
const PART: usize = 128;

/// Collects the chunks of one answer.
#[derive(Debug, Default)]
pub(crate) struct Collector {
    line: Vec<u8>,
    data: Vec<u8>,
    /// The last byte was a carriage return, which a line feed may complete.
    returned: bool,
    begun: bool,
    /// The answers by their index; only the first one is shown.
    choices: BTreeMap<u64, Choice>,
    usage: Option<Value>,
    model: Option<Value>,
    done: bool,
    size: usize,
}

#[derive(Debug, Default)]
struct Choice {
    text: String,
    reasoning: String,
    refusal: String,
    finish: Option<String>,
    tools: BTreeMap<u64, (String, String, String)>,
}

impl Collector {
    /// Take bytes as they come, split anywhere; gives the new text to `feed`.
    pub fn push(&mut self, bytes: &[u8], feed: &Feed) -> Result<(), Failure> {
        for byte in bytes {
            match byte {
                b'\n' if self.returned => self.returned = false,
                b'\n' | b'\r' => {
                    self.returned = *byte == b'\r';
                    self.end_line(feed)?;
                }
                _ => {
                    self.returned = false;
                    self.line.push(*byte);
                    if self.line.len() + self.data.len() > LONGEST_EVENT {
                        return Err(Failure::new(Kind::TooLarge, format!("an event of the stream is larger than {LONGEST_EVENT} bytes")));
                    }
                }
            }
        }
        Ok(())
    }

    fn end_line(&mut self, feed: &Feed) -> Result<(), Failure> {
        let line = std::mem::take(&mut self.line);
        let mut line = &line[..];
        if !std::mem::replace(&mut self.begun, true) {
            line = line.strip_prefix(BOM).unwrap_or(line);
        }
        if line.is_empty() {
            self.event(feed)?;
        } else if let Some(data) = line.strip_prefix(b"data:") {
            if !self.data.is_empty() {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(data.strip_prefix(b" ").unwrap_or(data));
        }
        Ok(())
    }

    fn event(&mut self, feed: &Feed) -> Result<(), Failure> {
        let data = std::mem::take(&mut self.data);
        if data.is_empty() || self.done {
            return Ok(());
        }
        if data == b"[DONE]" {
            self.done = true;
            return Ok(());
        }
        let chunk: Value = serde_json::from_slice(&data)
            .map_err(|error| Failure::new(Kind::InvalidJson, format!("an event of the stream is not JSON ({error})")))?;
        if let Some(error) = chunk.get("error").filter(|error| !error.is_null()) {
            let status = error.get("code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok()).unwrap_or(500);
            return Err(crate::reply::refuse(status, &data));
        }
        if let Some(usage) = chunk.get("usage").filter(|usage| usage.is_object()) {
            self.usage = Some(usage.clone());
        }
        if self.model.is_none() {
            self.model = chunk.get("model").cloned();
        }
        for part in chunk.get("choices").and_then(Value::as_array).into_iter().flatten() {
            let index = part.get("index").and_then(Value::as_u64).unwrap_or(0);
            let known = self.choices.len();
            self.size += self.choices.entry(index).or_default().add(part, (index == 0).then_some(feed));
            self.size += PART * (self.choices.len() - known);
        }
        Ok(())
    }

    /// The server has said that nothing more will come.
    pub fn done(&self) -> bool {
        self.done
    }

    /// Bytes of all that was collected.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Something of the answer was shown to its reader.
    pub fn shown(&self) -> bool {
        self.choices.get(&0).is_some_and(|choice| !(choice.text.is_empty() && choice.refusal.is_empty() && choice.reasoning.is_empty()))
    }

    /// The text so far.
    pub fn partial(&self) -> &str {
        self.choices.get(&0).map_or("", |choice| if choice.text.is_empty() { &choice.refusal } else { &choice.text })
    }

    /// The stream ended: the body that an unstreamed answer would have had.
    ///
    /// A stream that breaks off without a reason or `[DONE]` was cut.
    pub fn finish(&mut self, feed: &Feed) -> Result<Vec<u8>, Failure> {
        // A last event may lack its empty line.
        self.push(b"\n\n", feed)?;
        let first = self.choices.entry(0).or_default();
        if first.finish.is_none() && !self.done {
            return Err(Failure::new(Kind::Cut, "the stream ended before the answer did"));
        }
        let choices: Vec<Value> = self.choices.iter().map(|(index, choice)| choice.whole(*index)).collect();
        let mut body = json!({"object": "chat.completion", "choices": choices});
        if let Some(usage) = &self.usage {
            body["usage"] = usage.clone();
        }
        if let Some(model) = &self.model {
            body["model"] = model.clone();
        }
        Ok(body.to_string().into_bytes())
    }
}

impl Choice {
    /// Take a part of this answer, and show it; how many bytes it has.
    fn add(&mut self, part: &Value, feed: Option<&Feed>) -> usize {
        if let Some(finish) = part.get("finish_reason").and_then(Value::as_str) {
            self.finish = Some(finish.to_string());
        }
        let Some(delta) = part.get("delta") else { return 0 };
        let word = |name: &str| delta.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let mut size = 0;
        for (piece, text) in [(word("content"), &mut self.text), (word("refusal"), &mut self.refusal)] {
            let Some(piece) = piece else { continue };
            size += piece.len();
            text.push_str(piece);
            if let Some(feed) = feed {
                feed.text(piece.to_string());
            }
        }
        if let Some(piece) = word("reasoning_content").or_else(|| word("reasoning")) {
            size += piece.len();
            self.reasoning.push_str(piece);
            if let Some(feed) = feed {
                feed.reasoning(piece);
            }
        }
        for (place, call) in delta.get("tool_calls").and_then(Value::as_array).into_iter().flatten().enumerate() {
            let index = call.get("index").and_then(Value::as_u64).unwrap_or(place as u64);
            let known = self.tools.len();
            let (id, name, arguments) = self.tools.entry(index).or_default();
            for (path, text) in [("/id", id), ("/function/name", name), ("/function/arguments", arguments)] {
                let piece = call.pointer(path).and_then(Value::as_str).unwrap_or("");
                size += piece.len();
                text.push_str(piece);
            }
            size += PART * (self.tools.len() - known);
        }
        size
    }

    fn whole(&self, index: u64) -> Value {
        let mut message = Map::new();
        message.insert("role".into(), json!("assistant"));
        message.insert("content".into(), json!(self.text));
        for (name, text) in [("refusal", &self.refusal), ("reasoning_content", &self.reasoning)] {
            if !text.is_empty() {
                message.insert(name.into(), json!(text));
            }
        }
        if !self.tools.is_empty() {
            let calls: Vec<Value> = self
                .tools
                .values()
                .map(|(id, name, arguments)| json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}))
                .collect();
            message.insert("tool_calls".into(), json!(calls));
        }
        json!({"index": index, "message": message, "finish_reason": self.finish.as_deref().unwrap_or("stop")})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::{pair, Next};
    use std::sync::Arc;
    use std::time::Duration;

    fn collect(parts: &[&[u8]]) -> (Result<Value, Kind>, String) {
        let (feed, stream) = pair(7, false, Arc::default());
        let mut collector = Collector::default();
        let pushed = parts.iter().try_for_each(|part| collector.push(part, &feed));
        let result = match pushed {
            Ok(()) => collector.finish(&feed).map(|body| serde_json::from_slice(&body).unwrap()).map_err(|failure| failure.kind),
            Err(failure) => Err(failure.kind),
        };
        let text = match stream.next(Duration::ZERO) {
            Next::Text(text) => text,
            _ => String::new(),
        };
        (result, text)
    }

    const ONE: &[u8] = "data: {\"choices\":[{\"delta\":{\"content\":\"Grüße\"}}]}\r\n\r\n".as_bytes();
    const LAST: &[u8] = b": a comment\ndata: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":4,\"completion_tokens\":2}}\n\ndata: [DONE]\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"after\"}}]}\n\n";

    #[test]
    fn events_may_be_split_anywhere_even_inside_a_character() {
        for cut in 0..ONE.len() {
            let (body, text) = collect(&[&ONE[..cut], &ONE[cut..], LAST]);
            assert_eq!(text, "Grüße");
            let body = body.unwrap();
            assert_eq!(body["choices"][0]["message"]["content"], "Grüße");
            assert_eq!(body["usage"]["completion_tokens"], 2);
        }
    }

    #[test]
    fn a_stream_that_breaks_off_is_cut_and_one_without_done_is_not() {
        assert_eq!(collect(&[ONE]).0.unwrap_err(), Kind::Cut);
        let ended = b"data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}\n";
        assert!(collect(&[ended]).0.is_ok());
    }

    #[test]
    fn an_error_in_mid_stream_and_an_endless_event_have_names() {
        assert_eq!(collect(&[ONE, b"data: {\"error\":{\"message\":\"no\",\"code\":503}}\n\n"]).0.unwrap_err(), Kind::Overloaded);
        assert_eq!(collect(&[&vec![b'x'; LONGEST_EVENT + 2]]).0.unwrap_err(), Kind::TooLarge);
    }

    #[test]
    fn tool_calls_are_put_together() {
        let a = br#"data: {"choices":[{"delta":{"tool_calls":[{"index":0,"id":"c1","function":{"name":"add","arguments":"{\"a\""}}]}}]}"#;
        let b =
            br#"data: {"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":":1}"}}]},"finish_reason":"tool_calls"}]}"#;
        let body = collect(&[a, b"\n\n", b, b"\n\n"]).0.unwrap();
        assert_eq!(body["choices"][0]["message"]["tool_calls"][0]["function"], json!({"name": "add", "arguments": "{\"a\":1}"}));
    }

    #[test]
    fn parts_without_a_word_have_a_size_too() {
        let (feed, _stream) = pair(7, false, Arc::default());
        let mut collector = Collector::default();
        for index in 0..100 {
            let call = json!({"choices": [{"index": 0, "delta": {"tool_calls": [{"index": index}]}}, {"index": index, "delta": {}}]});
            collector.push(format!("data: {call}\n\n").as_bytes(), &feed).unwrap();
        }
        assert_eq!(collector.size(), 200 * PART);
    }

    #[test]
    fn several_answers_stay_apart_and_the_first_is_shown() {
        let part = |index: usize, text: &str| format!("data: {}\r\r", json!({"choices": [{"index": index, "delta": {"content": text}}]}));
        let whole = ["\u{feff}", &part(0, "a1 "), &part(1, "b1 "), &part(0, "a2"), &part(1, "b2"), "data: [DONE]\r\r"].concat();
        for cut in 0..whole.len() {
            let (body, text) = collect(&[&whole.as_bytes()[..cut], &whole.as_bytes()[cut..]]);
            let body = body.unwrap();
            assert_eq!(text, "a1 a2");
            assert_eq!(body["choices"][0]["message"]["content"], "a1 a2");
            assert_eq!(body["choices"][1]["message"]["content"], "b1 b2");
        }
    }
}
