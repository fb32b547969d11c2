//! HTTP/1.1 byte by byte: what no well-behaved client sends.

use bytes::{Buf, BytesMut};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longer than any answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// One connection.
#[derive(Debug)]
pub struct Raw {
    stream: TcpStream,
    buffer: BytesMut,
}

/// An answer read from the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawReply {
    /// Status code.
    pub status: u16,
    /// Names lower-cased, in order.
    pub headers: Vec<(String, String)>,
    /// Body with chunking undone.
    pub body: Vec<u8>,
}

impl RawReply {
    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Raw {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("the proxy accepts connections");
        Self { stream, buffer: BytesMut::new() }
    }

    /// Writes bytes as they are. The other side may have closed already: that is an answer too.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let _ = self.stream.write_all(bytes.as_ref()).await;
        self
    }

    /// No more from this side.
    pub async fn finish(&mut self) -> &mut Self {
        let _ = self.stream.shutdown().await;
        self
    }

    /// The next answer; `None` when the other side closed instead. Fails the test when neither
    /// comes, or when what comes is not HTTP.
    pub async fn reply(&mut self) -> Option<RawReply> {
        tokio::time::timeout(PATIENCE, self.read_reply())
            .await
            .expect("an answer or a close within 20 s")
    }

    /// The next answer to a HEAD: no body, whatever the headers say.
    pub async fn head_reply(&mut self) -> Option<RawReply> {
        tokio::time::timeout(PATIENCE, self.read_head())
            .await
            .expect("an answer or a close within 20 s")
    }

    /// Every answer until the other side closes, at most for `limit`; and whether it closed.
    pub async fn replies(&mut self, limit: Duration) -> (Vec<RawReply>, bool) {
        let mut replies = Vec::new();
        let closed = tokio::time::timeout(limit, async {
            while let Some(reply) = self.read_reply().await {
                replies.push(reply);
            }
        })
        .await
        .is_ok();
        (replies, closed)
    }

    async fn read_reply(&mut self) -> Option<RawReply> {
        let mut reply = self.read_head().await?;
        while reply.status == 100 {
            reply = self.read_head().await?;
        }
        reply.body = if matches!(reply.status, 101 | 204 | 304) {
            Vec::new()
        } else if let Some(length) = reply.header("content-length") {
            let length = length.parse().expect("content-length is a number");
            self.read_exactly(length).await?
        } else if reply.header("transfer-encoding").is_some() {
            self.read_chunks().await?
        } else {
            while self.fill().await {}
            self.buffer.split().to_vec()
        };
        Some(reply)
    }

    async fn read_head(&mut self) -> Option<RawReply> {
        let status_line = self.read_line().await?;
        let status = status_line
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.split(' ').nth(1))
            .and_then(|code| code.parse().ok())
            .unwrap_or_else(|| panic!("not a status line: {status_line:?}"));
        let mut headers = Vec::new();
        loop {
            let line = self.read_line().await?;
            if line.is_empty() {
                break;
            }
            let (name, value) =
                line.split_once(':').unwrap_or_else(|| panic!("not a header: {line:?}"));
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        Some(RawReply { status, headers, body: Vec::new() })
    }

    async fn read_chunks(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.read_line().await?;
            let size = usize::from_str_radix(line.split(';').next().unwrap_or(""), 16)
                .unwrap_or_else(|_| panic!("not a chunk size: {line:?}"));
            if size == 0 {
                while !self.read_line().await?.is_empty() {}
                return Some(body);
            }
            body.extend(self.read_exactly(size).await?);
            self.read_line().await?;
        }
    }

    async fn read_line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let line = self.buffer.split_to(end);
                self.buffer.advance(2);
                return Some(String::from_utf8_lossy(&line).into_owned());
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    /// The next `length` bytes; `None` when the other side closed before.
    pub async fn read_exactly(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < length {
            if !self.fill().await {
                return None;
            }
        }
        Some(self.buffer.split_to(length).to_vec())
    }

    async fn fill(&mut self) -> bool {
        matches!(self.stream.read_buf(&mut self.buffer).await, Ok(read) if read > 0)
    }
}
