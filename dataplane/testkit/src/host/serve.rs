//! What the host does about each PDU, and what it demands of it.

use crate::command::Payload;
use crate::pdu::{Pdu, Violation, demand};

use super::{Cid, Completion, Host, InFlight, Initialized};

impl Host {
    /// Serves a PDU of the controller's.
    pub fn serve(&mut self, pdu: Pdu) -> Result<(), Violation> {
        let may_be_first = matches!(pdu, Pdu::IcResp { .. } | Pdu::Term { .. });
        demand!(
            may_be_first || self.initialized.is_some(),
            "{pdu:?} before an ICResp"
        );
        match pdu {
            Pdu::IcResp {
                header_digest,
                data_digest,
                cpda,
                h2c_max,
            } => {
                demand!(self.initialized.is_none(), "a second ICResp");
                let mut format = self.config.format;
                demand!(
                    format.header_digest || !header_digest,
                    "a header digest that was not asked for"
                );
                demand!(
                    format.data_digest || !data_digest,
                    "a data digest that was not asked for"
                );
                // MAXH2CDATA (3.6.2.3): in dwords, 4,096 bytes at least.
                demand!(
                    h2c_max >= 4096 && h2c_max.is_multiple_of(4),
                    "MAXH2CDATA {h2c_max}"
                );
                (format.header_digest, format.data_digest) = (header_digest, data_digest);
                format.cpda = cpda;
                self.initialized = Some(Initialized { format, h2c_max });
                self.send_waiting();
            }
            Pdu::Data {
                cid,
                offset,
                data,
                last,
                success,
            } => {
                self.take_data(cid, offset, data, last)?;
                if success {
                    // Only without SQ flow control: SQHD would be missed (3.6.2.9).
                    demand!(
                        self.queue.no_flow_control,
                        "SUCCESS to command {cid} with SQ flow control"
                    );
                    self.complete(cid, 0, 0, None)?;
                }
            }
            Pdu::R2t {
                cid,
                ttag,
                offset,
                len,
            } => self.answer_r2t(cid, ttag, offset, len)?,
            Pdu::Resp {
                cid,
                status,
                result,
                sq_head,
            } => self.complete(cid, status, result, Some(sq_head))?,
            Pdu::Term { .. } => self.pdus.push_back(pdu),
        }
        Ok(())
    }

    fn command_of(&mut self, cid: Cid, what: &str) -> Result<&mut InFlight, Violation> {
        let command = self.in_flight.get_mut(&cid);
        command.ok_or_else(|| Violation(format!("{what} for CID {cid}, which is not under way")))
    }

    /// C2HData: in order and without gaps (3.6.2.9), no more than the SGL describes.
    fn take_data(
        &mut self,
        cid: Cid,
        offset: u32,
        data: Vec<u8>,
        last: bool,
    ) -> Result<(), Violation> {
        let command = self.command_of(cid, "data")?;
        let Payload::In(most) = command.command.payload else {
            return Err(Violation(format!(
                "data for CID {cid}, which reads nothing"
            )));
        };
        let (have, len) = (command.data.len(), data.len());
        demand!(!command.is_whole, "data for CID {cid} behind the last");
        demand!(
            have == offset as usize,
            "data at {offset} for CID {cid}, which has {have} bytes"
        );
        demand!(
            len > 0 && have + len <= most,
            "{len} bytes at {have} for CID {cid}, which takes {most}"
        );
        match have {
            0 => command.data = data,
            _ => command.data.extend_from_slice(&data),
        }
        command.is_whole = last;
        Ok(())
    }

    /// R2T (3.6.2.10): for the bytes behind those that were asked for before, as far
    /// as there are any.
    fn answer_r2t(&mut self, cid: Cid, ttag: u16, offset: u32, len: u32) -> Result<(), Violation> {
        let command = self.command_of(cid, "an R2T")?;
        let total = match &command.command.payload {
            Payload::Asked(data) => data.len(),
            Payload::Withheld(len) => *len,
            _ => {
                return Err(Violation(format!(
                    "an R2T for CID {cid}, which sends nothing"
                )));
            }
        };
        let (from, end) = (offset as usize, offset as usize + len as usize);
        demand!(
            from == command.asked && len > 0 && end <= total,
            "an R2T of {len} bytes at {offset} for CID {cid}, which sends {total} and was asked \
             for {}",
            command.asked
        );
        command.asked = end;
        // The data are out of the table while some of them are written.
        let payload = std::mem::replace(&mut command.command.payload, Payload::None);
        match &payload {
            Payload::Asked(data) => self.send_data(cid, ttag, offset, &data[from..end]),
            _ => self.pdus.push_back(Pdu::R2t {
                cid,
                ttag,
                offset,
                len,
            }),
        }
        self.command_of(cid, "an R2T")?.command.payload = payload;
        Ok(())
    }

    /// Sends the data that an R2T asked for, in as many H2CData as it takes.
    pub fn send_data(&mut self, cid: Cid, ttag: u16, offset: u32, data: &[u8]) {
        let most = self.h2c_bytes();
        let pieces = data.chunks(most).count();
        for (i, piece) in data.chunks(most).enumerate() {
            let offset = offset + (i * most) as u32;
            self.append(|host, out| {
                let last = i + 1 == pieces;
                host.format().h2c_data(out, cid, ttag, offset, piece, last);
            });
        }
    }

    fn complete(
        &mut self,
        cid: Cid,
        status: u16,
        result: u64,
        sq_head: Option<u16>,
    ) -> Result<(), Violation> {
        let done = self
            .in_flight
            .remove(&cid)
            .ok_or_else(|| Violation(format!("a response to CID {cid}, which is not under way")))?;
        if status == 0 {
            demand!(
                done.data.is_empty() || done.is_whole,
                "success of CID {cid} in the middle of its data"
            );
            if let Payload::Asked(data) = &done.command.payload {
                demand!(
                    done.asked == data.len(),
                    "success of CID {cid} with {} of {} bytes",
                    done.asked,
                    data.len()
                );
            }
        }
        if let Some((connect, queue)) = self.connecting
            && connect == cid
        {
            self.connecting = None;
            if status == 0 {
                self.queue = queue;
                self.connected = Some((queue.qid, result as u16));
                self.last_keep_alive = self.now;
            }
        }
        if let Some(sq_head) = sq_head {
            self.check_head(sq_head)?;
        }
        if self.keep_alive == Some(cid) {
            self.keep_alive = None;
            if status == 0 {
                self.send_waiting();
                return Ok(());
            }
        }
        self.completions.push_back(Completion {
            cid,
            status,
            result,
            sq_head,
            data: done.data,
            command: done.command,
            submitted: done.submitted,
            completed: self.now,
        });
        self.send_waiting();
        Ok(())
    }

    /// SQHD goes forward, and not beyond what was sent (base, 3.3.3.2). Without flow control
    /// it says nothing; and for capsules that the host did not count nothing is known.
    fn check_head(&mut self, sq_head: u16) -> Result<(), Violation> {
        if self.queue.no_flow_control || self.has_raw || self.connected.is_none() {
            return Ok(());
        }
        let entries = u64::from(self.queue.entries);
        demand!(u64::from(sq_head) < entries, "SQHD {sq_head} of {entries}");
        let step = (u64::from(sq_head) + entries - self.fetched % entries) % entries;
        self.fetched += step;
        demand!(
            self.fetched <= self.capsules,
            "SQHD {sq_head}, {} beyond the {} capsules that were sent",
            self.fetched - self.capsules,
            self.capsules
        );
        Ok(())
    }
}
