//! `/responses`: a conversation in the newer form, answered with one message.

use serde::Deserialize;
use serde_json::value::{to_raw_value, RawValue};
use serde_json::{json, Value};

use crate::chat::Writer;
use crate::faults::Fault;
use crate::render::Content;
use crate::request::{Chat, Message, Role, Text};
use crate::wrong::Wrong;

/// The body of a request.
#[derive(Deserialize)]
pub(crate) struct Responses<'a> {
    #[serde(borrow, default)]
    pub(crate) model: Text<'a>,
    #[serde(borrow)]
    input: Option<Said<'a>>,
    #[serde(borrow)]
    instructions: Option<Text<'a>>,
    max_output_tokens: Option<u64>,
    text: Option<Form>,
    stream: Option<bool>,
    metadata: Option<Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Said<'a> {
    One(String),
    #[serde(borrow)]
    Items(Vec<Item<'a>>),
}

/// A message; what is no message (a call, its result) has no role.
#[derive(Deserialize)]
struct Item<'a> {
    role: Option<Role>,
    #[serde(borrow, default)]
    content: Text<'a>,
}

#[derive(Deserialize)]
struct Form {
    format: Option<Value>,
}

impl<'a> Responses<'a> {
    fn messages(&self) -> Result<Vec<Message<'a>>, Wrong> {
        let mut messages: Vec<Message<'a>> = Vec::new();
        if let Some(words) = &self.instructions {
            messages.push(Message { role: Role::System, content: words.clone() });
        }
        match &self.input {
            Some(Said::One(text)) => messages.push(Message { role: Role::User, content: Text(text.clone().into()) }),
            Some(Said::Items(items)) => {
                messages.extend(items.iter().filter_map(|item| item.role.map(|role| Message { role, content: item.content.clone() })))
            }
            None => return Err(Wrong::request("Missing required parameter: 'input'.", Some("input"))),
        }
        if !messages.iter().any(|message| message.role != Role::System) {
            return Err(Wrong::request("Invalid 'input': it holds no message.", Some("input")));
        }
        Ok(messages)
    }

    /// The form of the answer, as a chat says it.
    fn format(&self) -> Option<Box<RawValue>> {
        let format = self.text.as_ref()?.format.as_ref()?;
        let kind = format.get("type").and_then(Value::as_str).unwrap_or("text");
        let asked = match format.get("schema") {
            Some(schema) => json!({"type": kind, "json_schema": {"schema": schema}}),
            None => json!({"type": kind}),
        };
        to_raw_value(&asked).ok()
    }

    /// The answer's body, and the fault if it can happen to it.
    pub(crate) fn write(&self, writer: &Writer, drawn: Option<Fault>, id: u64, created: u64) -> Result<(Vec<u8>, Option<Fault>), Wrong> {
        if self.stream == Some(true) {
            return Err(Wrong::request("The rehearsal model streams /v1/chat/completions alone: leave out 'stream'.", Some("stream")));
        }
        let format = self.format();
        let chat = Chat {
            model: self.model.clone(),
            messages: self.messages()?,
            response_format: format.as_deref(),
            max_tokens: self.max_output_tokens,
            ..Chat::default()
        };
        if let Some((message, _)) = chat.fault() {
            return Err(Wrong::request(message.replace("max_tokens", "max_output_tokens"), Some("max_output_tokens")));
        }
        let task = writer.read(&chat)?;
        let fault = drawn.filter(|&fault| task.suits(fault));
        let completion = task.write(fault, id, created);
        let cut = completion.choices.iter().any(|choice| choice.cut);
        let status = if cut { "incomplete" } else { "completed" };
        let content: Vec<Value> = completion
            .choices
            .iter()
            .map(|choice| match &choice.content {
                Content::Text(text) => json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []}),
                Content::Refusal(text) => json!({"type": "refusal", "refusal": text}),
                Content::Call { arguments, .. } => json!({"type": "output_text", "text": arguments, "annotations": [], "logprobs": []}),
            })
            .collect();
        let body = json!({
            "id": format!("resp_{id:016x}"),
            "object": "response",
            "created_at": created,
            "status": status,
            "error": null,
            "incomplete_details": cut.then(|| json!({"reason": "max_output_tokens"})),
            "instructions": self.instructions.as_ref().map(|words| &words.0),
            "max_output_tokens": self.max_output_tokens,
            "model": self.model.0,
            "output": [{"type": "message", "id": format!("msg_{id:016x}"), "status": status, "role": "assistant", "content": content}],
            "parallel_tool_calls": true,
            "previous_response_id": null,
            "temperature": 1.0,
            "text": {"format": {"type": "text"}},
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
            "usage": {
                "input_tokens": completion.prompt_tokens,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": completion.completion_tokens,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": completion.prompt_tokens + completion.completion_tokens,
            },
            "metadata": self.metadata.clone().unwrap_or_else(|| json!({})),
        });
        Ok((body.to_string().into_bytes(), fault))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(body: &str) -> Result<Value, String> {
        let asked: Responses<'_> = serde_json::from_str(body).map_err(|error| error.to_string())?;
        let (body, _) = asked.write(&Writer::new(1), None, 255, 9).map_err(|wrong| wrong.message)?;
        serde_json::from_slice(&body).map_err(|error| error.to_string())
    }

    #[test]
    fn a_text_and_a_message_are_asked_alike() {
        let one = answer(r#"{"model": "m", "input": "Answer with exactly one of: yes, no"}"#).unwrap();
        let text = one["output"][0]["content"][0]["text"].as_str().unwrap();
        assert!(["yes", "no"].contains(&text), "{text}");
        assert_eq!((&one["id"], &one["status"]), (&"resp_00000000000000ff".into(), &"completed".into()));
        let other = answer(
            r#"{"model": "m", "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Answer with exactly one of: yes, no"}]}]}"#,
        );
        assert_eq!(other.unwrap()["output"], one["output"]);
    }

    #[test]
    fn a_schema_is_followed_and_tokens_are_bounded() {
        let schema = r#"{"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": false}"#;
        let body = format!(r#"{{"input": "x", "text": {{"format": {{"type": "json_schema", "name": "a", "schema": {schema}}}}}}}"#);
        let found = answer(&body).unwrap();
        let value: Value = serde_json::from_str(found["output"][0]["content"][0]["text"].as_str().unwrap()).unwrap();
        assert!(value["n"].is_i64());
        let cut = answer(r#"{"input": "Tell me a story.", "instructions": "Be long.", "max_output_tokens": 4}"#).unwrap();
        assert_eq!(cut["incomplete_details"]["reason"], "max_output_tokens");
        assert_eq!((&cut["usage"]["output_tokens"], &cut["instructions"]), (&4.into(), &"Be long.".into()));
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        assert_eq!(answer(r#"{"model": "m"}"#).unwrap_err(), "Missing required parameter: 'input'.");
        assert_eq!(answer(r#"{"input": []}"#).unwrap_err(), "Invalid 'input': it holds no message.");
        assert!(answer(r#"{"input": "x", "max_output_tokens": 0}"#).unwrap_err().starts_with("Invalid 'max_output_tokens'"));
        assert!(answer(r#"{"input": "x", "stream": true}"#).unwrap_err().starts_with("The rehearsal model streams"));
    }
}
