//! The examples in the crate's documentation.

/// Lines of 16 bytes with their places; a line like the one before is left out.
pub fn dump(bytes: &[u8]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut before = None;
    for (i, line) in bytes.chunks(16).enumerate() {
        if before != Some(line) {
            let hex: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
            lines.push(format!("{:04x}  {}", 16 * i, hex.join(" ")));
        }
        before = Some(line);
    }
    lines
}

/// The bytes of a dump of `len` bytes.
pub fn undump(lines: &[String], len: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = Vec::new();
    let ends = lines.iter().skip(1).map(|line| &line[..4]);
    let ends: Vec<usize> = ends
        .map(|at| usize::from_str_radix(at, 16).expect("hex"))
        .collect();
    for (line, end) in lines.iter().zip(ends.into_iter().chain([len])) {
        let byte = |hex: &str| u8::from_str_radix(hex, 16).expect("hex");
        let line: Vec<u8> = line[4..].split_whitespace().map(byte).collect();
        while bytes.len() < end {
            bytes.extend(&line);
        }
    }
    bytes
}

/// The dumps in the documentation.
pub fn documented() -> Vec<Vec<String>> {
    let text = include_str!("../../src/lib.rs");
    let doc = text.lines().map_while(|line| line.strip_prefix("//!"));
    let mut dumps: Vec<Vec<String>> = Vec::new();
    let mut is_inside = false;
    for line in doc.map(str::trim) {
        if line.starts_with("```") {
            is_inside = !is_inside;
            dumps.extend(is_inside.then(Vec::new));
        } else if is_inside {
            dumps.last_mut().expect("one").push(line.to_string());
        }
    }
    dumps
}
