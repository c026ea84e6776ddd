//! The JSON that the API speaks: the documented schema of every `-o json`.
//!
//! Times are Unix milliseconds (`*_at_ms`) or durations in the unit the name ends with.

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

/// Version of this schema; a client of another one says so and stops.
pub const API_VERSION: u32 = 1;

/// How well a pair or a host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protection {
    /// Serves, and would survive the death of its primary. Exit code 0.
    Protected,
    /// Serves, and would not survive it. Exit code 1.
    Unprotected,
    /// Does not serve. Exit code 2.
    Down,
}

/// `GET /v1/status`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// [`API_VERSION`].
    pub api: u32,
    /// The controller's version.
    pub version: String,
    /// The host's name.
    pub host: String,
    /// The controller's process.
    pub pid: u32,
    /// When the controller started.
    pub started_at_ms: u64,
    /// The worst of the pairs.
    pub protection: Protection,
    /// What members run on.
    pub hypervisor: HypervisorStatus,
    /// Troubles of the host itself (state that cannot be saved, uplink down); empty when well.
    pub troubles: Vec<String>,
    /// What the configuration has accepted and costs something all the time (XDP in the stack); mostly empty.
    #[serde(default)]
    pub notes: Vec<String>,
    /// One a pair, in the order of the configuration.
    pub pairs: Vec<PairStatus>,
}

/// The hypervisor, as the controller sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HypervisorStatus {
    /// `libvirt` or `command`.
    pub kind: String,
    /// `kvm`, `tcg` or `command`.
    pub accel: String,
    /// Whether it answers.
    pub reachable: bool,
    /// Why not.
    pub why: Option<String>,
}

/// One pair.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairStatus {
    /// Its name.
    pub name: String,
    /// Its entry addresses.
    pub entry: Vec<IpAddr>,
    /// How well it is.
    pub protection: Protection,
    /// Why it is not protected, as a sentence; what is being done about it.
    pub why: Option<String>,
    /// Since when it is as well as it is.
    pub since_at_ms: u64,
    /// Slot of the member that serves; none while the pair is down.
    pub primary: Option<u8>,
    /// Since when that member serves.
    pub primary_since_at_ms: Option<u64>,
    /// Rises with every change of role.
    pub epoch: u64,
    /// Whether automatic failover and replacement are off.
    pub paused: bool,
    /// `mirror` or `address`.
    pub takeover: String,
    /// Slot 0 and slot 1.
    pub members: Vec<MemberStatus>,
    /// The last change of role.
    pub last: Option<Record>,
}

/// What a member is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberPhase {
    /// Not known yet: the hypervisor has not answered.
    Unknown,
    /// There is none.
    Empty,
    /// Its volume and its VM are being made.
    Starting,
    /// It runs and does not serve yet (or not any more).
    Booting,
    /// It serves.
    Serving,
    /// It is being stopped for good.
    Fencing,
    /// It is gone; its storage is being released.
    Releasing,
}

/// One member.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// 0 or 1.
    pub slot: u8,
    /// `primary`, `standby` or `none`.
    pub role: String,
    /// What it is doing.
    pub phase: MemberPhase,
    /// Since when.
    pub since_at_ms: u64,
    /// Rises with every member made for this place.
    pub generation: u64,
    /// Its tap.
    pub tap: String,
    /// Where the host reaches it.
    pub internal_ip: Ipv4Addr,
    /// What its last heartbeat said: `starting`, `serving`, `failing`, `stopping`; none before the first.
    pub state: Option<String>,
    /// Age of its last sign of life, milliseconds.
    pub beat_age_ms: Option<f64>,
    /// Sequence of its last heartbeat.
    pub sequence: u64,
    /// Requests it has processed since its boot, by its own count.
    pub requests: u64,
    /// Requests it has in flight, by its own count.
    pub in_flight: u32,
    /// What is wrong with it, if anything.
    pub why: Option<String>,
}

/// What happened to a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordKind {
    /// The first member serves after a start.
    Started,
    /// The entry addresses moved because the primary failed.
    Failover,
    /// They moved because somebody asked, or because the primary said that it stops.
    Switchover,
    /// A switchover was given up.
    SwitchoverAborted,
    /// A member stopped being of use.
    MemberLost,
    /// It cannot be ended, or its storage not be released, for now; that is tried again until it can.
    Delayed,
    /// A failed member is gone for sure.
    Fenced,
    /// Its storage is released.
    Released,
    /// Its storage could not be released and is left behind.
    ReleaseFailed,
    /// A new member is being made.
    Replacing,
    /// Making it failed; it is tried again.
    ReplaceFailed,
    /// A standby serves: the pair is protected.
    Protected,
    /// Automatic failover was turned off.
    Paused,
    /// Automatic failover was turned on again.
    Resumed,
    /// The controller took over what was running.
    Adopted,
    /// What became of the TCP connections at a failover or switchover.
    Connections,
}

