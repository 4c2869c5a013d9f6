//! Request bodies: what many requests share is written once, the rest is filled in.

use crate::config::LaneConfig;
use crate::json::{self, Fields, Key};
use crate::record::{Api, Route};
use crate::reply::MOST_TOKENS;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::sync::Arc;

/// Marks a place that each request fills with a text of its own.
const SLOT: &str = "\u{0}";
const SEED: &str = "\u{0}seed";

/// A body with holes, in canonical form, bound to a lane.
#[derive(Debug)]
pub struct Shape {
    pub lane: usize,
    pub route: Arc<Route>,
    pieces: Vec<Piece>,
    pub slots: usize,
    sends_seed: bool,
    pub bound: u64,
    prefix: Prefix,
}

#[derive(Debug)]
enum Piece {
    Text(Vec<u8>),
    Slot,
    Seed,
}

/// What stands before the body in every key: who asks, and where.
#[derive(Clone)]
pub struct Prefix(ring::digest::Context);

impl std::fmt::Debug for Prefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Prefix")
    }
}

impl Prefix {
    pub fn new(owner: &str, place: &str, path: &str) -> Self {
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        for part in [owner, place, path] {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part.as_bytes());
        }
        Prefix(context)
    }

    fn key(&self, salt: u64, body: &[u8]) -> Key {
        let mut context = self.0.clone();
        context.update(&salt.to_le_bytes());
        context.update(body);
        json::shorten(context.finish())
    }
}

/// Fields that change how an answer travels and not what it says.
const TRANSPORT: [&str; 2] = ["stream", "stream_options"];

impl Shape {
    /// `body` is JSON; the lane sets `model` and, if it sends seeds, `seed`.
    pub fn new(owner: &str, lane: &LaneConfig, index: usize, path: &str, body: &str) -> Result<Self, String> {
        let mut fields = object(body.as_bytes())?;
        fields.insert("model".into(), Value::String(lane.model.clone()));
        let sends_seed = lane.seed && !fields.contains_key("seed");
        no_null_seed(&mut fields);
        if sends_seed {
            fields.insert("seed".into(), Value::String(SEED.into()));
        }
        let bound = answer_bound(&fields, lane.context);
        let mut whole = Vec::new();
        let mut pieces = Vec::new();
        write_pieces(&Value::Object(fields), &mut whole, &mut pieces);
        pieces.push(Piece::Text(whole));
        Ok(Shape {
            lane: index,
            route: Arc::new(Route { path: path.into(), api: Api::of(path) }),
            slots: pieces.iter().filter(|piece| matches!(piece, Piece::Slot)).count(),
            pieces,
            sends_seed,
            bound,
            prefix: Prefix::new(owner, lane.place(), path),
        })
    }

    /// The body and key of one request. `texts` has one entry a slot.
    pub fn fill<'a>(&self, mut texts: impl Iterator<Item = &'a str>, salt: u64) -> (Vec<u8>, Key) {
        let mut body = Vec::with_capacity(1536);
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => body.extend_from_slice(text),
                Piece::Slot => json::write_string(texts.next().unwrap_or_default(), &mut body),
                // A salt of 0 is no salt: the same seed for all, so that equal requests stay equal.
                Piece::Seed => body.extend_from_slice(salt.to_string().as_bytes()),
            }
        }
        let salt = if self.sends_seed { 0 } else { salt };
        let key = self.prefix.key(salt, &body);
        (body, key)
    }
}

/// A whole body that came from outside: canonical form, key, bound.
pub fn whole(prefix: &Prefix, lane: &LaneConfig, body: &[u8], salt: u64) -> Result<(Vec<u8>, Key, u64), String> {
    let fields: Fields = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    filled(prefix, lane, fields, salt)
}

/// A line of a JSONL file: a body, or an object of OpenAI's batch form with the body under `body`.
pub fn line(prefix: &Prefix, lane: &LaneConfig, line: &[u8]) -> Result<(Vec<u8>, Key, u64), String> {
    let fields: Fields = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    match fields.get("body") {
        Some(body) => whole(prefix, lane, body.get().as_bytes(), 0),
        None => filled(prefix, lane, fields, 0),
    }
}

