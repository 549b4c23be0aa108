//! Every header and every command reads back as it was written, and the bytes
//! are those that the specifications draw.

mod rig;

use nvmf::command::{
    AdminCommand, ConnectData, ConnectField, DatasetRange, FabricsCommand, FeatureSelect,
    NvmCommand, PropertyWidth, Sgl, SqeView,
};
use nvmf::pdu::{
    C2hData, CapsuleCmd, CapsuleResp, FatalError, FatalStatus, Format, H2cData, HeaderBytes,
    HeaderView, IcReq, IcResp, PduType, R2t, TermReq,
};
use nvmf::{BlockRange, Cid, Cntlid, Lba, Nsid, Qid, Status, Ttag};
use proptest::prelude::*;
use rig::host::{connect_data, rw, sqe, transport};

fn format() -> impl Strategy<Value = Format> {
    (any::<bool>(), any::<bool>(), 0..32u8).prop_map(|(header_digest, data_digest, dwords)| {
        Format {
            header_digest,
            data_digest,
            alignment: (dwords + 1) * 4,
        }
    })
}

/// Checks `written` and reads it.
fn read<T>(
    written: &HeaderBytes,
    format: Format,
    read: impl Fn(&HeaderView<'_>) -> Result<T, FatalError>,
) -> Result<T, FatalError> {
    read(&HeaderView::check(written.bytes(), format)?)
}

prop_compose! {
    fn range()(first in 0..u64::MAX - 65536, blocks in 1..=65536u32) -> BlockRange {
        BlockRange::new(Lba(first), blocks).unwrap()
    }
}

fn sgl() -> impl Strategy<Value = Sgl> {
    prop_oneof![
        any::<u32>().prop_map(|len| Sgl::Transport { len }),
        (any::<u64>(), any::<u32>()).prop_map(|(offset, len)| Sgl::InCapsule { offset, len }),
    ]
}

fn nvm_command() -> impl Strategy<Value = NvmCommand> {
    prop_oneof![
        Just(NvmCommand::Flush),
        (range(), any::<bool>()).prop_map(|(range, fua)| NvmCommand::Write { range, fua }),
        (range(), any::<bool>()).prop_map(|(range, fua)| NvmCommand::Read { range, fua }),
        (range(), any::<bool>(), any::<bool>()).prop_map(|(range, fua, deallocate)| {
            NvmCommand::WriteZeroes {
                range,
                fua,
                deallocate,
            }
        }),
        (1..=256u16, any::<bool>()).prop_map(|(ranges, deallocate)| {
            NvmCommand::DatasetManagement { ranges, deallocate }
        }),
    ]
}

fn admin_command() -> impl Strategy<Value = AdminCommand> {
    prop_oneof![
        (
            any::<u8>(),
            0..0x80u8,
            any::<bool>(),
            1..=1u64 << 32,
            any::<u32>(),
            any::<u8>()
        )
            .prop_map(|(lid, specific, retain, dwords, offset, csi)| {
                AdminCommand::GetLogPage {
                    lid,
                    specific,
                    retain,
                    len: dwords * 4,
                    offset: u64::from(offset) * 4,
                    csi,
                }
            }),
        (any::<u8>(), any::<u16>(), any::<u8>()).prop_map(|(cns, cntlid, csi)| {
            AdminCommand::Identify {
                cns,
                cntlid: Cntlid(cntlid),
                csi,
            }
        }),
        (any::<u16>(), any::<u16>()).prop_map(|(qid, cid)| AdminCommand::Abort {
            qid: Qid(qid),
            cid: Cid(cid),
        }),
        (any::<u8>(), any::<bool>(), any::<u32>())
            .prop_map(|(fid, save, value)| AdminCommand::SetFeatures { fid, save, value }),
        (any::<u8>(), 0..4usize, any::<u32>()).prop_map(|(fid, select, value)| {
            let select = [
                FeatureSelect::Current,
                FeatureSelect::Default,
                FeatureSelect::Saved,
                FeatureSelect::Capabilities,
            ][select];
            AdminCommand::GetFeatures { fid, select, value }
        }),
        Just(AdminCommand::AsyncEventRequest),
        Just(AdminCommand::KeepAlive),
    ]
}

fn width() -> impl Strategy<Value = PropertyWidth> {
    prop_oneof![Just(PropertyWidth::Four), Just(PropertyWidth::Eight)]
}

fn fabrics_command() -> impl Strategy<Value = FabricsCommand> {
    prop_oneof![
        (any::<u32>(), width(), any::<u64>()).prop_map(|(offset, width, value)| {
            FabricsCommand::PropertySet {
                offset,
                width,
                value,
            }
        }),
        (any::<u32>(), width())
            .prop_map(|(offset, width)| FabricsCommand::PropertyGet { offset, width }),
        (
            any::<u16>(),
            any::<u16>(),
            any::<u16>(),
            any::<bool>(),
            any::<u32>()
        )
            .prop_map(
                |(record_format, qid, sq_size, no_flow_control, keep_alive_ms)| {
                    FabricsCommand::Connect {
                        record_format,
                        qid: Qid(qid),
                        sq_size,
                        no_flow_control,
                        keep_alive_ms,
                    }
                }
            ),
        any::<u16>().prop_map(|record_format| FabricsCommand::Disconnect { record_format }),
    ]
}

proptest! {
    #[test]
    fn ic_req_and_ic_resp(
        dwords in 0..32u8, header_digest: bool, data_digest: bool, maxr2t: u32, max: u32,
    ) {
        let plain = Format::default();
        let value = IcReq {
            host_alignment: (dwords + 1) * 4,
            header_digest,
            data_digest,
            r2ts_max: u64::from(maxr2t) + 1,
        };
        prop_assert_eq!(read(&value.write(), plain, IcReq::read), Ok(value));
        let value = IcResp { header_digest, data_digest, h2c_data_max: max };
        prop_assert_eq!(read(&value.write(), plain, IcResp::read), Ok(value));
    }

    #[test]
    fn terminate_requests(status: u16, information: u32, header in prop::collection::vec(any::<u8>(), 0..200)) {
        let value = TermReq { status, information };
        let written = value.write(&header);
        prop_assert_eq!(read(&written, Format::default(), |v| Ok(TermReq::read(v))), Ok(value));
        prop_assert_eq!(&written.bytes()[24..], &header[..header.len().min(128)]);
    }

    #[test]
    fn capsules(format in format(), sqe: [u8; 32], data_len in 0..1u32 << 24, result: u64, head in 0..0xffffu16, status: u16, cid: u16) {
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&sqe);
        let value = CapsuleCmd { sqe: bytes, data_len };
        prop_assert_eq!(read(&value.write(format), format, |v| Ok(CapsuleCmd::read(v))), Ok(value));
        for sq_head in [Some(head), None] {
            let value = CapsuleResp { result, sq_head, cid: Cid(cid), status: Status::from_field(status) };
            prop_assert_eq!(read(&value.write(format), format, |v| Ok(CapsuleResp::read(v))), Ok(value));
        }
    }

    #[test]
    fn data_and_r2ts(format in format(), cid: u16, ttag: u16, offset: u32, len in 1..1u32 << 24, last: bool, success: bool) {
        let (cid, ttag) = (Cid(cid), Ttag(ttag));
        let value = R2t { cid, ttag, offset, len };
        prop_assert_eq!(read(&value.write(format), format, R2t::read), Ok(value));
        let value = H2cData { cid, ttag, offset, len, last };
        prop_assert_eq!(read(&value.write(format), format, H2cData::read), Ok(value));
        let value = C2hData { cid, offset, len, last, success: success && last };
        let written = value.write(format);
        prop_assert_eq!(read(&written, format, C2hData::read), Ok(value));
        // Data begins where the host wants it (HPDA).
        prop_assert_eq!(written.bytes().len() % usize::from(format.alignment), 0);
    }

    #[test]
    fn damaged_headers_are_noticed(cid: u16, at in 0..28usize, bit in 0..8u32) {
        let format = Format { header_digest: true, ..Format::default() };
        let written = R2t { cid: Cid(cid), ttag: Ttag(1), offset: 0, len: 512 }.write(format);
        let mut bytes = written.bytes().to_vec();
        bytes[at] ^= 1 << bit;
        prop_assert!(HeaderView::check(&bytes, format).is_err());
    }

    #[test]
    fn any_bytes_can_be_checked(bytes in prop::collection::vec(any::<u8>(), 0..160), format in format()) {
        let _ = HeaderView::check(&bytes, format);
    }

    #[test]
    fn commands(cid: u16, nsid: u32, sgl in sgl(), nvm in nvm_command(), admin in admin_command(), fabrics in fabrics_command()) {
        let (cid, nsid) = (Cid(cid), Nsid(nsid));
        for entry in [nvm.write(cid, nsid, sgl), admin.write(cid, nsid, sgl)] {
            let view = entry.view();
            prop_assert_eq!((view.cid(), view.nsid(), view.sgl()), (cid, nsid, Ok(sgl)));
            prop_assert_eq!(view.check(), Ok(()));
        }
        prop_assert_eq!(NvmCommand::read(&nvm.write(cid, nsid, sgl).view()), Ok(nvm));
        prop_assert_eq!(AdminCommand::read(&admin.write(cid, nsid, sgl).view()), Ok(admin));
        let entry = fabrics.write(cid, sgl);
        prop_assert_eq!(FabricsCommand::read(&entry.view()), Ok(fabrics));
        prop_assert!(entry.view().is_fabrics());
    }

    #[test]
    fn connect_s_data(host_id: [u8; 16], cntlid: u16, a in "nqn\\.[a-z0-9.:-]{1,219}", b in "nqn\\.[a-z0-9.:-]{1,219}") {
        let value = ConnectData { host_id, cntlid: Cntlid(cntlid), subsystem: &a, host: &b };
        let written = value.write();
        prop_assert_eq!(ConnectData::read(&written), Ok(value));
    }

    #[test]
    fn dataset_ranges(first: u64, blocks: u32) {
        let value = DatasetRange { first: Lba(first), blocks };
        prop_assert_eq!(DatasetRange::read(&value.write()), value);
    }

    #[test]
    fn ranges_end_before_the_address_space_does(first: u64, blocks: u32) {
        match BlockRange::new(Lba(first), blocks) {
            Some(range) => prop_assert_eq!(range.end().0 - first, u64::from(blocks)),
            None => prop_assert!(blocks == 0 || first.checked_add(u64::from(blocks)).is_none()),
        }
    }
}

