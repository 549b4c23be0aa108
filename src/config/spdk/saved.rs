//! What of a configuration that SPDK's `save_config` wrote is for this program: the
//! parts that make block devices, as the SPDK at hand takes them.
//!
//! `save_config` writes everything that its own program has, with every parameter
//! that its version knows. Loading stops at the first call that SPDK does not take.

use serde_json::{Map, Value, json};

/// Subsystems that block devices are made by, or that reach them.
const SUBSYSTEMS: &[&str] = &["accel", "bdev", "iobuf", "keyring", "sock", "vmd"];
/// The methods (of `ffi/spdk-sys/start.c`) that note which call comes next: SPDK goes through
/// a configuration before its subsystems are started, and again after.
const STEPS: [&str; 2] = ["throughline_startup_step", "throughline_step"];

/// The SPDK that will load it.
pub(super) struct Library<'l> {
    /// Whether it has a method.
    pub(super) has: &'l dyn Fn(&str) -> bool,
    /// It is 20.07, which refuses parameters that came later.
    pub(super) is_legacy: bool,
}

impl Library<'_> {
    /// The one this program is linked with.
    pub(super) fn linked() -> Self {
        Self {
            has: &engine::spdk_has_method,
            is_legacy: engine::spdk_is_legacy(),
        }
    }
}

/// What became of a document.
#[derive(Debug, Default)]
pub(super) struct Applied {
    pub(super) document: Value,
    /// What it has and this program has no use for.
    pub(super) left_out: Vec<String>,
    /// What makes a block device and cannot be.
    pub(super) refused: Vec<String>,
}

/// Takes what applies; the document has a list of `subsystems`, each an object.
pub(super) fn apply(document: &Value, library: &Library<'_>) -> Applied {
    let mut applied = Applied::default();
    let subsystems = document["subsystems"].as_array();
    let mut kept = Vec::new();
    for subsystem in subsystems.into_iter().flatten() {
        let name = subsystem["subsystem"].as_str().unwrap_or_default();
        // One that writes no configuration has `null`.
        let calls = subsystem["config"]
            .as_array()
            .map_or(&[][..], Vec::as_slice);
        if calls.is_empty() {
            continue;
        }
        if !SUBSYSTEMS.contains(&name) {
            applied.left_out.push(format!("subsystem `{name}`"));
            continue;
        }
        let mut config = Vec::new();
        for call in calls {
            config.extend(applied.take(call, library).into_iter().flat_map(stepped));
        }
        kept.push(json!({ "subsystem": name, "config": config }));
    }
    applied.document = json!({ "subsystems": kept });
    applied
}

/// A call, with those that note that it comes.
pub(super) fn stepped(call: Value) -> [Value; 3] {
    let text = described(&call);
    let [first, second] =
        STEPS.map(|method| json!({ "method": method, "params": { "call": text } }));
    [first, second, call]
}

impl Applied {
    /// A call as the library takes it, if it does.
    fn take(&mut self, call: &Value, library: &Library<'_>) -> Option<Value> {
        let Some(method) = call["method"].as_str() else {
            self.refused
                .push(format!("a call without a `method`: {call}"));
            return None;
        };
        if !(library.has)(method) {
            if is_setting(method) {
                self.left_out.push(format!("`{method}`"));
            } else {
                self.refused.push(format!(
                    "`{method}`: the SPDK of this program has no such method"
                ));
            }
            return None;
        }
        let implementation = call["params"]["impl_name"].as_str();
        if let Some(name) = implementation
            && !(name == "posix" || name == "ssl" && !library.is_legacy)
        {
            self.left_out.push(format!("`{method}` of `{name}`"));
            return None;
        }
        let mut call = call.clone();
        let known = LEGACY.iter().find(|(name, _)| *name == method);
        if let Some((_, known)) = known.filter(|_| library.is_legacy)
            && let Some(params) = call["params"].as_object_mut()
        {
            self.shorten(method, known, params);
        }
        Some(call)
    }

