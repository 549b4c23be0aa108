//! The kernel's TCP as an end of a link: blocking sockets, a thread each.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use testkit::pattern::stream::{Wrong, check, fill};

use super::place::Namespace;
use super::sys;
use super::workload::{Done, End, Gate, Job, PATIENCE, Part, REQUEST, RESPONSE, stream};

/// Ours is CUBIC too. Not every machine's default is.
const CONGESTION: &str = "cubic";

/// Starts `end` of the job in `namespace`.
pub fn start(
    namespace: &Namespace,
    end: usize,
    job: Job,
    gate: &Gate,
) -> JoinHandle<Result<Done, String>> {
    let gate = gate.clone();
    namespace.spawn(move || {
        take_part(end, job, &gate).map_err(|error| format!("Linux, end {end}: {error}"))
    })
}

fn take_part(end: usize, job: Job, gate: &Gate) -> Result<Done, String> {
    let count = job.connections;
    let listener = if job.dialer == end {
        gate.pass();
        None
    } else {
        let listener = TcpListener::bind(job.listener()).map_err(|error| error.to_string())?;
        // What it accepts inherits it.
        sys::set_congestion(&listener, CONGESTION).map_err(|error| error.to_string())?;
        gate.open();
        Some(listener)
    };
    let started = Instant::now();
    let mut threads = Vec::new();
    for _ in 0..count {
        let socket = match &listener {
            Some(listener) => accept(listener),
            None => sys::dial(job.listener(), CONGESTION, PATIENCE),
        };
        let socket = socket.map_err(|error| format!("no connection: {error}"))?;
        let part = job.part(end);
        threads.push(thread::spawn(move || talk(socket, end, part)));
    }
    let mut ends = Vec::new();
    for thread in threads {
        let (amount, at) = thread.join().map_err(|_| "panicked")??;
        ends.push(End { amount, at });
    }
    Ok(Done { started, ends })
}

fn accept(listener: &TcpListener) -> std::io::Result<TcpStream> {
    if !sys::wait_readable(&[listener.as_raw_fd()], PATIENCE)? {
        return Err(std::io::ErrorKind::TimedOut.into());
    }
    listener.accept().map(|(socket, _)| socket)
}

/// One connection, to its end: what it achieved, and when.
fn talk(mut socket: TcpStream, end: usize, part: Part) -> Result<(u64, Instant), String> {
    let text = |error: std::io::Error| format!("{part:?}: {error}");
    let wrong = |wrong: Wrong| wrong.to_string();
    socket.set_read_timeout(Some(PATIENCE)).map_err(text)?;
    socket.set_write_timeout(Some(PATIENCE)).map_err(text)?;
    socket.set_nodelay(true).map_err(text)?;
    let (ours, theirs) = (stream(end), stream(1 - end));
    let mut buffer = vec![0; 64 << 10];
    let result = match part {
        Part::Source(total) => {
            let mut at = 0;
            while at < total {
                let len = (total - at).min(buffer.len() as u64) as usize;
                fill(ours, at, &mut buffer[..len]);
                socket.write_all(&buffer[..len]).map_err(text)?;
                at += len as u64;
            }
            socket.shutdown(Shutdown::Write).map_err(text)?;
            (at, Instant::now())
        }
        Part::Sink(total) => {
            let mut at = 0;
            while at < total {
                let len = socket.read(&mut buffer).map_err(text)?;
                if len == 0 {
                    return Err(format!("the stream ends after {at} of {total} bytes"));
                }
                check(theirs, at, &buffer[..len]).map_err(wrong)?;
                at += len as u64;
            }
            (at, Instant::now())
        }
        Part::Client(time) => {
            let until = Instant::now() + time;
            let (mut asked, mut in_time) = (0, 0);
            while Instant::now() < until {
                let request = &mut buffer[..REQUEST];
                fill(ours, asked * REQUEST as u64, request);
                socket.write_all(request).map_err(text)?;
                let response = &mut buffer[..RESPONSE];
                socket.read_exact(response).map_err(text)?;
                check(theirs, asked * RESPONSE as u64, response).map_err(wrong)?;
                asked += 1;
                in_time += u64::from(Instant::now() < until);
            }
            socket.shutdown(Shutdown::Write).map_err(text)?;
            (in_time, Instant::now())
        }
        Part::Server => {
            let (mut asked, mut answered) = (0, 0);
            loop {
                let len = socket.read(&mut buffer[..REQUEST]).map_err(text)?;
                if len == 0 {
                    break;
                }
                check(theirs, asked, &buffer[..len]).map_err(wrong)?;
                asked += len as u64;
                while answered < asked / REQUEST as u64 {
                    let at = answered * RESPONSE as u64;
                    let response = &mut buffer[..RESPONSE];
                    fill(ours, at, response);
                    socket.write_all(response).map_err(text)?;
                    answered += 1;
                }
            }
            (answered, Instant::now())
        }
    };
    // Both ends must come to an orderly end.
    let len = match part {
        Part::Server => 0,
        _ => socket.read(&mut buffer).map_err(text)?,
    };
    if len != 0 {
        return Err(format!("{part:?}: {len} bytes too many"));
    }
    Ok(result)
}
