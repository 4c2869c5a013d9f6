//! What is answered to a chat request.

use crate::faults::Fault;
use crate::prose;
use crate::random::{self, Random};
use crate::render::{Choice, Completion, Content};
use crate::request::Chat;
use crate::wrong::Wrong;

pub(crate) struct Writer {
    seed: u64,
}

pub(crate) struct Task<'a> {
    chat: &'a Chat<'a>,
    seed: u64,
}

impl Writer {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed }
    }

    pub(crate) fn read<'a>(&self, chat: &'a Chat<'a>) -> Result<Task<'a>, Wrong> {
        let mut seed = random::hash(self.seed, chat.model.0.as_bytes());
        for message in &chat.messages {
            seed = random::hash(seed ^ message.role as u64, message.content.0.as_bytes());
        }
        Ok(Task { chat, seed: seed ^ random::mix(chat.seed.unwrap_or(0) as u64) })
    }
}

impl<'a> Task<'a> {
    pub(crate) fn suits(&self, fault: Fault) -> bool {
        !matches!(fault, Fault::Schema)
    }

    pub(crate) fn write(&self, fault: Option<Fault>, id: u64, created: u64) -> Completion<'a> {
        let mut completion_tokens = 0;
        let choices = (0..self.chat.n.unwrap_or(1)).map(|n| {
            let mut random = Random::new(self.seed.wrapping_add(u64::from(n)));
            let mut text = match fault {
                Some(Fault::Empty) => String::new(),
                Some(Fault::Refuse) => prose::REFUSALS[random.below(prose::REFUSALS.len())].to_owned(),
                Some(Fault::AsAnAi) => format!("As an AI language model, I do not have opinions. {}", prose::text(&mut random, 60)),
                _ => prose::text(&mut random, 100),
            };
            let most = self.chat.most_tokens().saturating_mul(4);
            let cut = text.len() as u64 > most;
            if cut { let mut at = most as usize; while !text.is_char_boundary(at) { at -= 1; } text.truncate(at); }
            completion_tokens += (text.len() as u64).div_ceil(4);
            Choice { content: Content::Text(text), cut }
        }).collect();
        Completion {
            id, created, model: &self.chat.model.0, choices,
            prompt_tokens: self.chat.messages.iter().map(|message| message.content.0.len() as u64 / 4 + 4).sum::<u64>() + 3,
            completion_tokens,
        }
    }
}
