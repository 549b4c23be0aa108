//! Just enough HTTP/1.1 to be scraped: one request a connection, answered or
//! refused within seconds, on threads that are pinned nowhere.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::control::clients;

/// Scrapes at once; one more is refused.
pub(super) const CLIENTS_MAX: usize = 8;
/// A client must have asked, and read its answer, in so long. Longer in tests: a machine
/// that is busy must not be slower than the clients that are slow on purpose.
pub(super) const PATIENCE: Duration = Duration::from_secs(if cfg!(test) { 15 } else { 5 });
/// The longest head of a request, in bytes.
const HEAD_MAX: usize = 8 << 10;

/// What is asked for; `Err` says why the answer is no.
type Answer = dyn Fn() -> Result<String, String> + Send + Sync;

/// Who knows the answers.
pub(crate) struct Source {
    /// Metrics in Prometheus's text format.
    pub(crate) metrics: Box<Answer>,
    /// How it serves.
    pub(crate) readiness: Box<Answer>,
}

/// Listens for scrapes; what `check` tries is this.
pub(crate) fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let remedy = "set another `metrics` in [control], or none";
    match TcpListener::bind(address) {
        // A port's address is not one of the kernel's.
        Err(error) if error.kind() == ErrorKind::AddrNotAvailable => anyhow::bail!(
            "cannot listen for scrapes at {address}, which is no address of this system's kernel: {remedy}"
        ),
        Err(error) => {
            anyhow::bail!("cannot listen for scrapes at {address}: {error}: {remedy}")
        }
        Ok(listener) => Ok(listener),
    }
}

/// Answers on threads of their own, which end with the process.
pub(crate) fn serve(listener: TcpListener, source: Source) -> io::Result<()> {
    let source = Arc::new(source);
    let accept = move || {
        clients::each(
            listener.incoming(),
            "metrics",
            CLIENTS_MAX,
            move |stream, has_place| talk(stream, has_place, &source),
        );
    };
    thread::Builder::new()
        .name("metrics".into())
        .spawn(accept)?;
    Ok(())
}

fn talk(stream: &TcpStream, has_place: bool, source: &Source) -> io::Result<()> {
    let mut client = Client {
        stream,
        deadline: Instant::now() + PATIENCE,
    };
    if !has_place {
        let why = format!("{CLIENTS_MAX} scrapes are under way already\n");
        return client.answer("503 Service Unavailable", "text/plain", &why, true);
    }
    match client.ask()? {
        Asked::Metrics { body } => {
            let of = "text/plain; version=0.0.4; charset=utf-8";
            client.answer_or_not(of, (source.metrics)(), body)
        }
        Asked::Readiness { body } => {
            let of = "text/plain; charset=utf-8";
            client.answer_or_not(of, (source.readiness)(), body)
        }
        Asked::Other => client.answer(
            "404 Not Found",
            "text/plain",
            "metrics are at /metrics, readiness at /ready\n",
            true,
        ),
        Asked::Method => client.answer(
            "405 Method Not Allowed",
            "text/plain",
            "only GET and HEAD\n",
            true,
        ),
        Asked::Nonsense => client.answer(
            "400 Bad Request",
            "text/plain",
            "that is no HTTP request\n",
            true,
        ),
    }
}

enum Asked {
    /// `/metrics`, with the body or only the head.
    Metrics {
        body: bool,
    },
    /// `/ready`, likewise.
    Readiness {
        body: bool,
    },
    Other,
    Method,
    Nonsense,
}

/// A client with a deadline for all of it.
struct Client<'s> {
    stream: &'s TcpStream,
    deadline: Instant,
}

impl Client<'_> {
    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        Ok(Some(left))
    }

    fn ask(&mut self) -> io::Result<Asked> {
        let mut head = Vec::new();
        let mut bytes = [0; 1024];
        loop {
            self.stream.set_read_timeout(self.left()?)?;
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => head.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            let mut headers = [httparse::EMPTY_HEADER; 64];
            let mut request = httparse::Request::new(&mut headers);
            match request.parse(&head) {
                Ok(httparse::Status::Complete(_)) => {
                    let path = request.path.unwrap_or_default();
                    let path = path.split('?').next().unwrap_or_default();
                    return Ok(match (request.method, path) {
                        (Some("GET"), "/metrics") => Asked::Metrics { body: true },
                        (Some("HEAD"), "/metrics") => Asked::Metrics { body: false },
                        (Some("GET"), "/ready") => Asked::Readiness { body: true },
                        (Some("HEAD"), "/ready") => Asked::Readiness { body: false },
                        (Some("GET" | "HEAD"), _) => Asked::Other,
                        _ => Asked::Method,
                    });
                }
                Ok(httparse::Status::Partial) if head.len() < HEAD_MAX => {}
                Ok(httparse::Status::Partial) | Err(_) => return Ok(Asked::Nonsense),
            }
        }
    }

    fn answer_or_not(
        &mut self,
        of: &str,
        answer: Result<String, String>,
        body: bool,
    ) -> io::Result<()> {
        let unavailable = "503 Service Unavailable";
        match answer {
            Ok(text) => self.answer("200 OK", of, &text, body),
            Err(why) => self.answer(
                unavailable,
                "text/plain; charset=utf-8",
                &(why + "\n"),
                body,
            ),
        }
    }

    fn answer(&mut self, status: &str, of: &str, text: &str, body: bool) -> io::Result<()> {
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {of}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            text.len()
        );
        self.send(head.as_bytes())?;
        if body {
            self.send(text.as_bytes())?;
        }
        self.stream.shutdown(std::net::Shutdown::Write)
    }

    fn send(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.stream.set_write_timeout(self.left()?)?;
            match self.stream.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
