//! A host writes a file system; the source is killed in the middle of it, the other node takes over, the first one comes back, is
//! copied to, and serves again.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use lab::pair::{Pair, STORE, is_in_sync, may_be_taken_over, report, serves};
use lab::writer::BLOCK;
use lab::{Failure, MIB, Outcome, Program, Result, Test, Tool, ensure, wait};
use serde_json::{Value, json};

use crate::multipath::{Contents, Multipath, differing, read};
use crate::timeline::Timeline;

const LEASE_S: u32 = 3;
/// Blocks behind the image that hosts go on to write.
const AREA: usize = 16 << 20 >> 12;
/// What is left of the volume is not written.
const SPARE_MIB: u32 = 16;
/// How long hosts go on before something else happens.
const WHILE: Duration = Duration::from_secs(3);

/// What the host is at.
const IMAGE: u8 = 0;
const AFTER_IT: u8 = 1;
const ENOUGH: u8 = 2;

struct Demo<'t> {
    test: &'t Test,
    timeline: &'t Timeline,
    image: &'t [u8],
    /// What was compared, and whether it matched.
    compared: Vec<Value>,
}

pub fn run(test: &Test, image: &Path, place: &Path) -> Outcome {
    let image = &fs::read(image)?;
    let image_mib = image.len() as u64 / MIB;
    ensure!(image.len() % BLOCK == 0, "the image is not whole blocks");
    let (mut pair, etcd) = Pair::with_etcd(test, LEASE_S)?;
    pair.volume_mib = image_mib as u32 + (AREA * BLOCK / MIB as usize) as u32 + SPARE_MIB;
    pair.log_mib = 128;
    pair.files = place.into();
    let (one, two) = (pair.start(0)?, pair.start(1)?);
    may_be_taken_over(&one)?;
    let timeline = Timeline::begin();
    timeline.event("both have the same: a host begins to write a file system to node one");
    let mut demo = Demo {
        test,
        timeline: &timeline,
        image,
        compared: Vec::new(),
    };
    let phase = AtomicU8::new(IMAGE);
    let door = pair.host.door()?;
    let host = Multipath::new(Contents::new(image, AREA), &timeline);
    let (told, contents, [one, two]) = thread::scope(|scope| -> Result<_> {
        let phase = &phase;
        let host = scope.spawn(move || {
            door.enter()?;
            writes(host, phase)
        });
        let steps = demo.steps(&pair, [one, two], &host, phase);
        phase.store(ENOUGH, Ordering::Release);
        let contents = host.join().expect("the host panicked");
        let (told, nodes) = steps?;
        Ok((told, contents?, nodes))
    })?;
    demo.compare(&pair, 0, &contents)?;
    timeline.event("and was read back from node one");
    demo.verify(&one)?;
    timeline.event("`throughline pair verify` has compared both nodes");
    for node in [one, two] {
        node.stop()?;
    }
    etcd.kill();
    demo.tell(told)
}

/// The host's part.
fn writes<'t>(mut host: Multipath<'t>, phase: &AtomicU8) -> io::Result<Contents<'t>> {
    host.write_image()?;
    phase.fetch_max(AFTER_IT, Ordering::AcqRel);
    host.write_area(|| phase.load(Ordering::Acquire) < ENOUGH)?;
    Ok(host.contents)
}

type Writing<'s, 't> = ScopedJoinHandle<'s, io::Result<Contents<'t>>>;

