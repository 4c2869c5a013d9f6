//! Values that follow a JSON schema, drawn at random.
//!
//! A schema is compiled once into a few kinds of nodes and then only read. What is followed: types
//! and lists of types, `enum`, `const`, bounds of numbers and `multipleOf`, lengths, `pattern` and
//! `format` of strings, `items`, `prefixItems`, `minItems`, `maxItems`, `uniqueItems`, `properties`,
//! `required`, `additionalProperties`, `patternProperties`, `minProperties`, `maxProperties`,
//! `anyOf`, `oneOf`, `allOf`, `$ref` within the schema. Other keywords are not looked at.

mod compile;
mod merge;
mod number;
mod pattern;
mod text;
mod write;

pub(crate) use compile::compile;

use number::Number;
use pattern::Pattern;
use text::Hint;

/// A compiled schema: nodes that refer to each other by place. The first is the root.
pub(crate) struct Schema {
    nodes: Vec<Node>,
    /// How deep the smallest value of each node is; never infinite for the root.
    heights: Vec<u32>,
}

enum Node {
    /// One of these JSON texts.
    OneOfTexts(Vec<String>),
    /// One of these nodes.
    AnyOf(Vec<usize>),
    Null,
    Boolean,
    Number(Number),
    Text(Text),
    Array(Array),
    Object(Object),
    /// Whatever there is.
    Anything,
}

struct Text {
    /// Characters.
    least: usize,
    most: Option<usize>,
    pattern: Option<Pattern>,
    format: Option<Format>,
    /// Texts of the format that keep the lengths; none are listed where all of them do.
    fitting: Vec<String>,
    hint: Hint,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Date,
    Time,
    DateTime,
    Duration,
    Email,
    Hostname,
    Ipv4,
    Ipv6,
    Uri,
    UriReference,
    Uuid,
    JsonPointer,
    Regex,
}

struct Array {
    first: Vec<usize>,
    rest: Option<usize>,
    least: usize,
    most: Option<usize>,
    unique: bool,
}

struct Object {
    properties: Vec<Property>,
    /// What else it may hold: keys of a pattern, or any key.
    others: Option<(Option<Pattern>, usize)>,
    least: usize,
    most: Option<usize>,
}

struct Property {
    /// As JSON text, with its quotes.
    key: String,
    node: usize,
    required: bool,
}

/// Kinds of JSON values, as bits.
mod kind {
    pub(super) const NULL: u8 = 1;
    pub(super) const BOOLEAN: u8 = 2;
    pub(super) const NUMBER: u8 = 4;
    pub(super) const TEXT: u8 = 8;
    pub(super) const ARRAY: u8 = 16;
    pub(super) const OBJECT: u8 = 32;
    pub(super) const ALL: u8 = 63;
}

impl Schema {
    /// The kinds of values that a node may have.
    fn kinds(&self, node: usize) -> u8 {
        self.kinds_within(node, 16)
    }

    fn kinds_within(&self, node: usize, depth: u8) -> u8 {
        match &self.nodes[node] {
            Node::OneOfTexts(texts) => texts.iter().map(|text| kind_of(text)).fold(0, |all, one| all | one),
            Node::AnyOf(nodes) if depth > 0 => nodes.iter().map(|&node| self.kinds_within(node, depth - 1)).fold(0, |all, one| all | one),
            Node::AnyOf(_) | Node::Anything => kind::ALL,
            Node::Null => kind::NULL,
            Node::Boolean => kind::BOOLEAN,
            Node::Number(_) => kind::NUMBER,
            Node::Text(_) => kind::TEXT,
            Node::Array(_) => kind::ARRAY,
            Node::Object(_) => kind::OBJECT,
        }
    }
}

/// The kind of a JSON text.
fn kind_of(text: &str) -> u8 {
    match text.as_bytes().first() {
        Some(b'n') => kind::NULL,
        Some(b't' | b'f') => kind::BOOLEAN,
        Some(b'"') => kind::TEXT,
        Some(b'[') => kind::ARRAY,
        Some(b'{') => kind::OBJECT,
        _ => kind::NUMBER,
    }
}
