//! `throughline run`, and what it says of itself.

use std::cell::Cell;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::host::TransportId;
use crate::{
    Config, Failure, Namespace, Outcome, Process, Result, Section, Stats, Test, Tool, ensure,
    machine, wait,
};

/// Where metrics are, in the program's namespace.
const METRICS: &str = "127.0.0.1:9464";
/// What it may take to end after SIGTERM.
const STOP: Duration = Duration::from_secs(20);
/// What it may run before a test has forgotten it.
const RUN: u64 = 3600;

/// The program as it runs: it serves when this value is made, and is killed when
/// the value goes.
#[derive(Debug)]
pub struct Program<'n> {
    test: Test,
    namespace: &'n Namespace,
    process: Process,
    files: Files,
    arguments: Vec<String>,
    interfaces: Vec<String>,
    address: String,
    /// What clients had taken when it came up: nothing.
    at_first: Value,
}

/// The files of a program. A socket that it has left behind goes with them.
#[derive(Debug)]
struct Files {
    config: PathBuf,
    socket: PathBuf,
}

impl Files {
    /// Writes the configuration of a run.
    fn write(test: &Test, config: &Config) -> Result<Self> {
        thread_local!(static MADE: Cell<u32> = const { Cell::new(0) });
        let number = MADE.replace(MADE.get() + 1);
        // The name of a socket has little room.
        let socket =
            std::env::temp_dir().join(format!("tl-lab-{}-{number}.sock", std::process::id()));
        let files = Self {
            config: test.dir().join(test.log_name("throughline.toml")),
            socket,
        };
        let control = Section::new().key("socket", files.socket.to_string_lossy().as_ref());
        let config = config
            .clone()
            .section("control", control.key("metrics", METRICS));
        fs::write(&files.config, config.to_string())?;
        Ok(files)
    }
}

/// The program, to be run in a namespace with this configuration.
fn command(namespace: &Namespace, subcommand: &str, files: &Files) -> Result<Tool> {
    let program = machine::throughline()?;
    let tool = namespace.tool(program).arg(subcommand);
    Ok(tool
        .arg("--config")
        .arg(&files.config)
        .called(format!("throughline-{subcommand}")))
}

/// `throughline check` of a configuration in a namespace.
///
/// # Errors
///
/// The configuration cannot be written.
pub fn check(test: &Test, namespace: &Namespace, config: &Config) -> Result<Tool> {
    command(namespace, "check", &Files::write(test, config)?)
}

/// What `throughline run` says when it does not come up.
///
/// # Errors
///
/// It does.
pub fn refusal(test: &Test, namespace: &Namespace, config: &Config) -> Result<String> {
    let ended = command(namespace, "run", &Files::write(test, config)?)?.fails()?;
    Ok(ended.output())
}

impl<'n> Program<'n> {
    /// Starts it in a namespace and waits until it serves.
    ///
    /// # Errors
    ///
    /// It does not come up.
    #[track_caller]
    pub fn start(test: &Test, namespace: &'n Namespace, config: &Config) -> Result<Self> {
        Self::start_with(test, namespace, config, &[])
    }

    /// The same with more arguments for `throughline run`.
    ///
    /// # Errors
    ///
    /// It does not come up.
    #[track_caller]
    pub fn start_with(
        test: &Test,
        namespace: &'n Namespace,
        config: &Config,
        arguments: &[&str],
    ) -> Result<Self> {
        let files = Files::write(test, config)?;
        let interfaces = (config.ports.iter()).filter_map(Section::interface);
        let interfaces: Vec<String> = interfaces.collect();
        for interface in &interfaces {
            namespace.kernel_ignores(interface)?;
        }
        let arguments = arguments.iter().copied().map(String::from).collect();
        let address = config.address();
        Self::run(test, namespace, files, arguments, interfaces, address)
    }

    #[track_caller]
    fn run(
        test: &Test,
        namespace: &'n Namespace,
        files: Files,
        arguments: Vec<String>,
        interfaces: Vec<String>,
        address: String,
    ) -> Result<Self> {
        let tool = command(namespace, "run", &files)?.args(&arguments);
        let process = tool.within(RUN).start()?;
        process.show_on_failure();
        let mut program = Self {
            test: test.clone(),
            namespace,
            process,
            files,
            arguments,
            interfaces,
            address,
            at_first: Value::Null,
        };
        wait::until("the program is ready", || {
            if program.log().contains(" ready: ") {
                return Ok(Ok(()));
            }
            let runs = program.process.is_running();
            ensure!(runs, "the program ended before it was ready");
            Ok(Err("it does not say so".into()))
        })?;
        program.at_first = program.stats()?.lent();
        Ok(program)
    }

