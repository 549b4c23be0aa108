//! What is said to etcd: requests of its JSON gateway, in which numbers are strings, and keys and values base64.

use std::cell::Cell;
use std::fmt;
use std::fs;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::{
    ArbiterAnswer, ArbiterConfig, ArbiterEntry, ArbiterQuestion, ArbiterSeen, ArbiterTls,
    Generation, ReplicaId,
};
use serde_json::{Value, json};
use ureq::Agent;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

/// How long an etcd may take to answer before the next one is asked.
const PATIENCE: Duration = Duration::from_millis(700);
/// Bytes of an answer.
const ANSWER_MAX: u64 = 1 << 20;
/// Of what a volume's key has.
const VERSION: u64 = 1;

/// Why there is no answer, or none that can be used.
#[derive(Debug)]
pub(super) struct Unreachable(String);

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn not_understood(answer: &Value) -> Unreachable {
    Unreachable(format!("it answers what is not known: {answer}"))
}

/// The etcds of one cluster.
pub(super) struct Gateway {
    agent: Agent,
    endpoints: Vec<String>,
    /// The one that answered last.
    current: Cell<usize>,
}

impl Gateway {
    /// # Errors
    /// What is wrong with files that it needs, for an operator.
    pub(super) fn new(arbiter: &ArbiterConfig) -> Result<Self, String> {
        let config = Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .http_status_as_error(false)
            .https_only(arbiter.tls.is_some())
            .proxy(None);
        let config = match &arbiter.tls {
            Some(files) => config.tls_config(tls(files)?),
            None => config,
        };
        Ok(Self {
            agent: config.build().into(),
            endpoints: arbiter.etcd.clone(),
            current: Cell::new(0),
        })
    }

    /// Asks the one that answered last, and if that does not the others.
    fn post(&self, path: &str, body: &Value) -> Result<Value, Unreachable> {
        let mut why = Unreachable("none is named".into());
        for turn in 0..self.endpoints.len() {
            let at = (self.current.get() + turn) % self.endpoints.len();
            match self.post_to(&self.endpoints[at], path, body) {
                Ok(answer) => {
                    self.current.set(at);
                    return Ok(answer);
                }
                Err(error) => why = error,
            }
        }
        Err(why)
    }

    fn post_to(&self, endpoint: &str, path: &str, body: &Value) -> Result<Value, Unreachable> {
        let why = |error: ureq::Error| Unreachable(format!("{endpoint}: {error}"));
        let request = self.agent.post(format!("{endpoint}{path}"));
        let mut response = request.send(body.to_string()).map_err(why)?;
        let text = response.body_mut().with_config().limit(ANSWER_MAX);
        let text = text.read_to_string().map_err(why)?;
        let answer: Value = serde_json::from_str(&text)
            .map_err(|_| Unreachable(format!("{endpoint}: its answer is no JSON")))?;
        match response.status().is_success() {
            true => Ok(answer),
            false => Err(Unreachable(format!(
                "{endpoint}: {}",
                answer["error"].as_str().unwrap_or("it refuses")
            ))),
        }
    }

    /// A lease of `time`: its number, and how long it lasts.
    pub(super) fn grant(&self, time: Duration) -> Result<(String, Duration), Unreachable> {
        let ttl = time.as_secs().to_string();
        let answer = self.post("/v3/lease/grant", &json!({ "TTL": ttl, "ID": "0" }))?;
        let id = answer["ID"].as_str();
        match (id, number(&answer["TTL"])) {
            (Some(id), Some(ttl)) => Ok((id.to_owned(), Duration::from_secs(ttl))),
            _ => Err(not_understood(&answer)),
        }
    }

    /// Renews a lease: for how long; `None` if it is over.
    pub(super) fn keep_alive(&self, id: &str) -> Result<Option<Duration>, Unreachable> {
        let answer = self.post("/v3/lease/keepalive", &json!({ "ID": id }))?;
        let ttl = number(&answer["result"]["TTL"]).filter(|&ttl| ttl > 0);
        Ok(ttl.map(Duration::from_secs))
    }

    /// Ends a lease, and the keys that have it.
    pub(super) fn revoke(&self, id: &str) -> Result<(), Unreachable> {
        self.post("/v3/lease/revoke", &json!({ "ID": id }))
            .map(drop)
    }

    /// Writes a key that goes with a lease.
    pub(super) fn put(&self, key: &str, value: &str, lease: &str) -> Result<(), Unreachable> {
        let put = json!({ "key": encoded(key), "value": encoded(value), "lease": lease });
        self.post("/v3/kv/put", &put).map(drop)
    }

