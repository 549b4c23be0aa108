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
}

/// What a method does with its parameters.
type Method = Box<dyn Fn(Map<String, Value>, Gone) -> Result<Value, ErrorObject> + Send + Sync>;

/// Whether whoever asks has hung up.
pub(crate) type Gone<'a> = &'a dyn Fn() -> bool;

/// The methods a server has, in alphabetical order.
#[derive(Default)]
pub(crate) struct Methods {
    list: Vec<(&'static str, Method)>,
    after_reply: Option<Box<dyn Fn() + Send + Sync>>,
}

impl Methods {
    /// Adds a method that takes parameters by name.
    pub(crate) fn add(
        &mut self,
        name: &'static str,
        method: impl Fn(Map<String, Value>) -> Result<Value, ErrorObject> + Send + Sync + 'static,
    ) {
        self.add_long(name, move |params, _| method(params));
    }

    /// The same for a method that takes long, and looks whether anybody still waits for it.
    pub(crate) fn add_long(
        &mut self,
        name: &'static str,
        method: impl Fn(Map<String, Value>, Gone) -> Result<Value, ErrorObject> + Send + Sync + 'static,
    ) {
        self.list.push((name, Box::new(method)));
        self.list.sort_by_key(|(name, _)| *name);
    }

    /// Called whenever a reply is on its way.
    pub(crate) fn after_reply(&mut self, done: impl Fn() + Send + Sync + 'static) {
        self.after_reply = Some(Box::new(done));
    }

    pub(super) fn replied(&self) {
        if let Some(done) = &self.after_reply {
            done();
        }
    }

    /// Answers one JSON text: a request, a notification or a batch of them.
    /// `None` when nothing may be answered.
    pub(super) fn answer(&self, text: &[u8], gone: Gone) -> Option<Value> {
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
                    .filter_map(|request| self.answer_one(request, gone))
                    .collect();
                (!replies.is_empty()).then_some(Value::Array(replies))
            }
            Ok(request) => self.answer_one(request, gone),
            Err(error) => {
                let why = format!("Parse error: {error}");
                Some(failure(
                    Value::Null,
                    ErrorObject::new(ErrorObject::PARSE, why),
                ))
            }
        }
    }

    fn answer_one(&self, request: Value, gone: Gone) -> Option<Value> {
        let request = match Request::read(request) {
            Ok(request) => request,
            Err((id, error)) => return Some(failure(id, error)),
        };
        let result = self.call(&request.method, request.params, gone);
        // A notification is not answered, not even with an error (section 4.1).
        let id = request.id?;
        Some(match result {
            Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
            Err(error) => failure(id, error),
        })
    }

    fn call(&self, name: &str, params: Params, gone: Gone) -> Result<Value, ErrorObject> {
        let invalid = |why: &str| {
            Err(ErrorObject::new(
                ErrorObject::INVALID_PARAMS,
                format!("Invalid parameters: {why}"),
            ))
        };
        let params = match params {
            Params::Named(params) => params,
            Params::Listed(0) => Map::new(),
            Params::Listed(_) => return invalid("give them by name, in an object"),
        };
        if name == "rpc_get_methods" {
            // SPDK's parameters; every method of ours is current and none has aliases.
            if let Some(key) = params
                .keys()
                .find(|key| !["current", "include_aliases"].contains(&key.as_str()))
            {
                return invalid(&format!("rpc_get_methods knows no `{key}`"));
            }
            let names = self.list.iter().map(|(name, _)| *name);
            let mut names: Vec<&str> = names.chain(["rpc_get_methods"]).collect();
            names.sort_unstable();
            return Ok(json!(names));
        }
        match self.list.iter().find(|(known, _)| *known == name) {
            Some((_, method)) => method(params, gone),
            None => Err(ErrorObject::new(
                ErrorObject::METHOD_NOT_FOUND,
                "Method not found; rpc_get_methods lists those there are",
            )),
        }
    }
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
