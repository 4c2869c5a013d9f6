//! Two schemas that both hold, written as one: for `allOf`, and for what stands beside `$ref` and
//! `anyOf`.

use serde_json::{Map, Value};

use super::number::Decimal;

const DEFINITIONS: [&str; 2] = ["$defs", "definitions"];
/// Branches that are written out where both schemas have some.
const MOST_BRANCHES: usize = 64;

/// A schema that allows what both allow. Where that cannot be written, the second one wins.
///
/// Definitions are left out: references are looked up in the whole schema.
pub(super) fn merge(one: &Map<String, Value>, other: &Map<String, Value>) -> Map<String, Value> {
    let mut both = one.clone();
    both.retain(|keyword, _| !DEFINITIONS.contains(&keyword.as_str()));
    for (keyword, theirs) in other.iter().filter(|(keyword, _)| !DEFINITIONS.contains(&keyword.as_str())) {
        let value = match both.get(keyword) {
            Some(ours) if ours != theirs => join(keyword, ours, theirs),
            _ => theirs.clone(),
        };
        both.insert(keyword.clone(), value);
    }
    both
}

fn join(keyword: &str, ours: &Value, theirs: &Value) -> Value {
    match keyword {
        "properties" | "patternProperties" => {
            let (Some(ours), Some(theirs)) = (ours.as_object(), theirs.as_object()) else { return theirs.clone() };
            let mut all = ours.clone();
            for (key, schema) in theirs {
                let schema = all.get(key).map_or_else(|| schema.clone(), |ours| both_of(ours, schema));
                all.insert(key.clone(), schema);
            }
            Value::Object(all)
        }
        "items" | "additionalProperties" => both_of(ours, theirs),
        "required" => {
            let mut all = list(ours);
            all.extend(list(theirs).into_iter().filter(|name| !list(ours).contains(name)));
            Value::Array(all)
        }
        "enum" => Value::Array(list(ours).into_iter().filter(|value| list(theirs).contains(value)).collect()),
        "type" => {
            let (ours, theirs) = (list(ours), list(theirs));
            let fits =
                |name: &Value, names: &[Value]| names.contains(name) || (name == "integer" && names.iter().any(|other| other == "number"));
            let mut both: Vec<_> = ours.iter().filter(|name| fits(name, &theirs)).cloned().collect();
            both.extend(theirs.iter().filter(|name| fits(name, &ours) && !ours.contains(name)).cloned());
            Value::Array(both)
        }
        "minimum" | "exclusiveMinimum" | "minLength" | "minItems" | "minProperties" => larger(ours, theirs),
        "maximum" | "exclusiveMaximum" | "maxLength" | "maxItems" | "maxProperties" => {
            if larger(ours, theirs) == *ours {
                theirs.clone()
            } else {
                ours.clone()
            }
        }
        "uniqueItems" => Value::Bool(ours == true || theirs == true),
        // Both must hold: kept side by side.
        "allOf" => Value::Array(list(ours).into_iter().chain(list(theirs)).collect()),
        "anyOf" | "oneOf" => ours.as_array().zip(theirs.as_array()).map_or_else(
            || theirs.clone(),
            |(ours, theirs)| {
                let pairs = ours.iter().flat_map(|one| theirs.iter().map(move |other| (one, other)));
                Value::Array(pairs.take(MOST_BRANCHES).map(|(one, other)| both_of(one, other)).collect())
            },
        ),
        _ => theirs.clone(),
    }
}

/// A schema for values that both schemas allow.
fn both_of(ours: &Value, theirs: &Value) -> Value {
    match (ours, theirs) {
        (Value::Bool(false), _) | (_, Value::Bool(false)) => Value::Bool(false),
        (Value::Bool(true), schema) | (schema, Value::Bool(true)) => schema.clone(),
        _ if ours == theirs => ours.clone(),
        _ => serde_json::json!({ "allOf": [ours, theirs] }),
    }
}

/// The items of an array, or the value alone.
fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_else(|| vec![value.clone()])
}

fn larger(ours: &Value, theirs: &Value) -> Value {
    let size = |value: &Value| value.as_f64().unwrap_or(f64::NEG_INFINITY);
    if size(ours) >= size(theirs) {
        ours.clone()
    } else {
        theirs.clone()
    }
}

/// A number of the schema, exactly.
pub(super) fn decimal(schema: &Map<String, Value>, keyword: &str) -> Option<Decimal> {
    match schema.get(keyword)? {
        Value::Number(number) => Decimal::parse(&number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn merged(one: Value, other: Value) -> Value {
        Value::Object(merge(one.as_object().unwrap(), other.as_object().unwrap()))
    }

    #[test]
    fn the_narrower_bound_wins() {
        assert_eq!(
            merged(
                json!({"type": ["number", "null"], "minimum": 1, "maximum": 9, "enum": [1, 2, 3]}),
                json!({"type": "integer", "minimum": 3, "maximum": 12, "enum": [3, 2]})
            ),
            json!({"type": ["integer"], "minimum": 3, "maximum": 9, "enum": [2, 3]})
        );
    }

    #[test]
    fn properties_and_required_join() {
        assert_eq!(
            merged(
                json!({"properties": {"a": {"type": "string"}, "b": true}, "required": ["a"]}),
                json!({"properties": {"b": {"minimum": 1}, "a": {"maxLength": 3}}, "required": ["b", "a"]})
            ),
            json!({
                "properties": {"a": {"allOf": [{"type": "string"}, {"maxLength": 3}]}, "b": {"minimum": 1}},
                "required": ["a", "b"]
            })
        );
    }
}
