//! Segments as bytes, written and summed without a line of the code under test.

use hotpair_abi::tcp::segment::Header;

/// What stands for both addresses in the pseudo header's sum.
pub(super) const ADDRESSES: u64 = 0x0001_2345;

/// A segment on its way.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    /// Its header's bytes.
    pub(super) header: Header,
    /// Bytes of payload.
    pub(super) payload: u32,
    /// Where in its sender's stream the payload begins, whatever the header says; the SYN is number 0.
    pub(super) truth: u32,
    /// Which member has sent it, be it changed since.
    pub(super) sender: Option<usize>,
}

/// What a header says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Says {
    pub(super) seq: u32,
    pub(super) ack: u32,
    pub(super) flags: u32,
    pub(super) window: u32,
    pub(super) stamps: Option<[u32; 2]>,
    pub(super) sacks: Vec<[u32; 2]>,
    pub(super) shift: Option<u32>,
    pub(super) sack_permitted: bool,
}

/// How options are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// As Linux does it.
    Aligned,
    /// One behind the other, no padding between.
    Dense,
    /// The other way round, with something unknown in front.
    Odd,
}

fn sum(bytes: &[u8]) -> u64 {
    bytes.chunks(2).map(|pair| u64::from(u16::from_ne_bytes([pair[0], pair[1]]))).sum()
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

impl Frame {
    /// A segment with a right checksum.
    pub(super) fn new(says: &Says, layout: Layout, payload: u32, truth: u32) -> Frame {
        let mut options = Vec::new();
        if let Some(shift) = says.shift {
            options.push(vec![2, 4, 5, 0xb4]);
            options.push(vec![3, 3, shift as u8]);
        }
        if says.sack_permitted {
            options.push(vec![4, 2]);
        }
        if let Some([value, echo]) = says.stamps {
            options.push([&[8, 10][..], &value.to_be_bytes(), &echo.to_be_bytes()].concat());
        }
        if !says.sacks.is_empty() {
            let edges = says.sacks.iter().flatten().flat_map(|edge| edge.to_be_bytes());
            options.push([2 + 8 * says.sacks.len() as u8].into_iter().chain(edges).collect());
            options.last_mut().expect("just pushed").insert(0, 5);
        }
        let mut area = Vec::new();
        match layout {
            Layout::Aligned => {
                for option in options {
                    area.extend(std::iter::repeat_n(1, (4 - option.len() % 4) % 4));
                    area.extend(option);
                }
            }
            Layout::Dense => area.extend(options.concat()),
            Layout::Odd => {
                options.reverse();
                if says.sacks.is_empty() {
                    area.extend([0xfb, 3, 9]);
                }
                area.extend(options.concat());
            }
        }
        area.resize(area.len().div_ceil(4) * 4, 0);
        assert!(area.len() <= 40, "{says:?} {layout:?}");
        let mut header = Header::EMPTY;
        header.0[..4].copy_from_slice(&[0x0f, 0xa0, 0, 80]);
        header.0[4..8].copy_from_slice(&says.seq.to_be_bytes());
        header.0[8..12].copy_from_slice(&says.ack.to_be_bytes());
        header.0[12] = ((5 + area.len() / 4) << 4) as u8;
        header.0[13] = says.flags as u8;
        header.0[14..16].copy_from_slice(&(says.window as u16).to_be_bytes());
        header.0[20..20 + area.len()].copy_from_slice(&area);
        let mut frame = Frame { header, payload, truth, sender: None };
        let field = !frame.sum();
        frame.set_checksum(field);
        frame
    }

    /// Bytes of header and payload.
    pub(super) fn bytes(&self) -> u32 {
        u32::from(self.header.0[12] >> 4) * 4 + self.payload
    }

    /// The checksum field, in memory order.
    pub(super) fn checksum(&self) -> u16 {
        u16::from_ne_bytes([self.header.0[16], self.header.0[17]])
    }

    pub(super) fn set_checksum(&mut self, field: u16) {
        self.header.0[16..18].copy_from_slice(&field.to_ne_bytes());
    }

    /// Over everything that the checksum covers, itself too: `0xffff` when it is right. The payload is made up.
    fn sum(&self) -> u16 {
        let end = usize::from(self.header.0[12] >> 4) * 4;
        let length = u64::from((self.bytes() as u16).to_be()) + u64::from(6u16.to_be());
        fold(sum(&self.header.0[..end]) + ADDRESSES + length + 7 * u64::from(self.payload))
    }

    /// Whether the checksum is right.
    pub(super) fn is_right(&self) -> bool {
        self.sum() == 0xffff
    }

    /// What it says.
    pub(super) fn says(&self) -> Says {
        let word = |at: usize| u32::from_be_bytes(self.header.0[at..at + 4].try_into().expect("four bytes"));
        let mut says = Says {
            seq: word(4),
            ack: word(8),
            flags: self.header.0[13].into(),
            window: u16::from_be_bytes([self.header.0[14], self.header.0[15]]).into(),
            ..Says::default()
        };
        let (mut at, end) = (20, usize::from(self.header.0[12] >> 4) * 4);
        while at < end {
            match self.header.0[at] {
                0 => break,
                1 => at += 1,
                kind => {
                    let length = usize::from(self.header.0[at + 1]);
                    assert!(length >= 2 && at + length <= end, "a broken option: {self:?}");
                    match kind {
                        3 => says.shift = Some(self.header.0[at + 2].into()),
                        4 => says.sack_permitted = true,
                        5 => {
                            says.sacks =
                                (at + 2..at + length).step_by(8).map(|at| [word(at), word(at + 4)]).collect();
                        }
                        8 => says.stamps = Some([word(at + 2), word(at + 6)]),
                        _ => {}
                    }
                    at += length;
                }
            }
        }
        says
    }
}
