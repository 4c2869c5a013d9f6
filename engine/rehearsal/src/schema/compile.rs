//! From the text of a schema to its nodes.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::merge::{decimal, merge};
use super::number::{tighter, Bounds, Number};
use super::pattern::Pattern;
use super::text::{fitting, Hint};
use super::{Array, Format, Node, Object, Property, Schema, Text};

/// Nested schemas, followed references included.
const DEEPEST: usize = 100;
const MOST_NODES: usize = 10_000;
/// Parts of schemas that are written by combining others.
const MOST_COMBINED: usize = 100_000;
/// Combinations of `anyOf` that are kept apart.
const MOST_BRANCHES: usize = 64;
/// What `minItems`, `minProperties` and `minLength` may ask for.
const LARGEST: f64 = 100_000.0;
/// Numbers are between this and its contrary.
const LARGEST_NUMBER: f64 = 1e18;
const UNBOUNDED: u32 = u32::MAX;

/// Keywords that restrict values; `$ref` with none of them beside it is a plain reference.
const NOTES: &[&str] =
    &["$ref", "$schema", "$id", "$comment", "title", "description", "default", "examples", "deprecated", "$defs", "definitions"];

/// Compiles the text of a schema. The error is a sentence without its full stop.
pub(crate) fn compile(schema: &Value) -> Result<Schema, String> {
    let mut compiler = Compiler { root: schema, nodes: Vec::new(), known: HashMap::new(), combined: 0 };
    compiler.node(schema, "", 0)?;
    let heights = heights(&compiler.nodes);
    if heights.first().is_none_or(|&height| height == UNBOUNDED) {
        return Err("the schema refers to itself without an end".into());
    }
    Ok(Schema { nodes: compiler.nodes, heights })
}

struct Compiler<'a> {
    root: &'a Value,
    nodes: Vec<Node>,
    /// Nodes of the references that were followed.
    known: HashMap<String, usize>,
    /// Parts of schemas that were written by combining others, so far.
    combined: usize,
}

