//! What a device was told to write, as SPDK counts it.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::ptr;

/// Operations and bytes.
#[derive(Clone, Copy, Default)]
pub struct Written {
    pub operations: u64,
    pub bytes: u64,
}

/// What the calling thread's channel to a block device has written. The shard has the same channel: SPDK makes one
/// for a thread and a device.
///
/// # Panics
/// If there is no such device, or this SPDK does not tell.
pub fn written(name: &str) -> Written {
    let c_name = CString::new(name).expect("names have no NUL");
    let mut written = Written::default();
    // SAFETY: the shard's SPDK thread is current from its start to its end; the name is copied; the device is
    // closed, and the channel put, on the thread that opened it.
    let code = unsafe {
        let mut bdev = ptr::null_mut();
        match spdk_sys::tl_bdev_open(c_name.as_ptr(), false, None, ptr::null_mut(), &mut bdev) {
            0 => {
                let channel = spdk_sys::tl_bdev_channel_get(bdev);
                let (operations, bytes) = (&mut written.operations, &mut written.bytes);
                let code = spdk_sys::tl_bdev_written(bdev, channel, operations, bytes);
                spdk_sys::tl_bdev_channel_put(channel);
                spdk_sys::tl_bdev_close(bdev);
                code
            }
            code => code,
        }
    };
    assert_eq!(code, 0, "what {name} has written");
    written
}
