//! A file, piece by piece, cut into blocks of lines that were each checked.

use crate::line::{self, Bad, Fault, Rules};
use std::collections::hash_map::Entry;
use std::collections::HashSet;
use wordmill_core::json::{self, KeyMap};

/// Servers that a batch may name by their addresses.
const SERVERS: usize = 16;

/// Some lines that follow each other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Block {
    /// Where it begins in the file, and how long it is, in bytes.
    pub offset: u64,
    pub size: u64,
    /// The number of its first line, from 0.
    pub first: u64,
    /// How many lines that are not blank, good or bad.
    pub lines: u64,
    /// How many good ones for each model.
    pub models: Vec<(String, u64)>,
    pub bad: Vec<Bad>,
    /// How many of the good ones have answers that are checked, or handed to a function.
    pub python: u64,
}

/// See the module. Memory: a line, and 24 bytes for each line that came.
pub struct Splitter {
    rules: Rules,
    /// The beginning of a line whose end has not come.
    open: Vec<u8>,
    /// Bytes of that line: more than `open` holds when it is too long.
    length: u64,
    offset: u64,
    number: u64,
    block: Block,
    done: Vec<Block>,
    names: KeyMap<u64>,
    servers: HashSet<String>,
}

impl Splitter {
    pub fn new(rules: Rules) -> Self {
        Splitter {
            rules,
            open: Vec::new(),
            length: 0,
            offset: 0,
            number: 0,
            block: Block::default(),
            done: Vec::new(),
            names: KeyMap::default(),
            servers: HashSet::new(),
        }
    }

    /// The next piece of the file.
    pub fn feed(&mut self, mut data: &[u8]) {
        while let Some(end) = memchr::memchr(b'\n', data) {
            let (piece, rest) = data.split_at(end + 1);
            if self.length == 0 {
                self.take(&piece[..end], piece.len() as u64);
            } else {
                self.hold(piece);
                self.close(1);
            }
            data = rest;
        }
        self.hold(data);
    }

    /// The file has ended.
    pub fn finish(&mut self) {
        if self.length > 0 {
            self.close(0);
        }
        self.cut();
    }

    /// The blocks that are complete since the last call.
    pub fn blocks(&mut self) -> Vec<Block> {
        std::mem::take(&mut self.done)
    }

    /// Keep the beginning of a line, no more of it than is needed to see that it is too long.
    fn hold(&mut self, piece: &[u8]) {
        let room = (self.rules.most_bytes + 2).saturating_sub(self.open.len());
        self.open.extend_from_slice(&piece[..piece.len().min(room)]);
        self.length += piece.len() as u64;
    }

    fn close(&mut self, end: usize) {
        let mut open = std::mem::take(&mut self.open);
        let length = std::mem::take(&mut self.length);
        let whole = open.len() as u64 == length;
        let text = if whole { &open[..open.len() - end] } else { &open[..] };
        self.take(text, length);
        open.clear();
        self.open = open;
    }