impl Compiler<'_> {
    fn add(&mut self, node: Node) -> Result<usize, String> {
        if self.nodes.len() >= MOST_NODES {
            return Err(format!("the schema has more than {MOST_NODES} parts"));
        }
        self.nodes.push(node);
        Ok(self.nodes.len() - 1)
    }

    /// Compiles one schema; `name` is that of the property it describes.
    fn node(&mut self, schema: &Value, name: &str, depth: usize) -> Result<usize, String> {
        // The place comes first, so that the root is node 0 and a reference can point to it.
        let place = self.add(Node::Anything)?;
        let node = self.build(schema, name, depth)?;
        self.nodes[place] = node;
        Ok(place)
    }

    fn build(&mut self, schema: &Value, name: &str, depth: usize) -> Result<Node, String> {
        if depth > DEEPEST {
            return Err(format!("the schema is more than {DEEPEST} deep"));
        }
        let schema = match schema {
            Value::Bool(true) => return Ok(Node::Anything),
            Value::Bool(false) => return Err(format!("nothing can be valid{}", at(name))),
            Value::Object(schema) => schema,
            other => return Err(format!("a schema must be an object, not {other}{}", at(name))),
        };
        if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
            if schema.keys().all(|key| NOTES.contains(&key.as_str())) {
                return self.reference(target, name, depth);
            }
            let whole = self.resolved(&Value::Object(schema.clone()), depth)?;
            return self.build(&Value::Object(whole), name, depth + 1);
        }
        if let Some(all) = schema.get("allOf") {
            let mut whole = schema.clone();
            whole.remove("allOf");
            for part in list(all, "allOf")? {
                let part = self.resolved(part, depth)?;
                whole = self.combine(&whole, &part)?;
            }
            return self.build(&Value::Object(whole), name, depth + 1);
        }
        for keyword in ["anyOf", "oneOf"] {
            if let Some(branches) = schema.get(keyword) {
                let mut rest = schema.clone();
                rest.remove(keyword);
                return self.branches(&rest, list(branches, keyword)?, name, depth);
            }
        }
        self.plain(schema, name, depth)
    }

    /// A schema that allows what both allow.
    fn combine(&mut self, one: &Map<String, Value>, other: &Map<String, Value>) -> Result<Map<String, Value>, String> {
        if self.combined > MOST_COMBINED {
            return Err("the schema combines too many others".into());
        }
        let both = merge(one, other);
        self.combined += both.values().map(size_of).sum::<usize>();
        Ok(both)
    }

    /// A schema without `$ref`: what it refers to, and what stands beside it.
    fn resolved(&mut self, schema: &Value, depth: usize) -> Result<Map<String, Value>, String> {
        match schema {
            Value::Bool(true) => Ok(Map::new()),
            Value::Object(schema) => match schema.get("$ref").and_then(Value::as_str) {
                Some(_) if depth > DEEPEST => Err("the schema refers to itself without an end".into()),
                Some(target) => {
                    let found = self.find(target)?;
                    let found = self.resolved(&found, depth + 1)?;
                    let mut rest = schema.clone();
                    rest.remove("$ref");
                    self.combine(&found, &rest)
                }
                None => Ok(schema.clone()),
            },
            other => Err(format!("no value follows both a schema and {other}")),
        }
    }

    fn reference(&mut self, target: &str, name: &str, depth: usize) -> Result<Node, String> {
        if let Some(&node) = self.known.get(target) {
            return Ok(Node::AnyOf(vec![node]));
        }
        let found = self.find(target)?;
        let place = self.add(Node::Anything)?;
        self.known.insert(target.to_owned(), place);
        let node = self.build(&found, name, depth + 1)?;
        self.nodes[place] = node;
        Ok(Node::AnyOf(vec![place]))
    }

    /// The schema that a reference points to.
    fn find(&self, target: &str) -> Result<Value, String> {
        let missing = || format!("the schema has no {target:?}, which a $ref points to");
        let pointer = target.strip_prefix('#').ok_or_else(|| {
            format!("the $ref {target:?} points out of the schema, and only references that begin with # can be followed")
        })?;
        let pointer = pointer.replace("%24", "$").replace("%25", "%");
        self.root.pointer(&pointer).cloned().ok_or_else(missing)
    }

    fn branches(&mut self, rest: &Map<String, Value>, branches: &[Value], name: &str, depth: usize) -> Result<Node, String> {
        let mut nodes = Vec::new();
        let mut reason = None;
        for branch in branches.iter().take(MOST_BRANCHES) {
            // A branch alone may be a reference to what contains it; nothing is copied then.
            let alone = rest.keys().all(|key| NOTES.contains(&key.as_str()));
            let whole = match branch {
                Value::Object(_) if alone => Ok(branch.clone()),
                _ => self.resolved(branch, depth).and_then(|branch| self.combine(rest, &branch)).map(Value::Object),
            };
            match whole.and_then(|whole| self.node(&whole, name, depth + 1)) {
                Ok(node) => nodes.push(node),
                Err(error) => reason = Some(error),
            }
        }
        match reason {
            Some(reason) if nodes.is_empty() => Err(reason),
            _ if nodes.is_empty() => Err(format!("nothing can be valid{}", at(name))),
            _ => Ok(Node::AnyOf(nodes)),
        }
    }

    /// A schema without references and combinations.
    fn plain(&mut self, schema: &Map<String, Value>, name: &str, depth: usize) -> Result<Node, String> {
        let types = types(schema)?;
        if let Some(constant) = schema.get("const") {
            return Ok(Node::OneOfTexts(vec![constant.to_string()]));
        }
        if let Some(values) = schema.get("enum") {
            let fits = |value: &Value| types.is_empty() || types.iter().any(|kind| is_of(value, kind));
            let texts: Vec<_> = list(values, "enum")?.iter().filter(|value| fits(value)).map(Value::to_string).collect();
            return if texts.is_empty() { Err(format!("nothing can be valid{}", at(name))) } else { Ok(Node::OneOfTexts(texts)) };
        }
        match types.as_slice() {
            [] => Ok(Node::Anything),
            [only] => self.typed(only, schema, name, depth),
            several => {
                let mut nodes = Vec::new();
                for kind in several {
                    let node = self.typed(kind, schema, name, depth)?;
                    nodes.push(self.add(node)?);
                }
                Ok(Node::AnyOf(nodes))
            }
        }
    }

    fn typed(&mut self, kind: &str, schema: &Map<String, Value>, name: &str, depth: usize) -> Result<Node, String> {
        Ok(match kind {
            "null" => Node::Null,
            "boolean" => Node::Boolean,
            "integer" | "number" => Node::Number(number(kind == "integer", schema, name)?),
            "string" => Node::Text(text(schema, name)?),
            "array" => self.array(schema, name, depth)?,
            "object" => self.object(schema, name, depth)?,
            other => return Err(format!("there is no type {other:?}{}", at(name))),
        })
    }

    fn array(&mut self, schema: &Map<String, Value>, name: &str, depth: usize) -> Result<Node, String> {
        let mut first = Vec::new();
        let tuple = schema.get("prefixItems").or_else(|| schema.get("items").filter(|items| items.is_array()));
        for item in tuple.and_then(Value::as_array).into_iter().flatten() {
            first.push(self.node(item, name, depth + 1)?);
        }
        let rest = match schema.get("items").filter(|items| !items.is_array()).or_else(|| schema.get("additionalItems")) {
            Some(Value::Bool(false)) => None,
            Some(items) => Some(self.node(items, name, depth + 1)?),
            None if first.is_empty() => Some(self.add(Node::Anything)?),
            None => None,
        };
        let least = least(schema, "minItems", name)?;
        let mut most = size(schema, "maxItems");
        if rest.is_none() {
            most = Some(most.unwrap_or(usize::MAX).min(first.len()));
        }
        if most.is_some_and(|most| most < least) {
            return Err(format!("no array can be valid{}", at(name)));
        }
        let unique = schema.get("uniqueItems").and_then(Value::as_bool).unwrap_or(false);
        Ok(Node::Array(Array { first, rest, least, most, unique }))
    }

    fn object(&mut self, schema: &Map<String, Value>, name: &str, depth: usize) -> Result<Node, String> {
        let required: Vec<_> = schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        let mut properties = Vec::new();
        let described = schema.get("properties").and_then(Value::as_object);
        for (key, property) in described.into_iter().flatten() {
            let must = required.contains(&key.as_str());
            if *property == Value::Bool(false) && !must {
                continue;
            }
            let node = self.node(property, key, depth + 1)?;
            properties.push(Property { key: crate::json::quoted(key), node, required: must });
        }
        let mut others = None;
        if let Some((pattern, other)) = schema.get("patternProperties").and_then(Value::as_object).and_then(|all| all.iter().next()) {
            others = Some((Some(parse(pattern, name)?), self.node(other, name, depth + 1)?));
        } else if schema.get("additionalProperties") != Some(&Value::Bool(false)) {
            let other = schema.get("additionalProperties").unwrap_or(&Value::Bool(true));
            others = Some((None, self.node(other, name, depth + 1)?));
        }
        for key in &required {
            if !described.is_some_and(|described| described.contains_key(*key)) {
                let node = match &others {
                    Some((_, node)) => *node,
                    None => return Err(format!("the property {key:?} is required but not allowed{}", at(name))),
                };
                properties.push(Property { key: crate::json::quoted(key), node, required: true });
            }
        }
        let least = least(schema, "minProperties", name)?;
        let most = size(schema, "maxProperties");
        if others.is_none() && properties.len() < least || most.is_some_and(|most| most < least.max(required.len())) {
            return Err(format!("no object can be valid{}", at(name)));
        }
        Ok(Node::Object(Object { properties, others, least, most }))
    }
}

