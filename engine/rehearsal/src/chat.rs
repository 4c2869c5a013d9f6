//! What is answered to a chat request: first which kind of answer it wants, then the answer.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{json, Map, Value};

use crate::brief::{Brief, Form, Json};
use crate::cache::Cache;
use crate::compose::compose;
use crate::faults::{Fault, AS_AN_AI, REFUSALS};
use crate::prose::Voice;
use crate::random::{self, Random};
use crate::render::{Choice, Completion, Content};
use crate::request::Chat;
use crate::schema::{self, Schema};
use crate::tools::{self, Tool};
use crate::wrong::Wrong;

/// A token is about this many bytes of English.
const TOKEN: u64 = 4;
/// Tokens that a message costs beside its text, and a conversation beside its messages.
const MESSAGE_TOKENS: u64 = 4;
const CHAT_TOKENS: u64 = 3;
/// What is said instead of one of the choices.
const NO_CHOICE: &str = "none of these";

/// Reads requests; keeps what many of them share.
pub(crate) struct Writer {
    seed: u64,
    forms: Cache<Form>,
    formats: Cache<Result<Format, String>>,
    wanted: Cache<Option<Arc<Schema>>>,
    tools: Cache<Result<Vec<Tool>, String>>,
}

/// `response_format`, compiled.
enum Format {
    Text,
    Object,
    Schema(Arc<Schema>),
}

#[derive(Deserialize)]
struct ResponseFormat {
    r#type: String,
    json_schema: Option<JsonSchema>,
}

#[derive(Deserialize)]
struct JsonSchema {
    schema: Option<Value>,
}

/// The kind of answer.
enum Kind {
    Text,
    Choice,
    /// `declared`: by `response_format`, so that a refusal has a field of its own.
    Json {
        schema: Arc<Schema>,
        declared: bool,
    },
    Call {
        name: String,
        arguments: Arc<Schema>,
    },
}

/// A request that has been understood.
pub(crate) struct Task<'a> {
    chat: &'a Chat<'a>,
    brief: Brief<'a>,
    kind: Kind,
    seed: u64,
}

impl Writer {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, forms: Cache::default(), formats: Cache::default(), wanted: Cache::default(), tools: Cache::default() }
    }

    /// Understands a request, or says what is wrong with it.
    pub(crate) fn read<'a>(&self, chat: &'a Chat<'a>) -> Result<Task<'a>, Wrong> {
        let mut seed = random::hash(random::mix(self.seed), chat.model.0.as_bytes());
        for message in &chat.messages {
            seed = random::hash(seed ^ message.role as u64, message.content.0.as_bytes());
        }
        if let Some(number) = chat.seed {
            seed = random::hash(seed, &number.to_le_bytes());
        }
        let brief = Brief::read(&chat.messages, &self.forms);
        let kind = self.kind(chat, &brief, seed)?;
        Ok(Task { chat, brief, kind, seed })
    }

    fn kind(&self, chat: &Chat<'_>, brief: &Brief<'_>, seed: u64) -> Result<Kind, Wrong> {
        if let Some(text) = chat.tools {
            let wrong = |reason: &String| Wrong::request(format!("Invalid 'tools': {reason}."), Some("tools"));
            let offered = self.tools.get(text.get(), || tools::read(text.get()));
            let offered = offered.as_ref().as_ref().map_err(wrong)?;
            if let Some(place) = tools::chosen(offered, chat, brief, seed).map_err(|reason| wrong(&reason))? {
                let Tool { name, arguments } = &offered[place];
                return Ok(Kind::Call { name: name.clone(), arguments: Arc::clone(arguments) });
            }
        }
        if let Some(text) = chat.response_format {
            let format = self.formats.get(text.get(), || response_format(text.get()));
            match format.as_ref() {
                Ok(Format::Text) => {}
                Ok(Format::Object) => {
                    let wanted = brief.form.json.as_ref().unwrap_or(&Json::Any);
                    if let Some(schema) = self.wanted(wanted).or_else(|| self.wanted(&Json::Any)) {
                        return Ok(Kind::Json { schema, declared: false });
                    }
                }
                Ok(Format::Schema(schema)) => return Ok(Kind::Json { schema: Arc::clone(schema), declared: true }),
                Err(reason) => {
                    return Err(Wrong::request(format!("Invalid schema for response_format: {reason}."), Some("response_format")));
                }
            }
        }
        if !brief.form.choices.is_empty() {
            return Ok(Kind::Choice);
        }
        if let Some(schema) = brief.form.json.as_ref().and_then(|wanted| self.wanted(wanted)) {
            return Ok(Kind::Json { schema, declared: false });
        }
        Ok(Kind::Text)
    }

    /// The schema of JSON that a prompt asks for; None if it gives one that cannot be followed.
    fn wanted(&self, wanted: &Json) -> Option<Arc<Schema>> {
        let text = match wanted {
            Json::Any => String::new(),
            Json::Keys(keys) => keys.join("\n"),
            Json::Schema(text) | Json::Example(text) => text.clone(),
        };
        let made = self.wanted.get(&text, || {
            let schema = match wanted {
                Json::Any => json!({
                    "type": "object",
                    "required": ["summary", "points", "confidence"],
                    "properties": {
                        "summary": {"type": "string"},
                        "points": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 3},
                        "confidence": {"type": "number", "minimum": 0, "maximum": 1},
                    },
                    "additionalProperties": false,
                }),
                Json::Keys(keys) => {
                    let properties: Map<_, _> = keys.iter().map(|key| (key.clone(), json!({"type": "string"}))).collect();
                    json!({"type": "object", "required": keys, "properties": properties, "additionalProperties": false})
                }
                Json::Schema(text) => serde_json::from_str(text).ok()?,
                Json::Example(text) => like(&serde_json::from_str(text).ok()?),
            };
            schema::compile(&schema).ok().map(Arc::new)
        });
        made.as_ref().clone()
    }
}

