//! One streamed answer: server-sent events in, pieces of text out, the same record at the end.

use crate::bell::Ready;
use crate::record::{Failure, Kind, Outcome};
use serde_json::{json, Map, Value};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Longest single event of a stream.
const LONGEST_EVENT: usize = 1 << 20;

/// What the engine and the reader of a stream share.
#[derive(Debug, Default)]
struct Shared {
    id: u64,
    /// The answer is asked for in one piece.
    whole: bool,
    ready: Arc<Ready>,
    state: Mutex<State>,
    changed: Condvar,
    cancelled: AtomicBool,
    cancel: Notify,
}

#[derive(Debug, Default)]
struct State {
    pieces: VecDeque<String>,
    reasoning: String,
    outcome: Option<Outcome>,
    ended: bool,
    /// It stands among those that have something new.
    named: bool,
}

/// The engine's end.
#[derive(Clone, Debug, Default)]
pub struct Feed(Arc<Shared>);

/// The reader's end. Dropping it cancels the request.
#[derive(Debug)]
pub struct Stream(Arc<Shared>);

/// A pair that belongs together. What is new in it is told to `ready`, by its number.
pub(crate) fn pair(id: u64, whole: bool, ready: Arc<Ready>) -> (Feed, Stream) {
    let feed = Feed(Arc::new(Shared { id, whole, ready, ..Shared::default() }));
    let stream = Stream(feed.0.clone());
    (feed, stream)
}

impl Feed {
    pub(crate) fn text(&self, piece: String) {
        self.with(|state| state.pieces.push_back(piece));
    }

    pub(crate) fn reasoning(&self, piece: &str) {
        self.with(|state| state.reasoning.push_str(piece));
    }

    pub(crate) fn end(&self, outcome: Outcome) {
        self.with(|state| {
            state.outcome = Some(outcome);
            state.ended = true;
        });
    }

    pub(crate) fn whole(&self) -> bool {
        self.0.whole
    }

    pub(crate) fn cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::Acquire)
    }

    /// Ends when the reader cancels.
    pub(crate) async fn cancel(&self) {
        let waiting = self.0.cancel.notified();
        if !self.cancelled() {
            waiting.await;
        }
    }

    fn with(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.0.state.lock().unwrap_or_else(|e| e.into_inner());
        change(&mut state);
        self.0.changed.notify_all();
        if !std::mem::replace(&mut state.named, true) {
            self.0.ready.add(self.0.id);
        }
    }
}

/// What `Stream::next` found.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    Text(String),
    /// Nothing within the time.
    Later,
    End,
}

impl Stream {
    /// Its number, by which the engine names it when something is new.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// The text that has come since the last call, waiting up to `timeout` for some.
    pub fn next(&self, timeout: Duration) -> Next {
        let until = Instant::now() + timeout;
        let mut state = self.0.state.lock().unwrap_or_else(|e| e.into_inner());
        loop {
            state.named = false;
            if !state.pieces.is_empty() {
                return Next::Text(state.pieces.drain(..).collect());
            }
            if state.ended {
                return Next::End;
            }
            let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
                return Next::Later;
            };
            state = self.0.changed.wait_timeout(state, left).unwrap_or_else(|e| e.into_inner()).0;
        }
    }

    /// Reasoning that has come since the last call.
    pub fn reasoning(&self) -> String {
        std::mem::take(&mut self.0.state.lock().unwrap_or_else(|e| e.into_inner()).reasoning)
    }

    /// The record, once, after the end.
    pub fn take_outcome(&self) -> Option<Outcome> {
        self.0.state.lock().unwrap_or_else(|e| e.into_inner()).outcome.take()
    }

    /// Close the upstream connection.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::Release);
        self.0.cancel.notify_waiters();
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// Collects the chunks of a streamed chat completion.
#[derive(Debug, Default)]
pub(crate) struct Collector {
    line: Vec<u8>,
    data: Vec<u8>,
    text: String,
    reasoning: String,
    refusal: String,
    finish: Option<String>,
    usage: Option<Value>,
    model: Option<Value>,
    tools: BTreeMap<u64, (String, String, String)>,
    done: bool,
}

