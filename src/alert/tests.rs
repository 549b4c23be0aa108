//! Commands that are slow, fail, or are not there, and what they are told.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::time::UNIX_EPOCH;

use engine::{Alert, AlertEvent, Generation, PairVolumeConfig, Role};
use serde_json::Value;
use tempfile::TempDir;

use super::*;

fn patience(limit: Duration) -> Patience {
    Patience {
        limit,
        ending: Duration::ZERO,
        is_over: Arc::default(),
    }
}

/// Longer than any machine takes for what is tested.
const LONG: Duration = Duration::from_secs(600);

fn shell(script: &str) -> Vec<String> {
    ["/bin/sh", "-c", script].map(str::to_owned).into()
}

fn run(script: &str, limit: Duration) -> Result<(), String> {
    command::run(&shell(script), "{}\n", &patience(limit))
}

#[test]
fn r06_a_command_gets_the_alert_and_its_arguments() {
    let dir = TempDir::new().unwrap();
    let told = dir.path().join("told");
    let mut command = shell("cat >\"$0\"; echo \"$1\" >>\"$0\"");
    command.extend([told.display().to_string(), "an argument".into()]);
    command::run(&command, "{\"a\":1}\n", &patience(LONG)).unwrap();
    assert_eq!(
        fs::read_to_string(told).unwrap(),
        "{\"a\":1}\nan argument\n"
    );
    // It needs not read it.
    run("exec 0<&-", LONG).unwrap();
}

#[test]
fn r06_a_command_that_fails_or_is_not_there_is_told_of() {
    let told = run("exit 3", LONG).unwrap_err();
    assert!(told.contains("exit status: 3"), "{told}");
    let told = run("kill -9 $$", LONG).unwrap_err();
    assert!(told.contains("signal: 9"), "{told}");
    let told = command::run(&["/nonexistent/x".into()], "", &patience(LONG)).unwrap_err();
    assert!(told.contains("cannot be started"), "{told}");
}

#[test]
fn r06_a_command_that_is_slow_is_killed_with_all_that_it_started() {
    let dir = TempDir::new().unwrap();
    let fifo = dir.path().join("fifo");
    command::run(
        &["/usr/bin/mkfifo".into(), fifo.display().to_string()],
        "",
        &patience(LONG),
    )
    .unwrap();
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NONBLOCK);
    let mut reader = options.open(&fifo).unwrap();
    let mut command = shell("sleep 1000 >\"$0\" & wait");
    command.push(fifo.display().to_string());
    let told = command::run(&command, "", &patience(Duration::from_millis(300))).unwrap_err();
    assert!(told.contains("had not ended"), "{told}");
    // The end of the pipe: what was started is gone, too.
    let is_gone = || reader.read(&mut [0]).is_ok_and(|bytes| bytes == 0);
    testkit::eventually("nobody to have the pipe", LONG, is_gone);
    // One that runs when the program ends gets no more than a while.
    let patience = Patience {
        is_over: Arc::new(true.into()),
        ..patience(LONG)
    };
    let told = command::run(&shell("sleep 1000"), "", &patience).unwrap_err();
    assert!(told.contains("had not ended"), "{told}");
}

#[test]
fn r06_what_cannot_be_run_is_known_before() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("notify");
    assert!(runnable(&file).unwrap_err().contains("No such file"));
    fs::write(&file, "#!/bin/sh\n").unwrap();
    assert!(runnable(&file).unwrap_err().contains("no executable file"));
    fs::set_permissions(&file, Permissions::from_mode(0o755)).unwrap();
    assert_eq!(runnable(&file), Ok(()));
    assert!(runnable(dir.path()).is_err());
}

fn runner(handle: &Handle, script: &str) -> Runner {
    let address = vec!["192.0.2.1:4421".parse().unwrap()];
    Runner {
        handle: handle.clone(),
        commands: vec![shell(script)],
        patience: patience(LONG),
        pairs: vec![PairConfig {
            node: [0x11; 16],
            listen: address.clone(),
            peer: [0x22; 16],
            peer_listen: address,
            key: [0; 32],
            tls: true,
            frame_bytes: 4 << 20,
            volumes: vec![PairVolumeConfig {
                store: "data".into(),
                id: [0x33; 16],
                first_role: engine::FirstRole::Source,
            }],
            arbiter: None,
        }],
        dropped: 0,
    }
}

