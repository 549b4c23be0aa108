//! Why a start refuses a log, in a sentence that says what to do.

use std::collections::BTreeSet;

use block::Fault;
use nvlog::recovery::Refusal;

use super::LogPlan;

/// Why the stores are no log that can begin; store `place` of the plan is why.
pub(super) fn refused(refusal: &Refusal<Fault>, place: usize, plan: &LogPlan) -> String {
    let name = |place: usize| plan.stores.get(place).map(|store| store.name.as_str());
    let (this, other) = (name(place).unwrap_or("?"), name(1 - place));
    let sentence = format!("log store {this} cannot be used: {refusal}. Nothing was overwritten.");
    let what = match (refusal, other) {
        (Refusal::OneOfTwo { is_closed: true }, Some(other)) => format!(
            "Bring store {other} back; or, as the program had stopped in order, configure the log on store {this} alone"
        ),
        (Refusal::OneOfTwo { .. }, Some(other)) => format!(
            "Bring store {other} back. If it is lost for good, and the program had not said that the log was on {other} alone, give up what that one has: --discard-log {other}"
        ),
        (Refusal::OneOfTwo { .. }, None) => {
            "Configure the other one, too (`store` and `mirror` in [log]); if that is lost for good, start once with both names and --discard-log of the other one's".into()
        }
        (Refusal::Diverged, Some(other)) => format!(
            "What is acknowledged since lies on both: give up what one has with --discard-log {this} or --discard-log {other}"
        ),
        (Refusal::Missing, Some(other)) => format!(
            "Bring it back, or configure the log on store {other} alone, or give up what {this} may have: --discard-log {this}"
        ),
        (Refusal::Twice | Refusal::OtherLog, Some(other)) => format!(
            "Name another store, or give up what one of them has: --discard-log {this} or --discard-log {other}"
        ),
        _ => format!(
            "Name another store, or give up what it has with --discard-log {this}"
        ),
    };
    format!("{sentence} {what}")
}

/// Why a log is not replayed; `volumes` are those that its records are of.
pub(super) fn explain(refusal: &Refusal<Fault>, volumes: &[nvlog::Volume]) -> String {
    let name = |volume: u32| {
        let volume = volumes.get(volume as usize);
        volume.map_or("?", |volume| volume.name.as_str())
    };
    match refusal {
        Refusal::Absent(absent) => {
            let names: Vec<_> = absent.iter().map(|&volume| name(volume)).collect();
            format!(
                "the log has records of stores that are absent, or have another drive, size or block size than before: {}. Configure them as they were, or give up what the log has, of all stores, with --discard-log NAME of each log store",
                names.join(", ")
            )
        }
        Refusal::Lost(losses) => {
            let mut text = format!("the log is damaged: {refusal}");
            let ranges = losses.iter().flat_map(|loss| &loss.ranges);
            let named: BTreeSet<u32> = ranges.map(|&(volume, ..)| volume).collect();
            for volume in named {
                text += &format!("; volume {volume} is store {:?}", name(volume));
            }
            text + ". Nothing was overwritten. Restore these ranges and start with --discard-log NAME of each log store, which gives up what the log has"
        }
        _ => format!("the log store, or a drive in the replay, failed: {refusal}"),
    }
}