    /// Takes the parameters away that SPDK 20.07 does not know.
    fn shorten(&mut self, method: &str, known: &[&str], params: &mut Map<String, Value>) {
        let block_size = params.get("block_size").cloned();
        params.retain(|name, value| {
            if known.contains(&name.as_str()) {
                return true;
            }
            let is_default = match value {
                Value::Null | Value::Bool(false) => true,
                Value::Number(number) => number.as_f64() == Some(0.0),
                Value::String(text) => text.is_empty(),
                _ => false,
            };
            if is_default || name == "physical_block_size" && Some(&*value) == block_size.as_ref() {
                return false;
            }
            if is_setting(method) || TUNING.contains(&name.as_str()) {
                self.left_out.push(format!("`{name}` of `{method}`"));
            } else {
                self.refused.push(format!(
                    "`{method}`: SPDK 20.07 has no parameter `{name}`, which is {value}"
                ));
            }
            false
        });
    }
}

/// Whether a method sets something for all devices; the others make one.
fn is_setting(method: &str) -> bool {
    [
        "_set_options",
        "_set_hotplug",
        "_set_default_impl",
        "_assign_opc",
    ]
    .iter()
    .any(|end| method.ends_with(end))
        || method == "bdev_wait_for_examine"
        || method.starts_with("accel_")
}

/// A call as an error names it.
fn described(call: &Value) -> String {
    let method = call["method"].as_str().unwrap_or_default();
    let of = ["name", "base_bdev", "base_name", "impl_name", "bdev_name"];
    match of.iter().find_map(|key| call["params"][key].as_str()) {
        Some(name) => format!("{method} of {name}"),
        None => method.to_owned(),
    }
}

/// Parameters of devices that work without them.
const TUNING: &[&str] = &[
    "ctrlr_loss_timeout_sec",
    "fast_io_fail_timeout_sec",
    "multipath",
    "num_io_queues",
    "optimal_io_boundary",
    "reconnect_delay_sec",
    "uuid",
];

