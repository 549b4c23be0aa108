//! Accepting clients, each on a thread of its own.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use super::clients;
use super::framing::{Broken, Frames, REQUEST_MAX};
use super::jsonrpc::{ErrorObject, Gone, Service, answer, failure};
use super::peer::has_hung_up;
use super::places::{CLIENTS_MAX, Kind, Place, Places};
use super::socket::Listening;

/// A client that says nothing for so long is let go.
const IDLE: Duration = Duration::from_secs(300);
/// A client that takes so long to read an answer is let go.
const SLOW: Duration = Duration::from_secs(5);
/// A client in a place for urgent methods asks within this time, and reads the answer so.
const URGENT: Duration = Duration::from_secs(1);
/// Threads at once: clients, and those that are just being let go.
const THREADS_MAX: usize = 128;

/// Starts answering on threads of their own, which end with the process.
pub(crate) fn serve(listening: &mut Listening, service: impl Service + 'static) -> io::Result<()> {
    let Some(listener) = listening.take() else {
        return Ok(());
    };
    let service = Arc::new(service);
    let places = Arc::new(Places::default());
    let farewell = too_many("this one was silent longest, and makes room").to_string() + "\n";
    thread::Builder::new()
        .name("control".into())
        .spawn(move || {
            // Places are taken in the order of arrival, before there is a thread.
            let incoming = listener.incoming().map(|stream| {
                let stream = stream?;
                Ok((places.take(&stream, &farewell), stream))
            });
            let talk = move |(place, stream): &(Option<Place>, UnixStream), has_thread| match place
                .as_ref()
                .filter(|_| has_thread)
            {
                None => refuse(stream),
                Some(place) if place.kind == Kind::Any => talk(stream, place, &*service),
                Some(place) => talk(stream, place, &Urgent(&*service)),
            };
            clients::each(incoming, "control", THREADS_MAX, talk);
        })?;
    Ok(())
}

/// What a client hears that cannot be served.
fn too_many(why: &str) -> Value {
    failure(Value::Null, all_busy(why))
}

fn all_busy(why: &str) -> ErrorObject {
    let why = format!("{CLIENTS_MAX} clients are connected already: {why}");
    ErrorObject::new(ErrorObject::TOO_MANY_CLIENTS, why)
}

fn refuse(stream: &UnixStream) -> io::Result<()> {
    stream.set_write_timeout(Some(Duration::from_millis(100)))?;
    send(stream, &too_many("try again later"), Duration::MAX)
}

/// A service of which only the urgent methods are served.
struct Urgent<'s, S>(&'s S);

impl<S: Service> Service for Urgent<'_, S> {
    fn methods(&self) -> Vec<&'static str> {
        self.0.methods()
    }

    fn is_urgent(&self, method: &str) -> bool {
        self.0.is_urgent(method)
    }

    fn call(
        &self,
        method: &str,
        params: Map<String, Value>,
        gone: Gone,
    ) -> Result<Value, ErrorObject> {
        if self.is_urgent(method) {
            self.0.call(method, params, gone)
        } else {
            Err(all_busy("try again later"))
        }
    }

    fn replied(&self) {
        self.0.replied();
    }
}

fn talk(mut stream: &UnixStream, place: &Place, service: &impl Service) -> io::Result<()> {
    let urgent = place.kind == Kind::Urgent;
    let (idle, slow) = if urgent {
        (URGENT, URGENT)
    } else {
        (IDLE, SLOW)
    };
    stream.set_read_timeout(Some(idle))?;
    stream.set_write_timeout(Some(slow))?;
    let mut frames = Frames::default();
    let mut bytes = [0; 4096];
    let end = Instant::now() + idle;
    loop {
        let count = match stream.read(&mut bytes) {
            // Whoever only looked in is told why it would not have been served.
            Ok(0) if urgent => return refuse(stream),
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
                    if !place.begins() {
                        return Ok(());
                    }
                    let reply = answer(service, &text, &|| has_hung_up(stream));
                    let sent = reply.map_or(Ok(()), |reply| send(stream, &reply, slow));
                    service.replied();
                    sent?;
                    if urgent {
                        return Ok(());
                    }
                    place.ends();
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
                    let answer = failure(Value::Null, ErrorObject::new(code, why));
                    return send(stream, &answer, slow);
                }
            }
        }
        // Byte by byte, it could hold such a place for ever.
        if urgent && Instant::now() >= end {
            return Err(ErrorKind::TimedOut.into());
        }
    }
}

/// Sends an answer; a client that takes longer than `patience` for all of it is let go.
fn send(mut stream: &UnixStream, answer: &Value, patience: Duration) -> io::Result<()> {
    let mut text = answer.to_string();
    text.push('\n');
    let begin = Instant::now();
    let mut bytes = text.as_bytes();
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(_) if begin.elapsed() > patience => return Err(ErrorKind::TimedOut.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
