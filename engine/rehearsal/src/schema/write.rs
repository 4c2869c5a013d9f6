//! From a schema's nodes to one value, as JSON text.

use std::collections::HashSet;

use super::{kind, text, Array, Node, Object, Property, Schema};
use crate::json;
use crate::prose::Voice;
use crate::vocabulary::NOUNS;

/// From this depth on, or this length, values are as small as the schema allows.
const DEEP: u32 = 5;
const LONG: usize = 4 * 1024;
/// No value is much longer than this, whatever the schema asks for.
const LONGEST: usize = 4 * 1024 * 1024;
/// Items of an array beyond the fewest allowed.
const MORE_ITEMS: usize = 3;
/// Items that must differ are drawn again, at most so often.
const TRIES: usize = 40;

impl Schema {
    /// A valid value.
    pub(crate) fn value(&self, voice: &mut Voice<'_>) -> String {
        let mut draft = Draft { schema: self, out: String::with_capacity(256), depth: 0 };
        draft.node(0, voice);
        draft.out
    }

    /// Whether `broken` has something to break.
    pub(crate) fn can_break(&self) -> bool {
        self.kinds(0) != kind::ALL
    }

    /// A value that is JSON but not valid: a required property is missing or of a wrong type, or
    /// the whole is of a wrong type.
    pub(crate) fn broken(&self, voice: &mut Voice<'_>) -> String {
        let root = self.root();
        let Node::Object(object) = &self.nodes[root] else { return self.wrong(root).to_owned() };
        let required: Vec<_> = object.properties.iter().filter(|property| property.required).collect();
        let typed: Vec<_> = object.properties.iter().filter(|property| self.kinds(property.node) != kind::ALL).collect();
        let mut draft = Draft { schema: self, out: String::with_capacity(256), depth: 0 };
        if !required.is_empty() && (typed.is_empty() || voice.random.chance(1, 2)) {
            let missing = required[voice.random.below(required.len())];
            draft.object(object, &|property| std::ptr::eq(property, missing).then_some(Spoil::Left), voice);
        } else if !typed.is_empty() {
            let wrong = typed[voice.random.below(typed.len())];
            let value = self.wrong(wrong.node);
            draft.object(object, &|property| std::ptr::eq(property, wrong).then_some(Spoil::Put(value)), voice);
        } else {
            return self.wrong(root).to_owned();
        }
        draft.out
    }

    /// The root, behind references.
    fn root(&self) -> usize {
        let mut node = 0;
        for _ in 0..self.nodes.len() {
            match &self.nodes[node] {
                Node::AnyOf(nodes) if nodes.len() == 1 => node = nodes[0],
                _ => break,
            }
        }
        node
    }

    /// A value of a type that the node cannot have.
    fn wrong(&self, node: usize) -> &'static str {
        const VALUES: &[(u8, &str)] = &[
            (kind::TEXT, "\"unknown\""),
            (kind::NUMBER, "-1"),
            (kind::ARRAY, "[]"),
            (kind::OBJECT, "{}"),
            (kind::BOOLEAN, "true"),
            (kind::NULL, "null"),
        ];
        let kinds = self.kinds(node);
        VALUES.iter().find(|(kind, _)| kinds & kind == 0).map_or("null", |(_, value)| value)
    }
}

/// What becomes of a property instead of a valid value.
#[derive(Clone, Copy)]
enum Spoil {
    Left,
    Put(&'static str),
}

struct Draft<'s> {
    schema: &'s Schema,
    out: String,
    depth: u32,
}

