//! A batch's plan, made into an engine's configuration: keys and headers are filled in here, at the
//! moment at which they are needed, and nowhere else.

use crate::database::{Batch, Database};
use crate::log;
use crate::secrets::Key;
use crate::settings::Settings;
use serde::Deserialize;
use serde_json::{json, Map, Value};
use std::path::Path;
use wordmill_batch::Rules;
use wordmill_core::config::Config;

/// What the answers to a batch need, beside its lines.
pub struct Plan {
    pub path: String,
    pub rules: Rules,
    pub share: bool,
    /// Whose ledger is charged.
    pub person: String,
    /// The index of its results.
    pub index: String,
    pub budget: Budget,
    /// Equal requests of other batches may be answered from the cache.
    cache: bool,
    owner: String,
    lanes: Vec<Map<String, Value>>,
}

/// Ceilings of the batch itself; None bounds nothing.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct Budget {
    pub requests: Option<f64>,
    pub tokens: Option<f64>,
    pub money: Option<f64>,
}

#[derive(Deserialize)]
struct Written {
    version: u32,
    path: String,
    share: bool,
    rules: Rules,
    owner: String,
    person: String,
    lanes: Vec<Map<String, Value>>,
    #[serde(default)]
    cache: bool,
    #[serde(default)]
    budget: Option<Budget>,
    index: String,
}

impl Plan {
    /// The error is a sentence.
    pub fn of(batch: &Batch) -> Result<Self, String> {
        let plan = batch.plan.clone().ok_or_else(|| format!("The batch {} has no plan, so no consumer can answer it.", batch.id))?;
        let plan: Written =
            serde_json::from_value(plan).map_err(|error| format!("The plan of the batch {} is not understood: {error}.", batch.id))?;
        if plan.version != 1 {
            let words = format!("The plan of the batch {} has the version {}, and this consumer knows 1.", batch.id, plan.version);
            return Err(format!("{words} Is it older than what serves the API?"));
        }
        let Written { path, share, rules, owner, person, lanes, cache, budget, index, .. } = plan;
        Ok(Plan { path, rules, share, person, index, budget: budget.unwrap_or_default(), cache, owner, lanes })
    }

    /// The engine's configuration, with keys. The error is a sentence.
    pub async fn config(&self, database: &Database, settings: &Settings, granted: bool) -> Result<Config, String> {
        let mut lanes = Vec::new();
        let mut key = None;
        for lane in &self.lanes {
            let mut lane = lane.clone();
            let secret = lane.remove("secret").unwrap_or_default();
            lane.insert(
                "key".into(),
                self.secret(&lane, &secret, database, || opener(&mut key, &settings.secret_key, &settings.home)).await?.into(),
            );
            if let Some(headers) = lane.get_mut("headers").and_then(Value::as_object_mut) {
                for value in headers.values_mut() {
                    if let Some(text) = value.as_str() {
                        *value = Value::String(filled(text, &|name| std::env::var(name).ok())?);
                    }
                }
            }
            lanes.push(Value::Object(lane));
        }
        if lanes.is_empty() {
            lanes.push(json!({"name": "none", "base_url": "http://127.0.0.1", "model": "none"}));
        }
        let redis = &settings.redis_url;
        let shared = (!redis.is_empty()).then(|| json!({"redis": redis, "answers": self.cache}));
        let config = json!({
            "owner": self.owner, "lanes": lanes, "in_doubt": settings.in_doubt, "whole": true, "granted": granted, "shared": shared,
        });
        Config::parse(&config.to_string())
    }

    async fn secret(
        &self,
        lane: &Map<String, Value>,
        secret: &Value,
        database: &Database,
        opener: impl FnOnce() -> Result<std::sync::Arc<Key>, String>,
    ) -> Result<Option<String>, String> {
        let name = lane.get("name").and_then(Value::as_str).unwrap_or_default();
        if let Some(variable) = secret.get("env").and_then(Value::as_str) {
            let value = variable_of(variable, &|name| std::env::var(name).ok())
                .ok_or_else(|| format!("No API key for {name:?}: set {variable} in the environment of the consumer."))?;
            log::hide(&value);
            return Ok(Some(value));
        }
        let Some([owner, model]) = secret.get("stored").and_then(Value::as_array).map(Vec::as_slice) else { return Ok(None) };
        let (owner, model) = (owner.as_str().unwrap_or_default(), model.as_str().unwrap_or_default());
        let gone = || format!("No API key for {name:?}: the stored key is gone, or was given for another address. Store it again.");
        let sealed = database.sealed(owner, model).await?.ok_or_else(gone)?;
        let plain = opener()?.open(&sealed, &format!("provider_keys:{owner}:{model}"))?;
        let plain: Value = serde_json::from_str(&plain).map_err(|_| gone())?;
        if plain.get("address") != lane.get("base_url") {
            return Err(gone());
        }
        let value = plain.get("key").and_then(Value::as_str).ok_or_else(gone)?;
        log::hide(value);
        Ok(Some(value.into()))
    }
}

fn opener(held: &mut Option<std::sync::Arc<Key>>, secret_key: &str, home: &Path) -> Result<std::sync::Arc<Key>, String> {
    if let Some(key) = held {
        return Ok(key.clone());
    }
    let key = std::sync::Arc::new(Key::find(secret_key, home)?);
    Ok(held.insert(key).clone())
}

/// A variable, or what stands in the file that VARIABLE_FILE names.
fn variable_of(name: &str, variable: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let given = variable(name).filter(|value| !value.is_empty());
    given
        .or_else(|| std::fs::read_to_string(variable(&format!("{name}_FILE"))?).ok().map(|text| text.trim().to_string()))
        .filter(|value| !value.is_empty())
}

/// A header with `${NAME}` filled in.
fn filled(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(start) = rest.find("${") {
        let Some(end) = rest[start..].find('}').map(|end| start + end) else { break };
        let name = &rest[start + 2..end];
        let value = variable_of(name, variable).ok_or_else(|| {
            format!("A header of a model names the variable {name}, which is not set in the environment of the consumer.")
        })?;
        log::hide(&value);
        out.push_str(&rest[..start]);
        out.push_str(&value);
        rest = &rest[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_filled_from_the_environment() {
        let variable = |name: &str| (name == "TOKEN").then(|| "abcdef".to_string());
        assert_eq!(filled("Bearer ${TOKEN}!", &variable).unwrap(), "Bearer abcdef!");
        assert_eq!(filled("plain ${", &variable).unwrap(), "plain ${");
        assert!(filled("${OTHER}", &variable).unwrap_err().contains("the variable OTHER"));
    }

    #[test]
    fn a_plan_that_is_not_understood_is_said() {
        let batch = |plan| Batch {
            id: "batch_1".into(),
            owner: String::new(),
            dataset: None,
            source: None,
            state: "in_progress".into(),
            expired: false,
            plan,
            place: None,
        };
        assert!(Plan::of(&batch(None)).err().unwrap().contains("has no plan"));
        assert!(Plan::of(&batch(Some(json!({"version": 1})))).err().unwrap().contains("is not understood: missing field"));
    }
}