fn response_format(text: &str) -> Result<Format, String> {
    let format: ResponseFormat = serde_json::from_str(text).map_err(|error| error.to_string())?;
    match (format.r#type.as_str(), format.json_schema) {
        ("text", _) => Ok(Format::Text),
        ("json_object", _) => Ok(Format::Object),
        ("json_schema", Some(JsonSchema { schema })) => {
            Ok(Format::Schema(Arc::new(schema::compile(&schema.unwrap_or(Value::Bool(true)))?)))
        }
        ("json_schema", None) => Err("json_schema is missing".into()),
        (other, _) => Err(format!("there is no response format {other:?}")),
    }
}

/// A schema for values like an example.
fn like(example: &Value) -> Value {
    match example {
        Value::Null => json!({}),
        Value::Bool(_) => json!({"type": "boolean"}),
        Value::Number(number) if number.is_i64() || number.is_u64() => json!({"type": "integer", "minimum": 0, "maximum": 10}),
        Value::Number(_) => json!({"type": "number", "minimum": 0, "maximum": 1}),
        // "low|middle|high" lists what may stand there.
        Value::String(text) if text.contains('|') && !text.contains(". ") => {
            json!({"enum": text.split('|').map(str::trim).filter(|item| !item.is_empty()).collect::<Vec<_>>()})
        }
        Value::String(_) => json!({"type": "string"}),
        Value::Array(items) => {
            json!({"type": "array", "items": items.first().map_or(json!({"type": "string"}), like), "minItems": 1, "maxItems": 4})
        }
        Value::Object(fields) => {
            let properties: Map<_, _> = fields.iter().map(|(key, value)| (key.clone(), like(value))).collect();
            json!({"type": "object", "required": fields.keys().collect::<Vec<_>>(), "properties": properties, "additionalProperties": false})
        }
    }
}

impl<'a> Task<'a> {
    /// Whether a fault can happen to this answer.
    pub(crate) fn suits(&self, fault: Fault) -> bool {
        match fault {
            Fault::Schema => match &self.kind {
                Kind::Text => false,
                Kind::Choice => true,
                Kind::Json { schema, .. } | Kind::Call { arguments: schema, .. } => schema.can_break(),
            },
            Fault::AsAnAi => matches!(self.kind, Kind::Text),
            _ => true,
        }
    }

