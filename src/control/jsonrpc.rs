//! JSON-RPC 2.0: what a request is, and what it is answered.

use serde_json::{Map, Value, json};

/// An error as the specification numbers them (section 5.1).
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ErrorObject {
    pub(crate) code: i64,
    pub(crate) message: String,
}

impl ErrorObject {
    pub(crate) const PARSE: i64 = -32700;
    pub(crate) const INVALID_REQUEST: i64 = -32600;
    pub(crate) const METHOD_NOT_FOUND: i64 = -32601;
    pub(crate) const INVALID_PARAMS: i64 = -32602;
    pub(crate) const INTERNAL: i64 = -32603;
    /// Of the range left to servers: no more clients.
    pub(crate) const TOO_MANY_CLIENTS: i64 = -32000;

    pub(crate) fn new(code: i64, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// Parameters that cannot be; `why` says what is wrong and what to do.
    pub(crate) fn invalid_params(why: &str) -> Self {
        Self::new(Self::INVALID_PARAMS, format!("Invalid parameters: {why}"))
    }

    /// The parameters are good, and still it did not work.
    pub(crate) fn internal(why: impl Into<String>) -> Self {
        Self::new(Self::INTERNAL, why)
    }

    /// There is no such method.
    pub(crate) fn method_not_found() -> Self {
        Self::new(
            Self::METHOD_NOT_FOUND,
            "Method not found; rpc_get_methods lists those there are",
        )
    }
}

/// Whether whoever asks has hung up.
pub(crate) type Gone<'a> = &'a dyn Fn() -> bool;

/// What requests are for: the methods behind a server.
pub(crate) trait Service: Send + Sync {
    /// The names of its methods.
    fn methods(&self) -> Vec<&'static str>;

    /// Calls `method` with parameters by name. One that takes long looks whether
    /// anybody still waits for it.
    fn call(
        &self,
        method: &str,
        params: Map<String, Value>,
        gone: Gone,
    ) -> Result<Value, ErrorObject>;

    /// Whether `method` is answered even when there are too many clients: it is short, and
    /// an operator needs it then. It must not wait for what other clients do.
    fn is_urgent(&self, method: &str) -> bool {
        let _ = method;
        false
    }

    /// A reply is on its way.
    fn replied(&self) {}
}

/// Answers one JSON text: a request, a notification or a batch of them.
/// `None` when nothing may be answered.
pub(super) fn answer(service: &impl Service, text: &[u8], gone: Gone) -> Option<Value> {
    match serde_json::from_slice(text) {
        Ok(Value::Array(batch)) if batch.is_empty() => {
            let why = "Invalid request: an empty batch";
            Some(failure(
                Value::Null,
                ErrorObject::new(ErrorObject::INVALID_REQUEST, why),
            ))
        }
        Ok(Value::Array(batch)) => {
            let replies: Vec<Value> = batch
                .into_iter()
                .filter_map(|request| answer_one(service, request, gone))
                .collect();
            (!replies.is_empty()).then_some(Value::Array(replies))
        }
        Ok(request) => answer_one(service, request, gone),
        Err(error) => {
            let why = format!("Parse error: {error}");
            Some(failure(
                Value::Null,
                ErrorObject::new(ErrorObject::PARSE, why),
            ))
        }
    }
}

fn answer_one(service: &impl Service, request: Value, gone: Gone) -> Option<Value> {
    let request = match Request::read(request) {
        Ok(request) => request,
        Err((id, error)) => return Some(failure(id, error)),
    };
    let result = call(service, &request.method, request.params, gone);
    // A notification is not answered, not even with an error (section 4.1).
    let id = request.id?;
    Some(match result {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
        Err(error) => failure(id, error),
    })
}

fn call(
    service: &impl Service,
    name: &str,
    params: Params,
    gone: Gone,
) -> Result<Value, ErrorObject> {
    let params = match params {
        Params::Named(params) => params,
        Params::Listed(0) => Map::new(),
        Params::Listed(_) => {
            return Err(ErrorObject::invalid_params(
                "give them by name, in an object",
            ));
        }
    };
    if name != "rpc_get_methods" {
        return service.call(name, params, gone);
    }
    // SPDK's parameters; every method of ours is current and none has aliases.
    let unknown = |key: &&String| !["current", "include_aliases"].contains(&key.as_str());
    if let Some(key) = params.keys().find(unknown) {
        let why = format!("rpc_get_methods knows no `{key}`");
        return Err(ErrorObject::invalid_params(&why));
    }
    let mut names = service.methods();
    names.push("rpc_get_methods");
    names.sort_unstable();
    Ok(json!(names))
}

enum Params {
    Named(Map<String, Value>),
    Listed(usize),
}

struct Request {
    method: String,
    params: Params,
    /// `None` in a notification. `null` is an id like any other.
    id: Option<Value>,
}

impl Request {
    fn read(value: Value) -> Result<Self, (Value, ErrorObject)> {
        let invalid = |id: Value, why: &str| {
            let why = format!("Invalid request: {why}");
            Err((id, ErrorObject::new(ErrorObject::INVALID_REQUEST, why)))
        };
        let Value::Object(mut object) = value else {
            return invalid(Value::Null, "it is not an object");
        };
        let id = object.remove("id");
        if !matches!(
            &id,
            None | Some(Value::Null | Value::String(_) | Value::Number(_))
        ) {
            return invalid(Value::Null, "`id` is neither a string, a number nor null");
        }
        let answer_to = id.clone().unwrap_or(Value::Null);
        if object.get("jsonrpc").is_none_or(|version| version != "2.0") {
            return invalid(answer_to, "`jsonrpc` is not \"2.0\"");
        }
        let Some(Value::String(method)) = object.remove("method") else {
            return invalid(answer_to, "`method` is not a string");
        };
        let params = match object.remove("params") {
            None => Params::Named(Map::new()),
            Some(Value::Object(params)) => Params::Named(params),
            Some(Value::Array(params)) => Params::Listed(params.len()),
            Some(_) => return invalid(answer_to, "`params` is neither an object nor an array"),
        };
        Ok(Self { method, params, id })
    }
}

/// An error reply.
pub(super) fn failure(id: Value, error: ErrorObject) -> Value {
    let error = json!({ "code": error.code, "message": error.message });
    json!({ "jsonrpc": "2.0", "id": id, "error": error })
}
