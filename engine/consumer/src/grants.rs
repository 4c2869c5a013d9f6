//! Budgets and quotas that several consumers share: each spends only what it was granted.
//!
//! What is left = the ceiling - what blocks have cost - what others may still spend. A holder takes a
//! part of it, and more when that is spent. Where nothing is left and others still hold something, one
//! of them waits and the others give their blocks back; where nobody else holds anything, the rest
//! is all there is, and what does not fit fails.

use crate::database::{Database, Parameters};
use crate::plan::Budget;
use crate::session::{Command, Session};
use crate::state::State;
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::Transaction;
use wordmill_core::config::Ceilings;

/// Looks at whether the engine needs more.
const LOOK: Duration = Duration::from_millis(50);
const WAIT: Duration = Duration::from_millis(500);
/// A holder that says nothing for so long holds nothing.
pub const LIVES_SECONDS: i32 = 60;

/// Requests, tokens, money; infinite where nothing bounds them.
type Amount = [f64; 3];

/// What one batch may spend here.
pub struct Grants {
    pub batch: String,
    /// Who pays.
    pub person: String,
    pub holder: String,
    pub budget: Budget,
}

enum Given {
    /// More: ceilings on all that the engine spends from now on, on top of those before.
    More(Amount),
    /// Nothing, and nobody else holds anything.
    Last,
    /// Nothing just now; whether it is us who wait for it.
    Later(bool),
}

/// What blocks have cost, by their counts: requests, tokens, money.
const COST: &str = "coalesce(sum((c->>'completed')::float8 + (c->>'failed')::float8 - (c->>'rejected')::float8 \
    - (c->>'cached')::float8 + (c->>'retried')::float8 - coalesce((c->'causes'->>'budget')::float8, 0) \
    - coalesce((c->'causes'->>'stopped')::float8, 0) - coalesce((c->'causes'->>'bad_request')::float8, 0)), 0), \
    coalesce(sum((c->>'input_tokens')::float8 + (c->>'output_tokens')::float8), 0), coalesce(sum((c->>'money')::float8), 0)";

/// What holders may still spend.
const HELD: &str = "coalesce(sum(g.requests), 0)::float8, coalesce(sum(g.tokens), 0)::float8, coalesce(sum(g.money), 0)";

impl Grants {
    /// Which of the three are bounded at all, by the batch or by a quota of the person. The error is
    /// that of a statement.
    pub async fn bounded(&self, database: &Database) -> Result<[bool; 3], String> {
        let rows = database
            .query(
                "SELECT DISTINCT ON (period) requests::float8, tokens::float8, money FROM quotas WHERE person IN ($1, '') \
                 ORDER BY period, person DESC",
                &[&self.person],
            )
            .await?;
        let mut found = [self.budget.requests.is_some(), self.budget.tokens.is_some(), self.budget.money.is_some()];
        for row in rows {
            for (n, bounded) in found.iter_mut().enumerate() {
                *bounded |= row.get::<_, Option<f64>>(n).is_some();
            }
        }
        Ok(found)
    }

    /// Give the engine more whenever it needs more, for as long as the session lives.
    pub async fn serve(self, database: Arc<Database>, session: Session, bounded: [bool; 3], state: Arc<State>) {
        let mut ceilings: Amount = [0.0; 3];
        loop {
            tokio::time::sleep(LOOK).await;
            if !session.engine.short() {
                continue;
            }
            match self.ask(&database).await {
                Ok(Given::More(more)) => {
                    state.well("budget");
                    for (ceiling, more) in ceilings.iter_mut().zip(more) {
                        *ceiling += if more.is_finite() { more } else { 0.0 };
                    }
                    session.tell(Command::Allow(told(&ceilings, bounded), true));
                }
                Ok(Given::Last) => {
                    session.tell(Command::Allow(told(&ceilings, bounded), false));
                    return;
                }
                Ok(Given::Later(true)) => tokio::time::sleep(WAIT).await,
                Ok(Given::Later(false)) => {
                    tokio::time::sleep(2 * WAIT).await;
                    session.tell(Command::Yield);
                    return;
                }
                Err(words) => {
                    state.trouble("budget", &format!("PostgreSQL grants no budget: {words}. It is tried again."));
                    tokio::time::sleep(WAIT).await;
                }
            }
        }
    }