    /// How a host reaches a subsystem of it: by the first address of its first port.
    pub fn at(&self, nqn: &str) -> TransportId {
        TransportId::new(nqn, &self.address)
    }

    /// How a host reaches its discovery service.
    pub fn discovery(&self) -> TransportId {
        TransportId::discovery(&self.address)
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.process.output()
    }

    /// Waits until it has logged this so many times.
    ///
    /// # Errors
    ///
    /// It does not.
    #[track_caller]
    pub fn logs(&self, text: &str, times: usize) -> Outcome {
        wait::until(
            &format!("the program logs `{text}` for the {times}. time"),
            || {
                let seen = self.log().matches(text).count();
                Ok(if seen >= times {
                    Ok(())
                } else {
                    Err(format!("{seen} times"))
                })
            },
        )
    }

    /// Its control socket.
    pub fn socket(&self) -> &Path {
        &self.files.socket
    }

    /// A command of the program that asks this one over the control socket.
    ///
    /// # Errors
    ///
    /// There is no program.
    pub fn ask(&self, subcommand: &str) -> Result<Tool> {
        let tool = Tool::new(&self.test, machine::throughline()?).arg(subcommand);
        Ok(tool
            .arg("--socket")
            .arg(self.socket())
            .called(format!("throughline-{subcommand}")))
    }

    /// Writes this to the control socket; the first line, or JSON value, that comes back.
    ///
    /// # Errors
    ///
    /// Nothing comes back, or something that is no JSON.
    #[track_caller]
    pub fn control(&self, request: &str) -> Result<Value> {
        json_rpc(self.socket(), request)
    }

    /// Calls a method of it by `throughline rpc`, which succeeds: its result.
    ///
    /// # Errors
    ///
    /// The method is refused.
    #[track_caller]
    pub fn rpc(&self, method: &str, params: &Value) -> Result<Value> {
        let told = self.rpc_tool(method, params)?.succeeds()?.stdout;
        Ok(serde_json::from_str(&told)?)
    }

    /// `throughline rpc` with a method and its parameters.
    ///
    /// # Errors
    ///
    /// There is no program.
    pub fn rpc_tool(&self, method: &str, params: &Value) -> Result<Tool> {
        let tool = self.ask("rpc")?.called(method);
        Ok(tool.arg(method).arg(params.to_string()))
    }

    /// `throughline config save`: what was changed goes into the file that it runs on.
    ///
    /// # Errors
    ///
    /// There is no program.
    pub fn config_save(&self) -> Result<Tool> {
        let tool = Tool::new(&self.test, machine::throughline()?).args(["config", "save"]);
        let tool = tool.arg("--socket").arg(self.socket());
        Ok(tool.called("throughline-config-save"))
    }

    /// The file that it runs on.
    pub fn config_file(&self) -> &Path {
        &self.files.config
    }

    /// SPDK's `rpc.py` at its control socket.
    ///
    /// # Errors
    ///
    /// It is not here.
    pub fn rpc_py(&self) -> Result<Tool> {
        // What `make install` of a current SPDK has is called otherwise, and starts by itself.
        let tool = match machine::spdk_tool("rpc.py") {
            Ok(script) => Tool::new(&self.test, "python3").arg(script),
            Err(_) => Tool::new(&self.test, machine::spdk_tool("spdk-rpc")?),
        };
        Ok(tool.arg("-s").arg(self.socket()).called("rpc.py"))
    }

    /// One more program on the same configuration: `throughline run`.
    ///
    /// # Errors
    ///
    /// There is no program.
    pub fn same_again(&self) -> Result<Tool> {
        command(self.namespace, "run", &self.files)
    }

    /// `throughline check` of the file that it runs on, as that is now.
    ///
    /// # Errors
    ///
    /// There is no program.
    pub fn check_again(&self) -> Result<Tool> {
        command(self.namespace, "check", &self.files)
    }

    /// Its counters. A shard that another process keeps from its core for seconds is
    /// asked again.
    ///
    /// # Errors
    ///
    /// It does not answer.
    #[track_caller]
    pub fn stats(&self) -> Result<Stats> {
        wait::until("the program tells its counters", || {
            let ended = self.ask("stats")?.arg("--json").run()?;
            if ended.status.success() {
                return Ok(Ok(Stats::parse(&ended.stdout)?));
            }
            let why = ended.last_words();
            ensure!(why.contains("a shard did not answer"), "no counters: {why}");
            Ok(Err(why))
        })
    }

    /// What a scraper of metrics gets: head and body.
    ///
    /// # Errors
    ///
    /// It gets nothing.
    #[track_caller]
    pub fn scrape(&self) -> Result<String> {
        self.get("/metrics")
    }

