//! Documents written by `_bulk`, each treated as its outcome deserves.
//!
//! | outcome | what is done |
//! |---|---|
//! | 200, 201 | it is kept |
//! | 429, 5xx, no answer, read-only, no such index, no such user | sent again, later and later; said |
//! | 409 | a later holder of the block wrote it: this one has lost it |
//! | another 4xx (the mapping does not take it) | sent again without its text; then given up, and said |
//! | 413 | sent in two halves |

use crate::document::Place;
use crate::elastic::{items, Search, Told};
use crate::log;
use crate::state::State;
use bytes::Bytes;
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);
const PART: &str = "elasticsearch";

/// Documents on their way.
#[derive(Debug, Default)]
pub struct Bulk {
    pub body: Vec<u8>,
    pub places: Vec<Place>,
}

/// What became of them: none is left.
#[derive(Debug, Default)]
pub struct Written {
    /// The block of each document, and the fence of its holder.
    pub blocks: Vec<(u64, i32)>,
    /// Blocks that somebody else holds.
    pub lost: BTreeSet<(u64, i32)>,
}

#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Kept,
    Lost,
    Again,
    Refused,
}

/// Write them all, however long it takes.
pub async fn write(search: &Search, index: &str, bulk: Bulk, state: &State) -> Written {
    let mut written = Written { blocks: bulk.places.iter().map(|place| (place.block, place.fence)).collect(), ..Written::default() };
    let mut waiting = vec![bulk];
    let mut pause = FIRST;
    while let Some(bulk) = waiting.pop() {
        let Bulk { body, places } = bulk;
        let body = Bytes::from(body);
        state.bulks.add(1);
        state.bulk_bytes.add(body.len() as u64);
        let (fates, words) = match search.bulk(index, body.clone()).await {
            Told::All => {
                state.documents.add(places.len() as u64);
                state.well(PART);
                pause = FIRST;
                continue;
            }
            Told::Some(answer) => judged(&answer, index, places.len()),
            Told::Refused(413, _) if places.len() > 1 => {
                let (left, right) = places.split_at(places.len() / 2);
                waiting.push(picked(&body, right, false));
                waiting.push(picked(&body, left, false));
                continue;
            }
            Told::Refused(status @ (400 | 413), words) => (all(places.len(), || Fate::Refused), format!("{status}: {words}")),
            Told::Refused(_, words) => {
                (all(places.len(), || Fate::Again), format!("Elasticsearch takes nothing: {words}. It is tried again."))
            }
            Told::Nothing(words) => {
                (all(places.len(), || Fate::Again), format!("Elasticsearch does not answer: {words}. It is tried again."))
            }
        };
        let some = |fate: &Fate| -> Vec<Place> {
            places.iter().zip(&fates).filter(|(_, own)| *own == fate).map(|(place, _)| place.clone()).collect()
        };
        let (kept, lost, again, refused) = (some(&Fate::Kept), some(&Fate::Lost), some(&Fate::Again), some(&Fate::Refused));
        state.documents.add(kept.len() as u64);
        state.documents_conflicted.add(lost.len() as u64);
        written.lost.extend(lost.iter().map(|place| (place.block, place.fence)));
        let (texts, bare): (Vec<_>, Vec<_>) = refused.into_iter().partition(|place| place.text.is_some());
        if !texts.is_empty() {
            state.documents_bare.add(texts.len() as u64);
            waiting.push(picked(&body, &texts, true));
        }
        for place in &bare {
            state.documents_refused.add(1);
            let fields = json!({"index": index, "line": place.line, "block": place.block});
            log::error(&format!("A result cannot be searched, and stands in its segment alone: {words}"), fields);
        }
        if again.is_empty() {
            if !kept.is_empty() {
                state.well(PART);
            }
        } else {
            state.trouble(PART, &words);
            state.documents_again.add(again.len() as u64);
            waiting.insert(0, picked(&body, &again, false));
            tokio::time::sleep(jittered(pause)).await;
            pause = if kept.is_empty() { (pause * 2).min(LONGEST) } else { FIRST };
        }
    }
    written
}

fn all(count: usize, fate: impl Fn() -> Fate) -> Vec<Fate> {
    (0..count).map(|_| fate()).collect()
}

/// Up to a fifth more or less, so that consumers do not come all at once.
fn jittered(pause: Duration) -> Duration {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
    pause.mul_f64(0.8 + 0.4 * f64::from(now % 1000) / 1000.0)
}