    async fn ask(&self, database: &Database) -> Result<Given, String> {
        let mut client = database.connect().await?;
        let said = |error: tokio_postgres::Error| crate::http::words(&error);
        let transaction = client.transaction().await.map_err(said)?;
        let given = self.within(&transaction).await.map_err(said)?;
        transaction.commit().await.map_err(said)?;
        Ok(given)
    }

    async fn within(&self, transaction: &Transaction<'_>) -> Result<Given, tokio_postgres::Error> {
        // Whoever grants to this person waits here: all that follows sees what the last one did.
        transaction.execute("SELECT pg_advisory_xact_lock(hashtextextended('wordmill grants ' || $1::text, 0))", &[&self.person]).await?;
        let mine = self
            .amount(transaction, &format!("SELECT {HELD} FROM grants g WHERE g.batch = $1 AND g.holder = $2"), &[&self.batch, &self.holder])
            .await?;
        let mut left: Amount = [f64::INFINITY; 3];
        let mut others = self.holders(transaction, "g.batch = $1", &self.batch).await?;
        let spent = self
            .amount(
                transaction,
                &format!("SELECT {COST} FROM (SELECT counts AS c FROM blocks WHERE batch = $1 AND counts::text <> '{{}}') AS b"),
                &[&self.batch],
            )
            .await?;
        let held = self
            .amount(
                transaction,
                &format!("SELECT {HELD} FROM grants g WHERE g.batch = $1 AND g.holder <> $2 AND g.until > now()"),
                &[&self.batch, &self.holder],
            )
            .await?;
        bound(&mut left, [self.budget.requests, self.budget.tokens, self.budget.money], &[spent, held, mine]);
        let quotas = transaction
            .query(
                "SELECT DISTINCT ON (period) period, requests::float8, tokens::float8, money FROM quotas WHERE person IN ($1, '') \
                 ORDER BY period, person DESC",
                &[&self.person],
            )
            .await?;
        for quota in &quotas {
            let most = [quota.get(1), quota.get(2), quota.get(3)];
            let period: String = quota.get(0);
            if most.iter().all(Option::is_none) || !["day", "month"].contains(&period.as_str()) {
                continue;
            }
            let charged = format!(
                "SELECT coalesce(sum(requests), 0)::float8, coalesce(sum(input_tokens + output_tokens), 0)::float8, coalesce(sum(money), 0) \
                 FROM ledger WHERE person = $1 AND at >= date_trunc('{period}', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'"
            );
            let used = self.amount(transaction, &charged, &[&self.person]).await?;
            let open = format!(
                "SELECT {COST} FROM (SELECT blocks.counts AS c FROM blocks JOIN batches ON batches.id = blocks.batch \
                 WHERE batches.owner = $1 AND NOT done AND blocks.counts::text <> '{{}}' \
                 AND batches.state IN ('in_progress', 'cancelling')) AS b"
            );
            let open = self.amount(transaction, &open, &[&self.person]).await?;
            let all =
                format!("SELECT {HELD} FROM grants g JOIN batches ON batches.id = g.batch WHERE batches.owner = $1 AND g.until > now()");
            let held = self.amount(transaction, &all, &[&self.person]).await?;
            bound(&mut left, most, &[used, open, held]);
            others = self.holders(transaction, "g.batch IN (SELECT id FROM batches WHERE owner = $1)", &self.person).await?;
        }
        let alone: i64 = transaction
            .query_one(
                "SELECT count(*) FROM workers WHERE kind = 'consumer' AND id <> $1 AND seen > now() - interval '15 seconds'",
                &[&self.holder],
            )
            .await?
            .get(0);
        let share = part(&left, [self.budget.requests, self.budget.tokens, self.budget.money], alone == 0);
        let own = format!("{}/{}", self.holder, self.batch);
        if share.iter().all(|part| !part.is_finite() || *part <= 0.0) {
            return Ok(match others.iter().min() {
                None => Given::Last,
                Some(first) => Given::Later(own < *first),
            });
        }
        let add = share.map(|part| if part.is_finite() { part } else { 0.0 });
        transaction
            .execute(
                "INSERT INTO grants (batch, holder, requests, tokens, money, until) \
                 VALUES ($1, $2, $3::float8::int8, $4::float8::int8, $5, now() + make_interval(secs => $6::int4::float8)) \
                 ON CONFLICT (batch, holder) DO UPDATE SET requests = grants.requests + excluded.requests, \
                 tokens = grants.tokens + excluded.tokens, money = grants.money + excluded.money, until = excluded.until",
                &[&self.batch, &self.holder, &add[0], &add[1], &add[2], &LIVES_SECONDS],
            )
            .await?;
        Ok(Given::More(share))
    }

