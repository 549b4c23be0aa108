//! The thread that does the arithmetic of authentication, and the handshakes of TLS: exponentiations take milliseconds, and shards poll.

use std::fs::File;
use std::io::Read;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nvmf::Target;

use crate::error::Error;

/// How long it waits for messages before it looks whether it is to end.
const PATIENCE: Duration = Duration::from_millis(100);

/// The thread. It ends with this value.
pub(crate) struct Authentication {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    work: Mutex<Work>,
    changed: Condvar,
}

#[derive(Default)]
struct Work {
    target: Option<Arc<Target>>,
    end: bool,
}

impl Authentication {
    /// A thread that has nothing to do yet. It may run where the calling one may: to be started
    /// before that is pinned to a core.
    pub(crate) fn start() -> Result<Self, Error> {
        // The system's random source cannot fail once it is open.
        let random = File::open("/dev/urandom").map_err(Error::Thread)?;
        let shared = Arc::new(Shared::default());
        let work = {
            let shared = Arc::clone(&shared);
            move || shared.work(&random)
        };
        let thread = thread::Builder::new().name("auth".into()).spawn(work);
        Ok(Self {
            shared,
            thread: Some(thread.map_err(Error::Thread)?),
        })
    }

    /// Looks at messages of this target's hosts from now on.
    pub(crate) fn begin(&self, target: &Arc<Target>) {
        self.shared.lock().target = Some(Arc::clone(target));
        self.shared.changed.notify_all();
    }
}

impl Drop for Authentication {
    fn drop(&mut self) {
        self.shared.lock().end = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self, mut random: &File) {
        let idle = |work: &mut Work| work.target.is_none() && !work.end;
        let work = self.changed.wait_while(self.lock(), idle);
        let work = work.unwrap_or_else(PoisonError::into_inner);
        let Some(target) = work.target.clone() else {
            return;
        };
        drop(work);
        let mut random = |bytes: &mut [u8]| random.read_exact(bytes).expect("/dev/urandom");
        while !self.lock().end {
            if !target.auth_desk().work(&mut random) {
                target.auth_desk().wait(PATIENCE);
            }
        }
    }
}
