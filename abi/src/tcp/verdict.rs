//! What would become of a connection if its primary died now, and why: the numbers in a row, and the words that people read.

/// What would become of a connection if its primary died now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Verdict {
    /// The handshake is not over.
    Opening = 0,
    /// Both members have it, with equal streams as far as is known.
    InSync = 1,
    /// The standby does not have it, or not all of it.
    Unprotected = 2,
    /// The members' streams differ.
    Diverged = 3,
    /// Its primary died, and it could not be carried over.
    Lost = 4,
}

impl Verdict {
    /// The verdict with this number.
    #[must_use]
    pub const fn from_u32(value: u32) -> Option<Verdict> {
        Some(match value {
            0 => Verdict::Opening,
            1 => Verdict::InSync,
            2 => Verdict::Unprotected,
            3 => Verdict::Diverged,
            4 => Verdict::Lost,
            _ => return None,
        })
    }

    /// The word shown to people and programs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Verdict::Opening => "opening",
            Verdict::InSync => "in_sync",
            Verdict::Unprotected => "unprotected",
            Verdict::Diverged => "diverged",
            Verdict::Lost => "lost",
        }
    }
}

/// Why a connection is not in sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Why {
    /// It is.
    Well = 0,
    /// It began while there was no standby in service.
    NoStandby = 1,
    /// The standby did not answer the SYN in time.
    NoHandshake = 2,
    /// The members answered the SYN with different options.
    Options = 3,
    /// Options that nobody may rewrite (MD5, AO), or a header that cannot be read.
    Signed = 4,
    /// The standby has reset its half.
    Reset = 5,
    /// The members have closed at different places, or only one of them has.
    Close = 6,
    /// The members' payloads differ.
    Payload = 7,
    /// The standby had not received what the client saw acknowledged.
    Behind = 8,
    /// It began before the present standby came.
    Older = 9,
}

impl Why {
    /// The reason with this number.
    #[must_use]
    pub const fn from_u32(value: u32) -> Option<Why> {
        Some(match value {
            0 => Why::Well,
            1 => Why::NoStandby,
            2 => Why::NoHandshake,
            3 => Why::Options,
            4 => Why::Signed,
            5 => Why::Reset,
            6 => Why::Close,
            7 => Why::Payload,
            8 => Why::Behind,
            9 => Why::Older,
            _ => return None,
        })
    }

    /// The words shown to people.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Why::Well => "",
            Why::NoStandby => "began without a standby",
            Why::NoHandshake => "the standby did not answer the handshake",
            Why::Options => "the members answered the handshake with different options",
            Why::Signed => "its segments are signed or unreadable",
            Why::Reset => "the standby has reset it",
            Why::Close => "only one member has closed it, or at another place",
            Why::Payload => "the members send different bytes",
            Why::Behind => "the standby had not received all that was acknowledged",
            Why::Older => "began before the present standby came",
        }
    }
}
