//! Ceilings of a run: nothing is sent that could pass one.
//!
//! Before a request goes out, the most that it can cost is reserved: one request, its bytes as
//! prompt tokens (no tokenizer makes more tokens than bytes), its bound as answer tokens. When it
//! ends the reservation becomes what it really cost.

use crate::config::Ceilings;
use crate::record::Spent;

#[derive(Debug, Default)]
pub struct Budget {
    ceilings: Ceilings,
    spent: Spent,
    reserved: Spent,
    reached: Option<String>,
    /// The ceilings may be raised: what does not fit waits.
    open: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Reserved: send it.
    Go,
    /// It does not fit beside what is in flight; ask again when something ended.
    Wait,
    /// It does not fit until the ceilings are raised.
    Short,
    /// It does not fit.
    Reached,
}

impl Budget {
    /// open: the ceilings may be raised later.
    pub fn new(ceilings: Ceilings, spent: Spent, open: bool) -> Self {
        Budget { ceilings, spent, open, ..Budget::default() }
    }

    /// Other ceilings from now on; open: these may be raised too.
    pub fn allow(&mut self, ceilings: Ceilings, open: bool) {
        (self.ceilings, self.open) = (ceilings, open);
    }

    /// Reserve the most that a request can cost.
    pub fn reserve(&mut self, most: &Spent) -> Verdict {
        match self.passes(most) {
            None => {
                self.reserved.add(most);
                Verdict::Go
            }
            Some(_) if self.reserved.requests > 0 => Verdict::Wait,
            Some(_) if self.open => Verdict::Short,
            Some(words) => {
                self.reached = Some(words);
                Verdict::Reached
            }
        }
    }

    /// A reserved request has ended and cost this much.
    pub fn settle(&mut self, most: &Spent, real: &Spent) {
        self.reserved.requests = self.reserved.requests.saturating_sub(most.requests);
        self.reserved.input_tokens = self.reserved.input_tokens.saturating_sub(most.input_tokens);
        self.reserved.output_tokens = self.reserved.output_tokens.saturating_sub(most.output_tokens);
        self.reserved.money = if self.reserved.requests == 0 { 0.0 } else { (self.reserved.money - most.money).max(0.0) };
        self.spent.add(real);
    }

    /// There is a ceiling at all.
    pub fn limited(&self) -> bool {
        self.ceilings != Ceilings::default()
    }

    /// The ceiling that stopped the run, in words.
    pub fn reached(&self) -> Option<&str> {
        self.reached.as_deref()
    }

    fn passes(&self, most: &Spent) -> Option<String> {
        let mut all = self.spent;
        all.add(&self.reserved);
        all.add(most);
        let Ceilings { requests, tokens, money } = self.ceilings;
        if let Some(ceiling) = requests.filter(|ceiling| all.requests > *ceiling) {
            return Some(format!("{} of {ceiling} requests are spent", self.spent.requests));
        }
        if let Some(ceiling) = tokens.filter(|ceiling| all.tokens() > *ceiling) {
            return Some(format!(
                "{} of {ceiling} tokens are spent and the next request could take {}",
                self.spent.tokens(),
                most.tokens()
            ));
        }
        if let Some(ceiling) = money.filter(|ceiling| all.money > *ceiling + 1e-9) {
            return Some(format!(
                "{:.4} of {ceiling} in money is spent and the next request could cost {:.4}",
                self.spent.money, most.money
            ));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn most(input: u64, output: u64, money: f64) -> Spent {
        Spent { requests: 1, input_tokens: input, output_tokens: output, money }
    }

    #[test]
    fn a_request_that_could_pass_the_ceiling_waits_for_what_is_in_flight_and_then_stops() {
        let mut budget = Budget::new(Ceilings { tokens: Some(250), ..Ceilings::default() }, Spent::default(), false);
        assert_eq!(budget.reserve(&most(50, 50, 0.0)), Verdict::Go);
        assert_eq!(budget.reserve(&most(50, 50, 0.0)), Verdict::Go);
        assert_eq!(budget.reserve(&most(50, 50, 0.0)), Verdict::Wait);
        budget.settle(&most(50, 50, 0.0), &most(50, 50, 0.0));
        assert_eq!(budget.reserve(&most(50, 50, 0.0)), Verdict::Wait);
        budget.settle(&most(50, 50, 0.0), &most(40, 5, 0.0));
        assert_eq!(budget.reserve(&most(50, 50, 0.0)), Verdict::Go);
        budget.settle(&most(50, 50, 0.0), &most(40, 5, 0.0));
        assert_eq!(budget.reserve(&most(50, 50, 0.0)), Verdict::Reached);
        assert_eq!(budget.reached(), Some("190 of 250 tokens are spent and the next request could take 100"));
    }

    #[test]
    fn money_and_requests_have_ceilings_and_a_higher_one_goes_on_from_what_was_spent() {
        let mut budget = Budget::new(Ceilings { requests: Some(1), money: Some(1.0), tokens: None }, Spent::default(), false);
        assert_eq!(budget.reserve(&most(1, 1, 2.0)), Verdict::Reached);
        assert_eq!(budget.reserve(&most(1, 1, 0.5)), Verdict::Go);
        budget.settle(&most(1, 1, 0.5), &most(1, 1, 0.5));
        assert_eq!(budget.reserve(&most(1, 1, 0.1)), Verdict::Reached);
        assert_eq!(budget.reached(), Some("1 of 1 requests are spent"));
        let mut budget = Budget::new(Ceilings { requests: Some(2), money: Some(1.0), tokens: None }, most(1, 1, 0.5), false);
        assert_eq!(budget.reserve(&most(1, 1, 0.1)), Verdict::Go);
    }

    #[test]
    fn what_does_not_fit_waits_while_the_ceilings_may_be_raised() {
        let one = |most| Ceilings { requests: Some(most), ..Ceilings::default() };
        let mut budget = Budget::new(one(0), Spent::default(), true);
        assert_eq!(budget.reserve(&most(1, 1, 0.0)), Verdict::Short);
        budget.allow(one(1), true);
        assert_eq!(budget.reserve(&most(1, 1, 0.0)), Verdict::Go);
        assert_eq!(budget.reserve(&most(1, 1, 0.0)), Verdict::Wait);
        budget.settle(&most(1, 1, 0.0), &most(1, 1, 0.0));
        assert_eq!(budget.reserve(&most(1, 1, 0.0)), Verdict::Short);
        assert_eq!(budget.reached(), None);
        budget.allow(one(1), false);
        assert_eq!(budget.reserve(&most(1, 1, 0.0)), Verdict::Reached);
    }
}