    /// A whole line; `size`: its bytes in the file, with its end.
    fn take(&mut self, text: &[u8], size: u64) {
        let text = if self.offset == 0 { text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text) } else { text };
        if let Some(text) = line::trimmed(text) {
            self.block.lines += 1;
            if let Err(fault) = self.check(text) {
                self.block.bad.push(Bad { line: self.number, code: fault.code.into(), message: fault.message, custom_id: fault.custom_id });
            }
        }
        self.number += 1;
        self.offset += size;
        self.block.size += size;
        if self.block.lines as usize >= self.rules.block_lines || self.block.size as usize >= self.rules.block_bytes {
            self.cut();
        }
    }

    fn check(&mut self, text: &[u8]) -> Result<(), Fault> {
        let line = line::read(text, &self.rules)?;
        if line.server && !self.servers.contains(line.model.as_ref()) {
            if self.servers.len() == SERVERS {
                let message = format!("a batch names at most {SERVERS} servers by their addresses");
                return Err(Fault { code: "too_many_urls", message, custom_id: Some(line.custom_id.into_owned()) });
            }
            self.servers.insert(line.model.to_string());
        }
        match self.names.entry(json::digest(line.custom_id.as_bytes())) {
            Entry::Occupied(first) => {
                let message = format!("custom_id {:?} stands in line {} already", line.custom_id, first.get() + 1);
                return Err(Fault { code: "duplicate_custom_id", message, custom_id: Some(line.custom_id.into_owned()) });
            }
            Entry::Vacant(place) => place.insert(self.number),
        };
        self.block.python += u64::from(line.python);
        match self.block.models.iter_mut().find(|(name, _)| *name == line.model) {
            Some((_, count)) => *count += 1,
            None => self.block.models.push((line.model.into_owned(), 1)),
        }
        Ok(())
    }

    fn cut(&mut self) {
        let next = Block { offset: self.offset, first: self.number, ..Block::default() };
        let block = std::mem::replace(&mut self.block, next);
        if block.lines > 0 {
            self.done.push(block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        Rules {
            endpoint: "/v1/chat/completions".into(),
            models: ["a".to_string(), "b".to_string()].into(),
            most_bytes: 200,
            block_lines: 2,
            block_bytes: 1 << 20,
            servers: true,
            ..Rules::default()
        }
    }

    fn good(id: &str, model: &str) -> String {
        format!(r#"{{"custom_id":"{id}","body":{{"model":"{model}"}}}}"#)
    }

    fn split(text: &[u8], step: usize) -> Vec<Block> {
        let mut splitter = Splitter::new(rules());
        let mut blocks = Vec::new();
        for piece in text.chunks(step) {
            splitter.feed(piece);
            blocks.extend(splitter.blocks());
        }
        splitter.finish();
        blocks.extend(splitter.blocks());
        blocks
    }

    #[test]
    fn blocks_cover_the_file_however_it_comes() {
        let text = [
            "\u{feff}".to_string() + &good("1", "a"),
            good("2", "b"),
            String::new(),
            good("3", "a") + "\r",
            good("1", "a"),
            "x".repeat(500),
            good("4", "a"),
        ]
        .join("\n");
        let whole = split(text.as_bytes(), text.len());
        assert_eq!(whole.iter().map(|b| b.size).sum::<u64>(), text.len() as u64);
        assert_eq!(whole.iter().map(|b| (b.first, b.lines)).collect::<Vec<_>>(), [(0, 2), (2, 2), (5, 2)]);
        assert_eq!(whole[0].models, [("a".to_string(), 1), ("b".to_string(), 1)]);
        let bad: Vec<_> = whole.iter().flat_map(|b| &b.bad).map(|b| (b.line, b.code.as_str(), b.message.as_str())).collect();
        assert_eq!(
            bad,
            [
                (4, "duplicate_custom_id", "custom_id \"1\" stands in line 1 already"),
                (5, "line_too_large", "the line is longer than 200 bytes"),
            ]
        );
        for step in [1, 7, 64, 333] {
            assert_eq!(split(text.as_bytes(), step), whole, "{step}");
        }
    }

    #[test]
    fn a_batch_names_a_few_servers_and_says_where_python_is_needed() {
        let line = |number: u64| {
            format!(r#"{{"custom_id":"{number}","wordmill":{{"url":"http://h{}","post":"a:b"}},"body":{{"model":"m"}}}}"#, number % 17)
        };
        let text: Vec<String> = (0..34).map(line).collect();
        let blocks = split(text.join("\n").as_bytes(), 1000);
        let bad: Vec<_> = blocks.iter().flat_map(|block| &block.bad).map(|bad| (bad.line, bad.code.as_str())).collect();
        assert_eq!(bad, [(16, "too_many_urls"), (33, "too_many_urls")]);
        assert_eq!(blocks.iter().map(|block| block.python).sum::<u64>(), 32);
    }

    #[test]
    fn a_file_of_blank_lines_has_no_block() {
        assert_eq!(split(b"\n \n\r\n", 2), []);
        assert_eq!(split(b"", 1), []);
    }
}
