//! The server on a real socket, asked all sorts of things.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::framing::REQUEST_MAX;
use super::jsonrpc::answer;
use super::places::CLIENTS_MAX;
use super::*;

const SOON: Duration = Duration::from_secs(5);

struct Server {
    directory: TempDir,
    listening: Listening,
    replied: Arc<AtomicBool>,
    gate: Arc<RwLock<()>>,
}

/// A few methods, and whether anybody was told of a reply.
#[derive(Default)]
struct Methods {
    replied: Arc<AtomicBool>,
    /// `wait` goes through it.
    gate: Arc<RwLock<()>>,
}

impl Service for Methods {
    fn methods(&self) -> Vec<&'static str> {
        vec!["subtract", "large"]
    }

    fn is_urgent(&self, method: &str) -> bool {
        method == "subtract"
    }

    fn call(
        &self,
        method: &str,
        params: Map<String, Value>,
        _: Gone,
    ) -> Result<Value, ErrorObject> {
        let number = |key| {
            let missing = || ErrorObject::new(ErrorObject::INVALID_PARAMS, "Invalid parameters");
            params.get(key).and_then(Value::as_i64).ok_or_else(missing)
        };
        match method {
            "subtract" => Ok(json!(number("minuend")? - number("subtrahend")?)),
            "wait" => Ok(json!(self.gate.read().is_ok())),
            "large" => Ok(json!("x".repeat(8 << 20))),
            _ => Err(ErrorObject::method_not_found()),
        }
    }

    fn replied(&self) {
        self.replied.store(true, Ordering::Release);
    }
}

fn server() -> Server {
    let directory = TempDir::new().unwrap();
    let mut listening = Listening::open(&directory.path().join("c.sock")).unwrap();
    let methods = Methods::default();
    let replied = Arc::clone(&methods.replied);
    let gate = Arc::clone(&methods.gate);
    serve(&mut listening, methods).unwrap();
    Server {
        directory,
        listening,
        replied,
        gate,
    }
}

impl Server {
    fn path(&self) -> PathBuf {
        self.directory.path().join("c.sock")
    }

    fn stream(&self) -> UnixStream {
        let stream = UnixStream::connect(self.path()).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream
    }

    /// Everything the server says to `bytes`, then hanging up.
    fn ask(&self, bytes: &[u8]) -> String {
        let mut stream = self.stream();
        stream.write_all(bytes).unwrap();
        // It may have hung up already, on an error.
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    }
}

fn answered(text: &str) -> Option<Value> {
    answer(&Methods::default(), text.as_bytes(), &|| false)
}

