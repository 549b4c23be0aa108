//! One region of memory, its physical pages and their page structures.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::ptr::NonNull;
use std::rc::Rc;

/// Size of a physical page and of a logical page, in bytes (row Z1).
pub const PAGE_SIZE: usize = 4096;

/// The number of a physical page in its arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageIndex(pub u32);

/// Memory that an arena can be laid over: hugepages in the appliance, the heap in tests.
///
/// # Safety
/// `base` is aligned to [`PAGE_SIZE`] and `base..base + len` stays mapped,
/// writable, and used by nobody else's Rust references while the value lives.
pub unsafe trait Region {
    /// First byte.
    fn base(&self) -> NonNull<u8>;
    /// Length in bytes.
    fn len(&self) -> usize;
    /// Whether the region has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A zeroed, page-aligned region on the heap, for tests and simulations.
pub struct HeapRegion {
    base: NonNull<u8>,
    layout: Layout,
}

impl HeapRegion {
    /// Allocates `pages` physical pages (at least one).
    pub fn new(pages: usize) -> Self {
        let layout = Layout::from_size_align(pages.max(1) * PAGE_SIZE, PAGE_SIZE)
            .expect("a region smaller than the address space");
        // SAFETY: the layout has a non-zero size.
        let base = unsafe { alloc_zeroed(layout) };
        match NonNull::new(base) {
            Some(base) => Self { base, layout },
            None => handle_alloc_error(layout),
        }
    }
}

impl Drop for HeapRegion {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this very layout, freed once.
        unsafe { dealloc(self.base.as_ptr(), self.layout) }
    }
}

// SAFETY: the allocation is page-aligned, lives as long as the value, and is private to it.
unsafe impl Region for HeapRegion {
    fn base(&self) -> NonNull<u8> {
        self.base
    }
    fn len(&self) -> usize {
        self.layout.size()
    }
}

/// No memory at all.
struct NoRegion;

// SAFETY: there is no byte that could be used by anybody.
unsafe impl Region for NoRegion {
    fn base(&self) -> NonNull<u8> {
        NonNull::dangling()
    }
    fn len(&self) -> usize {
        0
    }
}

/// The state of a physical page's data (row Z2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageState {
    /// None of its clusters is held: the bytes mean nothing, and a port may be
    /// receiving into them.
    Invalid,
    /// At least one of its clusters holds data.
    Valid,
    /// The shared page of zeros, which is never modified.
    Zeros,
}

/// What the system knows of one physical page (row Z2).
///
/// The links that index and sort are not here but where they are followed: in
/// the free list of its pool, and in the tables of those that keep logical pages,
/// because one physical page can serve many blocks.
#[derive(Debug, Default)]
pub struct PageStructure {
    references: Cell<u32>,
    held: Cell<u16>,
    zeros: Cell<bool>,
    tag: Cell<u8>,
}

const _: () = assert!(size_of::<PageStructure>() == 8, "eight to a cache line");

impl PageStructure {
    /// The number of *logical pages* that refer to this physical page,
    /// however many segments each of them has in it (row Z4, FIG. 3B).
    pub fn references(&self) -> u32 {
        self.references.get()
    }

    /// What the page's bytes are.
    pub fn state(&self) -> PageState {
        match (self.held.get(), self.zeros.get()) {
            (0, _) => PageState::Invalid,
            (_, true) => PageState::Zeros,
            _ => PageState::Valid,
        }
    }

    /// The page is the shared page of zeros from now on.
    pub(crate) fn set_zeros(&self) {
        self.zeros.set(true);
    }

    pub(crate) fn refer(&self) {
        self.references.set(self.references.get() + 1);
    }

    pub(crate) fn unrefer(&self) {
        let n = self.references.get();
        assert!(n > 0, "a physical page's reference count went below zero");
        self.references.set(n - 1);
    }

    /// What the user of the page's cluster has marked it as: 0 until
    /// [`PageStructure::set_tag`], and nothing here reads it.
    pub fn tag(&self) -> u8 {
        self.tag.get()
    }

    /// Marks the page for its user. Whoever allocated the cluster sets it, and
    /// sets it back to 0 before the cluster is freed.
    pub fn set_tag(&self, tag: u8) {
        self.tag.set(tag);
    }

    pub(crate) fn hold(&self) {
        self.held.set(self.held.get() + 1);
    }

    pub(crate) fn release(&self) {
        self.held.set(self.held.get() - 1);
    }
}

/// One region of memory split into 4 KB physical pages.
///
/// Cluster pools are carved from it at start-up, front to back; it lives until
/// the last pool and the last cluster are gone.
pub struct Arena {
    region: Box<dyn Region>,
    pages: Box<[PageStructure]>,
    carved: Cell<usize>,
}

impl Arena {
    /// Lays an arena over `region`; a tail shorter than a page is left unused.
    pub fn new(region: impl Region + 'static) -> Rc<Self> {
        let pages = region.len() / PAGE_SIZE;
        Rc::new(Self {
            region: Box::new(region),
            pages: (0..pages).map(|_| PageStructure::default()).collect(),
            carved: Cell::new(0),
        })
    }

    /// Page structures for `pages` borrowed segments, which lie in other shards' arenas.
    pub(crate) fn without_memory(pages: usize) -> Rc<Self> {
        Rc::new(Self {
            region: Box::new(NoRegion),
            pages: (0..pages).map(|_| PageStructure::default()).collect(),
            carved: Cell::new(pages * PAGE_SIZE),
        })
    }

    /// First byte of the arena.
    pub fn base(&self) -> NonNull<u8> {
        self.region.base()
    }

    /// Length in bytes, whole pages only.
    pub fn len(&self) -> usize {
        self.pages.len() * PAGE_SIZE
    }

    /// Whether the arena has no page.
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// Bytes not yet carved into pools.
    pub fn uncarved(&self) -> usize {
        self.len() - self.carved.get()
    }

    /// The physical page that holds `address`, if it lies in the arena.
    pub fn page_of(&self, address: NonNull<u8>) -> Option<PageIndex> {
        let offset = (address.as_ptr() as usize).checked_sub(self.base().as_ptr() as usize)?;
        (offset < self.region.len() && offset < self.len())
            .then_some(PageIndex((offset / PAGE_SIZE) as u32))
    }

    /// The page structure of `page`.
    ///
    /// # Panics
    /// If `page` is not a page of this arena.
    pub fn page(&self, page: PageIndex) -> &PageStructure {
        &self.pages[page.0 as usize]
    }

    /// The page structure of the page that starts at `address`, with those of
    /// the pages behind it at its side.
    pub(crate) fn structure_of(&self, address: NonNull<u8>) -> NonNull<PageStructure> {
        let page = (address.as_ptr() as usize - self.base().as_ptr() as usize) / PAGE_SIZE;
        NonNull::from(&self.pages[page..]).cast()
    }

    /// The page whose structure this is.
    pub(crate) fn index_of(&self, structure: &PageStructure) -> PageIndex {
        let offset = std::ptr::from_ref(structure) as usize - self.pages.as_ptr() as usize;
        PageIndex((offset / size_of::<PageStructure>()) as u32)
    }

    /// Takes the next `bytes` (a multiple of the page size) for a pool.
    pub(crate) fn carve(&self, bytes: usize) -> Option<NonNull<u8>> {
        debug_assert_eq!(bytes % PAGE_SIZE, 0);
        let start = self.carved.get();
        let end = start.checked_add(bytes).filter(|&end| end <= self.len())?;
        self.carved.set(end);
        // SAFETY: `start <= len`, so the result is inside the region or one past its end.
        Some(unsafe { self.base().add(start) })
    }
}
