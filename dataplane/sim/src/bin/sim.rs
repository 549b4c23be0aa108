//! Runs seeds: `sim [--scenario NAME] [--from S] [--seeds N] [--trace]`.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use sim::{Failure, Scenario};

const USAGE: &str = "sim [--scenario NAME] [--from S] [--seeds N] [--keep-going] [--trace]";

struct Arguments {
    scenario: Scenario,
    from: u64,
    seeds: u64,
    keep_going: bool,
    trace: bool,
}

fn arguments() -> Result<Arguments, String> {
    let mut parsed = Arguments {
        scenario: Scenario::Target,
        from: 1,
        seeds: 100,
        keep_going: false,
        trace: false,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        let number = |text: String| text.parse().map_err(|_| format!("{text:?} is no number"));
        match argument.as_str() {
            "--scenario" => {
                let name = value()?;
                let names: Vec<_> = Scenario::ALL
                    .iter()
                    .map(|scenario| scenario.name())
                    .collect();
                parsed.scenario = Scenario::named(&name).ok_or(format!(
                    "no scenario {name:?}; there are: {}",
                    names.join(", ")
                ))?;
            }
            "--from" => parsed.from = number(value()?)?,
            "--seeds" => parsed.seeds = number(value()?)?,
            "--keep-going" => parsed.keep_going = true,
            "--trace" => parsed.trace = true,
            _ => return Err(format!("what is {argument:?}? {USAGE}")),
        }
    }
    Ok(parsed)
}

fn report(scenario: Scenario, failure: &Failure) {
    println!(
        "FAILED seed {} after {:.6} s: {}",
        failure.seed,
        failure.nanoseconds as f64 / 1e9,
        failure.what
    );
    println!("  digest {:016x}; replay:", failure.digest);
    println!(
        "  ci/sim --scenario {} --from {} --seeds 1 --trace",
        scenario.name(),
        failure.seed
    );
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(what) => {
            eprintln!("{what}");
            return ExitCode::from(2);
        }
    };
    // A panic is a failure of its seed, which is reported.
    if !arguments.trace {
        std::panic::set_hook(Box::new(|_| {}));
    }
    let scenario = arguments.scenario;
    let (mut passed, mut failed) = (0u64, 0u64);
    let (mut requests, mut sectors, mut crashes, mut virtual_time) = (0, 0, 0, 0);
    let began = Instant::now();
    let mut said = began;
    let is_terminal = std::io::stderr().is_terminal();
    for seed in arguments.from..arguments.from + arguments.seeds {
        match scenario.run(seed, arguments.trace) {
            Ok(summary) => {
                passed += 1;
                requests += summary.requests;
                sectors += summary.sectors;
                crashes += summary.crashes;
                virtual_time += summary.nanoseconds;
                if arguments.seeds == 1 {
                    println!(
                        "seed {seed}: digest {:016x}, {} steps, {:.6} s, {} requests, {} sectors compared",
                        summary.digest,
                        summary.steps,
                        summary.nanoseconds as f64 / 1e9,
                        summary.requests,
                        summary.sectors
                    );
                }
            }
            Err(failure) => {
                failed += 1;
                report(scenario, &failure);
                if !arguments.keep_going {
                    break;
                }
            }
        }
        if said.elapsed() > Duration::from_secs(if is_terminal { 1 } else { 20 }) {
            said = Instant::now();
            eprintln!(
                "{} of {} seeds, {failed} failed",
                passed + failed,
                arguments.seeds
            );
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{:.0} seeds a minute; {requests} requests, {sectors} sectors compared, {crashes} crashes, {:.0} s of virtual time in {seconds:.1} s",
        (passed + failed) as f64 / seconds * 60.0,
        virtual_time as f64 / 1e9
    );
    println!("{passed} passed, {failed} failed");
    let _ = std::io::stdout().flush();
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
