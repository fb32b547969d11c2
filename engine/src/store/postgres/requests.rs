//! What requests read and store.

use super::moments::Moments;
use super::query::{self, Params};
use super::{PostgresStore, ended, rows};
use crate::catalog::{Event, Product, UserEvent};
use crate::features::Entity;
use crate::store::{Store, StoreError};
use futures::future::BoxFuture;
use std::collections::{HashMap, HashSet};
use tokio_postgres::Row;

/// The latest `limit` of a user's events, newest first: those that wait and those that are stored, each once.
fn merged(waiting: Vec<Event>, stored: Vec<(String, UserEvent)>, limit: usize) -> Vec<UserEvent> {
    let known: HashSet<&str> = stored.iter().map(|(id, _)| id.as_str()).collect();
    let waiting = waiting.into_iter().filter(|event| !known.contains(&*event.event_id));
    let mut events: Vec<UserEvent> = waiting
        .map(|event| UserEvent {
            product_id: event.product_id,
            kind: event.kind,
            at_micros: event.at_micros,
        })
        .collect();
    events.extend(stored.into_iter().map(|(_, event)| event));
    // Stable: of two at the same time the one that was stored later comes first.
    events.sort_by_key(|event| std::cmp::Reverse(event.at_micros));
    events.truncate(limit);
    events
}

impl Store for PostgresStore {
    fn products(
        &self,
        ids: Vec<String>,
    ) -> BoxFuture<'_, Result<Vec<Option<Product>>, StoreError>> {
        // No product has a NUL in its id, and PostgreSQL takes no text that has.
        let asked: Vec<String> = ids.iter().filter(|id| !id.contains('\0')).cloned().collect();
        self.read(
            "reading products",
            &query::PRODUCTS,
            vec![Box::new(asked)],
            Moments::of_products,
            move |rows| {
                let mut found = HashMap::with_capacity(rows.len());
                for row in &rows {
                    let product = rows::product(row)?;
                    found.insert(product.id.clone(), product);
                }
                Ok(ids.iter().map(|id| found.get(id).cloned()).collect())
            },
        )
    }

    fn recent_events(
        &self,
        user_id: String,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<UserEvent>, StoreError>> {
        if user_id.contains('\0') || limit == 0 {
            return Box::pin(async { Ok(Vec::new()) });
        }
        Box::pin(async move {
            // First, because what leaves the spool meanwhile is in the tables then.
            let waiting = match self.outbox.as_ref().and_then(|outbox| outbox.spool().ok()) {
                Some(spool) => spool.waiting_of(&user_id, limit).await?,
                None => Vec::new(),
            };
            let most = i64::try_from(limit).unwrap_or(i64::MAX);
            let stored = self.read(
                "reading events",
                &query::RECENT_EVENTS,
                vec![Box::new(user_id.clone()), Box::new(most)],
                move |moments| moments.of_user(&user_id),
                |rows| {
                    let event = |row: &Row| Ok((row.try_get(0)?, rows::user_event(row, 1)?));
                    rows.iter().map(event).collect::<Result<Vec<_>, _>>()
                },
            );
            Ok(merged(waiting, stored.await?, limit))
        })
    }

    fn features(
        &self,
        entity: Entity,
        id: String,
        names: Vec<&'static str>,
    ) -> BoxFuture<'_, Result<Vec<Option<serde_json::Value>>, StoreError>> {
        if id.contains('\0') {
            return Box::pin(async move { Ok(vec![None; names.len()]) });
        }
        let params: Params =
            vec![Box::new(entity.name()), Box::new(id.clone()), Box::new(names.clone())];
        self.read(
            "reading features",
            &query::FEATURES,
            params,
            move |moments| match entity {
                Entity::User => moments.of_user(&id),
                Entity::Product | Entity::UserAndProduct => moments.of_products(),
            },
            move |rows| {
                let mut found = HashMap::with_capacity(rows.len());
                for row in &rows {
                    let text: &str = row.try_get(1)?;
                    found.insert(row.try_get::<_, String>(0)?, serde_json::from_str(text).ok());
                }
                Ok(names.iter().map(|name| found.remove(*name).flatten()).collect())
            },
        )
    }

    fn append_events(&self, events: Vec<Event>) -> BoxFuture<'_, Result<Vec<bool>, StoreError>> {
        if events.is_empty() {
            return Box::pin(async { Ok(Vec::new()) });
        }
        if let Some(outbox) = &self.outbox {
            return match outbox.spool() {
                Ok(spool) => spool.append(events),
                Err(error) => Box::pin(async { Err(error) }),
            };
        }
        let shared = self.shared.clone();
        let storing = self.spawn(async move { shared.store_events(&events).await });
        Box::pin(async move {
            let stored = storing.await.map_err(|_| ended("storing events"))?;
            stored.map_err(|fault| fault.told("storing events"))
        })
    }
}
