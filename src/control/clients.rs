//! Clients of a listener: each on a thread of its own, not too many at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

const STACK: usize = 512 << 10;

/// Gives every stream that comes in to `talk`, with whether it is among the
/// first `most`: one that is not is to be told so and let go.
pub(crate) fn each<S: Send + 'static>(
    incoming: impl Iterator<Item = io::Result<S>>,
    name: &'static str,
    most: usize,
    talk: impl Fn(&S, bool) -> io::Result<()> + Send + Sync + 'static,
) {
    let count = Arc::new(AtomicUsize::new(0));
    let talk = Arc::new(talk);
    for stream in incoming {
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) => {
                // Out of descriptors, most likely: they come back when clients go.
                log::warn!("{name}: {error}");
                thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        let place = Place(Arc::clone(&count));
        let has_place = count.fetch_add(1, Ordering::Relaxed) < most;
        let talk = Arc::clone(&talk);
        let client = move || {
            // Whoever sees the end of a stream finds its place free.
            let stream = stream;
            let _place = place;
            if let Err(error) = talk(&stream, has_place) {
                log::debug!("{name}: a client is gone: {error}");
            }
        };
        let thread = thread::Builder::new()
            .name(format!("{name} client"))
            .stack_size(STACK);
        if let Err(error) = thread.spawn(client) {
            log::warn!("{name}: no thread for a client: {error}");
        }
    }
}

/// A client's place, free again when dropped.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