/// The types that a schema names, or that its keywords imply.
fn types(schema: &Map<String, Value>) -> Result<Vec<String>, String> {
    match schema.get("type") {
        Some(Value::String(name)) => return Ok(vec![name.clone()]),
        Some(Value::Array(names)) => {
            let names: Vec<_> = names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect();
            return if names.is_empty() { Err("no type fits all parts of the schema".into()) } else { Ok(names) };
        }
        Some(other) => return Err(format!("a type must be a name or a list of names, not {other}")),
        None => {}
    }
    const IMPLIED: &[(&str, &[&str])] = &[
        ("object", &["properties", "required", "additionalProperties", "patternProperties", "minProperties", "maxProperties"]),
        ("array", &["items", "prefixItems", "minItems", "maxItems", "uniqueItems"]),
        ("string", &["pattern", "format", "minLength", "maxLength"]),
        ("number", &["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"]),
    ];
    let found = IMPLIED.iter().find(|(_, keywords)| keywords.iter().any(|keyword| schema.contains_key(*keyword)));
    Ok(found.map(|(name, _)| (*name).to_owned()).into_iter().collect())
}

fn is_of(value: &Value, kind: &str) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    }
}

fn number(integer: bool, schema: &Map<String, Value>, name: &str) -> Result<Number, String> {
    // In the older form `exclusiveMinimum: true` says how `minimum` is meant.
    let bound = |keyword: &str, exclusive: &str, upper: bool| {
        let closed = decimal(schema, keyword).map(|bound| (bound, schema.get(exclusive) == Some(&Value::Bool(true))));
        tighter(closed, decimal(schema, exclusive).map(|bound| (bound, true)), upper)
    };
    for (keyword, sign) in [("minimum", 1.0), ("exclusiveMinimum", 1.0), ("maximum", -1.0), ("exclusiveMaximum", -1.0)] {
        let number = schema.get(keyword).and_then(Value::as_number).map(ToString::to_string);
        if let Some(number) = number.filter(|number| number.parse().is_ok_and(|bound: f64| bound * sign >= LARGEST_NUMBER)) {
            return Err(format!("{keyword} is {number}{}, and the rehearsal model writes no number beyond {LARGEST_NUMBER:e}", at(name)));
        }
    }
    let low = bound("minimum", "exclusiveMinimum", false);
    let high = bound("maximum", "exclusiveMaximum", true);
    Number::new(&Bounds { integer, low, high, multiple: decimal(schema, "multipleOf") })
        .ok_or_else(|| format!("no number can be valid{}", at(name)))
}