impl Demo<'_> {
    /// What happens to the nodes meanwhile. What they say in the end, and the nodes.
    fn steps<'n>(
        &mut self,
        pair: &'n Pair,
        [one, two]: [Program<'n>; 2],
        host: &Writing<'_, '_>,
        phase: &AtomicU8,
    ) -> Result<(Value, [Program<'n>; 2])> {
        let timeline = self.timeline;
        let image = self.image.len() as u64;
        writing(host, "much of the image is acknowledged", || {
            timeline.acknowledged() >= image * 2 / 5
        })?;
        one.kill();
        let killed = timeline.event("node one is killed (SIGKILL), writes are under way");
        let before = timeline.acknowledged();
        writing(host, "the other node answers", || {
            timeline.acknowledged() > before
        })?;
        let taken = timeline.event("node two has taken over: the host's writes go on") - killed;
        serves(&two)?;
        writing(host, "the image is written", || {
            phase.load(Ordering::Acquire) >= AFTER_IT
        })?;
        timeline
            .event("the file system is written; the host goes on with 4 KiB at random behind it");
        self.compare_image(pair, 1)?;
        timeline.event("it was read back from node two, and is what was written");
        thread::sleep(WHILE);
        let one = pair.start(0)?;
        let began = timeline.event("node one is started again");
        let copied = self.copy(&two)?;
        let in_sync = timeline.event("what it lacks is copied to it: both have the same") - began;
        let told = [said(self.test, &one)?, said(self.test, &two)?];
        thread::sleep(WHILE);
        wait::until("node two hands the volume over", || {
            // It refuses as long as the other one has not the same, or is not heard.
            let told = two.rpc("throughline_pair_demote", &json!({ "store": STORE }));
            Ok(told.map(drop).map_err(|failure| failure.to_string()))
        })?;
        timeline.event("`throughline pair demote` on node two");
        serves(&one)?;
        timeline.event("node one serves");
        thread::sleep(WHILE);
        ensure!(!host.is_finished(), "the host gave up");
        let told = json!({
            "takeover_s": taken, "back_in_sync_s": in_sync, "mib_copied": copied, "lease_s": LEASE_S,
            "image_mib": image / MIB, "pair_report": told,
        });
        Ok((told, [one, two]))
    }

    /// Until the node that was away has everything; the MiB that were copied to it.
    fn copy(&self, source: &Program<'_>) -> Result<f64> {
        let mut most = 0.0f64;
        wait::until("the other one has everything", || {
            let report = report(source)?;
            let left = report["kib_to_copy"].as_f64().unwrap_or(0.0) / 1024.0;
            most = most.max(left);
            self.timeline.left(left);
            Ok(
                match report["in_sync"] == true && report["takeover"] == true {
                    true => Ok(()),
                    false => Err(report.to_string()),
                },
            )
        })?;
        Ok(most)
    }

    /// The image, while the host writes behind it.
    fn compare_image(&mut self, pair: &Pair, node: usize) -> Outcome {
        let bytes = self.image.len();
        let volume = pair.host.within(|| read(node, bytes))?;
        let differing = differing(&volume, self.image);
        self.compared(node, "the file system, every byte", differing);
        self.check(node, &volume)
    }

    /// All of the volume, when nobody writes.
    fn compare(&mut self, pair: &Pair, node: usize, contents: &Contents<'_>) -> Outcome {
        let bytes = contents.bytes();
        let volume = pair.host.within(|| read(node, bytes))?;
        let [image, area] = contents.differing(&volume);
        self.compared(node, "the file system, every byte", image);
        self.compared(node, "every acknowledged 4 KiB write behind it", area);
        self.check(node, &volume[..self.image.len()])
    }

    /// All of the volume, of both nodes, as they compare it. They begin again if they lose each other meanwhile.
    fn verify(&mut self, source: &Program<'_>) -> Outcome {
        is_in_sync(source, "source")?;
        let said = wait::until("all of both nodes is compared", || {
            let verified = asked(self.test, source, "verify")?.arg(STORE).run()?;
            let said = verified.output();
            let is_over = verified.status.success() || said.contains("differ:");
            Ok(if is_over { Ok(said) } else { Err(said) })
        })?;
        let is_good = said.contains("none differs");
        (self.compared).push(json!({ "node": "both", "what": "`throughline pair verify`", "good": is_good, "said": said }));
        Ok(())
    }

    fn compared(&mut self, node: usize, what: &str, differing: usize) {
        let node = ["one", "two"][node];
        (self.compared).push(json!({ "node": node, "what": what, "blocks_differing": differing, "good": differing == 0 }));
    }

    /// e2fsck has nothing to say against the file system.
    fn check(&mut self, node: usize, image: &[u8]) -> Outcome {
        let file = self.test.dir().join("back");
        fs::write(&file, image)?;
        let checked = Tool::new(self.test, "e2fsck")
            .args(["-f", "-n"])
            .arg(&file)
            .run()?;
        let node = ["one", "two"][node];
        (self.compared).push(
            json!({ "node": node, "what": "e2fsck of it", "good": checked.status.success() }),
        );
        fs::remove_file(&file)?;
        Ok(())
    }

    /// The report.
    fn tell(self, mut told: Value) -> Outcome {
        let is_good = self.compared.iter().all(|one| one["good"] == true);
        told["compared"] = self.compared.into();
        told["good"] = is_good.into();
        told["timeline"] = self.timeline.to_json();
        fs::write(self.test.dir().join("report.json"), told.to_string())?;
        ensure!(
            is_good,
            "something that was read back is not what was written: {}",
            told["compared"]
        );
        Ok(())
    }
}

/// `throughline pair` of a node.
fn asked(test: &Test, node: &Program<'_>, action: &str) -> Result<Tool> {
    let tool = Tool::new(test, lab::throughline()?).args(["pair", action]);
    Ok(tool.arg("--socket").arg(node.socket()))
}

/// What `throughline pair report` prints.
fn said(test: &Test, node: &Program<'_>) -> Result<String> {
    let ended = asked(test, node, "report")?.succeeds()?;
    Ok(ended.stdout.trim_end().into())
}

/// Waits until something holds, as long as the host writes.
fn writing(host: &Writing<'_, '_>, what: &str, holds: impl Fn() -> bool) -> Outcome {
    let begun = Instant::now();
    // Short waits: what is told as a time is not to be one of looking.
    while !holds() {
        ensure!(!host.is_finished(), "the host gave up before {what}");
        if begun.elapsed() > wait::SOON {
            return Err(Failure::new(format!(
                "{what}: not in {} s",
                wait::SOON.as_secs()
            )));
        }
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}
