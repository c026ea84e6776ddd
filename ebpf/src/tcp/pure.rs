//! Writing segments that nobody has sent into frames that have served.

use aya_ebpf::helpers::generated::{bpf_l4_csum_replace, bpf_skb_change_tail};
use hotpair_abi::Address;
use hotpair_abi::checksum::fold64;
use hotpair_abi::packet::Bytes;
use hotpair_abi::tcp::pure::{Pure, address_sum, header_sum, pseudo_sum};

use crate::packet::TcFrame;

/// Between whom a segment goes.
pub struct Ends {
    /// The sender.
    pub from: Address,
    /// The receiver.
    pub to: Address,
    /// The sender's port and the receiver's, in the order of memory.
    pub ports: u32,
    /// Whether it goes over IPv4.
    pub v4: bool,
    /// Whether its checksum is left to be done: [`is_partial`].
    pub partial: bool,
}

/// Whether the frame's checksum is left to be done: then its field holds the pseudo header's sum. No accessor says so,
/// but a helper leaves such a field alone. Changes the two bytes of the field otherwise.
#[inline(always)]
pub fn is_partial(frame: TcFrame, l4: usize) -> Option<bool> {
    let before = frame.get_far::<2>(l4 + 16)?;
    // SAFETY: the helper checks the offset.
    if unsafe { bpf_l4_csum_replace(frame.0, (l4 + 16) as u32, 0, 0x5a5a, 0) } != 0 {
        return None;
    }
    Some(frame.get_far::<2>(l4 + 16)? == before)
}

/// The checksum field of a segment without payload. `header`: the sum of the TCP header with a zero field.
#[inline(always)]
pub fn full_checksum(partial: bool, v4: bool, a: Address, b: Address, len: usize, header: u64) -> u16 {
    let pseudo = pseudo_sum(address_sum(a, v4) + address_sum(b, v4), len);
    if partial { fold64(pseudo) } else { !fold64(pseudo + header) }
}

/// Makes the frame this segment, from the network layer on, which begins at `l3`. `None`: the kernel refused, and the
/// frame may be half rewritten.
#[inline(always)]
pub fn write(frame: TcFrame, l3: usize, ends: &Ends, pure: &Pure) -> Option<()> {
    let len = pure.len();
    let l4 = l3 + if ends.v4 { 20 } else { 40 };
    // SAFETY: the helper checks the length; nothing read from the frame before is used afterwards.
    if unsafe { bpf_skb_change_tail(frame.0, (l4 + len) as u32, 0) } != 0 {
        return None;
    }
    if ends.v4 {
        const V4: u32 = 0x4500_0000;
        const DF: u32 = 0x4000;
        const TTL_TCP: u32 = 0x4006_0000;
        let total = 20 + len as u32;
        let (from, to) = (ends.from.words()[1], ends.to.words()[1]);
        let half = |address: u64| (u64::from_le(address) >> 32) as u32;
        let mut header =
            [(V4 | total).to_be(), DF.to_be(), TTL_TCP.to_be(), half(from).to_le(), half(to).to_le()];
        let sum =
            header[0] as u64 + header[1] as u64 + header[2] as u64 + header[3] as u64 + header[4] as u64;
        let [a, b] = (!fold64(sum)).to_ne_bytes();
        header[2] |= u32::from_ne_bytes([0, 0, a, b]);
        frame.put(l3, &header)?;
    } else {
        const V6: u32 = 0x6000_0000;
        frame.put(l3, &[V6.to_be(), (((len as u32) << 16) | 0x0640).to_be()])?;
        frame.put(l3 + 8, &ends.from.words())?;
        frame.put(l3 + 24, &ends.to.words())?;
    }
    let mut header = pure.header(ends.ports);
    let field = full_checksum(ends.partial, ends.v4, ends.from, ends.to, len, header_sum(&header));
    let [a, b] = field.to_ne_bytes();
    header[4] = u32::from_ne_bytes([a, b, 0, 0]);
    let fixed = [header[0], header[1], header[2], header[3], header[4]];
    frame.put(l4, &fixed)?;
    if len == 32 {
        frame.put(l4 + 20, &[header[5], header[6], header[7]])?;
    }
    Some(())
}
