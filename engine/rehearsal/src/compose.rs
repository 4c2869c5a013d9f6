//! A whole text in the form that was asked for: headings, a list, a score, a length.

use crate::brief::{Form, List};
use crate::prose::Voice;

/// Words of a text whose length nobody said, of a section, a paragraph, and of something short.
const USUAL: (usize, usize) = (80, 120);
const SECTION: (usize, usize) = (35, 60);
const PARAGRAPH: (usize, usize) = (50, 80);
const SHORT: (usize, usize) = (12, 28);
/// Longer texts are cut into paragraphs of about this many words.
const BLOCK: usize = 130;
/// A text longer than this is not written, whatever was asked for.
const MOST_WORDS: usize = 10_000;
const MOST_UNITS: usize = 400;

/// Writes a text; `lead` is a sentence that it must begin with, below the first heading.
pub(crate) fn compose(form: &Form, lead: Option<&str>, voice: &mut Voice<'_>) -> String {
    let mut out = String::with_capacity(1024);
    if form.headings.is_empty() {
        if let Some(lead) = lead {
            out.push_str(lead);
            out.push(' ');
        }
        body(form, voice, &mut out);
        return out;
    }
    for (number, heading) in form.headings.iter().enumerate() {
        if number > 0 {
            out.push_str("\n\n");
        }
        out.push_str(heading);
        out.push_str(if heading.starts_with('#') { "\n\n" } else { "\n" });
        if let (0, Some(lead)) = (number, lead) {
            out.push_str(lead);
            out.push(' ');
        }
        section(form, voice, &mut out);
    }
    out
}

fn section(form: &Form, voice: &mut Voice<'_>, out: &mut String) {
    let length = form.length;
    let share = |whole: usize| if length.each { whole } else { (whole / form.headings.len()).max(1) };
    if let Some(words) = length.words {
        // A heading alone is no section.
        block(voice, share(words).max(9), length.paragraphs.map(share), out);
    } else if let Some(count) = length.sentences {
        voice.sentences(out, share(count).min(MOST_UNITS));
    } else {
        some_words(voice, if length.short { SHORT } else { SECTION }, out);
    }
}

fn body(form: &Form, voice: &mut Voice<'_>, out: &mut String) {
    if let Some((low, high)) = form.score {
        let span = usize::try_from(high - low).unwrap_or(0);
        let score = low + voice.random.score(span) as i64;
        if form.bare {
            out.push_str(&score.to_string());
            return;
        }
        out.push_str(&format!("Score: {score}\n\n"));
        return some_words(voice, SHORT, out);
    }
    if let Some(list) = form.list {
        return points(list, voice, out);
    }
    let length = form.length;
    if let Some(words) = length.words {
        block(voice, words, length.paragraphs, out);
    } else if let Some(count) = length.sentences {
        voice.sentences(out, count.min(MOST_UNITS));
    } else if let Some(count) = length.paragraphs {
        let words = voice.random.between(PARAGRAPH.0, PARAGRAPH.1) * count.min(MOST_UNITS);
        block(voice, words, Some(count), out);
    } else if length.title {
        voice.title(out);
    } else {
        some_words(voice, if length.short { SHORT } else { USUAL }, out);
    }
}

/// About that many words, in so many paragraphs, or in as many as they need.
fn block(voice: &mut Voice<'_>, words: usize, paragraphs: Option<usize>, out: &mut String) {
    let words = words.min(MOST_WORDS);
    let parts = paragraphs.unwrap_or_else(|| words.div_ceil(BLOCK)).clamp(1, MOST_UNITS);
    for number in 0..parts {
        if number > 0 {
            out.push_str("\n\n");
        }
        voice.sentences_of(out, words / parts);
    }
}

fn some_words(voice: &mut Voice<'_>, (low, high): (usize, usize), out: &mut String) {
    let words = voice.random.between(low, high);
    voice.sentences_of(out, words);
}

fn points(list: List, voice: &mut Voice<'_>, out: &mut String) {
    let count = list.items.unwrap_or_else(|| voice.random.between(3, 6));
    for number in 1..=count {
        if number > 1 {
            out.push('\n');
        }
        if list.numbered {
            out.push_str(&format!("{number}. "));
        } else {
            out.push_str("- ");
        }
        voice.point(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forms;
    use crate::random::Random;

    fn answers(prompt: &str) -> Vec<String> {
        let form = forms::read(prompt, u8::MAX);
        (0..60).map(|seed| compose(&form, None, &mut Voice::new(Random::new(seed), &["laptop", "charger"]))).collect()
    }

    fn words(text: &str) -> usize {
        text.split_whitespace().count()
    }

    #[test]
    fn a_text_has_the_length_that_was_asked_for() {
        assert!(answers("Describe the laptop.").iter().all(|text| (65..=140).contains(&words(text))));
        assert!(answers("Describe it in one sentence.").iter().all(|text| text.matches(". ").count() == 0 && text.ends_with('.')));
        assert!(answers("Describe it in three sentences.").iter().all(|text| text.matches(". ").count() == 2));
        assert!(answers("One word, please.").iter().all(|text| words(text) == 1));
        assert!(answers("Write about 300 words.").iter().all(|text| (240..=360).contains(&words(text)) && text.contains("\n\n")));
        assert!(answers("One paragraph of 300 words.").iter().all(|text| words(text) >= 240 && !text.contains('\n')));
        assert!(answers("Write three paragraphs.").iter().all(|text| text.split("\n\n").count() == 3));
        assert!(answers("At most 40 words.").iter().all(|text| words(text) <= 40));
        assert!(answers("Give it a title.").iter().all(|text| words(text) <= 8));
    }

    #[test]
    fn headings_stand_above_text() {
        for text in answers("Use the headings CONSIDERATIONS and ACTION.") {
            let (first, second) = text.strip_prefix("CONSIDERATIONS\n").unwrap().split_once("\n\nACTION\n").unwrap();
            assert!(words(first) > 20 && words(second) > 20, "{text}");
        }
    }

    #[test]
    fn lists_and_scores_have_their_form() {
        for text in answers("Write a numbered list of four tips.") {
            assert_eq!(text.lines().map(|line| line.split_once(". ").unwrap().0).collect::<Vec<_>>(), ["1", "2", "3", "4"]);
        }
        assert!(answers("Rate it from 0 to 4 with a single number.").iter().all(|text| ["0", "1", "2", "3", "4"].contains(&text.as_str())));
        assert!(answers("Rate it from 0 to 4 and say why.").iter().all(|text| text.starts_with("Score: ")));
    }

    #[test]
    fn a_lead_comes_below_the_first_heading() {
        let form = forms::read("Use the headings CAUSE and CURE.", u8::MAX);
        let text = compose(&form, Some("As an AI."), &mut Voice::new(Random::new(1), &[]));
        assert!(text.starts_with("CAUSE\nAs an AI. "), "{text}");
    }
}
