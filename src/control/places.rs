//! Places of clients: those who only wait make room for whoever comes, and a few
//! places are kept for the methods that an operator must always reach.

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::peer;

/// Clients at once that may ask anything.
pub(super) const CLIENTS_MAX: usize = 32;
/// Clients beyond those, while all of them are busy; they reach urgent methods alone.
const URGENT_MAX: usize = 8;
/// Least time between two lines in the log.
const SAY: Duration = Duration::from_secs(60);

/// What a client may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Any,
    /// One request, of an urgent method.
    Urgent,
}

/// Everybody who is connected.
#[derive(Default)]
pub(super) struct Places(Mutex<Table>);

#[derive(Default)]
struct Table {
    clients: Vec<Client>,
    next: u64,
    said: Option<Instant>,
}

struct Client {
    number: u64,
    kind: Kind,
    stream: UnixStream,
    /// Since when it was expected to ask; `None` while a request of it is answered.
    /// Bytes of a request that is not whole do not count as asking.
    waits_since: Option<Instant>,
}

/// A client's place, free again when dropped.
pub(super) struct Place {
    places: Arc<Places>,
    number: u64,
    pub(super) kind: Kind,
}

impl Places {
    /// A place for `stream`. The client that has waited longest without asking is told
    /// `farewell` and let go for it; if none waits, the place is for urgent methods, and
    /// there is none at last.
    pub(super) fn take(self: &Arc<Self>, stream: &UnixStream, farewell: &str) -> Option<Place> {
        let copy = stream.try_clone().ok()?;
        let mut table = self.lock();
        let kind = if table.makes_room(Kind::Any, CLIENTS_MAX, farewell) {
            Kind::Any
        } else if table.makes_room(Kind::Urgent, URGENT_MAX, farewell) {
            Kind::Urgent
        } else {
            return None;
        };
        let number = table.next;
        table.next += 1;
        table.clients.push(Client {
            number,
            kind,
            stream: copy,
            waits_since: Some(Instant::now()),
        });
        Some(Place {
            places: Arc::clone(self),
            number,
            kind,
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// A request is whole and will be answered; false if its place is another's by now,
    /// and nothing may be done for it.
    pub(super) fn begins(&self) -> bool {
        self.set(None)
    }

    /// It is answered.
    pub(super) fn ends(&self) {
        self.set(Some(Instant::now()));
    }

    fn set(&self, waits_since: Option<Instant>) -> bool {
        let mut table = self.places.lock();
        let client = (table.clients.iter_mut()).find(|client| client.number == self.number);
        let Some(client) = client else { return false };
        client.waits_since = waits_since;
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.places.lock();
        (table.clients).retain(|client| client.number != self.number);
    }
}

impl Table {
    /// Whether one more of a kind has a place, made by letting one go if need be.
    fn makes_room(&mut self, kind: Kind, most: usize, farewell: &str) -> bool {
        let of_kind = || (self.clients.iter().enumerate()).filter(|(_, one)| one.kind == kind);
        if of_kind().count() < most {
            return true;
        }
        let idle = of_kind().filter_map(|(at, one)| Some((one.waits_since?, one.number, at)));
        let Some((since, _, at)) = idle.min() else {
            return false;
        };
        let client = self.clients.swap_remove(at);
        let now = Instant::now();
        if self.said.is_none_or(|said| now - said >= SAY) {
            self.said = Some(now);
            log::warn!(
                "control: {most} clients at once; {}, silent for {} s, makes room for one more",
                peer::process(&client.stream).unwrap_or_else(|| "one".into()),
                (now - since).as_secs(),
            );
        }
        client.hang_up(farewell);
        true
    }
}

impl Client {
    /// Tells it why, if it takes that without a wait, and hangs up; its thread ends.
    fn hang_up(self, farewell: &str) {
        let told = self.stream.set_nonblocking(true);
        let told = told.and_then(|()| (&self.stream).write(farewell.as_bytes()));
        if let Err(error) = told.and_then(|_| self.stream.shutdown(Shutdown::Both)) {
            log::debug!("control: {error}");
            let _ = self.stream.shutdown(Shutdown::Both);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// A client's end, and ours.
    fn pair() -> (UnixStream, UnixStream) {
        UnixStream::pair().unwrap()
    }

    #[test]
    fn k06_the_client_that_waits_longest_makes_room() {
        let places = Arc::new(Places::default());
        let mut held = Vec::new();
        for _ in 0..CLIENTS_MAX {
            let (theirs, ours) = pair();
            let place = places.take(&ours, "no").unwrap();
            held.push((theirs, ours, place));
        }
        // The first is busy, the second has just been answered: the third waits longest.
        assert!(held[0].2.begins());
        assert!(held[1].2.begins());
        held[1].2.ends();
        let (_theirs, ours) = pair();
        let place = places.take(&ours, "make room").unwrap();
        assert_eq!(place.kind, Kind::Any);
        let mut said = String::new();
        held[2].0.read_to_string(&mut said).unwrap();
        assert_eq!(said, "make room");
        assert!(!held[2].2.begins(), "a request of a client that was let go");
        assert!(held[1].2.begins());
    }

    #[test]
    fn k06_places_for_urgent_methods_are_kept() {
        let places = Arc::new(Places::default());
        let mut held = Vec::new();
        for _ in 0..CLIENTS_MAX + URGENT_MAX {
            let (theirs, ours) = pair();
            let place = places.take(&ours, "no").unwrap();
            assert!(place.begins());
            held.push((theirs, ours, place));
        }
        assert_eq!(held[CLIENTS_MAX - 1].2.kind, Kind::Any);
        assert_eq!(held[CLIENTS_MAX].2.kind, Kind::Urgent);
        let (_theirs, ours) = pair();
        assert!(places.take(&ours, "no").is_none());
        held.pop();
        assert_eq!(places.take(&ours, "no").unwrap().kind, Kind::Urgent);
        held.remove(0);
        assert_eq!(places.take(&ours, "no").unwrap().kind, Kind::Any);
    }
}
