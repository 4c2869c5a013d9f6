//! The words of a text, as every index keeps them and as they are looked for.
//!
//! An index splits at spaces and does no more, so that SQLite and Elasticsearch find the same.

use unicode_normalization::char::{decompose_compatible, is_combining_mark};

/// Characters of a word that count.
const LONGEST: usize = 100;

/// The words of a text, in order, a space between two.
///
/// A word is a run of letters, digits and the marks on them. Case, forms of a letter and accents
/// make no difference (`Café` is `cafe`); of a long word the first 100 characters count. Where a
/// language writes no spaces (Chinese, Japanese) each character is a word.
pub fn words(text: &str) -> String {
    let mut found = Words { out: String::with_capacity(text.len()), length: 0 };
    for letter in text.chars() {
        match letter {
            'a'..='z' | '0'..='9' => found.add(letter),
            'A'..='Z' => found.add(letter.to_ascii_lowercase()),
            '\0'..='\x7f' => found.end(),
            // Hangul is one letter a syllable, as it is read.
            '\u{ac00}'..='\u{d7a3}' => found.add(letter),
            _ => decompose_compatible(letter, |part| found.part(part)),
        }
    }
    found.out.truncate(found.out.trim_end().len());
    found.out
}

struct Words {
    out: String,
    /// Characters of the word at the end.
    length: usize,
}

impl Words {
    fn part(&mut self, letter: char) {
        match letter {
            '\u{300}'..='\u{36f}' => {}
            _ if alone(letter) => {
                self.end();
                self.add(letter);
                self.end();
            }
            _ if letter.is_alphanumeric() => letter.to_lowercase().for_each(|one| self.part_of_word(one)),
            _ if is_combining_mark(letter) && self.length > 0 => self.add(letter),
            _ => self.end(),
        }
    }

    fn part_of_word(&mut self, letter: char) {
        if !('\u{300}'..='\u{36f}').contains(&letter) {
            self.add(letter);
        }
    }

    fn add(&mut self, letter: char) {
        if self.length < LONGEST {
            self.out.push(letter);
        }
        self.length += 1;
    }

    fn end(&mut self) {
        if self.length > 0 {
            self.out.push(' ');
            self.length = 0;
        }
    }
}

/// Whether a character is a word by itself.
fn alone(letter: char) -> bool {
    matches!(letter, '\u{3041}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{20000}'..='\u{3ffff}')
        && letter.is_alphanumeric()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_runs_of_letters_and_digits() {
        assert_eq!(words("Don't say_it: 3.14, OK?"), "don t say it 3 14 ok");
        assert_eq!(words("  \n"), "");
        assert_eq!(words("a"), "a");
    }

    #[test]
    fn case_forms_and_accents_make_no_difference() {
        assert_eq!(words("Café CAFE\u{301}S Straße ﬁne Ⅳ x² İ"), "cafe cafes straße fine iv x2 i");
        assert_eq!(words("\u{301}x"), "x");
        assert_eq!(words("हिन्दी"), "हिन्दी");
        assert_eq!(words("한국어 문장"), "한국어 문장");
    }

    #[test]
    fn where_no_spaces_are_each_character_is_a_word() {
        assert_eq!(words("漢字とABC"), "漢 字 と abc");
        assert_eq!(words("x漢。y"), "x 漢 y");
    }

    #[test]
    fn a_long_word_is_cut() {
        assert_eq!(words(&"é".repeat(300)), "e".repeat(100));
        assert_eq!(words(&format!("{} b", "a".repeat(101))), format!("{} b", "a".repeat(100)));
    }
}