impl Draft<'_> {
    fn is_small(&self) -> bool {
        self.depth >= DEEP || self.out.len() > LONG
    }

    fn node(&mut self, node: usize, voice: &mut Voice<'_>) {
        if self.out.len() > LONGEST {
            // Schemas whose smallest value is huge exist; no answer is that long.
            self.out.push_str("null");
            return;
        }
        let schema = self.schema;
        match &schema.nodes[node] {
            Node::OneOfTexts(texts) => self.out.push_str(&texts[voice.random.below(texts.len())]),
            Node::AnyOf(nodes) => {
                let node = self.branch(nodes, voice);
                self.node(node, voice);
            }
            Node::Null => self.out.push_str("null"),
            Node::Boolean => self.out.push_str(if voice.random.chance(1, 2) { "true" } else { "false" }),
            Node::Number(number) => number.write(&mut voice.random, &mut self.out),
            Node::Text(rule) => {
                let mut plain = String::new();
                text::write(rule, voice, &mut plain);
                self.out.push_str(&json::quoted(&plain));
            }
            Node::Array(array) => self.array(array, voice),
            Node::Object(object) => self.object(object, &|_| None, voice),
            Node::Anything => {
                let mut plain = String::new();
                voice.short_phrase(&mut plain);
                self.out.push_str(&json::quoted(&plain));
            }
        }
    }

    /// One of several: any that has an end, and null less often than what says something.
    fn branch(&self, nodes: &[usize], voice: &mut Voice<'_>) -> usize {
        let heights = &self.schema.heights;
        if self.is_small() {
            return nodes.iter().copied().min_by_key(|&node| heights[node]).unwrap_or(0);
        }
        let is_null = |node: usize| matches!(self.schema.nodes[node], Node::Null);
        for _ in 0..TRIES {
            let node = nodes[voice.random.below(nodes.len())];
            if heights[node] != u32::MAX && (!is_null(node) || voice.random.chance(1, 4)) {
                return node;
            }
        }
        nodes.iter().copied().min_by_key(|&node| heights[node]).unwrap_or(0)
    }

    fn array(&mut self, array: &Array, voice: &mut Voice<'_>) {
        let most = array.most.unwrap_or(usize::MAX);
        let least = array.least.max(array.first.len().min(most).min(if self.is_small() { array.least } else { most }));
        // Something rather than nothing, where it ends: an empty list shows little.
        let ends = array.rest.is_none_or(|rest| self.schema.heights[rest] != u32::MAX);
        let extra = if self.is_small() || !ends { 0 } else { MORE_ITEMS.min(most - least) };
        let low = if extra > 0 && least == 0 { 1 } else { 0 };
        let count = least + voice.random.between(low, extra.max(low).min(most - least));
        let mut seen = HashSet::new();
        self.depth += 1;
        self.out.push('[');
        for number in 0..count {
            let Some(node) = array.first.get(number).copied().or(array.rest) else { break };
            let from = self.out.len();
            if number > 0 {
                self.out.push(',');
            }
            let start = self.out.len();
            self.node(node, voice);
            if array.unique {
                let mut tries = 0;
                while seen.contains(&self.out[start..]) && tries < TRIES {
                    self.out.truncate(start);
                    self.node(node, voice);
                    tries += 1;
                }
                if tries == TRIES {
                    self.out.truncate(from);
                    break;
                }
                seen.insert(self.out[start..].to_owned());
            }
        }
        self.out.push(']');
        self.depth -= 1;
    }

    fn object(&mut self, object: &Object, spoil: &dyn Fn(&Property) -> Option<Spoil>, voice: &mut Voice<'_>) {
        let small = self.is_small();
        self.depth += 1;
        self.out.push('{');
        let must = object.properties.iter().filter(|property| property.required).count();
        let (mut written, mut optional) = (0, object.properties.len() - must);
        let room = object.most.unwrap_or(usize::MAX).saturating_sub(must);
        let mut taken = 0;
        for property in &object.properties {
            let spoilt = spoil(property);
            if !property.required && spoilt.is_none() {
                let needed = object.least.saturating_sub(must + taken) >= optional;
                optional -= 1;
                let ends = self.schema.heights[property.node] != u32::MAX;
                let wanted = needed || !small && ends && voice.random.chance(3, 4);
                if !wanted || taken >= room {
                    continue;
                }
                taken += 1;
            }
            if matches!(spoilt, Some(Spoil::Left)) {
                continue;
            }
            self.key(&property.key, &mut written);
            match spoilt {
                Some(Spoil::Put(value)) => self.out.push_str(value),
                _ => self.node(property.node, voice),
            }
        }
        self.others(object, written, voice);
        self.out.push('}');
        self.depth -= 1;
    }

    /// Keys that the schema does not name: as many as must be, and a few for a plain map.
    fn others(&mut self, object: &Object, mut written: usize, voice: &mut Voice<'_>) {
        let Some((pattern, node)) = &object.others else { return };
        let is_map = object.properties.is_empty() && !self.is_small();
        let count = object.least.max(if is_map { 2 } else { 0 }).min(object.most.unwrap_or(usize::MAX));
        if written >= count {
            return;
        }
        let mut keys: HashSet<String> = object.properties.iter().map(|property| property.key.clone()).collect();
        let mut tries = 0;
        while written < count && tries < count + TRIES {
            tries += 1;
            let mut key = String::new();
            match pattern {
                Some(pattern) => pattern.write(&mut voice.random, 0, usize::MAX, &mut key),
                None => key.push_str(voice.random.pick(NOUNS)),
            }
            if pattern.is_none() && tries > TRIES {
                key.push_str(&written.to_string());
            }
            let key = json::quoted(&key);
            if !keys.contains(&key) {
                self.key(&key, &mut written);
                self.node(*node, voice);
                keys.insert(key);
            }
        }
    }

    fn key(&mut self, key: &str, written: &mut usize) {
        if *written > 0 {
            self.out.push(',');
        }
        self.out.push_str(key);
        self.out.push(':');
        *written += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::super::compile;
    use super::*;
    use crate::random::Random;
    use serde_json::{json, Value};

    fn draws(schema: &Value) -> Vec<Value> {
        let schema = compile(schema).unwrap();
        (0..60)
            .map(|seed| {
                let text = schema.value(&mut Voice::new(Random::new(seed), &["laptop"]));
                serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
            })
            .collect()
    }

    #[test]
    fn a_recursive_schema_comes_to_an_end() {
        let tree = json!({
            "$ref": "#/$defs/node",
            "$defs": {"node": {
                "type": "object",
                "required": ["name", "children", "parent"],
                "properties": {
                    "name": {"type": "string"},
                    "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
                    "parent": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
                },
            }},
        });
        for value in draws(&tree) {
            assert!(value["name"].is_string() && value["children"].is_array(), "{value}");
        }
    }

    #[test]
    fn what_cannot_be_is_said() {
        let says = |schema: Value| compile(&schema).err().unwrap();
        assert_eq!(says(json!({"properties": {"a": {"$ref": "#"}}, "required": ["a"]})), "the schema refers to itself without an end");
        assert_eq!(says(json!({"$ref": "#/$defs/x"})), "the schema has no \"#/$defs/x\", which a $ref points to");
        assert!(says(json!({"$ref": "https://a.b/c"})).contains("points out of the schema"));
        assert_eq!(says(json!({"properties": {"n": {"type": "integer", "minimum": 3, "maximum": 2}}})), "no number can be valid at \"n\"");
        assert_eq!(says(json!({"type": "strnig"})), "there is no type \"strnig\"");
        assert_eq!(says(json!([])), "a schema must be an object, not []");
        assert_eq!(
            says(json!({"properties": {"code": {"type": "string", "pattern": "(?=x)"}}})),
            "the pattern \"(?=x)\" at \"code\" looks ahead or behind, which the rehearsal model cannot follow"
        );
        assert_eq!(says(json!({"required": ["b"], "additionalProperties": false})), "the property \"b\" is required but not allowed");
        assert_eq!(says(json!({"$ref": "#"})), "the schema refers to itself without an end");
        assert_eq!(says(json!({"allOf": [{"$ref": "#"}]})), "the schema is more than 100 deep");
        let growing = json!({"allOf": [
            {"$ref": "#", "allOf": [{"minimum": 1}]},
            {"$ref": "#", "allOf": [{"minimum": 2}]},
        ]});
        assert_eq!(says(growing), "the schema combines too many others");
    }

    #[test]
    fn a_value_stays_within_bounds_whatever_is_asked_for() {
        assert_eq!(
            compile(&json!({"properties": {"a": {"minItems": 1e9}}})).err().unwrap(),
            "minItems is 1000000000 at \"a\", and the rehearsal model writes at most 100000"
        );
        // Each level has two of the one below: the smallest value has a million million parts.
        let mut levels = serde_json::Map::new();
        levels.insert("0".into(), json!({"type": "string"}));
        for level in 1..40 {
            let below = json!({"$ref": format!("#/$defs/{}", level - 1)});
            let both = json!({"type": "object", "required": ["a", "b"], "properties": {"a": below, "b": below}});
            levels.insert(level.to_string(), both);
        }
        let schema = compile(&json!({"$ref": "#/$defs/39", "$defs": levels})).unwrap();
        let text = schema.value(&mut Voice::new(Random::new(1), &[]));
        assert!(text.len() < 2 * LONGEST);
    }

    #[test]
    fn a_broken_value_lacks_what_is_required_or_has_a_wrong_type() {
        let schema = compile(&json!({
            "type": "object",
            "required": ["level"],
            "properties": {"level": {"type": "integer"}, "note": {"type": ["string", "null"]}},
        }))
        .unwrap();
        assert!(schema.can_break());
        for seed in 0..100 {
            let text = schema.broken(&mut Voice::new(Random::new(seed), &[]));
            let value: Value = serde_json::from_str(&text).unwrap();
            let right = value["level"].is_i64() && (value["note"].is_string() || value["note"].is_null());
            assert!(!right, "{text}");
        }
        assert!(!compile(&json!({})).unwrap().can_break());
        let whole = compile(&json!({"anyOf": [{"type": "string"}, {"const": 3}]})).unwrap();
        assert_eq!(whole.broken(&mut Voice::new(Random::new(1), &[])), "[]");
    }
}