/// The same bytes as the host's, which were written by hand.
#[test]
fn the_bytes_are_those_of_the_specification() {
    let sgl = Sgl::Transport { len: 4096 };
    let range = BlockRange::new(Lba(0x1122_3344_5566), 8).unwrap();
    let command = NvmCommand::Read { range, fua: false };
    let mut expected = rw(0x02, 7, 0x1122_3344_5566, 8);
    expected[2..4].copy_from_slice(&[0x34, 0x12]);
    transport(&mut expected, 4096);
    assert_eq!(command.write(Cid(0x1234), Nsid(7), sgl).bytes(), expected);
    let mut expected = sqe(0x06, 7);
    expected[40] = 2;
    transport(&mut expected, 4096);
    let (cns, cntlid, csi) = (2, Cntlid(0), 0);
    let command = AdminCommand::Identify { cns, cntlid, csi };
    assert_eq!(command.write(Cid(0), Nsid(7), sgl).bytes(), expected);
    let data = connect_data(0xffff, rig::NQN, rig::HOST_NQN);
    let connect = ConnectData::read(data.first_chunk().unwrap()).unwrap();
    assert_eq!(connect.subsystem, rig::NQN);
    assert_eq!(connect.host, rig::HOST_NQN);
    assert_eq!(
        (connect.host_id, connect.cntlid),
        ([7; 16], Cntlid::DYNAMIC)
    );
    // R2T with a header digest, and C2HData of 8 bytes with both.
    let format = Format {
        header_digest: true,
        data_digest: true,
        alignment: 4,
    };
    let r2t = R2t {
        cid: Cid(0x0201),
        ttag: Ttag(0x0403),
        offset: 0x0807_0605,
        len: 0x0c0b_0a09,
    };
    let written = r2t.write(format);
    let expected = [
        9, 1, 24, 0, 28, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0, 0, 0, 0,
    ];
    assert_eq!(written.bytes()[..24], expected);
    assert_eq!(
        written.bytes()[24..],
        rig::host::crc32c(&expected).to_le_bytes()
    );
    let data = C2hData {
        cid: Cid(1),
        offset: 0,
        len: 8,
        last: true,
        success: true,
    };
    let written = data.write(format);
    assert_eq!(written.bytes()[..8], [7, 0b1111, 24, 28, 40, 0, 0, 0]);
}

