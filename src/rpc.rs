//! The methods of the control socket: each request a value, read and checked whole
//! before anything is done, and one place that answers them.
//!
//! Methods that SPDK has bear its names, and their parameters and results its shapes;
//! where Throughline differs, the error says so. Ours begin with `throughline_`.

mod ana;
mod bdev;
mod capture;
mod change;
mod host;
mod key;
mod listener;
mod namespace;
mod pair;
mod params;
mod point;
mod program;
mod subsystem;
mod target;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

pub(crate) use self::capture::{SECONDS_MAX, said as captured};
use self::params::{Nothing, Params, read};
pub(crate) use self::point::POINT_SECONDS;
pub(crate) use self::program::{Program, counters};
pub(crate) use self::target::Running;
use crate::control::{ErrorObject, Gone, Service};

/// A request, checked as far as it can be without the running target.
#[derive(Debug)]
enum Request {
    GetBdevs(bdev::Get),
    CreateSubsystem(subsystem::Create),
    DeleteSubsystem(subsystem::Delete),
    GetSubsystems(subsystem::Get),
    AddHost(host::Add),
    RemoveHost(host::Remove),
    AllowAnyHost(host::AllowAny),
    SetKeys(host::SetKeys),
    AddKey(key::Add),
    RemoveKey(key::Remove),
    GetKeys(Nothing),
    AddListener(listener::Add),
    RemoveListener(listener::Remove),
    SetAnaState(ana::Set),
    AddNamespace(namespace::Add),
    RemoveNamespace(namespace::Remove),
    Capture(capture::Capture),
    ConsistencyPoint(point::ConsistencyPoint),
    PairReport(pair::Report),
    PairOrder(pair::Order),
    StopCapture(capture::Stop),
    GetConfig,
    GetStats(program::GetStats),
    GetVersion,
    Stop,
}

/// How a method's parameters become a request.
type Read = fn(Params) -> Result<Request, ErrorObject>;

/// Every method.
const METHODS: &[(&str, Read)] = &[
    ("bdev_get_bdevs", |p| {
        bdev::Get::read(p).map(Request::GetBdevs)
    }),
    ("keyring_file_add_key", |p| {
        key::Add::read(p).map(Request::AddKey)
    }),
    ("keyring_file_remove_key", |p| {
        key::Remove::read(p).map(Request::RemoveKey)
    }),
    ("keyring_get_keys", |p| read(p).map(Request::GetKeys)),
    ("nvmf_create_subsystem", |p| {
        subsystem::Create::read(p).map(Request::CreateSubsystem)
    }),
    ("nvmf_delete_subsystem", |p| {
        subsystem::Delete::read(p).map(Request::DeleteSubsystem)
    }),
    ("nvmf_get_subsystems", |p| {
        subsystem::Get::read(p).map(Request::GetSubsystems)
    }),
    ("nvmf_subsystem_add_host", |p| {
        host::Add::read(p).map(Request::AddHost)
    }),
    ("nvmf_subsystem_remove_host", |p| {
        host::Remove::read(p).map(Request::RemoveHost)
    }),
    ("nvmf_subsystem_allow_any_host", |p| {
        host::AllowAny::read(p).map(Request::AllowAnyHost)
    }),
    ("nvmf_subsystem_set_keys", |p| {
        host::SetKeys::read(p).map(Request::SetKeys)
    }),
    ("nvmf_subsystem_add_listener", |p| {
        listener::Add::read(p).map(Request::AddListener)
    }),
    ("nvmf_subsystem_listener_set_ana_state", |p| {
        ana::Set::read(p).map(Request::SetAnaState)
    }),
    ("nvmf_subsystem_remove_listener", |p| {
        listener::Remove::read(p).map(Request::RemoveListener)
    }),
    ("nvmf_subsystem_add_ns", |p| {
        namespace::Add::read(p).map(Request::AddNamespace)
    }),
    ("nvmf_subsystem_remove_ns", |p| {
        namespace::Remove::read(p).map(Request::RemoveNamespace)
    }),
    ("throughline_capture", |p| {
        capture::Capture::read(p).map(Request::Capture)
    }),
    ("throughline_consistency_point", |p| {
        point::ConsistencyPoint::read(p).map(Request::ConsistencyPoint)
    }),
    ("throughline_get_config", |p| {
        read(p).map(|Nothing {}| Request::GetConfig)
    }),
    ("throughline_get_stats", |p| read(p).map(Request::GetStats)),
    ("throughline_get_version", |p| {
        read(p).map(|Nothing {}| Request::GetVersion)
    }),
    ("throughline_pair_demote", |p| {
        pair::Order::demote(p).map(Request::PairOrder)
    }),
    ("throughline_pair_discard", |p| {
        pair::Order::discard(p).map(Request::PairOrder)
    }),
    ("throughline_pair_establish", |p| {
        pair::Order::establish(p).map(Request::PairOrder)
    }),
    ("throughline_pair_promote", |p| {
        pair::Order::promote(p).map(Request::PairOrder)
    }),
    ("throughline_pair_reestablish", |p| {
        pair::Order::reestablish(p).map(Request::PairOrder)
    }),
    ("throughline_pair_report", |p| {
        read(p).map(Request::PairReport)
    }),
    ("throughline_pair_resize", |p| {
        pair::Order::resize(p).map(Request::PairOrder)
    }),
    ("throughline_pair_sever", |p| {
        pair::Order::sever(p).map(Request::PairOrder)
    }),
    ("throughline_pair_set_frame_size", |p| {
        pair::Order::set_frame_size(p).map(Request::PairOrder)
    }),
    ("throughline_pair_update_tables", |p| {
        pair::Order::update_tables(p).map(Request::PairOrder)
    }),
    ("throughline_pair_verify", |p| {
        pair::Order::verify(p).map(Request::PairOrder)
    }),
    ("throughline_stop_capture", |p| {
        capture::Stop::read(p).map(Request::StopCapture)
    }),
    ("throughline_stop", |p| {
        read(p).map(|Nothing {}| Request::Stop)
    }),
];

