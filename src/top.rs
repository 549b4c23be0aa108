//! `throughline top`: what happens now, every second, over the control socket.

mod sample;
#[cfg(test)]
mod tests;
mod view;

use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use crossterm::{cursor, execute, queue, style, terminal};
use serde_json::json;

use self::sample::Sample;
pub(crate) use self::view::Sort;
use crate::control::Client;
use crate::stats::Stats;

/// Longer than the program itself waits for its shards.
const ANSWER: Duration = Duration::from_secs(10);
const KEYS: &str = "q quit · i IOPS · m MiB/s · l latency · r retransmissions · p peer · ↑ ↓ PgUp PgDn scroll · space stop the clock";

/// The counters with every connection.
fn look(socket: &Path) -> anyhow::Result<Stats> {
    let parameters = json!({ "connections": true });
    let answer = Client::connect(socket)?.call("throughline_get_stats", parameters, ANSWER)?;
    serde_json::from_value(answer)
        .context("the running program is of another version: its counters are not understood")
}

/// Two looks, `delay` apart, then one sample: as JSON, or as people read it.
pub(crate) fn once(
    socket: &Path,
    delay: Duration,
    json: bool,
    sort: Sort,
) -> anyhow::Result<String> {
    let earlier = look(socket)?;
    std::thread::sleep(delay);
    let sample = Sample::new(&earlier, &look(socket)?);
    if json {
        return Ok(serde_json::to_string_pretty(&sample)? + "\n");
    }
    let (head, connections) = view::page(&sample, sort);
    Ok(head + &connections.join("\n") + "\n")
}

/// Shows samples until somebody presses `q`.
pub(crate) fn live(socket: &Path, delay: Duration, sort: Sort) -> anyhow::Result<()> {
    let mut last = look(socket)?;
    let _screen = Screen::enter().context("top needs a terminal; --once does without")?;
    let mut screen = View {
        sort,
        scroll: 0,
        stopped: false,
        help: false,
        said: None,
        sample: None,
    };
    let mut next = Instant::now();
    loop {
        if Instant::now() >= next {
            next = Instant::now() + delay;
            if !screen.stopped {
                match look(socket) {
                    Ok(now) => {
                        // A program started anew begins at nothing.
                        let again = now.uptime_seconds < last.uptime_seconds;
                        let earlier = if again { &now } else { &last };
                        screen.sample = Some(Sample::new(earlier, &now));
                        screen.said = None;
                        last = now;
                    }
                    Err(error) => screen.said = Some(format!("{error:#}")),
                }
            }
        }
        screen.draw()?;
        if event::poll(next.saturating_duration_since(Instant::now()))?
            && let Event::Key(key) = event::read()?
            && key.kind == KeyEventKind::Press
        {
            let control = key.modifiers.contains(KeyModifiers::CONTROL);
            match key.code {
                KeyCode::Char('q') | KeyCode::Esc => return Ok(()),
                KeyCode::Char('c') if control => return Ok(()),
                code => screen.key(code),
            }
        }
    }
}

/// What is on the screen.
struct View {
    sort: Sort,
    scroll: usize,
    stopped: bool,
    help: bool,
    /// Why there is nothing new.
    said: Option<String>,
    sample: Option<Sample>,
}

impl View {
    fn key(&mut self, code: KeyCode) {
        match code {
            KeyCode::Char('i') => self.sort = Sort::Iops,
            KeyCode::Char('m') => self.sort = Sort::Mib,
            KeyCode::Char('l') => self.sort = Sort::Latency,
            KeyCode::Char('r') => self.sort = Sort::Retransmissions,
            KeyCode::Char('p') => self.sort = Sort::Peer,
            KeyCode::Char(' ') => self.stopped = !self.stopped,
            KeyCode::Char('?' | 'h') => self.help = !self.help,
            KeyCode::Up => self.scroll = self.scroll.saturating_sub(1),
            KeyCode::Down => self.scroll += 1,
            KeyCode::PageUp => self.scroll = self.scroll.saturating_sub(10),
            KeyCode::PageDown => self.scroll += 10,
            KeyCode::Home => self.scroll = 0,
            _ => {}
        }
    }

    fn draw(&mut self) -> io::Result<()> {
        let (width, height) = terminal::size()?;
        let lines = self.lines(height.into());
        let mut out = io::stdout().lock();
        queue!(out, cursor::MoveTo(0, 0))?;
        for (row, line) in lines.iter().enumerate() {
            let line: String = line.chars().take(width.into()).collect();
            queue!(out, cursor::MoveTo(0, row as u16), style::Print(line))?;
            queue!(out, terminal::Clear(terminal::ClearType::UntilNewLine))?;
        }
        queue!(out, terminal::Clear(terminal::ClearType::FromCursorDown))?;
        out.flush()
    }

    /// At most `height` lines; the header of the connections stays while they scroll.
    fn lines(&mut self, height: usize) -> Vec<String> {
        let Some(sample) = &self.sample else {
            return vec![self.said.clone().unwrap_or_else(|| "a moment …".into())];
        };
        let mut lines = vec![format!(
            "Throughline {}, up {:.0} s, the last {:.1} s{}, by {}   {}",
            sample.version,
            sample.uptime_seconds,
            sample.seconds,
            if self.stopped { " (stopped)" } else { "" },
            format!("{:?}", self.sort).to_lowercase(),
            if self.help { KEYS } else { "? keys" },
        )];
        lines.push(self.said.clone().unwrap_or_default());
        let (head, connections) = view::page(sample, self.sort);
        lines.extend(head.lines().map(str::to_owned));
        let (header, list) = connections
            .split_first()
            .map_or(("", &[][..]), |(h, l)| (h, l));
        lines.push(header.to_owned());
        let room = height.saturating_sub(lines.len());
        self.scroll = self.scroll.min(list.len().saturating_sub(room));
        lines.extend(list.iter().skip(self.scroll).take(room).cloned());
        lines.truncate(height);
        lines
    }
}

/// The terminal's other screen, unbuffered; given back when dropped.
struct Screen;

impl Screen {
    fn enter() -> io::Result<Self> {
        terminal::enable_raw_mode()?;
        let screen = Self;
        execute!(io::stdout(), terminal::EnterAlternateScreen, cursor::Hide)?;
        Ok(screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = execute!(io::stdout(), terminal::LeaveAlternateScreen, cursor::Show);
        let _ = terminal::disable_raw_mode();
    }
}