/// What became of each document, and the words for what did not go well.
fn judged(answer: &[u8], index: &str, count: usize) -> (Vec<Fate>, String) {
    let items = match items(answer) {
        Ok(items) if items.len() == count => items,
        Ok(items) => return (all(count, || Fate::Again), format!("Elasticsearch answered to {} of {count} documents.", items.len())),
        Err(words) => return (all(count, || Fate::Again), format!("Elasticsearch: {words}.")),
    };
    let mut said = String::new();
    let fates = items
        .iter()
        .map(|item| {
            let (kind, reason) = item.error.as_ref().map_or(("", ""), |error| (error.kind.as_ref(), error.reason.as_ref()));
            let (fate, words) = match (item.status, kind) {
                (200 | 201, _) => return Fate::Kept,
                (409, _) => return Fate::Lost,
                (_, "cluster_block_exception") => (
                    Fate::Again,
                    format!("The index {index} of Elasticsearch is read-only: {reason}. What is answered waits until that is lifted."),
                ),
                (404, _) => (
                    Fate::Again,
                    format!("There is no index {index} in Elasticsearch: `wordmill index rebuild` makes it. What is answered waits."),
                ),
                (401 | 403, _) => {
                    (Fate::Again, format!("Elasticsearch does not let this user write into {index}: {reason}. What is answered waits."))
                }
                (429, _) => (Fate::Again, format!("Elasticsearch has more to do than it can: {reason}. It is tried again.")),
                (500.., _) => (Fate::Again, format!("Elasticsearch fails: {kind}: {reason}. It is tried again.")),
                _ => (Fate::Refused, format!("{kind}: {reason}")),
            };
            if said.is_empty() || fate == Fate::Again {
                said = words;
            }
            fate
        })
        .collect();
    (fates, said)
}

/// Some of the documents of a body; bare: without their texts.
fn picked(body: &[u8], places: &[Place], bare: bool) -> Bulk {
    let mut bulk =
        Bulk { body: Vec::with_capacity(places.iter().map(|place| place.whole.len()).sum()), places: Vec::with_capacity(places.len()) };
    for place in places {
        let start = bulk.body.len();
        let moved = match place.text.filter(|_| bare) {
            Some(text) => {
                bulk.body.extend_from_slice(&body[place.whole.start..text]);
                bulk.body.extend_from_slice(b"}\n");
                None
            }
            None => {
                bulk.body.extend_from_slice(&body[place.whole.clone()]);
                place.text.map(|text| text - place.whole.start + start)
            }
        };
        bulk.places.push(Place { whole: start..bulk.body.len(), text: moved, ..place.clone() });
    }
    bulk
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_has_its_fate() {
        let item = |status: u16, kind: &str| format!(r#"{{"index":{{"status":{status},"error":{{"type":"{kind}","reason":"r"}}}}}}"#);
        let all = [
            (201, ""),
            (409, "version_conflict_engine_exception"),
            (429, "es_rejected_execution_exception"),
            (403, "cluster_block_exception"),
            (429, "cluster_block_exception"),
            (404, "index_not_found_exception"),
            (503, "unavailable_shards_exception"),
            (400, "document_parsing_exception"),
        ];
        let body = format!(r#"{{"errors":true,"items":[{}]}}"#, all.map(|(status, kind)| item(status, kind)).join(","));
        let (fates, words) = judged(body.as_bytes(), "i", 8);
        use Fate::{Again, Kept, Lost, Refused};
        assert_eq!(fates, [Kept, Lost, Again, Again, Again, Again, Again, Refused]);
        assert_eq!(words, "Elasticsearch fails: unavailable_shards_exception: r. It is tried again.");
        assert_eq!(judged(body.as_bytes(), "i", 7).0, super::all(7, || Again));
        let (fates, words) = judged(format!(r#"{{"items":[{}]}}"#, item(403, "cluster_block_exception")).as_bytes(), "i", 1);
        assert_eq!((fates, words.contains("is read-only: r.")), (vec![Again], true));
    }

    #[test]
    fn documents_are_picked_with_or_without_their_texts() {
        let body = b"{a}\n{\"x\":1,\"text\":\"t\"}\n{b}\n{\"y\":2}\n";
        let first = Place { block: 0, fence: 1, line: 1, whole: 0..23, text: Some(10) };
        let second = Place { block: 0, fence: 1, line: 2, whole: 23..35, text: None };
        let bulk = picked(body, &[second.clone(), first.clone()], false);
        assert_eq!(bulk.body, b"{b}\n{\"y\":2}\n{a}\n{\"x\":1,\"text\":\"t\"}\n");
        assert_eq!(bulk.places[1].whole, 12..35);
        assert_eq!(picked(&bulk.body, &bulk.places, true).body, b"{b}\n{\"y\":2}\n{a}\n{\"x\":1}\n");
        assert_eq!(picked(body, &[first], true).body, b"{a}\n{\"x\":1}\n");
    }
}
