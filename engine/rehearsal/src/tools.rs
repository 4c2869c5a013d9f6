//! Tools that a client offers, and whether one is to be called.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use crate::brief::Brief;
use crate::request::{Chat, Role, ToolChoice};
use crate::schema::{self, Schema};

/// Words of a tool's name that invite it must be at least this long.
const TELLING: usize = 4;

#[derive(Deserialize)]
struct Offer {
    function: Function,
}

#[derive(Deserialize)]
struct Function {
    name: String,
    parameters: Option<Value>,
}

pub(crate) struct Tool {
    pub(crate) name: String,
    pub(crate) arguments: Arc<Schema>,
}

/// Reads the `tools` of a request. The error is a sentence without its full stop.
pub(crate) fn read(text: &str) -> Result<Vec<Tool>, String> {
    let offers: Vec<Offer> = serde_json::from_str(text).map_err(|error| format!("the tools cannot be read: {error}"))?;
    offers
        .into_iter()
        .map(|Offer { function }| {
            let parameters = function.parameters.filter(|parameters| !parameters.is_null());
            let empty = || serde_json::json!({"type": "object", "properties": {}, "additionalProperties": false});
            let arguments = schema::compile(&parameters.unwrap_or_else(empty))
                .map_err(|reason| format!("the parameters of the function {:?}: {reason}", function.name))?;
            Ok(Tool { name: function.name, arguments: Arc::new(arguments) })
        })
        .collect()
}

/// The tool to call now: a place in `tools`, or none. The error is a sentence without its full stop.
pub(crate) fn chosen(tools: &[Tool], chat: &Chat<'_>, brief: &Brief<'_>, seed: u64) -> Result<Option<usize>, String> {
    let any = || (!tools.is_empty()).then(|| (seed % tools.len().max(1) as u64) as usize);
    match &chat.tool_choice {
        Some(ToolChoice::Named { function }) => {
            let place = tools.iter().position(|tool| tool.name == function.name);
            place.map(Some).ok_or_else(|| format!("there is no tool {:?} among those given", function.name))
        }
        Some(ToolChoice::Mode(mode)) if mode == "none" => Ok(None),
        Some(ToolChoice::Mode(mode)) if mode == "required" => Ok(invited(tools, chat, brief).or_else(any)),
        Some(ToolChoice::Mode(mode)) if mode != "auto" => Err(format!("there is no tool choice {mode:?}")),
        _ => Ok(invited(tools, chat, brief)),
    }
}

/// The first tool that the user's last message speaks of, unless its result is there already.
fn invited(tools: &[Tool], chat: &Chat<'_>, brief: &Brief<'_>) -> Option<usize> {
    let last = chat.messages.last().filter(|message| message.role == Role::User)?;
    let text = last.content.0.to_lowercase();
    let speaks_of = |tool: &Tool| {
        let name = tool.name.to_lowercase();
        text.contains(&name)
            || name
                .split(['_', '-', '.'])
                .any(|word| word.len() >= TELLING && brief.topics.iter().any(|topic| topic.to_lowercase().starts_with(word)))
    };
    let general = || text.contains("use the tool") || text.contains("use a tool") || text.contains("call the function");
    tools.iter().position(speaks_of).or_else(|| (general() && !tools.is_empty()).then_some(0))
}
