//! The one JSON profile, canonical text and digests.
//!
//! Canonical form: keys sorted by their bytes, no white space, numbers exactly as they were written (so
//! a 30-digit integer stays itself), strings escaped as `serde_json` does. What serde refuses we
//! refuse: NaN, lone surrogates, more than 127 levels.

use serde::de::{Deserializer, MapAccess, Visitor};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::Value;
use std::borrow::Cow;

/// A digest of 128 bits; 32 hex digits when shown.
pub type Key = [u8; 16];

/// A map by digest: digests are random already, so they are their own hash.
pub type KeyMap<V> = std::collections::HashMap<Key, V, std::hash::BuildHasherDefault<KeyHasher>>;

/// See `KeyMap`.
#[derive(Debug, Default)]
pub struct KeyHasher(u64);

impl std::hash::Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks_exact(8) {
            let mut word = [0; 8];
            word.copy_from_slice(chunk);
            self.0 ^= u64::from_ne_bytes(word);
        }
    }

    fn write_usize(&mut self, _length: usize) {}
}

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

/// The fields of an object with their values as they were written.
pub struct Fields<'a>(pub Vec<(Cow<'a, str>, &'a RawValue)>);

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;

        impl<'de> Visitor<'de> for Read {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::with_capacity(8);
                while let Some((Name(name), value)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
                    fields.push((name, value));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Read)
    }
}

impl<'a> Fields<'a> {
    /// Sorted by name, each name once: the last of equal ones counts.
    pub fn sorted(mut self) -> Self {
        self.0.reverse();
        self.0.sort_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
        self.0.dedup_by(|later, first| later.0 == first.0);
        self
    }

    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().rev().find(|(own, _)| own == name).map(|(_, value)| *value)
    }
}

/// Write the canonical form of a value that was read already.
///
/// Numbers, literals and strings without escapes are canonical as they stand, so a long prompt is
/// copied and never decoded.
pub fn write_raw(value: &RawValue, out: &mut Vec<u8>) -> Result<(), String> {
    write_level(value, DEEPEST, out)
}

/// Levels that a value may have, as in `serde_json`.
const DEEPEST: usize = 127;

fn write_level(value: &RawValue, levels: usize, out: &mut Vec<u8>) -> Result<(), String> {
    let text = value.get();
    let below = || levels.checked_sub(1).ok_or_else(|| format!("the JSON has more than {DEEPEST} levels"));
    match text.as_bytes().first() {
        Some(b'{') => {
            let fields: Fields = serde_json::from_str(text).map_err(|error| error.to_string())?;
            out.push(b'{');
            for (index, (name, field)) in fields.sorted().0.into_iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_string(&name, out);
                out.push(b':');
                write_level(field, below()?, out)?;
            }
            out.push(b'}');
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(text).map_err(|error| error.to_string())?;
            out.push(b'[');
            for (index, item) in items.into_iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_level(item, below()?, out)?;
            }
            out.push(b']');
        }
        Some(b'"') if text.contains('\\') => {
            let decoded: String = serde_json::from_str(text).map_err(|error| error.to_string())?;
            write_string(&decoded, out);
        }
        _ => out.extend_from_slice(text.as_bytes()),
    }
    Ok(())
}

/// The canonical form of a JSON text.
pub fn canonical(text: &[u8]) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(text.len());
    write_raw(serde_json::from_slice(text).map_err(|error| error.to_string())?, &mut out)?;
    Ok(out)
}

/// The first 128 bits of SHA-256, for which processors have instructions of their own.
pub fn digest(bytes: &[u8]) -> Key {
    shorten(ring::digest::digest(&ring::digest::SHA256, bytes))
}

pub(crate) fn shorten(digest: ring::digest::Digest) -> Key {
    let mut key = [0; 16];
    key.copy_from_slice(&digest.as_ref()[..16]);
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
        assert_eq!(String::from_utf8(form).unwrap(), "{\"a\":{\"y\":null,\"z\":\"é\\u0000\"},\"b\":[1.0,123456789012345678901234567890]}");
    }

    #[test]
    fn both_ways_to_the_canonical_form_agree() {
        for text in [
            r#"{"b":1,"a":[{"d":"x\u0041\n/","c":null}],"a":[true,false,-0.5,"plain / \/ é"]}"#,
            r#" [ ] "#,
            r#"{"é":{"":[]},"e":{}}"#,
            r#""\ud83d\ude00""#,
        ] {
            let mut slow = Vec::new();
            write_canonical(&parse(text.as_bytes()).unwrap(), &mut slow);
            assert_eq!(String::from_utf8(canonical(text.as_bytes()).unwrap()), String::from_utf8(slow), "{text}");
        }
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
        assert_eq!(hex(&digest(b"")), "e3b0c44298fc1c149afbf4c8996fb924");
    }
}
