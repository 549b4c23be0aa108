//! What is counted on a shard.

events::counters! {
    /// What happened on a shard's NVMe/TCP connections since it started.
    pub struct Counters {
        /// PDUs received.
        pdus_in,
        /// PDUs sent.
        pdus_out,
        /// Connects accepted, admin and I/O.
        connects,
        /// Connects refused.
        connects_refused,
        /// Authentications that hosts succeeded in, of queues.
        authenticated,
        /// Authentications that failed.
        authentication_failures,
        /// Read commands taken.
        reads,
        /// Write commands taken.
        writes,
        /// Other I/O commands taken.
        io_others,
        /// Admin and Fabrics commands taken.
        admin_commands,
        /// Commands completed with an error status.
        errors,
        /// Bytes of payload received for writes.
        bytes_in,
        /// Bytes of payload sent for reads.
        bytes_out,
        /// R2Ts sent.
        r2ts,
        /// Data digests that did not match.
        data_digest_errors,
        /// Headers that had to be gathered because slices cut them.
        headers_gathered,
        /// Times a stream was blocked for want of a slot, a run or a page.
        blocked,
        /// Commands refused because a stream stayed blocked too long.
        interrupted,
        /// Connections that closed because a timer expired.
        timeouts,
        /// Terminate requests received from hosts.
        terminated_by_host,
        /// Connections terminated for an invalid field of a PDU's header.
        invalid_header_field,
        /// Connections terminated for a PDU that may not come then.
        sequence_error,
        /// Connections terminated for a header digest that did not match.
        header_digest_error,
        /// Connections terminated for data outside the range of an R2T.
        data_out_of_range,
        /// Connections terminated for more data in a PDU than allowed.
        data_limit_exceeded,
        /// Connections terminated for a parameter that is not supported.
        unsupported_parameter,
    }
}