    /// The answer. A fault of the wire changes nothing in it.
    pub(crate) fn write(&self, fault: Option<Fault>, id: u64, created: u64) -> Completion<'a> {
        let mut completion_tokens = 0;
        let mut choices = Vec::with_capacity(1);
        for number in 0..self.chat.n.unwrap_or(1) {
            let random = Random::new(random::mix(self.seed.wrapping_add(u64::from(number))));
            let mut content = self.content(fault, &mut Voice::new(random, &self.brief.topics));
            let (cut, tokens) = self.bound(&mut content);
            completion_tokens += tokens;
            choices.push(Choice { content, cut });
        }
        Completion { id, created, model: &self.chat.model.0, choices, prompt_tokens: self.prompt_tokens(), completion_tokens }
    }

    fn content(&self, fault: Option<Fault>, voice: &mut Voice<'_>) -> Content {
        match fault {
            Some(Fault::Empty) => return Content::Text(String::new()),
            Some(Fault::Refuse) => {
                let words = voice.random.pick(REFUSALS).to_owned();
                let has_field = matches!(self.kind, Kind::Json { declared: true, .. });
                return if has_field { Content::Refusal(words) } else { Content::Text(words) };
            }
            _ => {}
        }
        let spoilt = fault == Some(Fault::Schema);
        let value = |schema: &Schema, voice: &mut Voice<'_>| if spoilt { schema.broken(voice) } else { schema.value(voice) };
        match &self.kind {
            Kind::Text => {
                let lead = (fault == Some(Fault::AsAnAi)).then(|| voice.random.pick(AS_AN_AI));
                Content::Text(compose(&self.brief.form, lead, voice))
            }
            Kind::Choice if spoilt => Content::Text(self.no_choice()),
            Kind::Choice => {
                let choices = &self.brief.form.choices;
                Content::Text(choices[voice.random.below(choices.len())].clone())
            }
            Kind::Json { schema, .. } => Content::Text(value(schema, voice)),
            Kind::Call { name, arguments } => Content::Call { name: name.clone(), arguments: value(arguments, voice) },
        }
    }

    /// Something that is none of the choices, not even within a longer answer.
    fn no_choice(&self) -> String {
        let mut words = NO_CHOICE.to_owned();
        while self.brief.form.choices.iter().any(|choice| choice.eq_ignore_ascii_case(&words)) {
            words.push_str(" at all");
        }
        words
    }

    /// Cuts an answer at the stop words and at the tokens it may have: whether the tokens ran out,
    /// and how many it has.
    fn bound(&self, content: &mut Content) -> (bool, u64) {
        let (text, other) = match content {
            Content::Text(text) => (text, 0),
            Content::Refusal(text) => return (false, tokens(text.len())),
            Content::Call { name, arguments } => (arguments, tokens(name.len())),
        };
        if let Some(stop) = &self.chat.stop {
            let end = stop.words().iter().filter(|word| !word.is_empty()).filter_map(|word| text.find(word.as_str())).min();
            text.truncate(end.unwrap_or(text.len()));
        }
        let most = self.chat.most_tokens();
        let room = most.saturating_mul(TOKEN);
        let cut = text.len() as u64 > room;
        if cut {
            let end = (0..=room as usize).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
            text.truncate(end);
        }
        (cut, if cut { most } else { tokens(text.len()) + other })
    }

    fn prompt_tokens(&self) -> u64 {
        let said: u64 = self.chat.messages.iter().map(|message| tokens(message.content.0.len()) + MESSAGE_TOKENS).sum();
        let given = [self.chat.tools, self.chat.response_format].into_iter().flatten();
        said + CHAT_TOKENS + given.map(|text| tokens(text.get().len())).sum::<u64>()
    }
}

const fn tokens(bytes: usize) -> u64 {
    (bytes as u64).div_ceil(TOKEN)
}