    /// Asks what a pair wants to know of its volume's key.
    pub(super) fn ask(
        &self,
        volume: &str,
        peer: &str,
        question: &ArbiterQuestion,
    ) -> Result<ArbiterAnswer, Unreachable> {
        let answer = self.post("/v3/kv/txn", &transaction(volume, peer, question))?;
        let is_set = matches!(question, ArbiterQuestion::Set { .. });
        if is_set && answer["succeeded"] == true {
            let revision = number(&answer["header"]["revision"]);
            let revision = revision.ok_or_else(|| not_understood(&answer))?;
            return Ok(ArbiterAnswer::Made(revision));
        }
        let found = |at: usize| &answer["responses"][at]["response_range"];
        if !found(0).is_object() || !found(1).is_object() {
            return Err(not_understood(&answer));
        }
        let volume = &found(0)["kvs"][0];
        let (revision, entry) = match volume.is_null() {
            true => (0, None),
            false => {
                let revision = number(&volume["mod_revision"]);
                let value = volume["value"].as_str().unwrap_or_default();
                let entry = decode(value).ok_or_else(|| not_understood(volume))?;
                (revision.ok_or_else(|| not_understood(volume))?, Some(entry))
            }
        };
        Ok(ArbiterAnswer::Seen(ArbiterSeen {
            revision,
            entry,
            peer_lives: !found(1)["kvs"][0].is_null(),
        }))
    }
}

/// What is in files in PEM: only what they name is trusted.
///
/// # Errors
/// What is wrong with them, for an operator.
pub(crate) fn tls(files: &ArbiterTls) -> Result<TlsConfig, String> {
    let roots = RootCerts::from(certificates(&files.ca_file)?);
    let client = match &files.client {
        Some((certificate, key)) => Some(ClientCert::new_with_certs(
            &certificates(certificate)?,
            private_key(key)?,
        )),
        None => None,
    };
    let config = TlsConfig::builder().root_certs(roots).client_cert(client);
    Ok(config.build())
}

fn pem(path: &Path) -> Result<Vec<PemItem<'static>>, String> {
    let path_of = |error: &dyn fmt::Display| format!("{}: {error}", path.display());
    let text = fs::read(path).map_err(|error| path_of(&error))?;
    let items: Result<Vec<_>, _> = parse_pem(&text).collect();
    items.map_err(|error| path_of(&error))
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, String> {
    let items = pem(path)?.into_iter();
    let certificates: Vec<_> = items
        .filter_map(|item| match item {
            PemItem::Certificate(certificate) => Some(certificate),
            _ => None,
        })
        .collect();
    match certificates.is_empty() {
        true => Err(format!("{} has no certificate in PEM", path.display())),
        false => Ok(certificates),
    }
}

fn private_key(path: &Path) -> Result<PrivateKey<'static>, String> {
    let key = pem(path)?.into_iter().find_map(|item| match item {
        PemItem::PrivateKey(key) => Some(key),
        _ => None,
    });
    key.ok_or_else(|| format!("{} has no private key in PEM", path.display()))
}

/// What is asked, in one transaction.
pub(super) fn transaction(volume: &str, peer: &str, question: &ArbiterQuestion) -> Value {
    let look = json!([
        { "requestRange": { "key": encoded(volume) } },
        { "requestRange": { "key": encoded(peer) } },
    ]);
    match question {
        ArbiterQuestion::Look => json!({ "compare": [], "success": look }),
        ArbiterQuestion::Set {
            revision,
            entry,
            unless_peer_lives,
        } => {
            let mut compare = vec![json!({
                "key": encoded(volume),
                "target": "MOD",
                "result": "EQUAL",
                "mod_revision": revision.to_string(),
            })];
            if *unless_peer_lives {
                compare.push(json!({
                    "key": encoded(peer),
                    "target": "VERSION",
                    "result": "EQUAL",
                    "version": "0",
                }));
            }
            let put = json!({ "key": encoded(volume), "value": encode(entry) });
            json!({ "compare": compare, "success": [{ "requestPut": put }], "failure": look })
        }
    }
}

fn encoded(text: &str) -> String {
    STANDARD.encode(text)
}

/// A number, which is text.
fn number(value: &Value) -> Option<u64> {
    value.as_str()?.parse().ok()
}

/// What a volume's key has.
pub(super) fn encode(entry: &ArbiterEntry) -> String {
    let source: String = (entry.source.0.iter())
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let generation = entry.generation;
    let value = json!({
        "version": VERSION,
        "source": source,
        "generation": { "number": generation.number, "tag": format!("{:016x}", generation.tag) },
        "alone": entry.is_alone,
    });
    encoded(&value.to_string())
}

/// What a volume's key says; `None` if it is of another version, or says what is not known.
pub(super) fn decode(value: &str) -> Option<ArbiterEntry> {
    let bytes = STANDARD.decode(value).ok()?;
    let value: Value = serde_json::from_slice(&bytes).ok()?;
    let (source, generation) = (value["source"].as_str()?, &value["generation"]);
    let source = u128::from_str_radix(source, 16).ok();
    let entry = ArbiterEntry {
        source: ReplicaId(source?.to_be_bytes()),
        generation: Generation {
            number: generation["number"].as_u64()?,
            tag: u64::from_str_radix(generation["tag"].as_str()?, 16).ok()?,
        },
        is_alone: value["alone"].as_bool()?,
    };
    let is_known = value["version"] == VERSION && value.as_object()?.len() == 4;
    is_known.then_some(entry)
}
