//! Numbered requests to an entry address, and what became of each: the measuring client of labs and demo.
//!
//! It counts what a client sees and nothing else. Its sockets belong to the network namespace of the thread that
//! starts it.

mod connection;
mod http;
mod report;
mod udp;
mod visits;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, bail};

pub use report::{By, Report, Request};

/// What to ask, and how often.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Whom.
    pub to: SocketAddr,
    /// From which address; any by default.
    pub from: Option<IpAddr>,
    /// Requests a second.
    pub rate: u32,
    /// How long; until stopped by default.
    pub duration: Option<Duration>,
    /// How long an answer is waited for.
    pub timeout: Duration,
    /// What a request is.
    pub kind: Kind,
}

/// What a request is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A datagram of this many bytes (at least 24) that is to come back with anything appended.
    Udp {
        /// Bytes of payload.
        size: usize,
    },
    /// A GET on a connection of its own that is to be answered with 2xx.
    Http {
        /// Path; `{}` in it is replaced by the request's number.
        path: String,
    },
    /// A connection of its own to a server of streams, with one request that every member answers alike.
    Visit,
}

impl Plan {
    /// A thousand datagrams of 64 bytes a second.
    #[must_use]
    pub fn udp(to: SocketAddr) -> Plan {
        let kind = Kind::Udp { size: 64 };
        Plan { to, from: None, rate: 1000, duration: None, timeout: Duration::from_secs(1), kind }
    }

    /// A hundred requests a second, each on a new connection.
    #[must_use]
    pub fn http(to: SocketAddr, path: &str) -> Plan {
        let kind = Kind::Http { path: path.to_string() };
        Plan { to, from: None, rate: 100, duration: None, timeout: Duration::from_secs(5), kind }
    }

    /// Five hundred connections a second, each with one request.
    #[must_use]
    pub fn visits(to: SocketAddr) -> Plan {
        let timeout = Duration::from_secs(5);
        Plan { to, from: None, rate: 500, duration: None, timeout, kind: Kind::Visit }
    }

    /// With another rate.
    #[must_use]
    pub fn rate(self, rate: u32) -> Plan {
        Plan { rate, ..self }
    }

    /// For so long.
    #[must_use]
    pub fn during(self, duration: Duration) -> Plan {
        Plan { duration: Some(duration), ..self }
    }

    /// Starts asking, in the calling thread's network namespace.
    ///
    /// # Errors
    /// When there is no socket or no thread to be had, or the plan makes no sense.
    pub fn start(self) -> Result<Load> {
        if self.rate == 0 || self.rate > 100_000 {
            bail!("a rate of {} requests a second: it must be between 1 and 100000", self.rate);
        }
        let shared = Arc::new(Shared::new());
        let threads = match &self.kind {
            Kind::Udp { size } => udp::start(&self, *size, &shared)?,
            Kind::Http { path } => http::start(&self, path.clone(), &shared)?,
            Kind::Visit => visits::start(&self, &shared)?,
        };
        Ok(Load { plan: self, shared, threads })
    }
}

/// What the threads of a load share.
struct Shared {
    began: Instant,
    began_at: SystemTime,
    stop: AtomicBool,
    requests: Mutex<Vec<Request>>,
    /// When the last request was sent, once no more will be.
    ended: Mutex<Option<Duration>>,
}

impl Shared {
    fn new() -> Shared {
        Shared {
            began: Instant::now(),
            began_at: SystemTime::now(),
            stop: AtomicBool::new(false),
            requests: Mutex::default(),
            ended: Mutex::default(),
        }
    }

    fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn requests(&self) -> std::sync::MutexGuard<'_, Vec<Request>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Books the next request as sent now; its number is its index.
    fn sent(&self) -> u64 {
        let mut requests = self.requests();
        let seq = requests.len() as u64;
        requests.push(Request::sent(seq, self.began.elapsed()));
        seq
    }

    fn answered(&self, seq: u64, by: Option<By>) {
        let at = self.began.elapsed();
        if let Some(request) = self.requests().get_mut(seq as usize) {
            if request.answered_at.is_some() {
                request.again += 1;
            } else {
                request.answered_at = Some(at);
                request.by = by;
            }
        }
    }

    fn failed(&self, seq: u64, why: String) {
        let at = self.began.elapsed();
        if let Some(request) = self.requests().get_mut(seq as usize) {
            request.error = Some(why);
            request.failed_at = Some(at);
        }
    }

    fn end(&self) {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.began.elapsed());
    }

    /// The time of the next request, at `rate` a second from the beginning; waits for it. `false`: no more requests.
    fn wait_for_turn(&self, turn: u64, plan: &Plan) -> bool {
        let due = Duration::from_nanos(turn * 1_000_000_000 / u64::from(plan.rate));
        loop {
            if self.stopping() || plan.duration.is_some_and(|all| due >= all) {
                return false;
            }
            let now = self.began.elapsed();
            if now >= due {
                return true;
            }
            std::thread::sleep((due - now).min(Duration::from_millis(50)));
        }
    }
}

/// A load that runs. Dropping it stops it.
pub struct Load {
    plan: Plan,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// What became of the requests up to now.
    #[must_use]
    pub fn so_far(&self) -> Report {
        let ended = *self.shared.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = ended.unwrap_or_else(|| self.shared.began.elapsed());
        Report::new(&self.plan, self.shared.began_at, self.shared.requests().clone(), ended)
    }

    /// The last so many requests up to now.
    #[must_use]
    pub fn latest(&self, count: usize) -> Vec<Request> {
        let requests = self.shared.requests();
        requests[requests.len().saturating_sub(count)..].to_vec()
    }

    /// Time since it began: what the times in its report count from.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.shared.began.elapsed()
    }

    /// Whether it has ended by itself.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Sends no more, waits for the answers still due, and reports.
    #[must_use]
    pub fn stop(mut self) -> Report {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.join();
        self.so_far()
    }

    /// Waits until the plan's duration is over, and reports.
    #[must_use]
    pub fn wait(mut self) -> Report {
        self.join();
        self.so_far()
    }

    fn join(&mut self) {
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}