/// Methods that get through however many clients there are.
const URGENT: &[&str] = &[
    "throughline_get_stats",
    "throughline_get_version",
    "throughline_stop",
    "throughline_stop_capture",
];

/// All methods, of the program and of the target that it runs.
pub(crate) struct Rpc {
    program: Program,
    running: Running,
}

impl Rpc {
    pub(crate) fn new(program: Program, running: Running) -> Self {
        Self { program, running }
    }

    fn answer(&self, request: Request, gone: Gone) -> Result<Value, ErrorObject> {
        let (program, running) = (&self.program, &self.running);
        match request {
            Request::GetBdevs(get) => get.answer(running),
            Request::CreateSubsystem(create) => create.answer(running),
            Request::DeleteSubsystem(delete) => delete.answer(running),
            Request::GetSubsystems(get) => get.answer(running),
            Request::AddHost(add) => add.answer(running),
            Request::RemoveHost(remove) => remove.answer(running),
            Request::AllowAnyHost(allow) => allow.answer(running),
            Request::SetKeys(set) => set.answer(running),
            Request::AddKey(add) => add.answer(running),
            Request::RemoveKey(remove) => remove.answer(running),
            Request::GetKeys(nothing) => Ok(key::get(nothing, running)),
            Request::AddListener(add) => add.answer(running),
            Request::RemoveListener(remove) => remove.answer(running),
            Request::SetAnaState(set) => set.answer(running),
            Request::AddNamespace(add) => add.answer(running),
            Request::RemoveNamespace(remove) => remove.answer(running),
            Request::Capture(capture) => capture.answer(&program.handle, &program.capture, gone),
            Request::ConsistencyPoint(point) => point.answer(&program.handle),
            Request::PairReport(report) => Ok(report.answer(&program.handle)),
            Request::PairOrder(order) => order.answer(&program.handle, running),
            Request::StopCapture(stop) => stop.answer(&program.capture),
            Request::GetConfig => program::get_config(running),
            Request::GetStats(get) => get.answer(program),
            Request::GetVersion => Ok(Program::version()),
            Request::Stop => Ok(program.stop()),
        }
    }
}

impl Service for Rpc {
    fn methods(&self) -> Vec<&'static str> {
        METHODS.iter().map(|(name, _)| *name).collect()
    }

    fn call(
        &self,
        method: &str,
        params: Map<String, Value>,
        gone: Gone,
    ) -> Result<Value, ErrorObject> {
        let known = METHODS.iter().find(|(name, _)| *name == method);
        let (_, read) = known.ok_or_else(ErrorObject::method_not_found)?;
        self.answer(read(params)?, gone)
    }

    fn is_urgent(&self, method: &str) -> bool {
        URGENT.contains(&method)
    }

    fn replied(&self) {
        self.program.replied();
    }
}
