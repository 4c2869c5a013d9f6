//! `--check`: every connection tried, and a sentence about each.

use crate::broker;
use crate::database::Database;
use crate::elastic::Search;
use crate::secrets::Key;
use crate::settings::Settings;
use crate::state::State;
use crate::storage::{Fault, Storage};
use std::sync::Arc;

/// Say how each part is. The error says that not all are well.
pub async fn run(settings: &Settings) -> Result<(), String> {
    let mut wrong = 0;
    let mut say = |part: &str, found: Result<String, String>| match found {
        Ok(words) => println!("ok     {part}: {words}"),
        Err(words) => {
            wrong += 1;
            println!("wrong  {part}: {}", crate::log::scrub(&words));
        }
    };
    say("PostgreSQL", database(settings).await);
    say("RabbitMQ", rabbit(settings).await);
    say("Elasticsearch", search(settings).await);
    if !settings.redis_url.is_empty() {
        say("Redis", redis(settings).await);
    }
    say("Storage", storage(settings).await);
    say("Secret key", Key::find(&settings.secret_key, &settings.home).map(|_| "it opens stored keys.".into()));
    if wrong == 0 {
        return Ok(());
    }
    Err(format!("{wrong} of what the consumer needs cannot be used."))
}

async fn database(settings: &Settings) -> Result<String, String> {
    let database = Database::new(&settings.database_url, Arc::new(State::default()))?;
    let place = database.place();
    let asked =
        database.once("SELECT count(*) FROM blocks JOIN batches ON batches.id = blocks.batch WHERE NOT done AND fence >= 0", &[]).await;
    match asked.map_err(|words| format!("{place} does not answer: {words}."))? {
        Ok(rows) => {
            let waiting: i64 = rows.first().map_or(0, |row| row.get(0));
            Ok(format!("{place} answers; {waiting} blocks are not done."))
        }
        Err(words) => Err(format!("{place} is not a database of this version ({words}): `wordmill serve` brings it up to date.")),
    }
}

async fn rabbit(settings: &Settings) -> Result<String, String> {
    let connection = broker::connect(&settings.broker_url).await.map_err(|words| format!("it does not let us in: {words}."))?;
    // It may be closed already.
    let _ = connection.close(200, "checked".into()).await;
    Ok("it lets us in.".into())
}

async fn search(settings: &Settings) -> Result<String, String> {
    let found = Search::new(&settings.elasticsearch_url)?.has("wordmill-results").await;
    match found.map_err(|words| format!("it does not answer: {words}."))? {
        true => Ok("it answers, and has the index wordmill-results.".into()),
        false => Err("it has no index wordmill-results: `wordmill index rebuild` makes it.".into()),
    }
}

async fn redis(settings: &Settings) -> Result<String, String> {
    let url = settings.redis_url.clone();
    let checked = tokio::task::spawn_blocking(move || wordmill_redis::check(&url)).await;
    let facts = checked.map_err(|error| format!("it could not be asked: {error}."))??;
    let warnings = facts.get("warnings").and_then(serde_json::Value::as_array).into_iter().flatten();
    let said: Vec<&str> = warnings.filter_map(serde_json::Value::as_str).collect();
    Ok(format!("it answers. {}", said.join(" ")).trim_end().to_string())
}

async fn storage(settings: &Settings) -> Result<String, String> {
    let storage = Storage::open(&settings.storage_url, &settings.home)?;
    let place = match &storage {
        Storage::Folder(root) => root.display().to_string(),
        Storage::Bucket(..) => settings.storage_url.clone(),
    };
    match storage.read("batches/.check", 0, 1).await {
        Ok(_) | Err(Fault::Gone(_)) => {}
        Err(Fault::Trouble(words)) => return Err(format!("{place} cannot be read: {words}.")),
    }
    Ok(format!("{place} can be reached."))
}
