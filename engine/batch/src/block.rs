//! Blocks on their way through an engine.

use crate::line::{self, Bad, Rules};
use crate::result::{self, Row};
use std::collections::{BTreeMap, HashMap, VecDeque};
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

/// A line that has its answer while its block is still open.
pub struct Answer<'a> {
    /// Of its block.
    pub number: u64,
    /// Its line of the segment, with the line's end.
    pub result: &'a [u8],
    pub row: &'a Row,
    /// What was asked: the body; the whole line where it has none; None where even that is no JSON.
    pub request: Option<&'a [u8]>,
    /// The line as it stands in the file.
    pub line: &'a [u8],
}

/// The blocks of one batch that are under way. Memory: their requests, then their answers.
pub struct Blocks {
    engine: Arc<Engine>,
    batch: String,
    path: String,
    rules: Rules,
    /// Equal requests share an answer.
    share: bool,
    /// Lines stay until their block has ended: they are told with their answers, and asked again
    /// when another block gave up the equal request that they waited for.
    keep: bool,
    /// By their first line.
    open: BTreeMap<u64, Open>,
    ended: Vec<Segment>,
    /// Answered and not yet told: the first line of a block, and a place in it.
    fresh: Vec<(u64, usize)>,
}

struct Open {
    number: u64,
    data: Vec<u8>,
    /// Numbers of the lines, ascending; their names, places and answers beside them.
    lines: Vec<u64>,
    names: Vec<String>,
    texts: Vec<Text>,
    answers: Vec<Option<(Vec<u8>, Row)>>,
    left: usize,
    /// Offered to the engine, and not back.
    out: usize,
    /// It is being given up: nothing more is offered.
    leaving: bool,
    groups: Vec<Group>,
}

/// Where a line and its body lie in the block.
struct Text {
    line: Range<usize>,
    body: Option<Range<usize>>,
}

/// The lines of a block that one lane answers.
struct Group {
    lane: String,
    /// Places of the lines that are to be offered.
    waiting: VecDeque<usize>,
}

impl Blocks {
    /// `path`: below each lane's base URL.  `rules`: as the batch was checked with; its models are
    /// the engine's lanes.
    pub fn new(engine: Arc<Engine>, batch: &str, path: &str, rules: Rules, share: bool) -> Self {
        Blocks {
            engine,
            batch: batch.into(),
            path: path.into(),
            rules,
            share,
            keep: false,
            open: BTreeMap::new(),
            ended: Vec::new(),
            fresh: Vec::new(),
        }
    }

    /// With this, answers are told one by one (`fresh`), and `finish` ends a block.
    pub fn keeping(self) -> Self {
        Blocks { keep: true, ..self }
    }

    /// Take up a block: its bytes, the number of its first line, and the lines that are not sent.
    pub fn add(&mut self, number: u64, first: u64, data: Vec<u8>, bad: Vec<Bad>) {
        self.add_known(number, first, data, bad, HashMap::new());
    }

    /// The same where some answers are there already, by the numbers of their lines.
    pub fn add_known(&mut self, number: u64, first: u64, data: Vec<u8>, bad: Vec<Bad>, known: HashMap<u64, (Vec<u8>, Row)>) {
        let mut block = Open::read(number, first, data, bad, known, &self.batch, &self.rules);
        if self.keep {
            for at in block.refused() {
                self.fresh.push((first, at));
            }
            self.open.insert(first, block);
        } else if block.left == 0 {
            self.ended.push(block.segment());
        } else {
            self.open.insert(first, block);
        }
    }

    /// Offer what the engine has room for, and take what it has answered; how much was taken.
    pub fn step(&mut self, timeout: Duration) -> Result<usize, String> {
        self.step_within(usize::MAX, timeout)
    }

