//! Where one JSON text ends and the next begins: requests follow each other
//! with or without white space, as SPDK's clients send them.

/// The longest request, in bytes.
pub(super) const REQUEST_MAX: usize = 64 << 10;

/// Bytes that cannot become a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// Neither an object nor an array begins here.
    NotJson,
    /// No end within [`REQUEST_MAX`] bytes.
    TooLong,
}

/// Cuts a stream of bytes into JSON objects and arrays. Looks at each byte once.
#[derive(Default)]
pub(super) struct Frames {
    buffer: Vec<u8>,
    scanned: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Frames {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole text; `None` when more bytes are needed. After an error
    /// the stream cannot be followed any more.
    pub(super) fn next(&mut self) -> Result<Option<Vec<u8>>, Broken> {
        if self.depth == 0 {
            let blank = self
                .buffer
                .iter()
                .take_while(|b| b.is_ascii_whitespace())
                .count();
            self.buffer.drain(..blank);
            match self.buffer.first() {
                None => return Ok(None),
                Some(b'{' | b'[') => {}
                Some(_) => return Err(Broken::NotJson),
            }
        }
        while let Some(&byte) = self.buffer.get(self.scanned) {
            self.scanned += 1;
            if self.scan(byte) {
                let rest = self.buffer.split_off(self.scanned);
                self.scanned = 0;
                return Ok(Some(std::mem::replace(&mut self.buffer, rest)));
            }
            if self.scanned >= REQUEST_MAX {
                return Err(Broken::TooLong);
            }
        }
        Ok(None)
    }

    /// Takes one byte; whether it ends the text.
    fn scan(&mut self, byte: u8) -> bool {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return false;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth -= 1,
            _ => {}
        }
        self.depth == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(pieces: &[&[u8]]) -> Result<Vec<String>, Broken> {
        let mut frames = Frames::default();
        let mut texts = Vec::new();
        for piece in pieces {
            frames.push(piece);
            while let Some(text) = frames.next()? {
                texts.push(String::from_utf8_lossy(&text).into_owned());
            }
        }
        Ok(texts)
    }

    #[test]
    fn requests_follow_each_other_anyhow() {
        let texts = cut(&[b" {\"a\":\"}\\\"{\"}[1,[2]]\n{", b"}  "]).unwrap();
        assert_eq!(texts, ["{\"a\":\"}\\\"{\"}", "[1,[2]]", "{}"]);
        assert_eq!(cut(&[b"{\"a\": 1"]).unwrap().len(), 0);
    }

    #[test]
    fn what_cannot_be_a_request_ends_the_stream() {
        assert_eq!(cut(&[b"{} x"]), Err(Broken::NotJson));
        assert_eq!(cut(&[b"}"]), Err(Broken::NotJson));
        assert_eq!(cut(&[&[b'['; REQUEST_MAX]]), Err(Broken::TooLong));
        assert_eq!(cut(&[b"{\"", &[b'x'; REQUEST_MAX]]), Err(Broken::TooLong));
    }

    proptest! {
        #[test]
        fn any_cut_of_the_stream_gives_the_same_texts(
            bytes in "[\\[\\]{}\"\\\\ a]{0,64}", at in any::<prop::sample::Index>(),
        ) {
            let bytes = bytes.as_bytes();
            let at = at.index(bytes.len() + 1);
            let ones: Vec<&[u8]> = bytes.chunks(1).collect();
            prop_assert_eq!(cut(&[bytes]), cut(&[&bytes[..at], &bytes[at..]]));
            prop_assert_eq!(cut(&[bytes]), cut(&ones));
        }
    }
}
