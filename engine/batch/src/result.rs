//! What is kept of an answer: a line in OpenAI's form, and a row for the index.

use crate::line::Bad;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::Value;
use wordmill_core::json::{self, Fields};
use wordmill_core::record::{flag, Outcome};

/// What an index has to know of a line.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// Its number, from 0.
    pub line: u64,
    pub custom_id: Option<String>,
    /// `ok`, or the kind of the error.
    pub status: String,
    pub model: String,
    pub seconds: f64,
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub money: f64,
    pub attempts: u32,
    pub cached: bool,
}

/// The line and the row of an answer. `batch`, `line`: what the line is called.
pub fn of(outcome: &Outcome, batch: &str, custom_id: &str, model: &str) -> (Vec<u8>, Row) {
    let mut row = Row {
        line: outcome.id,
        custom_id: Some(custom_id.into()),
        status: "ok".into(),
        model: model.into(),
        seconds: outcome.micros as f64 / 1e6,
        money: outcome.spent.money,
        attempts: outcome.attempts,
        cached: outcome.flags & (flag::CACHED | flag::JOINED) != 0,
        ..Row::default()
    };
    let answered = match &outcome.result {
        Ok(reply) => {
            (row.input_tokens, row.output_tokens) = (reply.input_tokens, reply.output_tokens);
            compact(&outcome.raw).map_err(|words| ("invalid_text", words))
        }
        Err(failure) => Err((failure.kind.word(), failure.detail.clone())),
    };
    if let Err((kind, _)) = &answered {
        row.status = (*kind).into();
    }
    let mut out = begun(batch, outcome.id, Some(custom_id), outcome.raw.len());
    match answered {
        Ok(body) => {
            out.extend_from_slice(b",\"response\":{\"status_code\":200,\"request_id\":\"req_");
            out.extend_from_slice(json::hex(&outcome.key).as_bytes());
            out.extend_from_slice(b"\",\"body\":");
            out.extend_from_slice(&body);
            out.extend_from_slice(b"},\"error\":null");
        }
        Err((kind, words)) => error(&mut out, kind, &words),
    }
    ended(&mut out, &row, outcome.flags);
    (out, row)
}

/// The line and the row of something that was never sent.
pub fn refused(batch: &str, bad: &Bad) -> (Vec<u8>, Row) {
    let row = Row { line: bad.line, custom_id: bad.custom_id.clone(), status: bad.code.clone(), ..Row::default() };
    let mut out = begun(batch, bad.line, bad.custom_id.as_deref(), 0);
    error(&mut out, &bad.code, &bad.message);
    ended(&mut out, &row, 0);
    (out, row)
}

/// What of a line that is not sent is told as its request: its body, else all of it; None where it
/// is no JSON.
pub fn asked(line: &[u8]) -> Option<&[u8]> {
    let whole: &RawValue = serde_json::from_slice(line).ok()?;
    let body = serde_json::from_str::<Fields>(whole.get()).ok().and_then(|fields| fields.get("body"));
    Some(body.unwrap_or(whole).get().as_bytes())
}

/// The row of a line as a segment holds it: `of` and `refused`, read back. The error is a sentence.
pub fn read(line: &[u8]) -> Result<Row, String> {
    #[derive(Deserialize)]
    struct Line {
        custom_id: Option<String>,
        error: Option<Fault>,
        wordmill: Ours,
    }
    #[derive(Deserialize)]
    struct Fault {
        code: String,
    }
    #[derive(Deserialize)]
    struct Ours {
        line: u64,
        model: String,
        seconds: f64,
        attempts: u32,
        input_tokens: u64,
        output_tokens: u64,
        money: f64,
        cached: bool,
    }
    let Line { custom_id, error, wordmill: ours } =
        serde_json::from_slice(line).map_err(|error| format!("this is no line of a segment: {error}"))?;
    Ok(Row {
        line: ours.line.checked_sub(1).ok_or("a line of a segment has the number 0")?,
        custom_id,
        status: error.map_or_else(|| "ok".into(), |error| error.code),
        model: ours.model,
        seconds: ours.seconds,
        input_tokens: ours.input_tokens,
        output_tokens: ours.output_tokens,
        money: ours.money,
        attempts: ours.attempts,
        cached: ours.cached,
    })
}

fn begun(batch: &str, line: u64, custom_id: Option<&str>, more: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(384 + more);
    out.extend_from_slice(b"{\"id\":\"batch_req_");
    out.extend_from_slice(batch.strip_prefix("batch_").unwrap_or(batch).as_bytes());
    out.extend_from_slice(format!("_{line}\",\"custom_id\":").as_bytes());
    match custom_id {
        Some(name) => json::write_string(name, &mut out),
        None => out.extend_from_slice(b"null"),
    }
    out
}

fn error(out: &mut Vec<u8>, code: &str, message: &str) {
    out.extend_from_slice(b",\"response\":null,\"error\":{\"code\":");
    json::write_string(code, out);
    out.extend_from_slice(b",\"message\":");
    json::write_string(message, out);
    out.push(b'}');
}

/// Where an answer came from, beside OpenAI's own fields.
fn ended(out: &mut Vec<u8>, row: &Row, flags: u32) {
    out.extend_from_slice(format!(",\"wordmill\":{{\"line\":{},\"model\":", row.line + 1).as_bytes());
    json::write_string(&row.model, out);
    out.extend_from_slice(
        format!(
            ",\"seconds\":{:.6},\"attempts\":{},\"input_tokens\":{},\"output_tokens\":{},\"money\":{},\"cached\":{},\"fallback\":{},\"estimated\":{}}}}}\n",
            row.seconds,
            row.attempts,
            row.input_tokens,
            row.output_tokens,
            row.money,
            row.cached,
            flags & flag::FALLBACK != 0,
            flags & flag::ESTIMATED != 0,
        )
        .as_bytes(),
    );
}

/// A server's JSON on one line, and of our profile to its depth.
fn compact(raw: &[u8]) -> Result<Vec<u8>, String> {
    let plain = memchr::memchr2(b'\n', b'\r', raw).is_none() && memchr::memmem::find(raw, b"\\u").is_none();
    if plain {
        let value: &RawValue = serde_json::from_slice(raw).map_err(|error| error.to_string())?;
        return Ok(value.get().as_bytes().to_vec());
    }
    let value: Value = serde_json::from_slice(raw).map_err(|error| error.to_string())?;
    serde_json::to_vec(&value).map_err(|error| error.to_string())
}
