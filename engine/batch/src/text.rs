//! The texts of a request or of an answer: by these it is found.

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;

/// Characters that are kept.
const MOST: usize = 20_000;
/// Items of a list that are looked at.
const ITEMS: usize = 1000;
/// Fields whose texts say nothing that anybody looks for.
const DULL: [&str; 8] = ["id", "object", "model", "role", "type", "finish_reason", "system_fingerprint", "request_id"];
/// By this name `serde_json` hands on a number as it was written.
const NUMBER: &str = "$serde_json::private::Number";

/// All texts of a JSON value, in their order, each on a line of its own; at most 20,000 characters.
/// A list of fractions (an embedding) is left out. The error is a sentence.
pub fn texts(json: &[u8]) -> Result<String, String> {
    let mut found = Found::default();
    gather(json, &mut found)?;
    Ok(found.text)
}

/// The same of two values, one after the other, with the bound for each.
pub fn both(asked: &[u8], answered: &[u8]) -> Result<String, String> {
    let mut found = Found::default();
    gather(asked, &mut found)?;
    found.text.push('\n');
    (found.left, found.any) = (MOST, false);
    gather(answered, &mut found)?;
    Ok(found.text)
}

fn gather(json: &[u8], found: &mut Found) -> Result<(), String> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    Value { found }.deserialize(&mut reader).and_then(|_| reader.end()).map_err(|error| error.to_string())
}

struct Found {
    text: String,
    /// Characters that still fit.
    left: usize,
    /// There is a text before.
    any: bool,
}

impl Default for Found {
    fn default() -> Self {
        Found { text: String::new(), left: MOST, any: false }
    }
}

impl Found {
    fn add(&mut self, text: &str) {
        if self.any && self.left > 0 {
            self.text.push('\n');
            self.left -= 1;
        }
        self.any = true;
        if text.len() <= self.left {
            self.left -= if text.is_ascii() { text.len() } else { text.chars().count() };
            self.text.push_str(text);
            return;
        }
        let end = text.char_indices().nth(self.left).map_or(text.len(), |(at, _)| at);
        self.left -= if end < text.len() { self.left } else { text.chars().count() };
        self.text.push_str(&text[..end]);
    }
}

/// A value whose texts are wanted; whether it is a fraction.
struct Value<'f> {
    found: &'f mut Found,
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_bool<E: Error>(self, _value: bool) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_u64<E: Error>(self, _value: u64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_i64<E: Error>(self, _value: i64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_f64<E: Error>(self, _value: f64) -> Result<bool, E> {
        Ok(true)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<bool, E> {
        self.found.add(text);
        Ok(false)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<bool, A::Error> {
        for _ in 0..ITEMS {
            match items.next_element_seed(Value { found: &mut *self.found })? {
                None => return Ok(false),
                Some(false) => {}
                Some(true) => break,
            }
        }
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(false)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<bool, A::Error> {
        while let Some(name) = fields.next_key_seed(Name)? {
            if name == NUMBER {
                let digits: String = fields.next_value()?;
                return Ok(digits.contains(['.', 'e', 'E']));
            }
            if DULL.contains(&name.as_ref()) {
                fields.next_value::<IgnoredAny>()?;
            } else {
                fields.next_value_seed(Value { found: &mut *self.found })?;
            }
        }
        Ok(false)
    }
}

/// A field's name, copied only where it was escaped.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E: Error>(self, name: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(name))
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(name.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> String {
        texts(json.as_bytes()).unwrap()
    }

    #[test]
    fn texts_come_in_their_order_without_what_is_dull() {
        let asked = r#"{"model":"m","messages":[{"role":"user","content":"one"},{"content":[{"type":"text","text":"t\u0077o"}]}],"n":3,"x":null,"y":true}"#;
        assert_eq!(of(asked), "one\ntwo");
        assert_eq!(of("\"plain\""), "plain");
        assert_eq!(of("17"), "");
        assert_eq!(of("1.5"), "");
        assert_eq!(both(b"[\"a\",\"b\"]", b"{\"t\":\"c\"}").unwrap(), "a\nb\nc");
    }

    #[test]
    fn a_list_ends_at_a_fraction_and_after_a_thousand_items() {
        assert_eq!(of(r#"{"a":["x",0.5,"y"],"b":[1,"z",1e3,"w"]}"#), "x\nz");
        let long = format!("[{}\"last\"]", "0,".repeat(1000));
        assert_eq!(of(&long), "");
        assert_eq!(of(&format!("[{}\"last\"]", "0,".repeat(999))), "last");
    }

    #[test]
    fn it_is_bounded_in_characters() {
        let found = of(&format!(r#"["{}","{}"]"#, "ä".repeat(15_000), "b".repeat(15_000)));
        assert_eq!(found.chars().count(), 20_000);
        assert!(found.starts_with('ä') && found.contains("ä\nb") && found.ends_with('b'));
        let text = both(format!("\"{}\"", "a".repeat(30_000)).as_bytes(), b"\"answer\"").unwrap();
        assert!(text.ends_with("a\nanswer"));
        assert_eq!(of(&format!(r#"["{}","",""]"#, "a".repeat(19_999))).len(), 20_000);
    }

    #[test]
    fn what_is_no_json_is_refused() {
        assert!(texts(b"{\"a\":").is_err());
        assert!(texts(b"\"a\" b").is_err());
        assert!(texts(br#""\ud800""#).is_err());
    }
}