impl Collector {
    /// Take bytes as they come, split anywhere; gives the new text to `feed`.
    pub fn push(&mut self, bytes: &[u8], feed: &Feed) -> Result<(), Failure> {
        for byte in bytes {
            if *byte != b'\n' {
                self.line.push(*byte);
                if self.line.len() + self.data.len() > LONGEST_EVENT {
                    return Err(Failure::new(Kind::TooLarge, format!("an event of the stream is larger than {LONGEST_EVENT} bytes")));
                }
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let line = line.strip_suffix(b"\r").unwrap_or(&line);
            if line.is_empty() {
                self.event(feed)?;
            } else if let Some(data) = line.strip_prefix(b"data:") {
                if !self.data.is_empty() {
                    self.data.push(b'\n');
                }
                self.data.extend_from_slice(data.strip_prefix(b" ").unwrap_or(data));
            }
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
        let Some(choice) = chunk.get("choices").and_then(Value::as_array).and_then(|choices| choices.first()) else {
            return Ok(());
        };
        if let Some(finish) = choice.get("finish_reason").and_then(Value::as_str) {
            self.finish = Some(finish.to_string());
        }
        let Some(delta) = choice.get("delta") else { return Ok(()) };
        let word = |name: &str| delta.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        if let Some(piece) = word("content") {
            self.text.push_str(piece);
            feed.text(piece.to_string());
        }
        if let Some(piece) = word("refusal") {
            self.refusal.push_str(piece);
            feed.text(piece.to_string());
        }
        if let Some(piece) = word("reasoning_content").or_else(|| word("reasoning")) {
            self.reasoning.push_str(piece);
            feed.reasoning(piece);
        }
        for (place, call) in delta.get("tool_calls").and_then(Value::as_array).into_iter().flatten().enumerate() {
            let index = call.get("index").and_then(Value::as_u64).unwrap_or(place as u64);
            let entry = self.tools.entry(index).or_default();
            let part = |path: &str| call.pointer(path).and_then(Value::as_str).unwrap_or("");
            entry.0.push_str(part("/id"));
            entry.1.push_str(part("/function/name"));
            entry.2.push_str(part("/function/arguments"));
        }
        Ok(())
    }

    /// The text so far.
    pub fn partial(&self) -> &str {
        if self.text.is_empty() {
            &self.refusal
        } else {
            &self.text
        }
    }

    /// The stream ended: the body that an unstreamed answer would have had.
    ///
    /// A stream that breaks off without a reason or `[DONE]` was cut.
    pub fn finish(mut self, feed: &Feed) -> Result<Vec<u8>, (Failure, String)> {
        // A last event may lack its empty line.
        let tail = self.push(b"\n\n", feed);
        if let Err(failure) = tail {
            return Err((failure, self.partial().to_string()));
        }
        if self.finish.is_none() && !self.done {
            return Err((Failure::new(Kind::Cut, "the stream ended before the answer did"), self.partial().to_string()));
        }
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
                .into_values()
                .map(|(id, name, arguments)| json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}))
                .collect();
            message.insert("tool_calls".into(), json!(calls));
        }
        let mut body = json!({
            "object": "chat.completion",
            "choices": [{"index": 0, "message": message, "finish_reason": self.finish.as_deref().unwrap_or("stop")}],
        });
        if let Some(usage) = self.usage {
            body["usage"] = usage;
        }
        if let Some(model) = self.model {
            body["model"] = model;
        }
        Ok(body.to_string().into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(parts: &[&[u8]]) -> (Result<Value, Kind>, String) {
        let (feed, stream) = pair(7, false, Arc::default());
        let mut collector = Collector::default();
        let pushed = parts.iter().try_for_each(|part| collector.push(part, &feed));
        let result = match pushed {
            Ok(()) => collector.finish(&feed).map(|body| serde_json::from_slice(&body).unwrap()).map_err(|(failure, _)| failure.kind),
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
}
