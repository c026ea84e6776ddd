//! Writing segments that nobody has sent into frames that have served.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{bpf_clone_redirect, bpf_l4_csum_replace, bpf_skb_change_tail};
use hotpair_abi::checksum::fold64;
use hotpair_abi::maps::Tuple;
use hotpair_abi::packet::{Bytes, ETH_IPV4, ETH_IPV6};
use hotpair_abi::tcp::pure::{Pure, address_sum, header_sum, pseudo_sum};
use hotpair_abi::{Address, GATEWAY_MAC, Mac};

use crate::packet::TcFrame;
use crate::{maps, role};

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
    /// Bytes of payload, none or one, which is zero.
    pub payload: usize,
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
    let header_len = pure.len();
    let len = header_len + ends.payload;
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
    if header_len == 32 {
        frame.put(l4 + 20, &[header[5], header[6], header[7]])?;
    }
    if ends.payload != 0 {
        frame.put(l4 + header_len, &0u8)?;
    }
    Some(())
}

/// Writes what comes before the network layer: the MACs, and the connection's VLAN tags, in the frame itself. Returns where the
/// network layer begins.
#[inline(always)]
fn link(frame: TcFrame, to: Mac, from: Mac, tuple: &Tuple, v4: bool) -> Option<usize> {
    frame.address(to, from)?;
    let ethertype = if v4 { ETH_IPV4 } else { ETH_IPV6 }.to_be();
    let mut at = 12;
    if tuple.outer != 0 {
        frame.put(at, &tuple.outer.to_be())?;
        at += 4;
        if tuple.inner != 0 {
            frame.put(at, &tuple.inner.to_be())?;
            at += 4;
        }
    }
    frame.put(at, &ethertype)?;
    Some(at + 2)
}

/// Makes a frame that has served, and whose checksum is not left to be done, what `said` in the scratch is, from the client to
/// the speaker of the scene, and sends a copy. The frame may be anything before and must not carry a tag beside its bytes.
/// Returns 0 if the kernel refused, or there is no tap.
///
/// A global function to the verifier, for the reason that `hotpair_sum_payload` is one. So is the next one.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn hotpair_say_to_speaker(skb: *mut __sk_buff, pair: u32) -> u32 {
    to_speaker(TcFrame(skb), pair).is_some() as u32
}

#[inline(always)]
fn to_speaker(frame: TcFrame, pair: u32) -> Option<()> {
    let (scratch, pair) = (maps::scratch()?, maps::pair(pair)?);
    let tuple = &scratch.tuple;
    let tap = role::tap(pair, scratch.scene.speaker);
    if tap == 0 {
        return None;
    }
    let v4 = tuple.entry.is_v4();
    let l3 = link(frame, role::mac(pair), Mac::new(GATEWAY_MAC), tuple, v4)?;
    let payload = scratch.payload_said as usize & 1;
    let ends = Ends { from: tuple.remote, to: tuple.entry, ports: tuple.ports, v4, partial: false, payload };
    write(frame, l3, &ends, &scratch.said)?;
    frame.set_mark();
    // SAFETY: clones the frame; nothing read from it before is used afterwards.
    let result = unsafe { bpf_clone_redirect(frame.0, tap, 0) };
    frame.clear_mark();
    (result == 0).then_some(())
}

/// The same from the entry address to the client.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn hotpair_say_to_client(skb: *mut __sk_buff) -> u32 {
    to_client(TcFrame(skb)).is_some() as u32
}

#[inline(always)]
fn to_client(frame: TcFrame) -> Option<()> {
    let (scratch, host) = (maps::scratch()?, maps::host()?);
    let tuple = &scratch.tuple;
    let v4 = tuple.entry.is_v4();
    let l3 = link(frame, Mac::new(scratch.mac), Mac::new(host.uplink_mac), tuple, v4)?;
    let ports = tuple.ports.rotate_left(16);
    let ends = Ends { from: tuple.entry, to: tuple.remote, ports, v4, partial: false, payload: 0 };
    write(frame, l3, &ends, &scratch.said)?;
    // SAFETY: clones the frame; nothing read from it before is used afterwards.
    (unsafe { bpf_clone_redirect(frame.0, host.uplink_ifindex, 0) } == 0).then_some(())
}