    async fn amount(
        &self,
        transaction: &Transaction<'_>,
        statement: &str,
        parameters: Parameters<'_>,
    ) -> Result<Amount, tokio_postgres::Error> {
        let row = transaction.query_one(statement, parameters).await?;
        Ok([row.get(0), row.get(1), row.get(2)])
    }

    /// Who else holds something, as `holder/batch`.
    async fn holders(&self, transaction: &Transaction<'_>, which: &str, id: &str) -> Result<Vec<String>, tokio_postgres::Error> {
        let statement = format!(
            "SELECT g.holder || '/' || g.batch FROM grants g WHERE {which} AND g.until > now() AND (g.holder <> $2 OR g.batch <> $3)"
        );
        Ok(transaction.query(&statement, &[&id, &self.holder, &self.batch]).await?.iter().map(|row| row.get(0)).collect())
    }
}

/// As the engine is told it.
pub fn told(ceilings: &Amount, bounded: [bool; 3]) -> Ceilings {
    Ceilings {
        requests: bounded[0].then_some(ceilings[0] as u64),
        tokens: bounded[1].then_some(ceilings[1] as u64),
        money: bounded[2].then_some(ceilings[2]),
    }
}

/// Lower what is left to what these ceilings leave.
fn bound(left: &mut Amount, most: [Option<f64>; 3], taken: &[Amount]) {
    for (n, most) in most.into_iter().enumerate() {
        if let Some(most) = most {
            left[n] = left[n].min(most - taken.iter().map(|taken| taken[n]).sum::<f64>());
        }
    }
}

/// What of it is granted at once: all of it to one who is alone; else half, and not too little.
fn part(left: &Amount, most: [Option<f64>; 3], alone: bool) -> Amount {
    let mut share = *left;
    for (n, share) in share.iter_mut().enumerate().filter(|_| !alone) {
        let least = most[n].map_or(64.0, |most| most / 32.0);
        *share = (*share / 2.0).max(least).min(*share);
    }
    [share[0].floor(), share[1].floor(), if share[2] < 1e-9 { 0.0 } else { share[2] }]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_who_is_alone_gets_all_and_others_get_half() {
        let left = [100.0, f64::INFINITY, 1.0];
        assert_eq!(part(&left, [Some(640.0), None, None], true), [100.0, f64::INFINITY, 1.0]);
        assert_eq!(part(&left, [Some(640.0), None, None], false), [50.0, f64::INFINITY, 1.0]);
        assert_eq!(part(&[30.0, 0.4, 0.0], [Some(640.0), None, None], false), [20.0, 0.0, 0.0]);
        assert_eq!(part(&[15.5, 0.0, -1.0], [Some(640.0), None, None], false), [15.0, 0.0, 0.0]);
    }

    #[test]
    fn the_lowest_ceiling_counts() {
        let mut left = [f64::INFINITY; 3];
        bound(&mut left, [Some(100.0), None, Some(1.0)], &[[10.0, 5.0, 0.5], [20.0, 0.0, 0.0]]);
        bound(&mut left, [Some(60.0), None, Some(3.0)], &[[10.0, 5.0, 0.5]]);
        assert_eq!(left, [50.0, f64::INFINITY, 0.5]);
    }
}
