//! Every query that serving asks, in one place. What jobs, imports and migrations do is with them.

use tokio_postgres::types::ToSql;

/// A query and what it is for.
#[derive(Debug)]
pub(super) struct Query {
    /// As in metrics and logs.
    pub name: &'static str,
    pub sql: &'static str,
}

/// Every statement that is asked of a table that grows, but those of migrations and of moving months.
const ALL: [&Query; 18] = [
    &PRODUCTS,
    &RECENT_EVENTS,
    &FEATURES,
    &POPULARITY,
    &SCORES,
    &REVISION,
    &STORE_ID,
    &COUNTS,
    &CHANGES,
    &CATALOG_PAGE,
    &EVENTS,
    &BEAT,
    &FOLLOWS,
    &super::ship::ADD,
    &super::changes::LOCK,
    &super::changes::INSERT,
    &super::changes::UPDATE,
    &super::changes::DELETE,
];

/// The statements, by name and text: for tests that look at their plans.
pub fn statements() -> impl Iterator<Item = (&'static str, &'static str)> {
    ALL.iter().map(|query| (query.name, query.sql))
}

/// Values of a query's parameters.
pub(super) type Params = Vec<Box<dyn ToSql + Sync + Send>>;

/// What an operator recognises a query by: one line, single spaces. Values are never in it.
pub(super) fn normalised(sql: &str) -> String {
    sql.split_whitespace().collect::<Vec<_>>().join(" ")
}

pub(super) const PRODUCTS: Query = Query {
    name: "products",
    sql: "SELECT product_id, name, description, category, brand, price, created_at, popularity
          FROM penstock.products WHERE product_id = ANY($1)",
};

pub(super) const RECENT_EVENTS: Query = Query {
    name: "recent_events",
    sql: "SELECT event_id, product_id, event_type::text, \"timestamp\" FROM penstock.events
          WHERE user_id = $1 ORDER BY \"timestamp\" DESC, stored_by DESC, event_id DESC LIMIT $2",
};

pub(super) const FEATURES: Query = Query {
    name: "features",
    sql: "SELECT name, value::text FROM penstock.feature_values
          WHERE entity = $1 AND entity_id = $2 AND name = ANY($3)",
};

/// What the job `popularity` made last.
pub(super) const POPULARITY: Query = Query {
    name: "popularity",
    sql: "SELECT (state->>'number')::bigint, (state->>'newest_micros')::bigint,
              (state->>'half_life_seconds')::float8
          FROM penstock.job_state WHERE job = 'popularity' AND state ? 'number'",
};

pub(super) const SCORES: Query = Query {
    name: "popularity_scores",
    sql: "SELECT ordinal, popularity_score FROM penstock.products WHERE popularity_score IS NOT NULL",
};

pub(super) const REVISION: Query =
    Query { name: "revision", sql: "SELECT revision FROM penstock.catalog" };

pub(super) const STORE_ID: Query =
    Query { name: "store_id", sql: "SELECT value FROM penstock.meta WHERE name = 'store_id'" };

pub(super) const COUNTS: Query = Query {
    name: "counts",
    sql: "SELECT (SELECT count(*) FROM penstock.products), (SELECT count(*) FROM penstock.event_ids)",
};

/// What changed after a revision; one statement is one snapshot. A row without a product tells the revision and how
/// far back is known.
pub(super) const CHANGES: Query = Query {
    name: "changes",
    sql: "WITH c AS (SELECT revision, forgotten FROM penstock.catalog)
          SELECT c.revision, c.forgotten, d.ordinal, d.product_id, p.ordinal IS NOT NULL,
              p.name, p.description, p.category, p.brand, p.price, p.created_at, p.popularity
          FROM c LEFT JOIN LATERAL (
              SELECT ordinal, product_id FROM penstock.product_changes
              WHERE revision > $1 ORDER BY revision LIMIT $2) d ON true
          LEFT JOIN LATERAL (
              SELECT * FROM penstock.products p WHERE p.ordinal = d.ordinal OFFSET 0) p ON true
          ORDER BY d.ordinal",
};

pub(super) const CATALOG_PAGE: Query = Query {
    name: "catalog",
    sql: "SELECT product_id, name, description, category, brand, price, created_at, popularity, ordinal
          FROM penstock.products WHERE ordinal > $1 ORDER BY ordinal LIMIT $2",
};

/// Every event: for jobs, which read all of them.
pub(super) const EVENTS: Query = Query {
    name: "events",
    sql: "SELECT user_id, product_id, event_type::text, \"timestamp\" FROM penstock.events",
};

/// The primary's second: that something is written even in an idle shop, and up to where everything is.
pub(super) const BEAT: Query = Query {
    name: "heartbeat",
    sql: "WITH beat AS (
              UPDATE penstock.heartbeat SET beat = beat + 1, at = clock_timestamp()
              WHERE at < clock_timestamp() - interval '500 milliseconds' RETURNING 1)
          SELECT (pg_current_wal_flush_lsn() - '0/0')::text, (SELECT count(*) FROM beat),
              ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::integer, (SELECT beat FROM penstock.heartbeat)",
};

/// A replica's second.
pub(super) const FOLLOWS: Query = Query {
    name: "heartbeat",
    sql: "SELECT pg_is_in_recovery(),
              CASE WHEN pg_is_in_recovery() THEN (pg_last_wal_replay_lsn() - '0/0')::text END,
              (SELECT beat FROM penstock.heartbeat)",
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_statement_is_left_out() {
        let here = include_str!("query.rs").matches("\npub(super) const ").count();
        assert_eq!(here, ALL.len() - 5, "a query of this file is not in ALL");
        for (query, sql) in statements() {
            assert!(!normalised(sql).contains("  "), "{query}");
        }
    }
}
