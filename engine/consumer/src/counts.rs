//! What became of the lines of a block, as `wordmill.batches.work.counted` counts it.

use serde_json::{json, Value};
use std::collections::BTreeMap;
use wordmill_batch::{Row, Segment};

#[derive(Debug, Default, PartialEq)]
pub struct Counts {
    pub completed: u64,
    pub failed: u64,
    pub rejected: u64,
    pub cached: u64,
    pub retried: u64,
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub money: f64,
    pub seconds: f64,
    pub causes: BTreeMap<String, u64>,
    pub output_bytes: u64,
    pub failure_bytes: u64,
    /// What was asked of a provider, every attempt: requests, and tokens of prompts and answers.
    pub sent: (u64, u64, u64),
}

impl Counts {
    pub fn of(segment: &Segment) -> Self {
        let mut counts = Counts::rows(&segment.rows);
        for (row, line) in segment.rows.iter().zip(segment.data.split_inclusive(|byte| *byte == b'\n')) {
            let bytes = if row.status == "ok" { &mut counts.output_bytes } else { &mut counts.failure_bytes };
            *bytes += line.len() as u64;
        }
        counts
    }

    /// The same without the bytes.
    pub fn rows<'a>(rows: impl IntoIterator<Item = &'a Row>) -> Self {
        let mut counts = Counts::default();
        for row in rows {
            if row.status == "ok" {
                counts.completed += 1;
            } else {
                counts.failed += 1;
                counts.rejected += u64::from(row.model.is_empty());
                *counts.causes.entry(row.status.clone()).or_default() += 1;
            }
            counts.cached += u64::from(row.cached);
            counts.retried += u64::from(row.attempts.saturating_sub(1));
            if !row.cached {
                counts.sent.0 += u64::from(row.attempts);
                counts.sent.1 += row.input_tokens;
                counts.sent.2 += row.output_tokens;
            }
            counts.input_tokens += row.input_tokens;
            counts.output_tokens += row.output_tokens;
            counts.money += row.money;
            counts.seconds += row.seconds;
        }
        counts
    }

    /// What of it was spent since: requests, tokens, money.
    pub fn since(&self, before: &Counts) -> (i64, i64, f64) {
        let tokens = |counts: &Counts| (counts.sent.1 + counts.sent.2) as i64;
        (self.sent.0 as i64 - before.sent.0 as i64, tokens(self) - tokens(before), self.money - before.money)
    }

    /// As it stands in the table of blocks.
    pub fn json(&self) -> Value {
        json!({
            "total": 0, "completed": self.completed, "failed": self.failed, "rejected": self.rejected,
            "cached": self.cached, "retried": self.retried, "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens, "money": self.money, "seconds": self.seconds,
            "causes": self.causes, "output_bytes": self.output_bytes, "failure_bytes": self.failure_bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_by_what_became_of_them() {
        let row = |status: &str, model: &str, attempts, cached| Row {
            status: status.into(),
            model: model.into(),
            attempts,
            cached,
            input_tokens: 3,
            money: 0.5,
            ..Row::default()
        };
        let rows =
            vec![row("ok", "m", 3, false), row("ok", "m", 1, true), row("timeout", "m", 6, false), row("missing_body", "", 0, false)];
        let counts = Counts::of(&Segment { number: 0, data: b"1\n22\n333\n4444\n".to_vec(), rows });
        assert_eq!((counts.completed, counts.failed, counts.rejected, counts.cached), (2, 2, 1, 1));
        assert_eq!((counts.retried, counts.sent, counts.input_tokens, counts.money), (7, (9, 9, 0), 12, 2.0));
        assert_eq!((counts.output_bytes, counts.failure_bytes), (5, 9));
        assert_eq!(counts.causes, [("missing_body".to_string(), 1), ("timeout".to_string(), 1)].into());
    }
}
