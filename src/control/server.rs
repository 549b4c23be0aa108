//! Accepting clients, each on a thread of its own.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::clients;
use super::framing::{Broken, Frames, REQUEST_MAX};
use super::hangup::has_hung_up;
use super::jsonrpc::{ErrorObject, Service, answer, failure};
use super::socket::Listening;

/// Clients at once; one more is told so and let go.
pub(super) const CLIENTS_MAX: usize = 32;
/// A client that says nothing for so long is let go.
const IDLE: Duration = Duration::from_secs(300);
/// A client that takes so long to read an answer is let go.
const SLOW: Duration = Duration::from_secs(5);

/// Starts answering on threads of their own, which end with the process.
pub(crate) fn serve(listening: &mut Listening, service: impl Service + 'static) -> io::Result<()> {
    let Some(listener) = listening.take() else {
        return Ok(());
    };
    let service = Arc::new(service);
    thread::Builder::new()
        .name("control".into())
        .spawn(move || {
            let talk = move |stream: UnixStream, has_place| match has_place {
                true => talk(&stream, &*service),
                false => refuse(&stream),
            };
            clients::each(listener.incoming(), "control", CLIENTS_MAX, talk);
        })?;
    Ok(())
}

fn refuse(stream: &UnixStream) -> io::Result<()> {
    stream.set_write_timeout(Some(Duration::from_millis(100)))?;
    let why = format!("{CLIENTS_MAX} clients are connected already; try again later");
    send(
        stream,
        &failure(
            Value::Null,
            ErrorObject::new(ErrorObject::TOO_MANY_CLIENTS, why),
        ),
    )
}

fn talk(mut stream: &UnixStream, service: &impl Service) -> io::Result<()> {
    stream.set_read_timeout(Some(IDLE))?;
    stream.set_write_timeout(Some(SLOW))?;
    let mut frames = Frames::default();
    let mut bytes = [0; 4096];
    loop {
        let count = match stream.read(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        frames.push(&bytes[..count]);
        loop {
            match frames.next() {
                Ok(None) => break,
                Ok(Some(text)) => {
                    let reply = answer(service, &text, &|| has_hung_up(stream));
                    let sent = reply.map_or(Ok(()), |reply| send(stream, &reply));
                    service.replied();
                    sent?;
                }
                Err(broken) => {
                    // The rest cannot be told apart: answer, and hang up.
                    let (code, why) = match broken {
                        Broken::NotJson => (
                            ErrorObject::PARSE,
                            "Parse error: not a JSON object or array".into(),
                        ),
                        Broken::TooLong => (
                            ErrorObject::INVALID_REQUEST,
                            format!("Invalid request: longer than {REQUEST_MAX} bytes"),
                        ),
                    };
                    return send(stream, &failure(Value::Null, ErrorObject::new(code, why)));
                }
            }
        }
    }
}

fn send(mut stream: &UnixStream, answer: &Value) -> io::Result<()> {
    let mut text = answer.to_string();
    text.push('\n');
    stream.write_all(text.as_bytes())
}
