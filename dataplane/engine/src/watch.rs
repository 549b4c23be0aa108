//! Looks at the ports now and then, on a thread that polls nothing: is there a link, is the
//! interface there, is one that was gone back?

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use shard::Handle;

use crate::error::Error;
use crate::port::PortWatch;

/// Between one look and the next.
const LOOK: Duration = Duration::from_millis(200);

/// The thread, and what it looks at. It ends with this value.
pub(crate) struct Watch {
    shared: Arc<Shared>,
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    watched: Mutex<Watched>,
    ended: Condvar,
}

#[derive(Default)]
struct Watched {
    ports: Vec<PortWatch>,
    end: bool,
}

impl Watch {
    /// A thread that looks at nothing yet. It may run where the calling one may: to be started
    /// before that is pinned to a core.
    pub(crate) fn start(handle: &Handle) -> Result<Self, Error> {
        let shared = Arc::new(Shared::default());
        let look = {
            let (shared, handle) = (Arc::clone(&shared), handle.clone());
            move || shared.look_on(&handle)
        };
        let thread = thread::Builder::new().name("ports".into()).spawn(look);
        Ok(Self {
            shared,
            handle: handle.clone(),
            thread: Some(thread.map_err(Error::Thread)?),
        })
    }

    /// Looks at these ports, at once and from now on.
    pub(crate) fn begin(&self, ports: Vec<PortWatch>) {
        let mut watched = self.shared.lock();
        watched.ports = ports;
        watched.look(&self.handle);
    }

    /// Looks at none any more, once this has returned: they are about to be closed.
    pub(crate) fn cease(&self) {
        self.shared.lock().ports.clear();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.lock().end = true;
        self.shared.ended.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look_on(&self, handle: &Handle) {
        let mut watched = self.lock();
        while !watched.end {
            watched.look(handle);
            let waited = self.ended.wait_timeout(watched, LOOK);
            watched = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Watched {
    fn look(&mut self, handle: &Handle) {
        for (index, port) in self.ports.iter_mut().enumerate() {
            handle.note_port(index, port.look());
        }
    }
}