/// The examples of the JSON-RPC 2.0 specification, section 7, with parameters by name.
#[test]
fn the_specifications_examples() {
    let subtract =
        r#"{"jsonrpc":"2.0","method":"subtract","params":{"subtrahend":23,"minuend":42},"id":3}"#;
    assert_eq!(
        answered(subtract),
        Some(json!({"jsonrpc": "2.0", "result": 19, "id": 3}))
    );
    assert_eq!(
        answered(r#"{"jsonrpc":"2.0","method":"update","params":{"a":1}}"#),
        None
    );
    let code = |text: &str| answered(text).unwrap()["error"]["code"].as_i64().unwrap();
    assert_eq!(
        code(r#"{"jsonrpc":"2.0","method":"foobar","id":"1"}"#),
        ErrorObject::METHOD_NOT_FOUND
    );
    assert_eq!(
        code(r#"{"jsonrpc":"2.0","method":"foobar","params":"bar","baz]"#),
        ErrorObject::PARSE
    );
    assert_eq!(
        code(r#"{"jsonrpc":"2.0","method":1,"params":"bar"}"#),
        ErrorObject::INVALID_REQUEST
    );
    assert_eq!(
        code(r#"[{"jsonrpc":"2.0","method":"sum"},{"jsonrpc":"2.0","method"]"#),
        ErrorObject::PARSE
    );
    assert_eq!(code("[]"), ErrorObject::INVALID_REQUEST);
    let batch = answered("[1,2,3]").unwrap();
    assert_eq!(batch.as_array().unwrap().len(), 3);
    assert_eq!(batch[2]["error"]["code"], ErrorObject::INVALID_REQUEST);
    let batch = answered(&format!(
        r#"[{subtract},{{"jsonrpc":"2.0","method":"n"}},{{"foo":"boo"}},{{"jsonrpc":"2.0","method":"foo.get","id":"5"}}]"#
    ))
    .unwrap();
    assert_eq!(batch.as_array().unwrap().len(), 3);
    assert_eq!(
        (&batch[0]["result"], &batch[2]["id"]),
        (&json!(19), &json!("5"))
    );
    assert_eq!(
        answered(r#"[{"jsonrpc":"2.0","method":"n"},{"jsonrpc":"2.0","method":"m"}]"#),
        None
    );
}

#[test]
fn an_id_comes_back_as_it_was() {
    for id in [
        "null",
        "\"\"",
        "\"a\\u0000b\"",
        "0",
        "-7",
        "1.5",
        "18446744073709551615",
    ] {
        let answer = answered(&format!(
            r#"{{"jsonrpc":"2.0","method":"rpc_get_methods","id":{id}}}"#
        ));
        let answer = answer.unwrap();
        assert_eq!(answer["id"].to_string(), id);
        assert_eq!(
            answer["result"],
            json!(["large", "rpc_get_methods", "subtract"])
        );
    }
    for id in ["{}", "[]", "true"] {
        let answer = answered(&format!(
            r#"{{"jsonrpc":"2.0","method":"large","id":{id}}}"#
        ))
        .unwrap();
        assert_eq!(
            (&answer["id"], &answer["error"]["code"]),
            (&Value::Null, &json!(-32600))
        );
    }
}

#[test]
fn parameters_are_checked() {
    let code = |method: &str, params: &str| {
        let text = format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params},"id":1}}"#);
        answered(&text).unwrap()["error"]["code"].as_i64()
    };
    assert_eq!(
        code("subtract", "[42, 23]"),
        Some(ErrorObject::INVALID_PARAMS)
    );
    assert_eq!(code("subtract", "{}"), Some(ErrorObject::INVALID_PARAMS));
    assert_eq!(code("subtract", "null"), Some(ErrorObject::INVALID_REQUEST));
    assert_eq!(
        code("rpc_get_methods", "{\"x\":1}"),
        Some(ErrorObject::INVALID_PARAMS)
    );
    assert_eq!(code("rpc_get_methods", "[]"), None);
    assert_eq!(
        code(
            "rpc_get_methods",
            "{\"current\":true,\"include_aliases\":false}"
        ),
        None
    );
}

#[test]
fn requests_are_answered_in_order_on_one_connection() {
    let server = server();
    let text = r#"{"jsonrpc":"2.0","method":"rpc_get_methods","id":1}{"jsonrpc":"2.0","method":"no","id":2} [{"jsonrpc":"2.0","method":"no","id":3}]"#;
    let answers = server.ask(text.as_bytes());
    let ids: Vec<String> = answers
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|answer| {
            answer
                .get("id")
                .or(answer[0].get("id"))
                .unwrap()
                .to_string()
        })
        .collect();
    assert_eq!(ids, ["1", "2", "3"]);
    assert!(
        server.replied.load(Ordering::Acquire),
        "nobody was told of the replies"
    );
}

#[test]
fn what_is_not_json_is_told_so_and_hung_up_on() {
    let server = server();
    assert!(server.ask(b"GET / HTTP/1.1\r\n\r\n").contains("-32700"));
    assert!(server.ask(b"{\"jsonrpc\": \xff}").contains("-32700"));
    assert!(server.ask(&[b'{'; 200]).is_empty());
    let long = format!("{{\"a\":\"{}", "x".repeat(REQUEST_MAX));
    assert!(
        server
            .ask(long.as_bytes())
            .contains("longer than 65536 bytes")
    );
    let deep = "[".repeat(1000) + &"]".repeat(1000);
    assert!(server.ask(deep.as_bytes()).contains("-32700"));
    assert!(server.ask(b"").is_empty());
}

#[test]
fn a_client_that_does_not_read_holds_up_nobody() {
    let server = server();
    let mut slow = server.stream();
    slow.write_all(br#"{"jsonrpc":"2.0","method":"large","id":1}"#)
        .unwrap();
    let silent: Vec<UnixStream> = (0..8).map(|_| server.stream()).collect();
    let start = Instant::now();
    let client = Client::connect(&server.path()).unwrap();
    assert_eq!(
        client.call("rpc_get_methods", json!({}), SOON).unwrap()[0],
        "large"
    );
    assert!(start.elapsed() < SOON);
    drop(silent);
}

/// Clients that all wait for an answer.
fn busy(server: &Server, count: usize) -> Vec<UnixStream> {
    let ask = |_| {
        let mut stream = server.stream();
        // An answer first: it has its place.
        let text =
            br#"{"jsonrpc":"2.0","method":"no","id":1}{"jsonrpc":"2.0","method":"wait","id":2}"#;
        stream.write_all(text).unwrap();
        stream.read_exact(&mut [0; 8]).unwrap();
        stream
    };
    (0..count).map(ask).collect()
}

#[test]
fn k06_one_busy_client_too_many_is_told_so() {
    let server = server();
    let shut = server.gate.write().unwrap();
    let held = busy(&server, CLIENTS_MAX);
    testkit::eventually("all to be busy", 12 * SOON, || {
        server.ask(b"").contains("-32000")
    });
    let call = |method: &str, params: Value| {
        let client = Client::connect(&server.path()).unwrap();
        client.call(method, params, SOON)
    };
    let refused = call("large", json!({})).unwrap_err().to_string();
    assert!(
        refused.starts_with("32 clients are connected already"),
        "{refused}"
    );
    let numbers = json!({ "minuend": 3, "subtrahend": 1 });
    assert_eq!(call("subtract", numbers).unwrap(), 2);
    drop(shut);
    drop(held);
    testkit::eventually("a client to be served again", 12 * SOON, || {
        call("large", json!({})).is_ok()
    });
}

/// A script that leaks its connections locks nobody out.
#[test]
fn k06_idle_clients_make_room() {
    let server = server();
    let mut silent: Vec<UnixStream> = (0..3 * CLIENTS_MAX).map(|_| server.stream()).collect();
    let client = Client::connect(&server.path()).unwrap();
    assert_eq!(
        client.call("rpc_get_methods", json!({}), SOON).unwrap()[0],
        "large"
    );
    let mut said = String::new();
    silent[0].read_to_string(&mut said).unwrap();
    assert!(
        said.contains("-32000") && said.contains("silent longest"),
        "{said}"
    );
}

#[test]
fn the_socket_is_private_and_goes_with_the_program() {
    let server = server();
    let path = server.path();
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(
        std::fs::read_dir(server.directory.path()).unwrap().count(),
        1
    );
    drop(server.listening);
    assert!(!path.exists());
}

#[test]
fn a_dead_programs_socket_is_replaced_and_a_living_ones_is_not() {
    let server = server();
    let error = Listening::open(&server.path()).err().unwrap().to_string();
    assert!(
        error.starts_with("another program answers on the control socket"),
        "{error}"
    );
    let stale = server.directory.path().join("stale.sock");
    drop(UnixListener::bind(&stale).unwrap());
    let listening = Listening::open(&stale).unwrap();
    // Whoever replaced it since keeps theirs.
    std::fs::remove_file(&stale).unwrap();
    let theirs = UnixListener::bind(&stale).unwrap();
    drop(listening);
    assert!(stale.exists());
    drop(theirs);
    let file = server.directory.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    assert!(matches!(
        Listening::open(&file),
        Err(socket::SocketError::Occupied(_))
    ));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
    assert!(Listening::open(Path::new("/nonexistent/c.sock")).is_err());
}

#[test]
fn the_client_says_why_there_is_no_answer() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("c.sock");
    let error = Client::connect(&path).err().unwrap().to_string();
    assert!(error.contains("is `throughline run` running?"), "{error}");
    let listener = UnixListener::bind(&path).unwrap();
    let silent = Client::connect(&path).unwrap();
    let error = silent
        .call("x", json!({}), Duration::from_millis(50))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("no answer on") && error.contains("in time"),
        "{error}"
    );
    drop(listener);
    let error = Client::connect(&path).err().unwrap().to_string();
    assert!(
        error.contains("the program that made it is gone"),
        "{error}"
    );
}

proptest! {
    #[test]
    fn no_request_panics(text in any::<Vec<u8>>(), method in "[a-z_]{0,20}", params in "[\\[\\]{}\":0-9a, ]{0,20}") {
        let methods = Methods::default();
        answer(&methods, &text, &|| false);
        answer(&methods, format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{params},"id":1}}"#).as_bytes(), &|| false);
    }
}
