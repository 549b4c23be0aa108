//! The commands' half: one question, one answer.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::jsonrpc::ErrorObject;

/// A connection to a running program.
pub(crate) struct Client {
    path: PathBuf,
    stream: UnixStream,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum ClientError {
    /// Nobody is there, or we may not ask.
    Connect(PathBuf, io::Error),
    /// The connection broke, or no answer came in time.
    Lost(PathBuf, io::Error),
    /// The answer is an error.
    Refused(ErrorObject),
}

impl std::error::Error for ClientError {}

impl std::fmt::Display for ClientError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ClientError::Connect(path, error) => {
                let path = path.display();
                match error.kind() {
                    ErrorKind::NotFound => write!(
                        f,
                        "there is no control socket {path}: is `throughline run` running? \
                        --socket (or --config) says where its socket is"
                    ),
                    ErrorKind::ConnectionRefused => {
                        write!(
                            f,
                            "nobody answers on {path}: the program that made it is gone"
                        )
                    }
                    ErrorKind::PermissionDenied => {
                        write!(
                            f,
                            "may not open {path}: run this as the user that runs the program"
                        )
                    }
                    _ => write!(f, "cannot connect to {path}: {error}"),
                }
            }
            ClientError::Lost(path, error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                    write!(f, "no answer on {} in time", path.display())
                }
                _ => write!(f, "the connection to {} broke: {error}", path.display()),
            },
            ClientError::Refused(error) => write!(f, "{} ({})", error.message, error.code),
        }
    }
}

impl Client {
    pub(crate) fn connect(path: &Path) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(path)
            .map_err(|error| ClientError::Connect(path.to_owned(), error))?;
        Ok(Self {
            path: path.to_owned(),
            stream,
        })
    }

    /// Calls a method with parameters by name and waits for its result.
    pub(crate) fn call(
        mut self,
        method: &str,
        params: Value,
        timeout: Duration,
    ) -> Result<Value, ClientError> {
        let exchanged = self.exchange(method, params, timeout);
        let mut answer = exchanged.map_err(|error| ClientError::Lost(self.path, error))?;
        if let Some(error) = answer.get("error") {
            let code = error
                .get("code")
                .and_then(Value::as_i64)
                .unwrap_or(ErrorObject::INTERNAL);
            let message = error
                .get("message")
                .and_then(Value::as_str)
                .unwrap_or("no reason given");
            return Err(ClientError::Refused(ErrorObject::new(code, message)));
        }
        Ok(answer
            .get_mut("result")
            .map(Value::take)
            .unwrap_or_default())
    }

    fn exchange(&mut self, method: &str, params: Value, timeout: Duration) -> io::Result<Value> {
        let deadline = Instant::now() + timeout;
        let request =
            json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
        self.stream.set_write_timeout(Some(timeout))?;
        // Who is not served may be told so, and hung up on, before all is asked: the answer says why.
        let asked = (self.stream.write_all(request.as_bytes()))
            .and_then(|()| self.stream.shutdown(Shutdown::Write));
        let mut answer = Vec::new();
        let mut bytes = [0; 16384];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(&mut bytes) {
                Ok(0) => break,
                Ok(count) => answer.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) if !answer.is_empty() => break,
                Err(error) => return Err(asked.err().unwrap_or(error)),
            }
        }
        if answer.is_empty() {
            asked?;
        }
        serde_json::from_slice(&answer)
            .map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
    }
}
