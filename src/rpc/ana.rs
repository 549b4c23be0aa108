//! How hosts reach namespaces: `nvmf_subsystem_listener_set_ana_state`.
//!
//! Beyond SPDK, whose listeners are a subsystem's and which lacks two states: without a listener it is for all of
//! them, and every state of the specification (base 2.0, 8.1.3) can be set.

use std::net::SocketAddr;

use engine::AnaState;
use serde::Deserialize;
use serde_json::{Value, json};

use super::change::Change;
use super::listener::{ListenAddress, shown};
use super::params::{Params, read, without_target};
use super::target::{Description, Running};
use crate::control::ErrorObject;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    nqn: String,
    listen_address: Option<ListenAddress>,
    ana_state: String,
    /// 0, as in SPDK, is all of them.
    #[serde(default)]
    anagrpid: u32,
}

/// `nvmf_subsystem_listener_set_ana_state`
#[derive(Debug)]
pub(super) struct Set {
    nqn: String,
    listener: Option<SocketAddr>,
    group: Option<u32>,
    state: AnaState,
}

impl Set {
    pub(super) fn read(mut params: Params) -> Result<Self, ErrorObject> {
        without_target(&mut params)?;
        let given: Given = read(params)?;
        let Some(state) = AnaState::of_name(&given.ana_state) else {
            let states = AnaState::ALL.map(AnaState::name).join(", ");
            let why = format!(
                "`ana_state` is one of {states}, not \"{}\"",
                given.ana_state
            );
            return Err(ErrorObject::invalid_params(&why));
        };
        Ok(Self {
            nqn: given.nqn,
            listener: given.listen_address.map(ListenAddress::check).transpose()?,
            group: (given.anagrpid != 0).then_some(given.anagrpid),
            state,
        })
    }

    pub(super) fn answer(self, running: &Running) -> Result<Value, ErrorObject> {
        let change = Change::SetAnaState {
            nqn: self.nqn,
            listener: self.listener,
            group: self.group,
            state: self.state,
        };
        running.change(|_| Ok((Some(change), Value::Bool(true))))
    }
}

/// How hosts reach a namespace, by each listener.
pub(super) fn states(nqn: &str, nsid: u32, description: &Description) -> Value {
    let own = description.ana.iter();
    let own = own.filter(|known| known.subsystem == nqn && known.nsid == nsid);
    own.map(|known| {
        json!({
            "listen_address": shown(&known.listener.into()),
            "ana_state": known.state.name(),
        })
    })
    .collect()
}