fn filled(prefix: &Prefix, lane: &LaneConfig, fields: Fields, salt: u64) -> Result<(Vec<u8>, Key, u64), String> {
    let number = |name: &str| fields.get(name).and_then(|value| count(value.get()));
    let bound = bound_of(number, lane.context);
    let seed = fields.get("seed").map(RawValue::get);
    let sends_seed = lane.seed && salt != 0 && seed.is_none();
    let no_seed = seed == Some("null");
    // What the lane decides stands among the others without a value of its own.
    let mut written: Vec<(Cow<str>, Option<&RawValue>)> = fields
        .sorted()
        .0
        .into_iter()
        .filter(|(name, _)| name != "model" && !TRANSPORT.contains(&name.as_ref()) && !(no_seed && name == "seed"))
        .map(|(name, value)| (name, Some(value)))
        .collect();
    written.push(("model".into(), None));
    if sends_seed {
        written.push(("seed".into(), None));
    }
    written.sort_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
    let mut text = Vec::with_capacity(1536);
    for (index, (name, value)) in written.into_iter().enumerate() {
        text.push(if index == 0 { b'{' } else { b',' });
        json::write_string(&name, &mut text);
        text.push(b':');
        match value {
            Some(value) => json::write_raw(value, &mut text)?,
            None if name == "seed" => text.extend_from_slice(salt.to_string().as_bytes()),
            None => json::write_string(&lane.model, &mut text),
        }
    }
    text.push(b'}');
    let key = prefix.key(if sends_seed { 0 } else { salt }, &text);
    Ok((text, key, bound))
}

/// `"seed": null` asks for no seed although the lane sends them: some servers refuse the field.
fn no_null_seed(fields: &mut Map<String, Value>) {
    if fields.get("seed").is_some_and(Value::is_null) {
        fields.shift_remove("seed");
    }
}

/// The body for another lane's model.
pub fn with_model(body: &[u8], model: &str) -> Result<Vec<u8>, String> {
    let mut fields = object(body)?;
    fields.insert("model".into(), Value::String(model.into()));
    let mut text = Vec::with_capacity(body.len() + 32);
    json::write_canonical(&Value::Object(fields), &mut text);
    Ok(text)
}

/// The body with `stream` switched on, usage asked for.
pub fn streaming(body: &[u8]) -> Result<Vec<u8>, String> {
    let mut fields = object(body)?;
    fields.insert("stream".into(), Value::Bool(true));
    let mut options = Map::new();
    options.insert("include_usage".into(), Value::Bool(true));
    fields.insert("stream_options".into(), Value::Object(options));
    let mut text = Vec::with_capacity(body.len() + 64);
    json::write_canonical(&Value::Object(fields), &mut text);
    Ok(text)
}

fn object(body: &[u8]) -> Result<Map<String, Value>, String> {
    match json::parse(body)? {
        Value::Object(fields) => Ok(fields),
        _ => Err("the body is not a JSON object".into()),
    }
}

/// Most tokens that all the answers to this body can have; without a limit in the body, the context.
fn answer_bound(fields: &Map<String, Value>, context: Option<u64>) -> u64 {
    bound_of(|name| fields.get(name).and_then(|value| value.as_number().and_then(|number| count(&number.to_string()))), context)
}

fn bound_of(number: impl Fn(&str) -> Option<u64>, context: Option<u64>) -> u64 {
    let one =
        ["max_completion_tokens", "max_tokens", "max_output_tokens"].into_iter().find_map(&number).or(context).unwrap_or(DEFAULT_BOUND);
    one.saturating_mul(number("n").unwrap_or(1).max(1)).min(MOST_TOKENS)
}

/// A number as it was written, as a count: a part is no token, and what is too large stays large.
fn count(text: &str) -> Option<u64> {
    text.parse().ok().or_else(|| text.parse().ok().filter(|number: &f64| *number >= 0.0).map(|number| number as u64))
}

/// For bodies that say nothing about their answer's length.
const DEFAULT_BOUND: u64 = 16_384;

fn write_pieces(value: &Value, open: &mut Vec<u8>, pieces: &mut Vec<Piece>) {
    match value {
        Value::String(text) if text == SLOT || text == SEED => {
            pieces.push(Piece::Text(std::mem::take(open)));
            pieces.push(if text == SLOT { Piece::Slot } else { Piece::Seed });
        }
        Value::Array(items) => {
            open.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    open.push(b',');
                }
                write_pieces(item, open, pieces);
            }
            open.push(b']');
        }
        Value::Object(fields) => {
            let mut sorted: Vec<_> = fields.iter().collect();
            sorted.sort_unstable_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
            open.push(b'{');
            for (index, (name, field)) in sorted.into_iter().enumerate() {
                if index > 0 {
                    open.push(b',');
                }
                json::write_string(name, open);
                open.push(b':');
                write_pieces(field, open, pieces);
            }
            open.push(b'}');
        }
        other => json::write_canonical(other, open),
    }
}