/// What SPDK 20.07 takes, as its own `rpc.py` sends it: methods of the modules that are
/// linked, where later versions write more.
const LEGACY: &[(&str, &[&str])] = &[
    ("bdev_aio_create", &["block_size", "filename", "name"]),
    (
        "bdev_malloc_create",
        &["block_size", "name", "num_blocks", "uuid"],
    ),
    (
        "bdev_null_create",
        &[
            "block_size",
            "dif_is_head_of_md",
            "dif_type",
            "md_size",
            "name",
            "num_blocks",
            "uuid",
        ],
    ),
    (
        "bdev_nvme_attach_controller",
        &[
            "adrfam",
            "hostaddr",
            "hostnqn",
            "hostsvcid",
            "name",
            "prchk_guard",
            "prchk_reftag",
            "priority",
            "subnqn",
            "traddr",
            "trsvcid",
            "trtype",
        ],
    ),
    ("bdev_nvme_set_hotplug", &["enable", "period_us"]),
    (
        "bdev_nvme_set_options",
        &[
            "action_on_timeout",
            "arbitration_burst",
            "delay_cmd_submit",
            "high_priority_weight",
            "io_queue_requests",
            "low_priority_weight",
            "medium_priority_weight",
            "nvme_adminq_poll_period_us",
            "nvme_ioq_poll_period_us",
            "retry_count",
            "timeout_us",
        ],
    ),
    ("bdev_passthru_create", &["base_bdev_name", "name"]),
    (
        "bdev_raid_create",
        &[
            "base_bdevs",
            "name",
            "raid_level",
            "strip_size",
            "strip_size_kb",
        ],
    ),
    (
        "bdev_set_options",
        &[
            "bdev_auto_examine",
            "bdev_io_cache_size",
            "bdev_io_pool_size",
        ],
    ),
    (
        "bdev_split_create",
        &["base_bdev", "split_count", "split_size_mb"],
    ),
    (
        "sock_impl_set_options",
        &[
            "enable_recv_pipe",
            "enable_zerocopy_send",
            "impl_name",
            "recv_buf_size",
            "send_buf_size",
        ],
    ),
    ("bdev_uring_create", &["block_size", "filename", "name"]),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// In the shape that SPDK 20.07's `save_config` writes.
    const OLD: &str = include_str!("saved/20.07.json");
    /// In the shape that a current SPDK writes.
    const NEW: &str = include_str!("saved/current.json");

    fn applied(text: &str, is_legacy: bool, lacks: &[&str]) -> Applied {
        let document = serde_json::from_str(text).unwrap();
        let has = |method: &str| !lacks.contains(&method);
        let has = &has;
        apply(&document, &Library { has, is_legacy })
    }

    /// The calls without the notes between them, by method.
    fn methods(applied: &Applied) -> Vec<&str> {
        let subsystems = applied.document["subsystems"].as_array().unwrap();
        let calls = subsystems
            .iter()
            .flat_map(|s| s["config"].as_array().unwrap());
        let methods = calls.map(|call| call["method"].as_str().unwrap());
        methods.filter(|method| !STEPS.contains(method)).collect()
    }

    #[test]
    fn k06_what_spdk_20_07_saved_is_taken() {
        let applied = applied(OLD, true, &[]);
        assert_eq!(
            methods(&applied),
            [
                "sock_impl_set_options",
                "bdev_set_options",
                "bdev_passthru_create",
                "bdev_nvme_set_options",
                "bdev_nvme_set_hotplug",
                "bdev_malloc_create",
                "bdev_null_create",
            ]
        );
        assert_eq!(applied.left_out, ["subsystem `nvmf`", "subsystem `iscsi`"]);
        assert!(applied.refused.is_empty(), "{:?}", applied.refused);
        let first = &applied.document["subsystems"][0]["config"][0];
        assert_eq!(first["params"]["call"], "sock_impl_set_options of posix");
    }

    #[test]
    fn k06_what_a_current_spdk_saved_is_taken() {
        let applied = applied(NEW, false, &["bdev_iscsi_set_options"]);
        assert_eq!(
            methods(&applied),
            [
                "iobuf_set_options",
                "sock_set_default_impl",
                "sock_impl_set_options",
                "sock_impl_set_options",
                "accel_set_options",
                "bdev_set_options",
                "bdev_raid_set_options",
                "bdev_nvme_set_options",
                "bdev_nvme_set_hotplug",
                "bdev_malloc_create",
                "bdev_wait_for_examine",
            ]
        );
        let left_out = [
            "`sock_impl_set_options` of `uring`",
            "`bdev_iscsi_set_options`",
            "subsystem `scheduler`",
            "subsystem `nvmf`",
        ];
        assert_eq!(applied.left_out, left_out);
        assert!(applied.refused.is_empty(), "{:?}", applied.refused);
    }

    #[test]
    fn k06_what_a_current_spdk_saved_is_taken_by_20_07() {
        let lacks = [
            "accel_set_options",
            "bdev_iscsi_set_options",
            "bdev_raid_set_options",
            "bdev_wait_for_examine",
            "iobuf_set_options",
            "sock_set_default_impl",
        ];
        let applied = applied(NEW, true, &lacks);
        assert_eq!(
            methods(&applied),
            [
                "sock_impl_set_options",
                "bdev_set_options",
                "bdev_nvme_set_options",
                "bdev_nvme_set_hotplug",
                "bdev_malloc_create",
            ]
        );
        assert!(applied.refused.is_empty(), "{:?}", applied.refused);
        for what in [
            "`zerocopy_threshold` of `sock_impl_set_options`",
            "`bdev_retry_count` of `bdev_nvme_set_options`",
            "`sock_impl_set_options` of `ssl`",
        ] {
            let told = applied.left_out.iter().any(|left_out| left_out == what);
            assert!(told, "{what}: {:?}", applied.left_out);
        }
        // What means nothing is not spoken of: it is 0, or as large as a block.
        assert!(!applied.left_out.iter().any(|one| one.contains("malloc")));
    }

    #[test]
    fn k06_a_device_that_cannot_be_made_as_it_was_is_refused() {
        let one = |call: &str, lacks: &[&str]| {
            let text =
                format!("{{\"subsystems\":[{{\"subsystem\":\"bdev\",\"config\":[{call}]}}]}}");
            let applied = applied(&text, true, lacks);
            assert!(applied.left_out.is_empty(), "{:?}", applied.left_out);
            applied.refused
        };
        let metadata = r#"{"method":"bdev_malloc_create","params":{"name":"M","md_size":8}}"#;
        let told = one(metadata, &[]);
        assert_eq!(
            told,
            ["`bdev_malloc_create`: SPDK 20.07 has no parameter `md_size`, which is 8"]
        );
        let iscsi = r#"{"method":"bdev_iscsi_create","params":{"name":"I"}}"#;
        let told = one(iscsi, &["bdev_iscsi_create"]);
        assert!(told[0].contains("has no such method"), "{told:?}");
        assert!(one("{}", &[])[0].contains("without a `method`"));
    }
}
