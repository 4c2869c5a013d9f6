//! A line with its answer, as Elasticsearch keeps it: bytes put one after another, for there are many.

use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::ops::Range;
use std::time::{SystemTime, UNIX_EPOCH};
use wordmill_batch::{both, words, Answer};
use wordmill_core::json::write_string;

/// What all documents of a batch have in common.
pub struct Documents {
    batch: String,
    /// The beginning of each.
    head: Vec<u8>,
}

/// Where a document lies in the body of a `_bulk`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The number of its block, and the fence of its holder.
    pub block: u64,
    pub fence: i32,
    /// Its line, from 1.
    pub line: u64,
    /// With the line before it that says what to do.
    pub whole: Range<usize>,
    /// Where its text begins, which is its last field; None: it has none.
    pub text: Option<usize>,
}

impl Documents {
    pub fn new(batch: &str, owner: &str, dataset: Option<&str>, source: Option<&str>) -> Self {
        let mut head = b"{\"batch\":".to_vec();
        write_string(batch, &mut head);
        for (name, value) in [("owner", Some(owner)), ("dataset", dataset), ("source", source)] {
            if let Some(value) = value {
                field(&mut head, name);
                write_string(value, &mut head);
            }
        }
        Documents { batch: batch.into(), head }
    }

    /// The id of a line's document; `line` from 1.
    pub fn id(batch: &str, line: u64) -> String {
        format!("{batch}-{line}")
    }

    /// Put one at the end of a body. fence: of whoever holds the block; an earlier holder's document
    /// does not replace a later one's.
    pub fn add(&self, out: &mut Vec<u8>, answer: &Answer, fence: i32) -> Place {
        let (start, row, line) = (out.len(), answer.row, answer.row.line + 1);
        out.reserve(self.head.len() + 768 + 2 * answer.result.len() + 2 * answer.line.len());
        out.extend_from_slice(b"{\"index\":{\"_id\":\"");
        out.extend_from_slice(Documents::id(&self.batch, line).as_bytes());
        out.extend_from_slice(format!("\",\"version\":{fence},\"version_type\":\"external_gte\"}}}}\n").as_bytes());
        out.extend_from_slice(&self.head);
        for (name, value) in [("custom_id", row.custom_id.as_deref().unwrap_or_default()), ("status", &row.status), ("model", &row.model)] {
            field(out, name);
            write_string(value, out);
        }
        let ended = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        out.extend_from_slice(
            format!(
                ",\"line\":{line},\"block\":{},\"attempts\":{},\"input_tokens\":{},\"output_tokens\":{},\"ended\":{ended},\"seconds\":{:.6},\"money\":{},\"cached\":{}",
                answer.number, row.attempts, row.input_tokens, row.output_tokens, row.seconds, row.money, row.cached,
            )
            .as_bytes(),
        );
        let asked = answer.request.map_or_else(|| Cow::Owned(as_text(answer.line)), Cow::Borrowed);
        field(out, "request");
        write_string(&String::from_utf8_lossy(&asked), out);
        field(out, "result");
        write_string(&String::from_utf8_lossy(answer.result.trim_ascii_end()), out);
        let text = out.len();
        // Both were read before; if not, the line is found by its other fields.
        let found = answered(answer.result).and_then(|answered| both(&asked, answered.as_bytes()).ok()).map(|text| words(&text));
        if let Some(text) = &found {
            field(out, "text");
            write_string(text, out);
        }
        out.extend_from_slice(b"}\n");
        Place { block: answer.number, fence, line, whole: start..out.len(), text: found.map(|_| text) }
    }
}

fn field(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

/// What is no JSON is its own text.
fn as_text(line: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(line.len() + 2);
    write_string(&String::from_utf8_lossy(line), &mut out);
    out
}

/// The part of a result that says something: the reply's body, or the words of the error.
fn answered(result: &[u8]) -> Option<&str> {
    #[derive(Deserialize)]
    struct Line<'a> {
        #[serde(borrow)]
        response: Option<Response<'a>>,
        #[serde(borrow)]
        error: Option<Fault<'a>>,
    }
    #[derive(Deserialize)]
    struct Response<'a> {
        #[serde(borrow)]
        body: &'a RawValue,
    }
    #[derive(Deserialize)]
    struct Fault<'a> {
        #[serde(borrow)]
        message: &'a RawValue,
    }
    let line: Line = serde_json::from_slice(result).ok()?;
    let found = line.response.map(|response| response.body).or(line.error.map(|error| error.message))?;
    Some(found.get())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{json, Value};
    use wordmill_batch::Row;

    fn made(result: &str, request: Option<&[u8]>, line: &[u8]) -> (Vec<Value>, Place) {
        let row = Row { line: 6, custom_id: Some("a\"1".into()), status: "ok".into(), model: "m".into(), attempts: 2, ..Row::default() };
        let documents = Documents::new("batch_1", "local", Some("d"), None);
        let mut out = b"before\n".to_vec();
        let answer = Answer { number: 3, result: result.as_bytes(), row: &row, request, line };
        let place = documents.add(&mut out, &answer, 9);
        assert_eq!(place.whole, 7..out.len());
        let lines = out[7..].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        (lines.map(|line| serde_json::from_slice(line).unwrap()).collect(), place)
    }

    #[test]
    fn a_document_holds_request_and_result_as_they_were() {
        let result = "{\"response\":{\"body\":{\"x\":[\"hello\"],\"n\":1.50}},\"error\":null}\n";
        let (lines, place) = made(result, Some(br#"{"q":"why\n?"}"#), b"");
        assert_eq!(lines[0], json!({"index": {"_id": "batch_1-7", "version": 9, "version_type": "external_gte"}}));
        let document = &lines[1];
        assert_eq!(document["request"], r#"{"q":"why\n?"}"#);
        assert_eq!(document["result"], result.trim_end());
        assert_eq!(document["text"], "why hello");
        assert_eq!((&document["line"], &document["block"], &document["attempts"]), (&json!(7), &json!(3), &json!(2)));
        assert_eq!((&document["custom_id"], &document["dataset"], document.get("source")), (&json!("a\"1"), &json!("d"), None));
        assert_eq!((place.block, place.line), (3, 7));
    }

    #[test]
    fn a_line_that_is_no_json_is_its_own_request() {
        let (lines, _) = made("{\"response\":null,\"error\":{\"code\":\"c\",\"message\":\"no\"}}\n", None, b"{what");
        assert_eq!(lines[1]["request"], "\"{what\"");
        assert_eq!(lines[1]["text"], "what no");
    }
}
