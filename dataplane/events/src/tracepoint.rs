//! Every static tracepoint of the program (USDT, row K8).
//!
//! Each is a `nop` in the code and a note in the ELF section `.note.stapsdt` that
//! says where the arguments are: `perf`, `bpftrace`, SystemTap and gdb read it.
//! When nobody traces, the `nop` is all there is; tracing puts a breakpoint in its
//! place. Arguments are numbers that the code has at hand; texts are pointers to
//! names that end with a NUL (`str(arg0)` in bpftrace). `connection` is a place in
//! the port's table of connections, used again once it is closed; `namespace` is
//! one in the configuration's list, from 0, and in every `cycles` the time-stamp
//! counter's.
//!
//! `docs/profiling.md` shows how to use them; tests hold its table, and the notes
//! of the release binary, against [`ALL`].

/// A tracepoint's declaration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tracepoint {
    /// Its name; the provider is [`PROVIDER`].
    pub name: &'static str,
    /// What its arguments are, in order.
    pub arguments: &'static [&'static str],
    /// When it is passed.
    pub help: &'static str,
}

/// The provider of every tracepoint.
pub const PROVIDER: &str = "throughline";

/// A name as tracers read it: it ends with a NUL.
#[derive(Clone, Copy)]
pub struct Name(&'static str);

impl Name {
    /// A name of `text`, whose last byte is a NUL.
    ///
    /// # Panics
    /// If it is not.
    pub const fn new(text: &'static str) -> Self {
        let bytes = text.as_bytes();
        assert!(bytes[bytes.len() - 1] == 0, "a name ends with a NUL");
        Self(text)
    }

    /// The name without its NUL.
    pub const fn text(self) -> &'static str {
        self.0.split_at(self.0.len() - 1).0
    }
}

/// What an argument is to a tracer: a number in a register.
trait Argument {
    fn value(self) -> isize;
}

impl Argument for u64 {
    #[inline(always)]
    fn value(self) -> isize {
        self as isize
    }
}

impl Argument for Name {
    #[inline(always)]
    fn value(self) -> isize {
        self.0.as_ptr() as isize
    }
}

macro_rules! tracepoints {
    ($($(#[doc = $doc:literal])+ fn $name:ident($($argument:ident: $type:ty),*);)*) => {
        $(
            $(#[doc = $doc])+
            // Inlined, so that the note tells where the caller has the arguments.
            #[inline(always)]
            #[allow(unsafe_code)] // the macro's `asm!` of one `nop`
            pub fn $name($($argument: $type),*) {
                probe::probe!(throughline, $name $(, Argument::value($argument))*);
            }
        )*

        /// Every tracepoint.
        pub const ALL: &[Tracepoint] = &[$(Tracepoint {
            name: stringify!($name),
            arguments: &[$(stringify!($argument)),*],
            help: concat!($($doc),+).trim_ascii(),
        }),*];
    };
}

tracepoints! {
    /// Frames were taken from the port; `cycles` of the stage before it, as for every stage.
    fn stage_receive(cycles: u64);
    /// Frames went through TCP and below.
    fn stage_tcp(cycles: u64);
    /// PDUs were read or written.
    fn stage_protocol(cycles: u64);
    /// A request's logical pages are whole.
    fn stage_assemble(cycles: u64);
    /// A request went to its volume.
    fn stage_submit(cycles: u64);
    /// Completions were taken from the devices.
    fn stage_complete(cycles: u64);
    /// Segments were built and handed to the port.
    fn stage_transmit(cycles: u64);
    /// A request goes to its volume. `kind`: 0 read, 1 write, 2 anything else.
    fn request_start(request: u64, connection: u64, namespace: u64, kind: u64, bytes: u64);
    /// It came back. `status` is the NVMe status field, 0 for success.
    fn request_complete(request: u64, connection: u64, namespace: u64, nanoseconds: u64, status: u64);
    /// A host's connection was accepted.
    fn connection_open(connection: u64, peer_port: u64);
    /// It is gone, and no device works for it any more.
    fn connection_close(connection: u64, peer_port: u64);
    /// A segment was sent again.
    fn retransmit(connection: u64, bytes: u64);
    /// A group goes to the log of `shard`, with so many changes; `bytes` to its store.
    fn log_group_start(shard: u64, sequence: u64, records: u64, bytes: u64);
    /// It is stable, or `failed` is 1.
    fn log_group_end(shard: u64, sequence: u64, nanoseconds: u64, failed: u64);
    /// A consistency point of `shard` leaves a half of its log, with so many bytes. `reason` is a text.
    fn consistency_point_start(shard: u64, reason: Name, bytes: u64);
    /// The drives have it, and the half is free.
    fn consistency_point_end(shard: u64, nanoseconds: u64, bytes: u64);
    /// The volume of number `pair`, from 0 as the configuration has them, is in another state of its pair. `state` is a text.
    fn pair_state(pair: u64, state: Name);
    /// A lane of `shard` to the other node has a session. `anew`: 1 if what was under way before it is nobody's.
    fn lane_up(shard: u64, peer: u64, anew: u64);
    /// It has none any more. `reason` is a text.
    fn lane_down(shard: u64, peer: u64, reason: Name);
    /// The CPU copied payload. `reason` is a text.
    fn copy(reason: Name, bytes: u64);
    /// A frame, a packet or a segment was dropped. `reason` is a text: the name of its counter.
    fn dropped(reason: Name);
}