fn said(text: &str) -> PairAlert {
    PairAlert {
        pair: 0,
        at: UNIX_EPOCH + Duration::from_millis(1_772_330_584_567),
        alert: Alert {
            event: AlertEvent::Severed,
            text: text.into(),
            role: Role::Source,
            generation: Generation { number: 2, tag: 7 },
        },
    }
}

#[test]
fn r06_the_object_says_what_happened_where() {
    let handle = Handle::new();
    let text = runner(&handle, "").text(&said("the pair is severed"));
    let expected = concat!(
        r#"{"time":"2026-03-01T02:03:04.567Z","node":"11111111-1111-1111-1111-111111111111","peer":"22222222-2222-2222-2222-222222222222","store":"data","#,
        r#""volume":"33333333-3333-3333-3333-333333333333","event":"severed","role":"source","generation":"2-00000007","#,
        r#""text":"the pair is severed"}"#,
        "\n"
    );
    assert_eq!(text, expected);
    // Whatever the other node says fits into a pipe.
    for character in ['\0', '"', '\u{10ffff}'] {
        let text = runner(&handle, "").text(&said(&character.to_string().repeat(100_000)));
        assert!(text.len() <= 4096, "{} bytes", text.len());
        assert!(serde_json::from_str::<Value>(&text).is_ok());
    }
}

/// Each pair has a command of its own, or none.
#[test]
fn r09_an_alert_is_told_to_its_pairs_command() {
    let dir = TempDir::new().unwrap();
    let told = dir.path().join("told");
    let handle = Handle::new();
    let mut runner = runner(&handle, "exit 1");
    for (at, command) in [(1, vec![]), (2, shell("cat >>\"$0\""))] {
        let mut pair = runner.pairs[0].clone();
        (pair.peer, pair.volumes[0].id) = ([0x22 + at; 16], [0x33 + at; 16]);
        runner.pairs.push(pair);
        runner.commands.push(command);
    }
    runner.commands[2].push(told.display().to_string());
    for pair in [1, 2] {
        runner.tell(&PairAlert {
            pair,
            ..said("severed")
        });
    }
    let object: Value = serde_json::from_str(&fs::read_to_string(told).unwrap()).unwrap();
    assert_eq!(object["peer"], "24242424-2424-2424-2424-242424242424");
    assert_eq!(object["volume"], "35353535-3535-3535-3535-353535353535");
    let counters = handle.pair_alert_counters();
    assert_eq!(
        (counters.alert_commands, counters.alert_commands_failed),
        (1, 0)
    );
}

#[test]
fn r06_times_are_those_of_the_calendar() {
    for (seconds, text) in [
        (0, "1970-01-01T00:00:00.000Z"),
        (951_782_400, "2000-02-29T00:00:00.000Z"),
        (951_868_800, "2000-03-01T00:00:00.000Z"),
        (1_798_761_599, "2026-12-31T23:59:59.000Z"),
        (4_107_542_400, "2100-03-01T00:00:00.000Z"),
    ] {
        assert_eq!(time_text(UNIX_EPOCH + Duration::from_secs(seconds)), text);
    }
}

/// One at a time, in order; what failed is counted, and the next one is told all the same.
#[test]
fn r06_each_alert_is_told_by_a_command_of_its_own() {
    let dir = TempDir::new().unwrap();
    let told = dir.path().join("told");
    let handle = Handle::new();
    let mut runner = runner(&handle, "cat >>\"$0\"; test \"$(wc -l <\"$0\")\" != 2");
    runner.commands[0].push(told.display().to_string());
    for n in 0..3 {
        runner.tell(&said(&n.to_string()));
    }
    let told = fs::read_to_string(told).unwrap();
    let texts = told.lines().map(|line| {
        let object: Value = serde_json::from_str(line).unwrap();
        object["text"].as_str().unwrap().to_owned()
    });
    assert_eq!(texts.collect::<Vec<_>>(), ["0", "1", "2"]);
    let counters = handle.pair_alert_counters();
    assert_eq!(
        (counters.alert_commands, counters.alert_commands_failed),
        (3, 1)
    );
    // It ends when all is over.
    runner.patience.is_over.store(true, Ordering::Release);
    runner.run();
}
