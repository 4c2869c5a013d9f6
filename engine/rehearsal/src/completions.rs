//! `/completions`: one text, or some, gone on with. Each prompt is read as what a user says.

use std::borrow::Cow;

use serde::Deserialize;

use crate::chat::Writer;
use crate::faults::Fault;
use crate::json;
use crate::render::{Choice, Content};
use crate::request::{Chat, Input, Message, Role, Stop, Text};
use crate::wrong::Wrong;

const MOST_PROMPTS: usize = 128;

/// The body of a request.
#[derive(Deserialize)]
pub(crate) struct Completions<'a> {
    #[serde(borrow, default)]
    pub(crate) model: Text<'a>,
    prompt: Option<Input>,
    max_tokens: Option<u64>,
    n: Option<u32>,
    seed: Option<i64>,
    stop: Option<Stop>,
    stream: Option<bool>,
    #[serde(default)]
    echo: bool,
}

impl Completions<'_> {
    /// The answer's body, and the fault if it can happen to it.
    pub(crate) fn write(&self, writer: &Writer, drawn: Option<Fault>, id: u64, created: u64) -> Result<(Vec<u8>, Option<Fault>), Wrong> {
        if self.stream == Some(true) {
            return Err(Wrong::request("The rehearsal model streams /v1/chat/completions alone: leave out 'stream'.", Some("stream")));
        }
        let prompts = match &self.prompt {
            Some(prompt) => prompt.texts(),
            None => vec![String::new()],
        };
        if prompts.is_empty() || prompts.len() > MOST_PROMPTS {
            return Err(Wrong::request(format!("Invalid 'prompt': expected 1 to {MOST_PROMPTS} texts."), Some("prompt")));
        }
        let (mut choices, mut asked, mut answered, mut fault) = (Vec::new(), 0, 0, None);
        for prompt in &prompts {
            let chat = Chat {
                model: self.model.clone(),
                messages: vec![Message { role: Role::User, content: Text(Cow::Borrowed(prompt)) }],
                max_tokens: self.max_tokens,
                n: self.n,
                seed: self.seed,
                stop: self.stop.clone(),
                ..Chat::default()
            };
            if let Some((message, param)) = chat.fault() {
                return Err(Wrong::request(message, Some(param)));
            }
            let task = writer.read(&chat)?;
            fault = drawn.filter(|&fault| task.suits(fault));
            let completion = task.write(fault, id, created);
            asked += completion.prompt_tokens;
            answered += completion.completion_tokens;
            let begun = if self.echo { prompt.as_str() } else { "" };
            choices.extend(completion.choices.into_iter().map(|choice| (begun, choice)));
        }
        let mut out = Vec::with_capacity(1024);
        out.extend_from_slice(b"{\"id\":\"cmpl-");
        json::hex(&mut out, id, 16);
        out.extend_from_slice(b"\",\"object\":\"text_completion\",\"created\":");
        json::number(&mut out, created);
        out.extend_from_slice(b",\"model\":");
        json::string(&mut out, &self.model.0);
        out.extend_from_slice(b",\"system_fingerprint\":\"rehearsal\",\"choices\":[");
        for (index, (begun, choice)) in choices.iter().enumerate() {
            out.extend_from_slice(if index == 0 { b"{\"text\":" } else { b",{\"text\":" });
            json::string(&mut out, &format!("{begun}{}", said(choice)));
            out.extend_from_slice(b",\"index\":");
            json::number(&mut out, index as u64);
            out.extend_from_slice(b",\"logprobs\":null,\"finish_reason\":\"");
            out.extend_from_slice(if choice.cut { b"length\"}" } else { b"stop\"}" });
        }
        out.extend_from_slice(b"],\"usage\":{\"prompt_tokens\":");
        json::number(&mut out, asked);
        out.extend_from_slice(b",\"completion_tokens\":");
        json::number(&mut out, answered);
        out.extend_from_slice(b",\"total_tokens\":");
        json::number(&mut out, asked + answered);
        out.extend_from_slice(b"}}");
        Ok((out, fault))
    }
}

fn said(choice: &Choice) -> &str {
    match &choice.content {
        Content::Text(text) | Content::Refusal(text) => text,
        Content::Call { arguments, .. } => arguments,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(body: &str) -> Result<serde_json::Value, String> {
        let asked: Completions<'_> = serde_json::from_str(body).map_err(|error| error.to_string())?;
        let (body, _) = asked.write(&Writer::new(1), None, 255, 9).map_err(|wrong| wrong.message)?;
        serde_json::from_slice(&body).map_err(|error| error.to_string())
    }

    #[test]
    fn each_prompt_has_its_choices() {
        let one = answer(r#"{"model": "m", "prompt": "Say A.", "max_tokens": 9}"#).unwrap();
        assert_eq!((&one["id"], &one["object"]), (&"cmpl-00000000000000ff".into(), &"text_completion".into()));
        assert_eq!(one["choices"][0]["finish_reason"], "length");
        let both = answer(r#"{"model": "m", "prompt": ["Say A.", "Say B."], "max_tokens": 9, "n": 2, "echo": true}"#).unwrap();
        assert_eq!(both["choices"].as_array().unwrap().len(), 4);
        assert_eq!(both["choices"][0]["text"], format!("Say A.{}", one["choices"][0]["text"].as_str().unwrap()));
        assert!(both["choices"][3]["text"].as_str().unwrap().starts_with("Say B."));
        assert_eq!(both["usage"]["completion_tokens"], 36);
        assert!(answer(r#"{"prompt": [5, 6]}"#).is_ok());
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        assert!(answer(r#"{"prompt": "x", "stream": true}"#).unwrap_err().starts_with("The rehearsal model streams"));
        assert_eq!(answer(r#"{"prompt": []}"#).unwrap_err(), "Invalid 'prompt': expected 1 to 128 texts.");
        assert!(answer(r#"{"prompt": "x", "n": 0}"#).unwrap_err().starts_with("Invalid 'n'"));
    }
}
