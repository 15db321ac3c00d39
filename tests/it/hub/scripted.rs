//! An HTTP/1.1 server that answers by script, down to the lies: bodies cut short, lengths that
//! are not kept, bytes that drip. It records what it was asked.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// A request as received.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// Path and query, verbatim.
    pub(crate) target: String,
    headers: HashMap<String, String>,
    /// Requests that were being answered at this time, this one included.
    pub(crate) at_once: usize,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }

    /// `Range: bytes=a-b` as `a..b+1`.
    pub(crate) fn range(&self) -> Option<std::ops::Range<usize>> {
        let (first, last) = self.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
        Some(first.parse().unwrap()..last.parse::<usize>().unwrap() + 1)
    }
}

/// What to send.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    delay: Duration,
    manner: Manner,
}

#[derive(Debug, Clone, Copy)]
enum Manner {
    /// As announced.
    Honest,
    /// Announces this length, sends the body, closes.
    Claiming(u64),
    /// Announces no length; sends the body over and over until the client leaves.
    Endless,
    /// Announces the length, sends a byte at a time with this pause.
    Dripping(Duration),
}

impl Reply {
    pub(crate) fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), delay: Duration::ZERO, manner: Manner::Honest }
    }

    pub(crate) fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) fn redirect(status: u16, location: impl ToString) -> Self {
        Self::new(status).with("location", location).body("Redirecting")
    }

    /// Claims to send `length` bytes; closes after the real ones.
    pub(crate) fn claiming(mut self, length: u64) -> Self {
        self.manner = Manner::Claiming(length);
        self
    }

    pub(crate) fn endless(mut self) -> Self {
        self.manner = Manner::Endless;
        self
    }

    pub(crate) fn dripping(mut self, pause: Duration) -> Self {
        self.manner = Manner::Dripping(pause);
        self
    }

    /// Thinks for this long first.
    pub(crate) fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// The asked part of `file`, as a correct server sends it.
    pub(crate) fn part(seen: &Seen, file: &[u8], etag: &str) -> Self {
        let Some(range) = seen.range() else { return Self::new(200).with("etag", etag).body(file) };
        Self::new(206)
            .with("etag", etag)
            .with("content-range", format!("bytes {}-{}/{}", range.start, range.end - 1, file.len()))
            .body(&file[range])
    }
}

/// A running server.
pub(crate) struct Origin {
    pub(crate) url: String,
    address: SocketAddr,
    log: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl Origin {
    /// Answers every request by `script`, which also gets the number of requests before it.
    pub(crate) async fn start(script: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), script).await
    }

    /// The same at a given address.
    pub(crate) async fn start_at(
        address: SocketAddr,
        script: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let url = format!("http://{address}");
        let log = Arc::new(Mutex::new(Vec::new()));
        let (script, shared, busy) = (Arc::new(script), Arc::clone(&log), Arc::<AtomicUsize>::default());
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (script, log, busy) = (Arc::clone(&script), Arc::clone(&shared), Arc::clone(&busy));
                tokio::spawn(async move { while_open(stream, &*script, &log, &busy).await });
            }
        });
        Self { url, address, log, task }
    }

    /// Stops listening, and says where it did.
    pub(crate) async fn shut(mut self) -> SocketAddr {
        self.task.abort();
        let _ = (&mut self.task).await; // the port is free when the task has ended
        self.address
    }

    /// All requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.log.lock().unwrap().clone()
    }

    /// Requests so far as `METHOD target`.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.seen().iter().map(|seen| format!("{} {}", seen.method, seen.target)).collect()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves one connection until either side closes it. A client that leaves is not an error.
async fn while_open(
    mut stream: TcpStream,
    script: &(dyn Fn(&Seen, usize) -> Reply + Sync),
    log: &Mutex<Vec<Seen>>,
    busy: &AtomicUsize,
) {
    while let Some(mut seen) = read_head(&mut stream).await {
        seen.at_once = busy.fetch_add(1, Ordering::SeqCst) + 1;
        let before = {
            let mut log = log.lock().unwrap();
            log.push(seen.clone());
            log.len() - 1
        };
        let reply = script(&seen, before);
        tokio::time::sleep(reply.delay).await;
        let written = write(&mut stream, &seen, reply).await;
        busy.fetch_sub(1, Ordering::SeqCst);
        if written.is_none() {
            return;
        }
    }
}

async fn read_head(stream: &mut TcpStream) -> Option<Seen> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.lines();
    let mut first = lines.next().unwrap().split(' ');
    let (method, target) = (first.next().unwrap().to_owned(), first.next().unwrap().to_owned());
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
    Some(Seen { method, target, headers: headers.collect(), at_once: 0 })
}

/// `None` when the connection is used up.
async fn write(stream: &mut TcpStream, seen: &Seen, reply: Reply) -> Option<()> {
    let Reply { status, headers, body, manner, .. } = reply;
    let mut head = format!("HTTP/1.1 {status} Scripted\r\n");
    for (name, value) in &headers {
        head.extend([name, ": ", value, "\r\n"]);
    }
    if !headers.iter().any(|(name, _)| name == "content-length") {
        let framing = match manner {
            Manner::Claiming(length) => format!("content-length: {length}"),
            Manner::Endless => "connection: close".to_owned(),
            Manner::Honest | Manner::Dripping(_) => format!("content-length: {}", body.len()),
        };
        head.extend([framing.as_str(), "\r\n"]);
    }
    head += "\r\n";
    stream.write_all(head.as_bytes()).await.ok()?;
    if seen.method == "HEAD" {
        return Some(());
    }
    match manner {
        Manner::Honest => stream.write_all(&body).await.ok(),
        Manner::Claiming(_) => {
            stream.write_all(&body).await.ok()?;
            stream.shutdown().await.ok()?;
            None
        }
        Manner::Endless => loop {
            stream.write_all(&body).await.ok()?;
        },
        Manner::Dripping(pause) => {
            for byte in body {
                stream.write_u8(byte).await.ok()?;
                tokio::time::sleep(pause).await;
            }
            Some(())
        }
    }
}
