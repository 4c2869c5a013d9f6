//! Blocks on their way through an engine.

use crate::line::{self, Bad, Rules};
use crate::result::{self, Row};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use wordmill_core::record::{Kind, Outcome};
use wordmill_core::Engine;

/// Answers that are taken from the engine at once.
const TAKEN: usize = 4096;

/// A block whose every line has its answer.
#[derive(Debug, Default)]
pub struct Segment {
    pub number: u64,
    /// A line of JSON for each line of the block that is not blank, in order.
    pub data: Vec<u8>,
    pub rows: Vec<Row>,
}

/// The blocks of one batch that are under way. Memory: their requests, then their answers.
pub struct Blocks {
    engine: Arc<Engine>,
    batch: String,
    path: String,
    rules: Rules,
    /// Equal requests share an answer.
    share: bool,
    /// By their first line.
    open: BTreeMap<u64, Open>,
    ended: Vec<Segment>,
}

struct Open {
    number: u64,
    data: Vec<u8>,
    /// Numbers of the lines, ascending; their names and their answers beside them.
    lines: Vec<u64>,
    names: Vec<String>,
    answers: Vec<Option<(Vec<u8>, Row)>>,
    left: usize,
    groups: Vec<Group>,
}

/// The lines of a block that one lane answers.
struct Group {
    lane: String,
    ids: Vec<u64>,
    bodies: Vec<Range<usize>>,
    offered: usize,
}

impl Blocks {
    /// `path`: below each lane's base URL.  `rules`: as the batch was checked with; its models are
    /// the engine's lanes.
    pub fn new(engine: Arc<Engine>, batch: &str, path: &str, rules: Rules, share: bool) -> Self {
        Blocks { engine, batch: batch.into(), path: path.into(), rules, share, open: BTreeMap::new(), ended: Vec::new() }
    }

    /// Take up a block: its bytes, the number of its first line, and the lines that are not sent.
    pub fn add(&mut self, number: u64, first: u64, data: Vec<u8>, bad: Vec<Bad>) {
        let mut block = Open::read(number, first, data, bad, &self.batch, &self.rules);
        if block.left == 0 {
            self.ended.push(block.segment());
        } else {
            self.open.insert(first, block);
        }
    }

    /// Offer what the engine has room for, and take what it has answered; how much was taken.
    pub fn step(&mut self, timeout: Duration) -> Result<usize, String> {
        for block in self.open.values_mut() {
            if !block.offer(&self.engine, &self.path, self.share)? {
                break; // the next block waits behind it
            }
        }
        let outcomes = self.engine.poll(TAKEN, timeout, Duration::ZERO)?;
        for outcome in &outcomes {
            self.take(outcome);
        }
        Ok(outcomes.len())
    }

    fn take(&mut self, outcome: &Outcome) {
        if matches!(&outcome.result, Err(failure) if failure.kind == Kind::Cancelled) {
            return; // nobody knows its answer: the block stays open
        }
        let Some((&first, block)) = self.open.range_mut(..=outcome.id).next_back() else { return };
        let Ok(at) = block.lines.binary_search(&outcome.id) else { return };
        if block.answers[at].is_some() {
            return;
        }
        block.answers[at] = Some(result::of(outcome, &self.batch, &block.names[at], self.engine.lane_name(outcome.lane)));
        block.left -= 1;
        if block.left == 0 {
            if let Some(mut block) = self.open.remove(&first) {
                self.ended.push(block.segment());
            }
        }
    }

    /// Give every line that has no answer this error, and end all blocks.
    pub fn abandon(&mut self, code: &str, message: &str) {
        for mut block in std::mem::take(&mut self.open).into_values() {
            for at in 0..block.lines.len() {
                if block.answers[at].is_none() {
                    let bad =
                        Bad { line: block.lines[at], code: code.into(), message: message.into(), custom_id: Some(block.names[at].clone()) };
                    block.answers[at] = Some(result::refused(&self.batch, &bad));
                }
            }
            self.ended.push(block.segment());
        }
    }

    /// The blocks that have ended since the last call.
    pub fn ended(&mut self) -> Vec<Segment> {
        std::mem::take(&mut self.ended)
    }

    /// How many are under way.
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// How many lines of them have no answer.
    pub fn left(&self) -> usize {
        self.open.values().map(|block| block.left).sum()
    }
}

impl Open {
    fn read(number: u64, first: u64, data: Vec<u8>, bad: Vec<Bad>, batch: &str, rules: &Rules) -> Self {
        let bad: BTreeMap<u64, Bad> = bad.into_iter().map(|bad| (bad.line, bad)).collect();
        let (mut lines, mut names, mut answers) = (Vec::new(), Vec::new(), Vec::new());
        let mut groups: Vec<Group> = Vec::new();
        let mut id = first;
        let mut at = 0;
        while at < data.len() {
            let end = memchr::memchr(b'\n', &data[at..]).map_or(data.len(), |end| at + end);
            let text = &data[at..end];
            let text = if id == 0 { text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text) } else { text };
            if let Some(text) = line::trimmed(text) {
                lines.push(id);
                let found = match bad.get(&id) {
                    Some(bad) => Err(bad.clone()),
                    None => line::read(text, rules).map_err(|fault| Bad {
                        line: id,
                        code: fault.code.into(),
                        message: fault.message,
                        custom_id: fault.custom_id,
                    }),
                };
                match found {
                    Ok(line) => {
                        let start = line.body.get().as_ptr() as usize - data.as_ptr() as usize;
                        let body = start..start + line.body.get().len();
                        let group = match groups.iter().position(|group| group.lane == line.model) {
                            Some(place) => place,
                            None => {
                                let lane = line.model.to_string();
                                groups.push(Group { lane, ids: Vec::new(), bodies: Vec::new(), offered: 0 });
                                groups.len() - 1
                            }
                        };
                        groups[group].ids.push(id);
                        groups[group].bodies.push(body);
                        names.push(line.custom_id.into_owned());
                        answers.push(None);
                    }
                    Err(bad) => {
                        names.push(bad.custom_id.clone().unwrap_or_default());
                        answers.push(Some(result::refused(batch, &bad)));
                    }
                }
            }
            id += 1;
            at = end + 1;
        }
        let left = answers.iter().filter(|answer| answer.is_none()).count();
        Open { number, data, lines, names, answers, left, groups }
    }

    /// Whether all of it is offered now.
    fn offer(&mut self, engine: &Engine, path: &str, share: bool) -> Result<bool, String> {
        let mut whole = true;
        for group in &mut self.groups {
            let rest = group.offered..group.ids.len();
            if rest.is_empty() {
                continue;
            }
            let ids = &group.ids[rest.clone()];
            let bodies: Vec<&[u8]> = group.bodies[rest].iter().map(|body| &self.data[body.clone()]).collect();
            let salts: Vec<u64> = ids.iter().map(|id| if share { 0 } else { id + 1 }).collect();
            group.offered += engine.submit_bodies(&group.lane, path, ids, &bodies, &salts, Duration::ZERO)?;
            whole &= group.offered == group.ids.len();
        }
        if whole {
            self.data = Vec::new();
            self.groups.clear();
        }
        Ok(whole)
    }

    fn segment(&mut self) -> Segment {
        let answers: Vec<(Vec<u8>, Row)> = std::mem::take(&mut self.answers).into_iter().flatten().collect();
        let mut segment = Segment { number: self.number, ..Segment::default() };
        segment.data.reserve_exact(answers.iter().map(|(line, _)| line.len()).sum());
        for (line, row) in answers {
            segment.data.extend_from_slice(&line);
            segment.rows.push(row);
        }
        segment
    }
}
