//! Single questions to the kernel over netlink, each with a single answer, in the calling thread and its network namespace.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};

/// nlmsghdr: length, type, flags, sequence, port.
const HEADER: usize = 16;

/// NETLINK_ROUTE, whose number is 0.
pub(crate) const ROUTE: Option<Protocol> = None;
/// NETLINK_GENERIC.
pub(crate) const GENERIC: Option<Protocol> = Some(rustix::net::netlink::GENERIC);

/// A socket that such questions are asked on.
pub(crate) fn socket(protocol: Option<Protocol>) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    Ok(rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?)
}

/// Asks: a message of this type. What the answer says after its header.
pub(crate) fn ask(socket: impl AsFd, kind: u16, question: &[u8]) -> io::Result<Vec<u8>> {
    let length = (HEADER + question.len()) as u32;
    let mut request = vec![0u8; HEADER];
    request[0..4].copy_from_slice(&length.to_ne_bytes());
    request[4..6].copy_from_slice(&kind.to_ne_bytes());
    request[6..8].copy_from_slice(&(libc::NLM_F_REQUEST as u16).to_ne_bytes());
    request.extend_from_slice(question);
    rustix::net::send(&socket, &request, SendFlags::empty())?;
    let mut answer = vec![0u8; 64 * 1024];
    let (length, _) = rustix::net::recv(&socket, &mut answer[..], RecvFlags::empty())?;
    answer.truncate(length);
    read(&answer)
}

fn read(answer: &[u8]) -> io::Result<Vec<u8>> {
    let short = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let kind = half(answer, 4).ok_or_else(short)?;
    let body = answer.get(HEADER..).ok_or_else(short)?;
    if i32::from(kind) == libc::NLMSG_ERROR {
        let error = word(body, 0).ok_or_else(short)? as i32;
        return Err(io::Error::from_raw_os_error(error.saturating_neg()));
    }
    Ok(body.to_vec())
}

/// Attributes: length, type, value, padded to four bytes.
pub(crate) fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = half(rest, 0)? as usize;
        let kind = half(rest, 2)? & 0x3fff;
        let value = rest.get(4..len)?;
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, value))
    })
}

/// The value of one of them.
pub(crate) fn attribute(rest: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(rest).find_map(|(kind, value)| (kind == wanted).then_some(value))
}

/// Two bytes as the kernel has them.
pub(crate) fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// Four of them.
pub(crate) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_and_broken_ones_are_not_believed() {
        let mut message = vec![5, 0, 9, 0, 7, 0, 0, 0];
        message.extend([6, 0, 3, 0, 1, 2, 0, 0]);
        assert_eq!(attribute(&message, 3), Some(&[1, 2][..]));
        assert_eq!(attribute(&message, 4), None);
        assert_eq!(attribute(&message[..12], 3), None);
        assert_eq!(attribute(&[], 3), None);
        message[0] = 0;
        assert_eq!(attribute(&message, 3), None, "a length of nothing");
    }

    #[test]
    fn an_answer_is_a_body_or_the_kernels_error_and_a_cut_one_is_neither() {
        let message =
            |kind: u16, body: &[u8]| [&[0; 4][..], &kind.to_ne_bytes(), &[0; HEADER - 6], body].concat();
        assert_eq!(read(&message(16, &[1, 2])).expect("a body"), [1, 2]);
        let refused = message(libc::NLMSG_ERROR as u16, &(-libc::ENODEV).to_ne_bytes());
        assert_eq!(read(&refused).expect_err("an error").raw_os_error(), Some(libc::ENODEV));
        for len in 0..refused.len() {
            assert_eq!(read(&refused[..len]).expect_err("cut").kind(), io::ErrorKind::UnexpectedEof, "{len}");
        }
    }
}