    /// The same, with at most `room` lines offered.
    pub fn step_within(&mut self, mut room: usize, timeout: Duration) -> Result<usize, String> {
        for block in self.open.values_mut() {
            if !block.offer(&self.engine, &self.path, self.share, self.keep, &mut room)? {
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
        let Some((&first, block)) = self.open.range_mut(..=outcome.id).next_back() else { return };
        let Ok(at) = block.lines.binary_search(&outcome.id) else { return };
        if block.answers[at].is_some() {
            return;
        }
        block.out = block.out.saturating_sub(1);
        if matches!(&outcome.result, Err(failure) if failure.kind == Kind::Cancelled) {
            // Nobody knows its answer: the block stays open.
            if self.keep && !block.leaving {
                block.again(at, self.engine.lane_name(outcome.lane));
            }
            return;
        }
        block.answers[at] = Some(result::of(outcome, &self.batch, &block.names[at], self.engine.lane_name(outcome.lane)));
        block.left -= 1;
        if self.keep {
            self.fresh.push((first, at));
        } else if block.left == 0 {
            if let Some(mut block) = self.open.remove(&first) {
                self.ended.push(block.segment());
            }
        }
    }

    /// Give every line that has no answer this error, and end all blocks.
    pub fn abandon(&mut self, code: &str, message: &str) {
        for (first, block) in &mut self.open {
            for at in 0..block.lines.len() {
                if block.answers[at].is_none() {
                    let bad =
                        Bad { line: block.lines[at], code: code.into(), message: message.into(), custom_id: Some(block.names[at].clone()) };
                    block.answers[at] = Some(result::refused(&self.batch, &bad));
                    if self.keep {
                        self.fresh.push((*first, at));
                    }
                }
            }
            (block.left, block.out) = (0, 0);
            block.groups.clear();
        }
        if !self.keep {
            self.ended.extend(std::mem::take(&mut self.open).into_values().map(|mut block| block.segment()));
        }
    }

    /// The blocks that have ended since the last call.
    pub fn ended(&mut self) -> Vec<Segment> {
        std::mem::take(&mut self.ended)
    }

    /// Tell the answers that came since the last call, those that were known not among them.
    pub fn fresh(&mut self, mut tell: impl FnMut(Answer)) {
        for (first, at) in std::mem::take(&mut self.fresh) {
            let Some(block) = self.open.get(&first) else { continue };
            let Some((result, row)) = &block.answers[at] else { continue };
            let (text, line) = (&block.texts[at], &block.data[block.texts[at].line.clone()]);
            let request = text.body.clone().map(|body| &block.data[body]).or_else(|| result::asked(line));
            tell(Answer { number: block.number, result, row, request, line });
        }
    }

    /// How many lines of a block have no answer, and how many of these are in the engine.
    pub fn waiting(&self, first: u64) -> (usize, usize) {
        self.open.get(&first).map_or((0, 0), |block| (block.left, block.out))
    }

    /// Offer no more of a block, and take back what was not sent.
    pub fn give_up(&mut self, first: u64) {
        if let Some(block) = self.open.get_mut(&first).filter(|block| !block.leaving) {
            block.leaving = true;
            if let Some(last) = block.lines.last() {
                self.engine.withdraw(first..last + 1);
            }
        }
    }

    /// Forget a block, by its first line: its segment, as far as there are answers.
    pub fn finish(&mut self, first: u64) -> Option<Segment> {
        self.open.remove(&first).map(|mut block| block.segment())
    }

    /// How many are under way.
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// How many lines of them have no answer.
    pub fn left(&self) -> usize {
        self.open.values().map(|block| block.left).sum()
    }

    /// How many lines of them are in the engine.
    pub fn out(&self) -> usize {
        self.open.values().map(|block| block.out).sum()
    }
}

impl Open {
    fn read(
        number: u64,
        first: u64,
        data: Vec<u8>,
        bad: Vec<Bad>,
        mut known: HashMap<u64, (Vec<u8>, Row)>,
        batch: &str,
        rules: &Rules,
    ) -> Self {
        let bad: BTreeMap<u64, Bad> = bad.into_iter().map(|bad| (bad.line, bad)).collect();
        let (mut lines, mut names, mut texts, mut answers) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut groups: Vec<Group> = Vec::new();
        let mut id = first;
        let mut at = 0;
        while at < data.len() {
            let end = memchr::memchr(b'\n', &data[at..]).map_or(data.len(), |end| at + end);
            let text = &data[at..end];
            let text = if id == 0 { text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text) } else { text };
            if let Some(text) = line::trimmed(text) {
                lines.push(id);
                let place = |part: &[u8]| {
                    let start = part.as_ptr() as usize - data.as_ptr() as usize;
                    start..start + part.len()
                };
                let found = match bad.get(&id) {
                    Some(bad) => Err(bad.clone()),
                    None => line::read(text, rules).map_err(|fault| Bad {
                        line: id,
                        code: fault.code.into(),
                        message: fault.message,
                        custom_id: fault.custom_id,
                    }),
                };
                let body = found.as_ref().ok().map(|line| place(line.body.get().as_bytes()));
                texts.push(Text { line: place(text), body });
                match found {
                    Ok(line) => {
                        let answer = known.remove(&id);
                        if answer.is_none() {
                            wait(&mut groups, &line.model, |waiting| waiting.push_back(answers.len()));
                        }
                        names.push(line.custom_id.into_owned());
                        answers.push(answer);
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
        Open { number, data, lines, names, texts, answers, left, out: 0, leaving: false, groups }
    }

    /// Places of the lines that are not sent.
    fn refused(&self) -> impl Iterator<Item = usize> + '_ {
        self.texts.iter().enumerate().filter(|(_, text)| text.body.is_none()).map(|(at, _)| at)
    }

    /// Whether all of it is offered now.
    fn offer(&mut self, engine: &Engine, path: &str, share: bool, keep: bool, room: &mut usize) -> Result<bool, String> {
        let mut whole = true;
        for group in self.groups.iter_mut().filter(|_| !self.leaving) {
            let some = group.waiting.len().min(*room);
            if some > 0 {
                let ids: Vec<u64> = group.waiting.iter().take(some).map(|at| self.lines[*at]).collect();
                let body = |at: &usize| self.texts[*at].body.clone().map_or(&[][..], |body| &self.data[body]);
                let bodies: Vec<&[u8]> = group.waiting.iter().take(some).map(body).collect();
                let salts: Vec<u64> = ids.iter().map(|id| if share { 0 } else { id + 1 }).collect();
                let taken = engine.submit_bodies(&group.lane, path, &ids, &bodies, &salts, Duration::ZERO)?;
                group.waiting.drain(..taken);
                self.out += taken;
                *room -= taken;
            }
            whole &= group.waiting.is_empty();
        }
        if whole && !keep {
            self.data = Vec::new();
            self.groups.clear();
        }
        Ok(whole)
    }

    /// A line that the engine gave back is offered again.
    fn again(&mut self, at: usize, lane: &str) {
        wait(&mut self.groups, lane, |waiting| waiting.push_front(at));
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

/// Change what waits for a lane.
fn wait(groups: &mut Vec<Group>, lane: &str, change: impl FnOnce(&mut VecDeque<usize>)) {
    let place = groups.iter().position(|group| group.lane == lane).unwrap_or_else(|| {
        groups.push(Group { lane: lane.into(), waiting: VecDeque::new() });
        groups.len() - 1
    });
    change(&mut groups[place].waiting);
}