/// One line of the history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// When.
    pub at_ms: u64,
    /// The pair.
    pub pair: String,
    /// What.
    pub kind: RecordKind,
    /// The slot it is about (failover, switchover: the new primary).
    pub slot: Option<u8>,
    /// Generation of the member in that slot.
    pub generation: Option<u64>,
    /// Epoch before; the same as after when no role changed.
    pub epoch_before: u64,
    /// Epoch after.
    pub epoch_after: u64,
    /// Failover: what gave it away: `heartbeat`, `agent`, `hypervisor`, `carrier`, `latch`, `operator`.
    pub detected_by: Option<String>,
    /// Failover: from the old primary's last sign of life to the decision, microseconds.
    pub detect_us: Option<u64>,
    /// Failover, switchover: from the decision to the changed map word, microseconds.
    pub flip_us: Option<f64>,
    /// Connections: how many.
    #[serde(default)]
    pub connections: Option<Carried>,
    /// The same as a sentence.
    pub text: String,
}

/// What became of a pair's TCP connections when another member began to serve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// Went on, as far as hotpair can see.
    pub went_on: u64,
    /// Could not, and were reset.
    pub reset: u64,
}

/// `GET /v1/pairs/NAME`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Show {
    /// As in the status.
    #[serde(flatten)]
    pub pair: PairStatus,
    /// MAC of both members.
    pub mac: String,
    /// `agent` or `probe`.
    pub heartbeat_source: String,
    /// Expected interval, milliseconds.
    pub interval_ms: f64,
    /// A member silent for this long has failed, milliseconds.
    pub timeout_ms: f64,
    /// Whether failed members are replaced by themselves.
    pub auto_replace: bool,
    /// Whose acknowledgements a TCP client sees: `both`, `primary` or `none`.
    #[serde(default)]
    pub ack: String,
    /// Its TCP connections, added up; none if they are not carried over.
    #[serde(default)]
    pub tcp: Option<Tcp>,
    /// Counters of the data plane: name and packets. Only those that are not zero.
    pub counters: Vec<Count>,
}

/// One counter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Name, as in the documentation.
    pub name: String,
    /// Packets.
    pub packets: u64,
}

/// A request was granted and is done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// What was done, as a sentence.
    pub text: String,
    /// The pair's epoch now.
    pub epoch: u64,
}

/// A request was not granted. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{what}: {why}")]
pub struct Refusal {
    /// What was refused.
    pub what: String,
    /// Why.
    pub why: String,
    /// What to do.
    pub way_out: String,
}

/// `GET /v1/pairs/PAIR/flows`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Flows {
    /// The pair.
    pub pair: String,
    /// Whether its TCP connections are carried over at all (`ack` other than `"none"`, `takeover = "mirror"`).
    pub carried: bool,
    /// How many there are of each verdict.
    pub counts: Vec<FlowCount>,
    /// One by one, those first that would not go on; as many as were asked for.
    pub flows: Vec<Flow>,
}

/// A pair's TCP connections, added up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tcp {
    /// How many there are of each verdict; only those that there are.
    pub counts: Vec<FlowCount>,
    /// What [`Flow::lag_bytes`] says, of all connections together.
    pub lag_bytes: u64,
    /// How long the standby has been behind with the one with which it has been longest.
    pub lag_ms: f64,
}

/// How many connections have a verdict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FlowCount {
    /// `opening`, `in_sync`, `unprotected`, `diverged` or `lost`.
    pub verdict: String,
    /// How many.
    pub connections: usize,
}

/// One TCP connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Flow {
    /// The client's address and port.
    pub client: String,
    /// The entry address and port.
    pub entry: String,
    /// What would become of it if the primary died now: only what is `in_sync` goes on.
    pub verdict: String,
    /// Why it is not in sync; empty if it is.
    pub why: String,
    /// Bytes of the client's that it has seen acknowledged, modulo 2^32.
    pub received: u64,
    /// Bytes that the client has acknowledged, modulo 2^32.
    pub sent: u64,
    /// Bytes of the client's that the primary has received and the standby has not; or, while the primary is stopped for it, that
    /// the client has and the standby has not sent.
    pub lag_bytes: u64,
    /// For how long.
    pub lag_ms: f64,
    /// Since the client's SYN.
    pub age_ms: f64,
    /// Since the client was last heard.
    pub idle_ms: f64,
}
