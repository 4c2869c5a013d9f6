//! Batches: JSONL files of requests, in OpenAI's form, and the answers to each line.
//!
//! ```text
//! file -> Splitter (each line is checked) -> blocks of lines -> Blocks (through an engine)
//!      -> a segment for each block: its answers, in the order of its lines
//! ```
//!
//! A line is known by its number, which is also its number in the engine: what was answered before
//! a crash is found again in the engine's records.

mod beyond;
mod block;
mod line;
mod result;
mod split;
mod text;
mod word;

pub use block::{Answer, Blocks, Segment};
pub use line::{Bad, Rules};
pub use result::{read as row, Row};
pub use split::{Block, Splitter};
pub use text::{both, texts};
pub use word::words;
