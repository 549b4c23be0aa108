//! The static tracepoints in the program's ELF notes, as tracers find them (row K8).

use std::collections::BTreeMap;

use events::tracepoint::{ALL, PROVIDER};
use object::elf::FileHeader64;
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader};
use object::{Endianness, elf};

/// A note of SystemTap's `sdt.h`, version 3: three addresses, three texts.
struct Note {
    address: u64,
    /// Where section `.stapsdt.base` was when the address was right.
    base: u64,
    provider: String,
    name: String,
    arguments: Vec<String>,
}

fn notes(binary: &[u8]) -> Vec<Note> {
    let header = FileHeader64::<Endianness>::parse(binary).expect("an ELF file");
    let endian = header.endian().expect("of some endianness");
    let sections = header.sections(endian, binary).expect("with sections");
    let (_, section) = (sections.section_by_name(endian, b".note.stapsdt")).expect("with notes");
    assert_eq!(
        section.sh_flags(endian) & u64::from(elf::SHF_ALLOC),
        0,
        "notes are not loaded"
    );
    let mut list = section
        .notes(endian, binary)
        .expect("notes")
        .expect("good ones");
    let mut found = Vec::new();
    while let Some(note) = list.next().expect("a note") {
        assert_eq!((note.name(), note.n_type(endian)), (&b"stapsdt"[..], 3));
        let (addresses, texts) = note.desc().split_at(24);
        let word =
            |at: usize| u64::from_le_bytes(addresses[at..at + 8].try_into().expect("eight bytes"));
        let mut texts = texts
            .split(|&byte| byte == 0)
            .map(|text| String::from_utf8(text.to_vec()).expect("plain text"));
        let mut text = || texts.next().expect("three texts");
        found.push(Note {
            address: word(0),
            base: word(8),
            provider: text(),
            name: text(),
            arguments: text().split_whitespace().map(str::to_owned).collect(),
        });
    }
    found
}

/// The byte of the program that is loaded at `address`.
fn byte_at(binary: &[u8], address: u64) -> Option<u8> {
    let header = FileHeader64::<Endianness>::parse(binary).expect("an ELF file");
    let endian = header.endian().expect("of some endianness");
    let segments = header
        .program_headers(endian, binary)
        .expect("with segments");
    let holds = |s: &&elf::ProgramHeader64<Endianness>| {
        let (start, len) = (s.p_vaddr(endian), s.p_filesz(endian));
        s.p_type(endian) == elf::PT_LOAD && (start..start + len).contains(&address)
    };
    let segment = segments.iter().find(holds)?;
    let at = segment.p_offset(endian) + (address - segment.p_vaddr(endian));
    binary.get(at as usize).copied()
}

/// Where `perf` puts its breakpoint in the file: it knows of no segments, only how far
/// `.stapsdt.base` is from where it was.
fn place_by_perf(binary: &[u8], note: &Note) -> usize {
    let header = FileHeader64::<Endianness>::parse(binary).expect("an ELF file");
    let endian = header.endian().expect("of some endianness");
    let sections = header.sections(endian, binary).expect("with sections");
    let (_, base) = (sections.section_by_name(endian, b".stapsdt.base")).expect("with a base");
    (note.address + base.sh_offset(endian) - note.base) as usize
}

#[test]
fn k08_every_tracepoint_is_in_the_program_with_its_arguments() {
    let binary = std::fs::read(env!("CARGO_BIN_EXE_throughline")).expect("the program");
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    for note in notes(&binary) {
        if note.provider != PROVIDER {
            continue;
        }
        let known = ALL.iter().find(|known| known.name == note.name);
        let known = known.unwrap_or_else(|| panic!("{} is declared nowhere", note.name));
        assert_eq!(note.arguments.len(), known.arguments.len(), "{}", note.name);
        assert!(
            note.arguments.iter().all(|a| a.starts_with("-8@")),
            "{:?}",
            note.arguments
        );
        // All that is left of it when nobody traces.
        assert_eq!(
            byte_at(&binary, note.address),
            Some(0x90),
            "{} is a nop at {:#x} (a small address: the linker dropped the function it was in)",
            note.name,
            note.address
        );
        // Else `perf record` breaks an instruction, and the program dies of it.
        let place = place_by_perf(&binary, &note);
        assert_eq!(binary[place], 0x90, "{} is a nop to perf", note.name);
        *found.entry(note.name).or_default() += 1;
    }
    let declared: Vec<&str> = ALL.iter().map(|tracepoint| tracepoint.name).collect();
    for name in &declared {
        assert!(
            found.contains_key(*name),
            "{name} is nowhere in the program: {found:?}"
        );
    }
    // A frame can be dropped for many reasons; a volume starts requests in one place.
    assert!(found["dropped"] > 20, "{found:?}");
}

#[test]
fn k08_the_table_of_tracepoints_is_true() {
    let table: String = ALL
        .iter()
        .map(|t| {
            format!(
                "| `{}` | {} | {} |\n",
                t.name,
                t.arguments.join(", "),
                t.help
            )
        })
        .collect();
    let document = include_str!("../docs/profiling.md");
    assert!(
        document.contains(&table),
        "docs/profiling.md should have:\n{table}"
    );
}
