//! Who is master: the sentinels know.

use super::dial::{address, connect, text};
use penstock_config::bootstrap::Node;
use redis::IntoConnectionInfo;
use redis::aio::MultiplexedConnection;
use std::time::Duration;

/// A sentinel does nothing but answer; with three of them, one that is gone must not hold up much.
const ANSWER: Duration = Duration::from_millis(500);

/// The sentinels of one service. The one that answered last is asked first.
pub(super) struct Sentinels {
    service: String,
    tls: bool,
    nodes: Vec<Node>,
    connection: Option<MultiplexedConnection>,
}

impl Sentinels {
    pub fn new(service: &str, nodes: &[Node], tls: bool) -> Self {
        Self { service: service.to_owned(), tls, nodes: nodes.to_vec(), connection: None }
    }

    /// The master, or why nobody says.
    pub async fn master(&mut self) -> Result<Node, String> {
        if let Some(connection) = &mut self.connection {
            match ask(connection, &self.service).await {
                Ok(master) => return Ok(master),
                Err(_) => self.connection = None,
            }
        }
        let mut why = String::new();
        for at in 0..self.nodes.len() {
            let node = self.nodes[at].clone();
            match self.ask_node(&node).await {
                Ok((connection, master)) => {
                    self.connection = Some(connection);
                    self.nodes.swap(0, at);
                    return Ok(master);
                }
                Err(error) => why = format!("sentinel {node}: {error}"),
            }
        }
        Err(why)
    }

    async fn ask_node(&self, node: &Node) -> Result<(MultiplexedConnection, Node), String> {
        let info = address(node, self.tls).into_connection_info().map_err(text)?;
        let mut connection = tokio::time::timeout(ANSWER, connect(info, None))
            .await
            .map_err(|_| format!("no answer within {ANSWER:?}"))??;
        let master = ask(&mut connection, &self.service).await?;
        Ok((connection, master))
    }
}

async fn ask(connection: &mut MultiplexedConnection, service: &str) -> Result<Node, String> {
    let mut question = redis::cmd("SENTINEL");
    question.arg("get-master-addr-by-name").arg(service);
    let answer = tokio::time::timeout(ANSWER, question.query_async(connection)).await;
    let answer: Option<(String, u16)> =
        answer.map_err(|_| format!("no answer within {ANSWER:?}"))?.map_err(text)?;
    let (host, port) = answer.ok_or_else(|| {
        format!("it knows no service \"{service}\"; write the name its configuration has")
    })?;
    Ok(Node { host, port })
}
