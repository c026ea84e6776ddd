//! What the interface ioctls are asked with.

use std::mem;

use anyhow::{Result, bail};

/// A request about the link of this name; everything else in it is zero.
///
/// # Errors
/// When no link can have that name.
pub fn about(link: &str) -> Result<libc::ifreq> {
    // SAFETY: all zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    // The name ends with a zero.
    if link.len() >= request.ifr_name.len() {
        bail!("{link:?} is too long for the name of a link");
    }
    for (to, from) in request.ifr_name.iter_mut().zip(link.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}
