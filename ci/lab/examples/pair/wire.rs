//! What goes over the wire to the destination, as its interface counts it.

use lab::Result;
use lab::pair::{PORTS, Pair};
use serde_json::{Value, json};

use crate::load::Load;

/// Frames of one way.
#[derive(Clone, Copy)]
pub struct Frames {
    bytes: u64,
    packets: u64,
}

impl Frames {
    /// What came since, for what was written.
    pub fn until(self, now: Self, load: &Load<'_>) -> Value {
        json!({
            "bytes_per_byte": (now.bytes - self.bytes) as f64 / load.bytes() as f64,
            "frames_per_write": (now.packets - self.packets) as f64 / load.writes() as f64,
        })
    }
}

/// By now: sent to it, and received from it.
pub fn to_destination(pair: &Pair) -> Result<[Frames; 2]> {
    let shown = (pair.host.tool("ip"))
        .args(["-s", "-j", "link", "show", "dev", PORTS[1]])
        .succeeds()?;
    let shown: Value = serde_json::from_str(&shown.stdout)?;
    let frames = |way: &str| {
        let counted = &shown[0]["stats64"][way];
        let number = |key: &str| counted[key].as_u64().unwrap_or(0);
        Frames {
            bytes: number("bytes"),
            packets: number("packets"),
        }
    };
    Ok([frames("tx"), frames("rx")])
}