    /// What who asks whether it serves gets: head and body.
    ///
    /// # Errors
    ///
    /// It gets nothing.
    #[track_caller]
    pub fn readiness(&self) -> Result<String> {
        self.get("/ready")
    }

    #[track_caller]
    fn get(&self, path: &str) -> Result<String> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n");
        self.namespace.within(|| {
            let mut socket = TcpStream::connect(METRICS)?;
            socket.set_read_timeout(Some(wait::SOON))?;
            socket.write_all(request.as_bytes())?;
            let mut text = String::new();
            socket.read_to_string(&mut text)?;
            Ok(text)
        })
    }

    /// Waits until a client has so many connections (all clients together), and the
    /// program has done more for the subsystem than to connect it.
    ///
    /// # Errors
    ///
    /// The client ends before that, or does not come so far.
    #[track_caller]
    pub fn busy(&self, client: &mut Process, nqn: &str, connections: u64) -> Outcome {
        const REQUESTS: u64 = 200;
        let mut first = None;
        wait::until("the client is at work", || {
            let stats = self.stats()?;
            let requests = stats.requests_of(nqn);
            let connected = stats.sum("connections");
            if connected >= connections && requests >= *first.get_or_insert(requests) + REQUESTS {
                return Ok(Ok(()));
            }
            if connected < connections {
                first = None;
            }
            ensure!(
                client.is_running(),
                "the client ended: {}",
                client.last_words()
            );
            Ok(Err(format!(
                "{connected} connections, {requests} requests for {nqn}"
            )))
        })
    }

    /// Waits until everything that clients took is back: connections, and every
    /// pool as it was at the start.
    ///
    /// # Errors
    ///
    /// Something does not come back.
    #[track_caller]
    pub fn settled(&self) -> Outcome {
        wait::until("everything that clients took is back", || {
            let now = self.stats()?.lent();
            if now == self.at_first {
                return Ok(Ok(()));
            }
            Ok(Err(format!("at the start {}, now {now}", self.at_first)))
        })
    }

    /// SIGTERM, after which it must end in order: in time, with status 0, its socket gone.
    ///
    /// # Errors
    ///
    /// It ends otherwise.
    #[track_caller]
    pub fn stop(mut self) -> Outcome {
        ensure!(self.process.is_running(), "the program has ended by itself");
        self.process.signal("TERM")?;
        self.process.extend(STOP);
        self.process.succeeds()?;
        for interface in &self.interfaces {
            self.namespace.kernel_minds(interface)?;
        }
        let socket = &self.files.socket;
        ensure!(
            !socket.exists(),
            "the control socket is left behind: {}",
            socket.display()
        );
        Ok(())
    }

    /// How a test ends: everything is back, and the program stops in order.
    ///
    /// # Errors
    ///
    /// Something does not come back, or it stops otherwise.
    #[track_caller]
    pub fn ends_well(self) -> Outcome {
        self.settled()?;
        self.stop()
    }

    /// SIGKILL, as a crash: nothing is given back in order.
    pub fn kill(self) {
        self.process.kill();
    }

    /// SIGKILL, and the same program again on what it left behind: its socket is
    /// there, and nobody has closed its connections.
    ///
    /// # Errors
    ///
    /// It does not come up again.
    #[track_caller]
    pub fn kill_and_start_again(self) -> Result<Self> {
        self.kill_and_start_after(|| Ok(()))
    }

    /// The same, with something done while it is off.
    pub fn kill_and_start_after(self, between: impl FnOnce() -> Result<()>) -> Result<Self> {
        let Self {
            test,
            namespace,
            process,
            files,
            arguments,
            interfaces,
            address,
            ..
        } = self;
        process.kill();
        between()?;
        Self::run(&test, namespace, files, arguments, interfaces, address)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.socket);
    }
}

impl Section {
    /// The kernel's interface that a port is on.
    fn interface(&self) -> Option<String> {
        let device = self.get("device")?.as_str()?;
        // Not a PCI address, and not a virtual device of DPDK.
        (!device.contains([':', ',']) && !device.starts_with("net_")).then(|| device.to_owned())
    }
}

/// Writes this to a control socket, ours or SPDK's; the first line, or JSON value, that comes back.
///
/// # Errors
///
/// Nothing comes back, or something that is no JSON.
#[track_caller]
pub fn json_rpc(socket: &Path, request: &str) -> Result<Value> {
    let mut socket = UnixStream::connect(socket)?;
    socket.set_read_timeout(Some(wait::SOON))?;
    socket.write_all(request.as_bytes())?;
    let mut reader = serde_json::Deserializer::from_reader(&mut socket).into_iter();
    match reader.next() {
        Some(answer) => Ok(answer?),
        None => Err(Failure::new(
            "the control socket was closed without an answer",
        )),
    }
}
