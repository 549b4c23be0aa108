//! PDU headers and commands: what is read can be written, and reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nvmf::command::{AdminCommand, ConnectData, FabricsCommand, NvmCommand, SqeView};
use nvmf::pdu::{C2hData, CapsuleCmd, CapsuleResp, Format, H2cData, HeaderView, IcReq, PduType, R2t};
use nvmf::{Cid, Nsid};

fuzz_target!(|bytes: &[u8]| {
    let Some((&choice, bytes)) = bytes.split_first() else {
        return;
    };
    let format = Format {
        header_digest: choice & 1 != 0,
        data_digest: choice & 2 != 0,
        alignment: 4,
    };
    if let Ok(view) = HeaderView::check(bytes, format) {
        header(&view, format);
    }
    if let Some(sqe) = bytes.first_chunk::<64>() {
        command(&SqeView::new(sqe));
    }
    if let Some(data) = bytes.first_chunk::<1024>()
        && let Ok(connect) = ConnectData::read(data)
    {
        let written = connect.write();
        assert_eq!(ConnectData::read(&written), Ok(connect));
    }
});

fn header(view: &HeaderView<'_>, format: Format) {
    let again = |bytes: &[u8]| HeaderView::check(bytes, format).map(|view| view.pdu_type());
    match view.pdu_type() {
        PduType::IcReq => {
            if let Ok(value) = IcReq::read(view) {
                let bytes = value.write();
                assert_eq!(again(bytes.bytes()), Ok(PduType::IcReq));
            }
        }
        PduType::CapsuleCmd => {
            let value = CapsuleCmd::read(view);
            let bytes = value.write(format);
            let view = HeaderView::check(bytes.bytes(), format);
            assert!(view.is_ok_and(|view| CapsuleCmd::read(&view) == value));
        }
        PduType::CapsuleResp => {
            let value = CapsuleResp::read(view);
            let bytes = value.write(format);
            let view = HeaderView::check(bytes.bytes(), format);
            assert!(view.is_ok_and(|view| CapsuleResp::read(&view) == value));
        }
        PduType::H2cData => {
            if let Ok(value) = H2cData::read(view) {
                let bytes = value.write(format);
                let view = HeaderView::check(bytes.bytes(), format);
                assert!(view.is_ok_and(|view| H2cData::read(&view) == Ok(value)));
            }
        }
        PduType::C2hData => {
            if let Ok(value) = C2hData::read(view) {
                let bytes = value.write(format);
                let view = HeaderView::check(bytes.bytes(), format);
                assert!(view.is_ok_and(|view| C2hData::read(&view) == Ok(value)));
            }
        }
        PduType::R2t => {
            if let Ok(value) = R2t::read(view) {
                let bytes = value.write(format);
                let view = HeaderView::check(bytes.bytes(), format);
                assert!(view.is_ok_and(|view| R2t::read(&view) == Ok(value)));
            }
        }
        _ => {}
    }
}

fn command(sqe: &SqeView<'_>) {
    let (cid, nsid): (Cid, Nsid) = (sqe.cid(), sqe.nsid());
    let Ok(sgl) = sqe.sgl() else { return };
    if let Ok(value) = NvmCommand::read(sqe) {
        let written = value.write(cid, nsid, sgl);
        assert_eq!(NvmCommand::read(&written.view()), Ok(value));
    }
    if let Ok(value) = AdminCommand::read(sqe) {
        let written = value.write(cid, nsid, sgl);
        assert_eq!(AdminCommand::read(&written.view()), Ok(value));
    }
    if let Ok(value) = FabricsCommand::read(sqe) {
        let written = value.write(cid, sgl);
        assert_eq!(FabricsCommand::read(&written.view()), Ok(value));
    }
}