fn text(schema: &Map<String, Value>, name: &str) -> Result<Text, String> {
    let (least, most) = (least(schema, "minLength", name)?, size(schema, "maxLength"));
    if most.is_some_and(|most| most < least) {
        return Err(format!("no string can be valid{}", at(name)));
    }
    let pattern = schema.get("pattern").and_then(Value::as_str).map(|pattern| parse(pattern, name)).transpose()?;
    let format = schema.get("format").and_then(Value::as_str).and_then(format);
    let fitting = match format.filter(|_| pattern.is_none()) {
        Some(format) => fitting(format, least, most)
            .ok_or_else(|| format!("the rehearsal model writes no text of that format and length{}", at(name)))?,
        None => Vec::new(),
    };
    Ok(Text { least, most, pattern, format, fitting, hint: Hint::of(name) })
}

fn parse(pattern: &str, name: &str) -> Result<Pattern, String> {
    Pattern::parse(pattern).map_err(|reason| format!("the pattern {pattern:?}{} {reason}", at(name)))
}

fn format(name: &str) -> Option<Format> {
    Some(match name {
        "date" => Format::Date,
        "time" => Format::Time,
        "date-time" => Format::DateTime,
        "duration" => Format::Duration,
        "email" | "idn-email" => Format::Email,
        "hostname" | "idn-hostname" => Format::Hostname,
        "ipv4" => Format::Ipv4,
        "ipv6" => Format::Ipv6,
        "uri" | "url" | "iri" => Format::Uri,
        "uri-reference" | "iri-reference" => Format::UriReference,
        "uuid" => Format::Uuid,
        "json-pointer" => Format::JsonPointer,
        "regex" => Format::Regex,
        _ => return None,
    })
}

/// A bound of a size; one that no answer reaches is none.
fn size(schema: &Map<String, Value>, keyword: &str) -> Option<usize> {
    let size = schema.get(keyword)?.as_f64()?;
    (0.0..=1e9).contains(&size).then_some(size as usize)
}

/// A lower bound of a size, 0 where there is none.
fn least(schema: &Map<String, Value>, keyword: &str, name: &str) -> Result<usize, String> {
    match schema.get(keyword).and_then(Value::as_f64) {
        Some(size) if size > LARGEST => Err(format!("{keyword} is {size}{}, and the rehearsal model writes at most {LARGEST}", at(name))),
        _ => Ok(size(schema, keyword).unwrap_or(0)),
    }
}

/// How many values a value holds.
fn size_of(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(size_of).sum::<usize>(),
        Value::Object(fields) => 1 + fields.values().map(size_of).sum::<usize>(),
        _ => 1,
    }
}

fn list<'a>(value: &'a Value, keyword: &str) -> Result<&'a [Value], String> {
    value.as_array().map(Vec::as_slice).ok_or_else(|| format!("{keyword} must be a list"))
}

fn at(name: &str) -> String {
    if name.is_empty() {
        String::new()
    } else {
        format!(" at {name:?}")
    }
}

/// How deep the smallest value of each node is; `UNBOUNDED` for one that would contain itself.
fn heights(nodes: &[Node]) -> Vec<u32> {
    let mut heights = vec![UNBOUNDED; nodes.len()];
    loop {
        let mut changed = false;
        for (place, node) in nodes.iter().enumerate() {
            let height = match node {
                Node::AnyOf(nodes) => nodes.iter().map(|&node| heights[node]).min().unwrap_or(0),
                Node::Array(array) => {
                    let prefix = array.first.iter().take(array.least);
                    let rest = array.rest.iter().filter(|_| array.least > array.first.len());
                    prefix.chain(rest).map(|&node| heights[node].saturating_add(1)).max().unwrap_or(0)
                }
                Node::Object(object) => {
                    let must = object.properties.iter().filter(|property| property.required);
                    let needed = object.least > object.properties.len();
                    let others = object.others.iter().filter(|_| needed).map(|(_, node)| *node);
                    must.map(|property| property.node).chain(others).map(|node| heights[node].saturating_add(1)).max().unwrap_or(0)
                }
                _ => 0,
            };
            if height < heights[place] {
                heights[place] = height;
                changed = true;
            }
        }
        if !changed {
            return heights;
        }
    }
}
