//! Who is at the ends of a link, and the jobs they do.

use std::sync::mpsc;
use std::thread::JoinHandle;

use net::{Counters, StackConfig};

use super::ours::{self, Host};
use super::place::{Namespace, Way};
use super::theirs;
use super::workload::{Done, Gate, Halfway, Job, Workload};

/// An end that is ours: a thread with a stack, which takes part in one job after the other.
struct OurEnd {
    jobs: mpsc::Sender<(Job, Gate, Option<Halfway>)>,
    results: mpsc::Receiver<Result<Done, String>>,
    thread: JoinHandle<Result<Counters, String>>,
}

impl OurEnd {
    fn start(namespace: &Namespace, tune: impl FnOnce(&mut StackConfig) + Send + 'static) -> Self {
        let (jobs, todo) = mpsc::channel::<(Job, Gate, Option<Halfway>)>();
        let (answer, results) = mpsc::channel();
        let thread = namespace.spawn(move || {
            let mut host = Host::new(tune).inspect_err(|error| {
                let _ = answer.send(Err(error.clone()));
            })?;
            while let Ok((job, gate, halfway)) = todo.recv() {
                let _ = answer.send(host.take_part(job, &gate, halfway));
            }
            Ok(host.counters())
        });
        Self {
            jobs,
            results,
            thread,
        }
    }
}

/// Two ends, and what makes jobs for them.
pub struct Lab {
    ends: [Namespace; 2],
    way: Way,
    our_end: Option<OurEnd>,
    port: u16,
}

impl Lab {
    /// Our stack at end 0, the kernel at end 1.
    pub fn ours(
        ends: &[Namespace; 2],
        way: Way,
        tune: impl FnOnce(&mut StackConfig) + Send + 'static,
    ) -> Result<Self, String> {
        let mut lab = Self::new(ends, way);
        lab.ends[1].commands(way.addresses(1))?;
        lab.our_end = Some(OurEnd::start(&lab.ends[0], tune));
        Ok(lab)
    }

    /// The kernel at both ends.
    pub fn linux(ends: &[Namespace; 2], way: Way) -> Result<Self, String> {
        let lab = Self::new(ends, way);
        lab.ends[0].commands(way.addresses(0))?;
        lab.ends[1].commands(way.addresses(1))?;
        Ok(lab)
    }

    fn new(ends: &[Namespace; 2], way: Way) -> Self {
        Self {
            ends: ends.clone(),
            way,
            our_end: None,
            port: 5000,
        }
    }

    /// Runs a workload; what was achieved, in its unit. Who dials and which IP
    /// alternate from round to round.
    pub fn run(
        &mut self,
        workload: Workload,
        connections: usize,
        round: usize,
    ) -> Result<f64, String> {
        self.run_with(workload, connections, round, None)
    }

    /// The same; a source of ours stops halfway if it is told how to go on.
    pub fn run_with(
        &mut self,
        workload: Workload,
        connections: usize,
        round: usize,
        halfway: Option<Halfway>,
    ) -> Result<f64, String> {
        self.port += 1;
        let job = Job {
            workload,
            connections,
            dialer: round % 2,
            ipv6: (round + round / 2) % 2 == 1,
            way: self.way,
            port: self.port,
        };
        let gate = Gate::default();
        let start = |end: usize| theirs::start(&self.ends[end], end, job, &gate);
        let one = start(1);
        let zero = match &self.our_end {
            Some(ours) => {
                let sent = ours.jobs.send((job, gate.clone(), halfway));
                sent.map_err(|_| "our end is gone")?;
                ours.results.recv().map_err(|_| "our end is gone")?
            }
            None => start(0).join().map_err(|_| "panicked")?,
        };
        match (zero, one.join().map_err(|_| "panicked")?) {
            (Ok(zero), Ok(one)) => Ok(job.rate(&[zero, one])),
            (zero, one) => {
                let errors: Vec<_> = [zero.err(), one.err()].into_iter().flatten().collect();
                Err(format!("{}: {}", job.describe(), errors.join("; ")))
            }
        }
    }

    /// What our stack counted, from its start to its end.
    pub fn end(self) -> Result<Counters, String> {
        let Some(OurEnd { jobs, thread, .. }) = self.our_end else {
            return Ok(Counters::default());
        };
        drop(jobs);
        thread.join().map_err(|_| "our end panicked")?
    }
}

/// The counters that are not zero.
pub fn describe(counters: &Counters) -> String {
    ours::difference(&Counters::default(), counters)
}
