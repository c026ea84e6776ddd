//! The frame, as each kind of program may look at it. One bounds-checked cursor each, and nothing else reads bytes.

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use aya_ebpf::helpers::generated::{
    bpf_skb_load_bytes, bpf_skb_store_bytes, bpf_xdp_adjust_meta, bpf_xdp_get_buff_len, bpf_xdp_load_bytes,
};
use core::mem::MaybeUninit;
use hotpair_abi::packet::Bytes;
use hotpair_abi::{Address, Mac};

/// Destination and source, in the order of memory.
#[inline(always)]
const fn macs(to: Mac, from: Mac) -> [u16; 6] {
    let (t, f) = (to.pairs(), from.pairs());
    [t[0], t[1], t[2], f[0], f[1], f[2]]
}

/// Access to a frame without a stop on the stack.
pub trait Load: Bytes {
    /// Copies the `N` bytes that begin at `at` to `to`, which must have room for them. `None` if the frame ends before
    /// their end; then what is there now means nothing.
    fn load<const N: usize>(&self, at: usize, to: *mut u8) -> Option<()>;
}

/// A frame in an XDP program.
#[derive(Clone, Copy)]
pub struct XdpFrame(pub *mut xdp_md);

impl XdpFrame {
    #[inline(always)]
    fn at<T>(&self, at: usize) -> Option<*mut T> {
        // SAFETY: the context outlives the program. The kernel patches these loads into pointers; the comparison below
        // is what the verifier wants to see before any access. Volatile, or LLVM loads them as integers in the caller
        // of a function of its own and hands those on, which the verifier refuses.
        let (data, end) = unsafe {
            (
                (&raw const (*self.0).data).read_volatile() as usize,
                (&raw const (*self.0).data_end).read_volatile() as usize,
            )
        };
        let start = data + at;
        if start + size_of::<T>() > end {
            return None;
        }
        Some(start as *mut T)
    }

    /// Bytes of the frame, to read and write in place, at an even address ([`by_pairs`]) where `at` is even. `None` if the frame
    /// ends before their end.
    #[inline(always)]
    pub fn halves<const N: usize>(&self, at: usize) -> Option<*mut [u16; N]> {
        self.at(at)
    }

    /// Makes room for a `T` in front of the frame, where the kernel takes it along. `None` if the driver cannot.
    #[inline(always)]
    pub fn make_metadata<T>(&self) -> Option<()> {
        // SAFETY: the helper checks the room; nothing read from the frame before is used afterwards.
        (unsafe { bpf_xdp_adjust_meta(self.0, -(size_of::<T>() as i32)) } == 0).then_some(())
    }

    /// What stands in front of the frame. `None` if that is less than a `T`.
    ///
    /// The kernel aligns it to four bytes where it aligns the frame; as in [`by_pairs`], it does not rely on it.
    #[inline(always)]
    pub fn metadata<T>(&self) -> Option<*mut T> {
        const { assert!(align_of::<T>() <= 4 && size_of::<T>().is_multiple_of(4)) };
        // SAFETY: as in `at`.
        let (from, data) = unsafe {
            (
                (&raw const (*self.0).data_meta).read_volatile() as usize,
                (&raw const (*self.0).data).read_volatile() as usize,
            )
        };
        if from + size_of::<T>() > data {
            return None;
        }
        Some(from as *mut T)
    }

    /// Whether something stands in front of the frame.
    #[inline(always)]
    pub fn has_metadata(&self) -> bool {
        self.metadata::<u32>().is_some()
    }

    /// Takes away what stands in front of the frame.
    #[inline(always)]
    pub fn drop_metadata(&self) -> Option<()> {
        // SAFETY: as in `at`.
        let (from, data) = unsafe {
            ((&raw const (*self.0).data_meta).read_volatile(), (&raw const (*self.0).data).read_volatile())
        };
        // SAFETY: the helper checks the distance; nothing read from the frame before is used afterwards.
        (unsafe { bpf_xdp_adjust_meta(self.0, (data - from) as i32) } == 0).then_some(())
    }

