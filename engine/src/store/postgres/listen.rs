//! What others did to the tables, heard at once: products that changed, users with new events, popularity that was
//! made.
//!
//! A connection of its own listens at the primary. While there is none nothing is heard; when there is one again, who
//! listens is told that anything may have happened.

use super::connect::{Connector, Driver, Purpose};
use std::future::poll_fn;
use std::time::Duration;
use tokio_postgres::AsyncMessage;

/// Between two attempts to connect.
const AGAIN: Duration = Duration::from_millis(500);

const CHANNELS: &str =
    "LISTEN penstock_products; LISTEN penstock_users; LISTEN penstock_popularity";

/// What is heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Heard {
    /// Products changed.
    Products,
    /// The job made another popularity.
    Popularity,
    /// These users have new events; `None`: anybody may. `by` is who stored them, as connections are named.
    Users { users: Option<Vec<String>>, by: String },
    /// Messages were missed.
    Missed,
}

/// Listens until it is dropped.
pub(super) async fn listen(connector: Connector, mut each: impl FnMut(Heard)) {
    let connector = connector.to(Purpose::Work);
    let mut heard_before = false;
    loop {
        match connector.open().await {
            Ok((client, driver)) => {
                let (messages, mut received) = tokio::sync::mpsc::unbounded_channel();
                let driving = tokio::spawn(drive(driver, messages));
                let asked = client.batch_execute(CHANNELS);
                if asked.await.is_ok() {
                    if heard_before {
                        each(Heard::Missed);
                    }
                    heard_before = true;
                    // Whatever happened before the first message that will be heard.
                    each(Heard::Products);
                    while let Some((channel, payload)) = received.recv().await {
                        each(understand(&channel, &payload));
                    }
                }
                driving.abort();
            }
            Err(error) => tracing::debug!(error = super::fault::text(&error), "cannot listen yet"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

type Messages = tokio::sync::mpsc::UnboundedSender<(String, String)>;

async fn drive(driver: Driver, messages: Messages) {
    match driver {
        Driver::Plain(mut connection) => {
            while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
                pass_on(message, &messages);
            }
        }
        Driver::Tls(mut connection) => {
            while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
                pass_on(message, &messages);
            }
        }
    }
}

fn pass_on(message: AsyncMessage, messages: &Messages) {
    if let AsyncMessage::Notification(note) = message {
        let _ = messages.send((note.channel().to_owned(), note.payload().to_owned()));
    }
}

fn understand(channel: &str, payload: &str) -> Heard {
    match channel {
        "penstock_products" => return Heard::Products,
        "penstock_popularity" => return Heard::Popularity,
        _ => {}
    }
    let (by, users) = payload.split_once('\n').unwrap_or(("", "null"));
    // What cannot be read may be about anybody.
    let users = serde_json::from_str(users).unwrap_or(None);
    Heard::Users { users, by: by.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_understood_or_about_anybody() {
        let check = |payload: &str, users: Option<&[&str]>, by: &str| {
            let users = users.map(|users| users.iter().map(|user| (*user).to_owned()).collect());
            let expected = Heard::Users { users, by: by.into() };
            assert_eq!(understand("penstock_users", payload), expected, "{payload:?}");
        };
        check("penstock:a\n[\"é\\\"x\",\"u\"]", Some(&["é\"x", "u"]), "penstock:a");
        check("psql\nnull", None, "psql");
        check("nonsense", None, "");
        check("psql\nnonsense", None, "psql");
        assert_eq!(understand("penstock_products", ""), Heard::Products);
    }
}
