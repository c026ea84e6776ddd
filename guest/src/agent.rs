//! Puts the agent together and takes it apart in the right order.

use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hotpair_abi::heartbeat::State;
use tokio::signal::unix::{SignalKind, signal};

use crate::boot::{self, BootError};
use crate::health::{self, Rhythm};
use crate::options::Options;
use crate::peer::Peer;
use crate::pulse::{self, Pulse, PulseError};
use crate::status::Status;
use crate::vitals::Vitals;
use crate::{info, notice, progress, warning};

/// Why the agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// No boot id.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// No heartbeats.
    #[error(transparent)]
    Pulse(#[from] PulseError),
    /// No signals.
    #[error("cannot listen for signals")]
    Signals(#[source] std::io::Error),
    /// The heartbeat thread has ended, which it never should.
    #[error("the heartbeat thread died; its last words are above")]
    PulseDied,
}

/// Runs until SIGTERM or SIGINT, plus the linger.
///
/// # Errors
/// When it cannot start, or its heartbeat thread dies: whoever started it should start it again.
pub async fn run(options: Options) -> Result<(), AgentError> {
    let boot_id = options.boot_id.map_or_else(boot::boot_id, Ok)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(AgentError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(AgentError::Signals)?;

    let state = if options.checks.is_empty() { State::Serving } else { State::Starting };
    let vitals = Arc::new(Vitals::new(state));
    let peer = Arc::new(Mutex::new(Peer::default()));
    info!(
        "{}, a heartbeat from {} to {} every {}",
        state.name(),
        options.bind,
        options.peer,
        humantime::format_duration(options.interval)
    );
    let pulse = Pulse {
        bind: options.bind,
        peer: options.peer,
        interval: options.interval,
        boot_id,
        realtime: options.realtime,
    };
    let mut pulse_died = pulse::start(pulse, Arc::clone(&vitals), Arc::clone(&peer))?;

    if !options.checks.is_empty() {
        let rhythm = Rhythm {
            interval: options.check_interval,
            timeout: options.check_timeout,
            rise: options.rise,
            fall: options.fall,
        };
        tokio::spawn(health::watch(options.checks, rhythm, Arc::clone(&vitals)));
    }
    tokio::spawn(progress::follow(options.requests, Arc::clone(&vitals)));
    tokio::spawn(show(
        options.status_file.clone(),
        Arc::clone(&vitals),
        Arc::clone(&peer),
        boot_id,
        options.interval,
    ));

    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        _ = &mut pulse_died => return Err(AgentError::PulseDied),
    }
    vitals.become_state(State::Stopping);
    write(&options.status_file, &vitals, &peer, boot_id, options.interval);
    if vitals.bound.load(Relaxed) {
        let linger = humantime::format_duration(options.linger);
        notice!("stopping: beating on for {linger} so that the other member can take over");
        tokio::select! {
            () = tokio::time::sleep(options.linger) => {}
            _ = terminate.recv() => notice!("told twice to stop: not waiting any longer"),
            _ = interrupt.recv() => notice!("told twice to stop: not waiting any longer"),
            _ = pulse_died => return Err(AgentError::PulseDied),
        }
    }
    let _ = std::fs::remove_file(&options.status_file);
    Ok(())
}

/// Says when the peer falls silent and comes back, and writes the status file once a second.
async fn show(
    path: std::path::PathBuf,
    vitals: Arc<Vitals>,
    peer: Arc<Mutex<Peer>>,
    boot_id: u64,
    interval: Duration,
) {
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut silent = false;
    let mut shown = None;
    for round in 0u64.. {
        tick.tick().await;
        let silent_now = peer.lock().unwrap_or_else(PoisonError::into_inner).is_silent(boot::now_ns());
        if silent_now != silent {
            silent = silent_now;
            if silent { warning!("peer: silent") } else { notice!("peer: heard again") }
        }
        let state = vitals.state();
        if round % 10 == 0 || shown != Some(state) {
            write(&path, &vitals, &peer, boot_id, interval);
            shown = Some(state);
        }
    }
}

fn write(path: &Path, vitals: &Vitals, peer: &Mutex<Peer>, boot_id: u64, interval: Duration) {
    if path.parent().is_some_and(|directory| !directory.is_dir()) {
        return;
    }
    let status = {
        let peer = peer.lock().unwrap_or_else(PoisonError::into_inner);
        Status::now(vitals, &peer, boot_id, interval)
    };
    // The heartbeats matter, the file does not.
    let _ = status.write(path);
}