    /// Bytes of the frame.
    #[inline(always)]
    pub fn len(&self) -> u32 {
        // SAFETY: takes the context, touches nothing.
        unsafe { bpf_xdp_get_buff_len(self.0) as u32 }
    }

    /// Overwrites bytes of the frame. `None`, and nothing written, if the frame ends before their end.
    #[inline(always)]
    pub fn put<T: Copy>(&self, at: usize, words: &T) -> Option<()> {
        let to = self.at::<T>(at)?;
        // SAFETY: `at` has checked that the bytes lie within the frame; they need no alignment.
        unsafe { to.write_unaligned(*words) };
        Some(())
    }

    /// Overwrites the destination MAC.
    #[inline(always)]
    pub fn address_to(&self, mac: [u16; 3]) -> Option<()> {
        let to = self.at::<[u16; 3]>(0)?;
        // SAFETY: `at` has checked that the bytes lie within the frame, which begins at an even address (`by_pairs`).
        unsafe { to.write(mac) };
        Some(())
    }

    /// The destination MAC.
    #[inline(always)]
    pub fn addressed_to(&self) -> Option<[u16; 3]> {
        let to = self.at::<[u16; 3]>(0)?;
        // SAFETY: as in `address_to`.
        Some(unsafe { to.read() })
    }

    /// Overwrites both MACs.
    #[inline(always)]
    pub fn address(&self, to: Mac, from: Mac) -> Option<()> {
        self.put(0, &macs(to, from))
    }
}

/// Reads bytes two at a time, which halves what the parser costs: LLVM reads what has no alignment byte by byte.
///
/// A frame begins at an even address (drivers leave XDP_PACKET_HEADROOM, with or without NET_IP_ALIGN, which is 2), and
/// all headers that are read in XDP have even lengths. The kernel does not rely on it: where the verifier insists on
/// alignment (BPF_F_STRICT_ALIGNMENT) it refuses the program, elsewhere the processor takes any address.
///
/// # Safety
/// `from` must point to N bytes of a frame that have been checked, at an even offset.
#[inline(always)]
unsafe fn by_pairs<const N: usize>(from: *const [u8; N]) -> [u8; N] {
    let mut bytes = [0; N];
    let mut i = 0;
    while i + 2 <= N {
        // SAFETY: within the N bytes, and even.
        let pair = unsafe { from.cast::<u16>().add(i / 2).read() }.to_ne_bytes();
        bytes[i] = pair[0];
        bytes[i + 1] = pair[1];
        i += 2;
    }
    if N % 2 == 1 {
        // SAFETY: the last of the N bytes.
        bytes[N - 1] = unsafe { from.cast::<u8>().add(N - 1).read() };
    }
    bytes
}

impl Bytes for XdpFrame {
    #[inline(always)]
    fn get<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        let from = self.at::<[u8; N]>(at)?;
        // SAFETY: `at` has checked that the N bytes lie within the frame.
        Some(unsafe { by_pairs(from) })
    }

    #[inline(always)]
    fn get_far<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        let mut bytes = MaybeUninit::<[u8; N]>::uninit();
        // SAFETY: the helper writes all N bytes or fails.
        unsafe {
            (bpf_xdp_load_bytes(self.0, at as u32, bytes.as_mut_ptr().cast(), N as u32) == 0)
                .then(|| bytes.assume_init())
        }
    }
}

impl Load for XdpFrame {
    #[inline(always)]
    fn load<const N: usize>(&self, at: usize, to: *mut u8) -> Option<()> {
        // SAFETY: the caller's promise; the helper writes all N bytes or fails.
        let result = unsafe { bpf_xdp_load_bytes(self.0, at as u32, to.cast(), N as u32) };
        (result == 0).then_some(())
    }
}

