//! The one JSON profile, canonical text and digests.
//!
//! Canonical form: keys sorted by their bytes, no white space, numbers exactly as they were written (so
//! a 30-digit integer stays itself), strings escaped as `serde_json` does. What serde refuses we
//! refuse: NaN, lone surrogates, more than 127 levels.

use serde_json::Value;

/// A digest of 128 bits; 32 hex digits when shown.
pub type Key = [u8; 16];

/// Parse JSON of our profile; the error is a sentence without the text itself.
pub fn parse(text: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(text).map_err(|error| error.to_string())
}

/// Write the canonical form.
pub fn write_canonical(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) => out.extend_from_slice(number.to_string().as_bytes()),
        Value::String(text) => write_string(text, out),
        Value::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_canonical(item, out);
            }
            out.push(b']');
        }
        Value::Object(fields) => {
            let mut sorted: Vec<_> = fields.iter().collect();
            sorted.sort_unstable_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
            out.push(b'{');
            for (index, (name, field)) in sorted.into_iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_string(name, out);
                out.push(b':');
                write_canonical(field, out);
            }
            out.push(b'}');
        }
    }
}

/// Write a JSON string with its quotes.
pub fn write_string(text: &str, out: &mut Vec<u8>) {
    // Writing to a Vec cannot fail, and every str is a JSON string.
    let _ = serde_json::to_writer(out, text);
}

/// The canonical form of a JSON text.
pub fn canonical(text: &[u8]) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(text.len());
    write_canonical(&parse(text)?, &mut out);
    Ok(out)
}

/// The first 128 bits of BLAKE3.
pub fn digest(bytes: &[u8]) -> Key {
    shorten(blake3::hash(bytes))
}

pub(crate) fn shorten(hash: blake3::Hash) -> Key {
    let mut key = [0; 16];
    key.copy_from_slice(&hash.as_bytes()[..16]);
    key
}

/// 32 hex digits.
pub fn hex(key: &Key) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = String::with_capacity(32);
    for byte in key {
        out.push(DIGITS[usize::from(byte >> 4)] as char);
        out.push(DIGITS[usize::from(byte & 15)] as char);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_form_sorts_keys_and_keeps_numbers_as_written() {
        let text = br#"{ "b": [1.0, 123456789012345678901234567890], "a": {"z": "\u00e9\u0000", "y": null} }"#;
        let form = canonical(text).unwrap();
        assert_eq!(
            String::from_utf8(form).unwrap(),
            "{\"a\":{\"y\":null,\"z\":\"é\\u0000\"},\"b\":[1.0,123456789012345678901234567890]}"
        );
    }

    #[test]
    fn what_is_not_our_profile_is_refused() {
        for text in [&b"{\"a\": NaN}"[..], b"\"\\ud800\"", b"[1,]", b"{\"a\":1} x", b"\xff"] {
            assert!(canonical(text).is_err(), "{text:?}");
        }
        let deep = [vec![b'['; 200], vec![b']'; 200]].concat();
        assert!(canonical(&deep).is_err());
    }

    #[test]
    fn a_digest_is_shown_as_32_hex_digits() {
        assert_eq!(hex(&digest(b"")), "af1349b9f5f9a1a6a0404dea36dcc949");
    }
}