#[test]
fn a_digest_of_known_bytes() {
    // RFC 3720, B.4.
    assert_eq!(rig::host::crc32c(&[0; 32]), 0x8a91_36aa);
    assert_eq!(checksum::crc32c(&[0; 32]), 0x8a91_36aa);
}

#[test]
fn fatal_errors_have_the_numbers_of_the_specification() {
    for (n, status) in FatalStatus::ALL.into_iter().enumerate() {
        assert_eq!(status as usize, n + 1);
    }
    for pdu_type in (0..=255).filter_map(PduType::from_byte) {
        let format = Format::default();
        let bytes = [pdu_type as u8; 4];
        let short = HeaderView::check(&bytes, format).unwrap_err();
        assert_eq!(short, FatalError::invalid_field(2));
    }
}

#[test]
fn connect_data_needs_terminated_nqns_of_legal_length() {
    let mut data = connect_data(1, rig::NQN, &"n".repeat(223));
    assert!(ConnectData::read(data.first_chunk().unwrap()).is_ok());
    data[512 + 223] = b'n';
    let read = ConnectData::read(data.first_chunk().unwrap());
    assert_eq!(read, Err(ConnectField::Host));
}

#[test]
fn statuses_have_the_numbers_of_the_specification() {
    let cases = [
        (Status::SUCCESS, 0, 0x00, false),
        (Status::INVALID_OPCODE, 0, 0x01, true),
        (Status::LBA_OUT_OF_RANGE, 0, 0x80, true),
        (Status::TRANSIENT_TRANSPORT_ERROR, 0, 0x22, false),
        (Status::CONNECT_INVALID_PARAMETERS, 1, 0x82, true),
        (Status::UNRECOVERED_READ_ERROR, 2, 0x81, false),
    ];
    for (status, sct, sc, dnr) in cases {
        let parts = (status.code_type(), status.code(), status.is_final());
        assert_eq!(parts, (sct, sc, dnr));
        assert_eq!(status.is_success(), sct == 0 && sc == 0);
    }
    assert!(SqeView::new(&[0; 64]).check().is_err());
}