/// A frame in a TC program. Helpers copy: headers of a guest's frame need not lie in the linear part.
#[derive(Clone, Copy)]
pub struct TcFrame(pub *mut __sk_buff);

impl TcFrame {
    /// The `N` words that begin at `at`, in memory order; `None` if the frame ends before their end.
    #[inline(always)]
    pub fn words<const N: usize>(&self, at: usize) -> Option<[u64; N]> {
        let mut words = MaybeUninit::<[u64; N]>::uninit();
        let len = size_of::<[u64; N]>() as u32;
        // SAFETY: the helper writes all the bytes or fails.
        unsafe {
            (bpf_skb_load_bytes(self.0.cast(), at as u32, words.as_mut_ptr().cast(), len) == 0)
                .then(|| words.assume_init())
        }
    }

    /// Overwrites bytes of the frame. `None` if the kernel cannot; the frame may then be half written and must be
    /// dropped.
    #[inline(always)]
    pub fn put<T: Copy>(&self, at: usize, words: &T) -> Option<()> {
        let (bytes, len) = (core::ptr::from_ref(words).cast_mut().cast(), size_of::<T>() as u32);
        // SAFETY: the helper checks the offset, and reads as many bytes as the value has.
        let result = unsafe { bpf_skb_store_bytes(self.0, at as u32, bytes, len, 0) };
        (result == 0).then_some(())
    }

    /// Overwrites both MACs.
    #[inline(always)]
    pub fn address(&self, to: Mac, from: Mac) -> Option<()> {
        self.put(0, &macs(to, from))
    }

    /// The interface: the tap itself, on ingress and on egress.
    #[inline(always)]
    pub fn ifindex(&self) -> u32 {
        // SAFETY: the context outlives the program.
        unsafe { (*self.0).ifindex }
    }

    /// The VLAN tag that the kernel has taken off: TPID and TCI.
    #[inline(always)]
    pub fn stripped_tag(&self) -> Option<(u16, u16)> {
        // SAFETY: the context outlives the program.
        let skb = unsafe { &*self.0 };
        if skb.vlan_present == 0 {
            return None;
        }
        Some((u16::from_be(skb.vlan_proto as u16), skb.vlan_tci as u16))
    }

    /// The mark.
    #[inline(always)]
    pub fn mark(&self) -> u32 {
        // SAFETY: the context outlives the program.
        unsafe { (*self.0).mark }
    }

    /// Takes the mark away again.
    #[inline(always)]
    pub fn clear_mark(&self) {
        // SAFETY: as in `set_mark`.
        unsafe { (*self.0).mark = 0 };
    }

    /// Marks the frame as hotpair's own.
    #[inline(always)]
    pub fn set_mark(&self) {
        // SAFETY: the context outlives the program; programs may write the mark.
        unsafe { (*self.0).mark = hotpair_abi::MARK };
    }
}

impl Bytes for TcFrame {
    #[inline(always)]
    fn get<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        let mut bytes = MaybeUninit::<[u8; N]>::uninit();
        // SAFETY: the helper writes all N bytes or fails.
        unsafe {
            (bpf_skb_load_bytes(self.0.cast(), at as u32, bytes.as_mut_ptr().cast(), N as u32) == 0)
                .then(|| bytes.assume_init())
        }
    }

    /// By one call, and in whole words.
    #[inline(always)]
    fn addresses(&self, at: usize) -> Option<[Address; 2]> {
        let [a, b, c, d] = self.words(at)?;
        Some([Address::of_words([a, b]), Address::of_words([c, d])])
    }
}

impl Load for TcFrame {
    #[inline(always)]
    fn load<const N: usize>(&self, at: usize, to: *mut u8) -> Option<()> {
        // SAFETY: the caller's promise; the helper writes all N bytes or fails.
        let result = unsafe { bpf_skb_load_bytes(self.0.cast(), at as u32, to.cast(), N as u32) };
        (result == 0).then_some(())
    }
}
