//! What a port hands to the stack, and what the stack hands to a port.

use pages::{Chunk, Cluster, Slice};

use crate::tcp::ChunkRun;

/// What a port found out about a checksum of a frame that it received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: the stack verifies it in software.
    #[default]
    Unknown,
    /// It is right.
    Good,
    /// It is wrong: the frame is counted and dropped.
    Bad,
}

/// A received frame, from its Ethernet header to the end of its payload, without the FCS.
///
/// All protocol headers lie in `head`. Payload that the stack keeps is kept as
/// slices of these very clusters; everything else is dropped before
/// [`Stack::receive`](crate::Stack::receive) returns.
pub struct RxFrame<'a> {
    /// The first (for standard frames the only) part.
    pub head: Slice,
    /// The other parts of a frame larger than a cluster, in order.
    pub tail: &'a [Slice],
    /// The port's verdict on the IPv4 header checksum.
    pub ip_checksum: Verdict,
    /// The port's verdict on the TCP, UDP or ICMP checksum.
    pub l4_checksum: Verdict,
    /// The VLAN tag (TCI) that the port stripped, if it did; a tag left in the frame is read there.
    pub vlan: Option<u16>,
}

impl RxFrame<'static> {
    /// A frame in one part about which the port knows nothing.
    pub fn new(head: Slice) -> Self {
        Self {
            head,
            tail: &[],
            ip_checksum: Verdict::Unknown,
            l4_checksum: Verdict::Unknown,
            vlan: None,
        }
    }
}

/// A port that frames are sent through.
pub trait Transmit {
    /// Takes the frame, or says that there is no room now; then the stack
    /// offers the same bytes again at a later
    /// [`Stack::transmit`](crate::Stack::transmit).
    fn transmit(&mut self, frame: TxFrame<'_>) -> Result<(), PortFull>;
}

/// The port has no room for a frame now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortFull;

/// A frame to send.
pub struct TxFrame<'a> {
    /// Ethernet to TCP, options included; at most [`TxFrame::HEADERS_MAX`] bytes, to be copied.
    pub headers: &'a [u8],
    /// The payload, by reference.
    pub payload: Payload<'a>,
    /// What the port shall complete in hardware.
    pub offload: TxOffload,
}

impl TxFrame<'_> {
    /// Most header bytes of any frame: Ethernet with a VLAN tag, IPv6, TCP with 40 bytes of options.
    pub const HEADERS_MAX: usize = 18 + 40 + 60;

    /// Most pieces of the payload of any segment.
    pub const PIECES_MAX: usize = 63;

    /// Length of the whole frame in bytes, without FCS and padding.
    ///
    /// Frames may be shorter than Ethernet's 60 bytes; padding is the port's
    /// (NICs do it, virtual ports do not need it).
    #[inline]
    pub fn len(&self) -> usize {
        self.headers.len() + self.payload.len()
    }

    /// Always false: a frame has headers.
    pub fn is_empty(&self) -> bool {
        false
    }
}

/// What the port completes in hardware. All zero: nothing, every checksum is in the headers already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TxOffload {
    /// Bytes of Ethernet header, VLAN tag included.
    pub l2_len: u8,
    /// Bytes of IP header.
    pub l3_len: u8,
    /// Bytes of TCP header, options included.
    pub l4_len: u8,
    /// The IP header is version 6.
    pub ipv6: bool,
    /// Fill in the IPv4 header checksum (it is zero in the headers).
    pub ip_checksum: bool,
    /// Complete the TCP checksum. Its field holds the pseudo-header's sum, as
    /// DPDK asks for: with the length, or without it if `tso_mss` is set.
    pub l4_checksum: bool,
    /// Cut the payload into segments of this many bytes.
    pub tso_mss: Option<u16>,
}

/// A part of a payload.
#[derive(Clone, Copy, Debug)]
pub enum Piece<'a> {
    /// Protocol bytes, to be copied: they live only as long as the call.
    Inline(&'a [u8]),
    /// Payload in a cluster. The port clones the handle for as long as the
    /// NIC may read the bytes.
    Slice {
        /// The cluster.
        cluster: &'a Cluster,
        /// Offset of the first byte in the cluster.
        offset: usize,
        /// Number of bytes.
        len: usize,
    },
}

impl<'a> Piece<'a> {
    /// Length in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        match self {
            Piece::Inline(bytes) => bytes.len(),
            Piece::Slice { len, .. } => *len,
        }
    }

    /// Whether there is no byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes.
    #[inline]
    pub fn bytes(&self) -> &'a [u8] {
        match *self {
            Piece::Inline(bytes) => bytes,
            Piece::Slice {
                cluster,
                offset,
                len,
            } => &cluster.bytes()[offset..offset + len],
        }
    }

    /// The part of `chunk` from `from` on, at most `max` bytes.
    #[inline]
    pub(crate) fn of_chunk(chunk: &'a Chunk, from: usize, max: usize) -> Self {
        match chunk {
            Chunk::Inline(inline) => {
                let bytes = &inline.bytes()[from..];
                Piece::Inline(&bytes[..bytes.len().min(max)])
            }
            Chunk::Slice(slice) => Piece::Slice {
                cluster: slice.cluster(),
                offset: slice.offset() + from,
                len: (slice.len() - from).min(max),
            },
        }
    }
}

/// A frame's payload: pieces in order, walked as often as the port likes.
#[derive(Clone)]
pub struct Payload<'a> {
    source: Source<'a>,
    len: usize,
}

#[derive(Clone)]
enum Source<'a> {
    Empty,
    Bytes(&'a [u8]),
    Slices(&'a [Slice]),
    Queue(ChunkRun<'a>),
}

impl<'a> Payload<'a> {
    /// No payload.
    pub const EMPTY: Payload<'static> = Payload {
        source: Source::Empty,
        len: 0,
    };

    /// Bytes to be copied, for tests of ports.
    pub fn bytes(bytes: &'a [u8]) -> Self {
        Self {
            len: bytes.len(),
            source: Source::Bytes(bytes),
        }
    }

    /// Slices, one piece each.
    pub fn slices(slices: &'a [Slice]) -> Self {
        Self {
            len: slices.iter().map(Slice::len).sum(),
            source: Source::Slices(slices),
        }
    }

    pub(crate) fn queue(run: ChunkRun<'a>, len: usize) -> Self {
        Self {
            source: Source::Queue(run),
            len,
        }
    }

    /// Length in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no byte.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The pieces, in order. None is empty.
    #[inline]
    pub fn pieces(&self) -> Pieces<'a> {
        Pieces {
            source: self.source.clone(),
        }
    }
}

/// Iterator over the [`Piece`]s of a [`Payload`].
#[derive(Clone)]
pub struct Pieces<'a> {
    source: Source<'a>,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    #[inline]
    fn next(&mut self) -> Option<Piece<'a>> {
        match &mut self.source {
            Source::Empty => None,
            Source::Bytes(bytes) => {
                let piece = Piece::Inline(bytes);
                self.source = Source::Empty;
                (!piece.is_empty()).then_some(piece)
            }
            Source::Slices(slices) => loop {
                let (first, rest) = slices.split_first()?;
                *slices = rest;
                if !first.is_empty() {
                    return Some(Piece::Slice {
                        cluster: first.cluster(),
                        offset: first.offset(),
                        len: first.len(),
                    });
                }
            },
            Source::Queue(run) => run.next(),
        }
    }
}
