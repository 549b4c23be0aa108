//! Volumes that lie on several drives, at a start: they lie where they did, or the start is refused, whether there is anything to
//! replay or not (row R8).

use block::Span;
use nvlog::{PartOf, Volume};

/// The drives of volume number `span`, first to last.
fn parts(volumes: &[Volume], span: usize) -> Vec<&Volume> {
    let of_span = |volume: &&Volume| {
        volume
            .part_of
            .is_some_and(|part| usize::from(part.span) == span)
    };
    let mut parts: Vec<_> = volumes.iter().filter(of_span).collect();
    parts.sort_by_key(|volume| volume.part_of.map(|part: PartOf| part.place));
    parts
}

/// Whether volumes that the log knew as `old` lie on the same drives now; `log` are its stores.
///
/// # Errors
/// A sentence: what is different, and what to do.
pub(super) fn check(old: &[Volume], new: &[Volume], log: &[String]) -> Result<(), String> {
    for (number, span) in new.iter().enumerate() {
        let Some(before) = old.iter().position(|volume| volume.name == span.name) else {
            continue;
        };
        let (was, is) = (parts(old, before), parts(new, number));
        let Some(what) = difference(&was, &is) else {
            continue;
        };
        let names = |parts: &[&Volume]| match parts {
            [] => "one device".into(),
            parts => {
                let names: Vec<_> = parts.iter().map(|part| part.name.as_str()).collect();
                format!("{}, in this order", names.join(", "))
            }
        };
        let discards: Vec<_> = log
            .iter()
            .map(|name| format!("--discard-log {name}"))
            .collect();
        return Err(format!(
            "store {:?} does not lie where it did: {what}. When the log was last used it lay on {}; now it lies on {}. Nothing was overwritten. Configure it as it was; or, if it is to be another volume, give it another name; or give up what the log has, of all stores, with {}",
            span.name,
            names(&was),
            names(&is),
            discards.join(" ")
        ));
    }
    Ok(())
}

/// What of a volume's drives is not as it was. There may be more of them behind those that there were.
fn difference(was: &[&Volume], is: &[&Volume]) -> Option<String> {
    if was.is_empty() != is.is_empty() {
        return Some("it was one device, or is one now".into());
    }
    for (place, old) in was.iter().enumerate() {
        let name = &old.name;
        let Some(new) = is.get(place) else {
            return Some(format!("its store {name:?} is missing"));
        };
        if new.name != old.name {
            return Some(match is.iter().any(|new| new.name == old.name) {
                true => format!("its store {name:?} has another place"),
                false => format!("its store {name:?} is missing"),
            });
        }
        if new.identity != old.identity || new.block != old.block {
            return Some(format!("its store {name:?} is another drive than before"));
        }
        let given = |len: u64| Span::given(len, false);
        let fits = match (place + 1 == was.len(), place + 1 == is.len()) {
            (true, true) => new.len >= old.len,
            // One was added behind it: nothing that it gave is taken back.
            (true, false) => given(new.len) >= old.len,
            (false, _) => given(new.len) == given(old.len),
        };
        if !fits {
            return Some(format!(
                "its store {name:?} had {} bytes, and has {}",
                old.len, new.len
            ));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn drive(name: &str, identity: u8, len: u64) -> Volume {
        Volume {
            name: name.into(),
            identity: [identity; 16],
            len,
            block: 512,
            part_of: None,
        }
    }

    /// Volume `big`, on these drives.
    fn big(drives: &[Volume]) -> Vec<Volume> {
        let part = |(place, drive): (usize, &Volume)| Volume {
            part_of: Some(PartOf {
                span: drives.len() as u16,
                place: place as u16,
            }),
            ..drive.clone()
        };
        let mut volumes: Vec<_> = drives.iter().enumerate().map(part).collect();
        volumes.push(drive("big", 0, drives.iter().map(|drive| drive.len).sum()));
        volumes
    }

    #[test]
    fn r08_a_volume_lies_on_the_drives_that_it_lay_on() {
        let [a, b, c] = [("a", 1, MIB), ("b", 2, 2 * MIB + 512), ("c", 3, MIB)]
            .map(|(name, identity, len)| drive(name, identity, len));
        let larger = |drive: &Volume, more: u64| Volume {
            len: drive.len + more,
            ..drive.clone()
        };
        let was = big(&[a.clone(), b.clone()]);
        let log = ["log0".to_owned(), "log1".to_owned()];
        let is = |now: &[Volume]| check(&was, now, &log);
        assert_eq!(is(&was), Ok(()));
        // The last one may grow, and others may come behind it where it was used up.
        assert_eq!(is(&big(&[a.clone(), larger(&b, 512)])), Ok(()));
        assert_eq!(is(&big(&[a.clone(), larger(&b, MIB), c.clone()])), Ok(()));
        // What is not given is nobody's.
        assert_eq!(is(&big(&[larger(&a, 512), b.clone()])), Ok(()));
        // Other volumes are no matter.
        let mut other = big(&[a.clone(), b.clone()]);
        other.push(c.clone());
        assert_eq!(is(&other), Ok(()));
        assert_eq!(is(std::slice::from_ref(&a)), Ok(()));
        let refused = [
            (big(&[b.clone(), a.clone()]), "\"a\" has another place"),
            (big(std::slice::from_ref(&a)), "\"b\" is missing"),
            (big(&[c.clone(), b.clone()]), "\"a\" is missing"),
            (
                big(&[drive("a", 9, MIB), b.clone()]),
                "\"a\" is another drive",
            ),
            (
                big(&[larger(&a, MIB), b.clone()]),
                "\"a\" had 1048576 bytes, and has 2097152",
            ),
            (
                big(&[a.clone(), drive("b", 2, 2 * MIB)]),
                "\"b\" had 2097664 bytes",
            ),
            (
                big(&[a.clone(), b.clone(), c.clone()]),
                "\"b\" had 2097664 bytes",
            ),
            (vec![drive("big", 0, 4 * MIB)], "is one now"),
        ];
        for (now, words) in refused {
            let why = is(&now).unwrap_err();
            assert!(why.contains(words), "{why}");
            assert!(why.contains("lay on a, b, in this order"), "{why}");
            assert!(
                why.contains("--discard-log log0 --discard-log log1"),
                "{why}"
            );
        }
        let was = [drive("big", 0, 4 * MIB)];
        let why = check(&was, &big(&[a, b]), &log).unwrap_err();
        assert!(why.contains("it was one device"), "{why}");
    }
}
