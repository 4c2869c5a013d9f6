//! The log: a line on stderr for each event, without secrets.

use serde_json::{json, Map, Value};
use std::io::Write;
use std::sync::{OnceLock, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One JSON object each, as `wordmill serve` writes them.
    Json,
    Pretty,
}

const HIDDEN: &str = "********";
/// A shorter value would take harmless letters out of every text.
const SHORTEST: usize = 4;

static FORM: OnceLock<Form> = OnceLock::new();
/// What no line may hold, in the forms in which it may come, longest first.
static SECRETS: RwLock<Vec<String>> = RwLock::new(Vec::new());

pub fn begin(form: Form) {
    FORM.get_or_init(|| form);
}

/// From now on no line holds this value.
pub fn hide(secret: &str) {
    if secret.len() < SHORTEST {
        return;
    }
    let quoted = json!(secret).to_string();
    let forms = [secret.to_string(), quoted[1..quoted.len() - 1].to_string(), percent(secret)];
    let mut held = SECRETS.write().unwrap_or_else(|poisoned| poisoned.into_inner());
    for form in forms {
        if !held.contains(&form) {
            held.push(form);
        }
    }
    held.sort_by_key(|form| std::cmp::Reverse(form.len()));
}

/// As it stands in a URL.
fn percent(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// The text without what was hidden.
pub fn scrub(text: &str) -> String {
    let held = SECRETS.read().unwrap_or_else(|poisoned| poisoned.into_inner());
    let mut text = text.to_string();
    for secret in held.iter().filter(|_| !held.is_empty()) {
        if text.contains(secret.as_str()) {
            text = text.replace(secret.as_str(), HIDDEN);
        }
    }
    text
}

pub fn info(message: &str, fields: Value) {
    line("info", message, fields);
}

pub fn warning(message: &str, fields: Value) {
    line("warning", message, fields);
}

pub fn error(message: &str, fields: Value) {
    line("error", message, fields);
}

fn line(level: &str, message: &str, fields: Value) {
    let fields = match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    let (seconds, millis) = SystemTime::now().duration_since(UNIX_EPOCH).map_or((0, 0), |since| (since.as_secs(), since.subsec_millis()));
    let text = if FORM.get() == Some(&Form::Pretty) {
        let more: String =
            fields.iter().map(|(name, value)| format!("  {name}={}", value.as_str().map_or(value.to_string(), Into::into))).collect();
        let clock = format!("{:02}:{:02}:{:02}", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        format!("{clock} {level:7} {message}{more}").replace(['\n', '\r'], " ")
    } else {
        let mut whole = Map::new();
        whole.insert("time".into(), json!(moment(seconds, millis)));
        whole.insert("level".into(), json!(level));
        whole.insert("logger".into(), json!("wordmill.consumer"));
        whole.insert("message".into(), json!(message));
        whole.extend(fields);
        Value::Object(whole).to_string()
    };
    // Nobody may read it any more.
    let _ = writeln!(std::io::stderr().lock(), "{}", scrub(&text));
}

/// UTC, as `2026-01-31T12:00:00.000+00:00`. Source: Hinnant 2013, `civil_from_days`.
fn moment(seconds: u64, millis: u32) -> String {
    let days = seconds / 86_400 + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}+00:00")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_as_python_writes_it() {
        assert_eq!(moment(0, 0), "1970-01-01T00:00:00.000+00:00");
        assert_eq!(moment(1_709_208_000, 7), "2024-02-29T12:00:00.007+00:00");
        assert_eq!(moment(1_798_761_599, 999), "2026-12-31T23:59:59.999+00:00");
    }

    #[test]
    fn what_is_hidden_stands_in_no_line() {
        hide("s3cr\"et/x");
        assert_eq!(scrub(r#"a s3cr"et/x b s3cr\"et/x c s3cr%22et%2Fx d"#), "a ******** b ******** c ******** d");
        hide("ab");
        assert_eq!(scrub("ab"), "ab");
    }
}
