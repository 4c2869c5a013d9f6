//! The words of a text, found 64 bytes at a time.
//!
//! Every request's text goes through here, and a loop over its bytes would cost more than the
//! answer does: it would mispredict the end of each word. So letters become bits of a mask, and
//! the words are what lies between its edges.

const BLOCK: usize = 64;
const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// Where the words of a text begin and end, in bytes. Words are runs of ASCII letters and of
/// whatever is not ASCII, so that both ends are boundaries of characters.
pub(crate) struct Words<'a> {
    bytes: &'a [u8],
    /// Where the next block begins.
    next: usize,
    /// Changes between letters and others that are still to be looked at, in the last block.
    edges: u64,
    /// Where the current word began.
    start: Option<usize>,
}

impl<'a> Words<'a> {
    pub(crate) const fn of(text: &'a str) -> Self {
        Self { bytes: text.as_bytes(), next: 0, edges: 0, start: None }
    }
}

impl Iterator for Words<'_> {
    type Item = (usize, usize);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            while self.edges != 0 {
                let at = self.next - BLOCK + self.edges.trailing_zeros() as usize;
                self.edges &= self.edges - 1;
                match self.start.take() {
                    Some(start) => return Some((start, at)),
                    None => self.start = Some(at),
                }
            }
            if self.next >= self.bytes.len() {
                return self.start.take().map(|start| (start, self.bytes.len()));
            }
            let rest = &self.bytes[self.next..];
            let letters = rest.first_chunk().map_or_else(
                || {
                    let mut last = [0; BLOCK];
                    last[..rest.len()].copy_from_slice(rest);
                    letters(&last)
                },
                letters,
            );
            self.edges = letters ^ (letters << 1 | u64::from(self.start.is_some()));
            self.next += BLOCK;
        }
    }
}

/// A bit for each byte that is a letter.
fn letters(block: &[u8; BLOCK]) -> u64 {
    let (words, _) = block.as_chunks::<8>();
    let mut mask = 0;
    for (place, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // Eight bytes at once: the highest bit of each says whether it is from a to z, in any case.
        let small = (word | (LOW * 0x20)) & !HIGH;
        let from_a = small + LOW * (0x80 - b'a' as u64);
        let beyond_z = small + LOW * (0x80 - b'z' as u64 - 1);
        let found = (from_a & !beyond_z | word) & HIGH;
        // Multiplying gathers the eight bits in the highest byte.
        mask |= ((found >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56) << (place * 8);
    }
    mask
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// The same, letter by letter.
    fn slow(text: &str) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        let mut start = None;
        for (at, byte) in text.bytes().chain([b' ']).enumerate() {
            let letter = byte.is_ascii_alphabetic() || byte >= 0x80;
            match (start, letter) {
                (None, true) => start = Some(at),
                (Some(begin), false) => {
                    found.push((begin, at));
                    start = None;
                }
                _ => {}
            }
        }
        found
    }

    #[test]
    fn all_bytes_are_letters_or_not_as_they_should_be() {
        for byte in 0..=255_u8 {
            let mask = letters(&[byte; BLOCK]);
            let letter = byte.is_ascii_alphabetic() || byte >= 0x80;
            assert_eq!(mask, if letter { u64::MAX } else { 0 }, "{byte}");
        }
        let mut block = [b' '; BLOCK];
        for place in 0..BLOCK {
            block[place] = b'x';
            assert_eq!(letters(&block), 1 << place);
            block[place] = b' ';
        }
    }

    #[test]
    fn words_are_the_same_as_letter_by_letter() {
        let mut random = Random::new(9);
        for _ in 0..2_000 {
            let length = random.below(200);
            let text: String = (0..length).map(|_| random.pick(&["a", "Z", "\u{e9}", " ", ".", "\u{1f600}", "7", "{"])).collect();
            assert_eq!(Words::of(&text).collect::<Vec<_>>(), slow(&text), "{text}");
        }
        assert_eq!(Words::of(&"x".repeat(64)).collect::<Vec<_>>(), [(0, 64)]);
        assert_eq!(Words::of("").collect::<Vec<_>>(), []);
    }
}
