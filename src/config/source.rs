//! The file a program was started with, kept to write what was changed into it.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use engine::Config;

use super::{Error, Program, Surroundings, parse, read_small, save};

/// A configuration file as it was read, and the files it names.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    path: PathBuf,
    text: String,
    /// What the file configures.
    engine: Config,
    named: Vec<(PathBuf, String)>,
}

/// Reads a configuration file, and keeps what was read.
pub(crate) fn load_source(path: &Path, cores: Option<&[u32]>) -> Result<(Program, Source), Error> {
    let unreadable = |why| Error::Unreadable {
        path: path.to_owned(),
        why,
    };
    let text = read_small(path).map_err(unreadable)?;
    let directory = path.parent().unwrap_or(Path::new(""));
    let named = RefCell::new(Vec::new());
    let read = |name: &Path| {
        let text = read_small(&directory.join(name))?;
        named.borrow_mut().push((name.to_owned(), text.clone()));
        Ok(text)
    };
    let program = parse(path, &text, &Surroundings { cores, read: &read }).map_err(Error::Wrong)?;
    let source = Source {
        path: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
        text,
        engine: program.engine.clone(),
        named: named.into_inner(),
    };
    Ok((program, source))
}

impl Source {
    /// Where the file is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The file.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The file with another target, and frames of pairs of another size: what the operator wrote stays, comments too,
    /// where it is still so.
    ///
    /// # Errors
    /// If what was written is not what would be read: nothing is given out then.
    pub(crate) fn with(&self, now: &Config) -> Result<String, String> {
        let text = save::with_target(&self.text, &self.engine.target, &now.target)?;
        let text = save::with_frames(&text, &self.engine.pairs, &now.pairs)?;
        let read = |name: &Path| {
            let named = self.named.iter().find(|(named, _)| named == name);
            named
                .map(|(_, text)| text.clone())
                .ok_or("it was not read".to_owned())
        };
        let surroundings = Surroundings {
            cores: None,
            read: &read,
        };
        let again = parse(&self.path, &text, &surroundings)
            .map_err(|problems| format!("the configuration cannot be written:\n{problems}"))?;
        let frames = |config: &Config| -> Vec<u32> {
            config.pairs.iter().map(|pair| pair.frame_bytes).collect()
        };
        let is_same = format!("{:?}", again.engine.target) == format!("{:?}", now.target)
            && frames(&again.engine) == frames(now);
        if !is_same {
            return Err("the configuration cannot be written as it is".into());
        }
        Ok(text)
    }
}

/// A file's digest (FNV-1a, 64 bits), to know it again; no protection against forgery.
pub(crate) fn digest(text: &str) -> String {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", text.bytes().fold(0xcbf2_9ce4_8422_2325, step))
}
