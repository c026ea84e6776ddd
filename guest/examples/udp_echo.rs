//! A UDP service for demonstrations: sends every datagram back with the boot id of the machine that answers appended,
//! from the address that was asked.
//!
//! Arguments: the file that the health check asks for, then the addresses to serve on. Port 7 (RFC 862). The datagram
//! `hotpair-demo: fail` to the member's own address 169.254.77.1, which only its host can send there, removes that file:
//! this is how a demonstration makes the service of one member fail, while clients reach both. `hotpair-demo: panic` makes
//! its kernel panic and stay there.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};

use hotpair_abi::ME_V4;

const FAIL: &[u8] = b"hotpair-demo: fail";
const PANIC: &[u8] = b"hotpair-demo: panic";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let suffix = format!("\nboot={}\n", boot_id.trim());
    let mut threads = Vec::new();
    let mut arguments = std::env::args().skip(1);
    let health = PathBuf::from(arguments.next().ok_or("which file does the health check ask for?")?);
    for address in arguments.chain([Ipv4Addr::from(ME_V4).to_string()]) {
        let address: IpAddr = address.parse().map_err(|error| format!("{address}: {error}"))?;
        let socket =
            UdpSocket::bind((address, 7)).map_err(|error| format!("port 7 of {address}: {error}"))?;
        let suffix = suffix.clone();
        let health = (address == IpAddr::from(ME_V4)).then(|| health.clone());
        threads.push(std::thread::spawn(move || echo(&socket, suffix.as_bytes(), health.as_deref())));
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap_or(()));
    Ok(())
}

fn echo(socket: &UdpSocket, suffix: &[u8], health: Option<&Path>) {
    let mut buffer = vec![0; 65536];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        let answer = match health {
            Some(file) if &buffer[..length] == FAIL => {
                // Gone already is as well.
                let _ = std::fs::remove_file(file);
                b"failing\n".to_vec()
            }
            Some(_) if &buffer[..length] == PANIC => {
                // The answer first: nothing of this guest is heard afterwards.
                let _ = socket.send_to(b"panicking\n", from);
                // Not started again after a second, as the command line says: it must be found out from outside.
                let _ = std::fs::write("/proc/sys/kernel/panic", "0");
                let why = std::fs::write("/proc/sysrq-trigger", "c");
                format!("it does not panic: {why:?}\n").into_bytes()
            }
            _ => [&buffer[..length], suffix].concat(),
        };
        // A client that is gone is not this service's matter.
        let _ = socket.send_to(&answer, from);
    }
}
