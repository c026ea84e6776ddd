//! Builds the eBPF programs and puts the object where the data plane embeds it: `OUT_DIR/hotpair.bpf.o`.
//!
//! `HOTPAIR_EBPF_OBJECT=path` takes an object that was built elsewhere. Otherwise the programs are built here, by the
//! first toolchain that can: the distribution's own `rustc` and `cargo`, or a rustup toolchain, whichever comes with
//! Rust's library sources (`-Z build-std=core` compiles those for the BPF target).

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "bpfel-unknown-none";

/// A toolchain that can build the programs.
struct Toolchain {
    cargo: PathBuf,
    rustc: PathBuf,
}

fn main() {
    println!("cargo::rerun-if-env-changed=HOTPAIR_EBPF_OBJECT");
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("hotpair.bpf.o");
    let object = match env::var_os("HOTPAIR_EBPF_OBJECT") {
        Some(path) => {
            let path = PathBuf::from(path);
            println!("cargo::rerun-if-changed={}", path.display());
            path
        }
        None => match build(&out) {
            Ok(object) => object,
            Err(why) => {
                println!("cargo::error={}", why.replace('\n', "\ncargo::error="));
                return;
            }
        },
    };
    if let Err(error) = std::fs::copy(&object, &out) {
        println!(
            "cargo::error=cannot copy the eBPF object {} to {}: {error}",
            object.display(),
            out.display()
        );
    }
}

fn build(out: &Path) -> Result<PathBuf, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace");
    for input in ["ebpf/src", "ebpf/Cargo.toml", "ebpf/Cargo.lock", "abi/src", "abi/Cargo.toml"] {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }
    let toolchain = find()?;
    let linker = linker()?;
    // Beside the profile's other artifacts, so that a check, a build and a test share one build of `core`.
    let target_dir = out.ancestors().nth(4).unwrap_or(out).join("hotpair-ebpf");
    let mut cargo = Command::new(&toolchain.cargo);
    cargo
        .args(["build", "--release", "--locked", "--target", TARGET, "-Z", "build-std=core", "--target-dir"])
        .arg(&target_dir)
        .current_dir(root.join("ebpf"))
        .env("RUSTC", &toolchain.rustc)
        .env("RUSTC_BOOTSTRAP", "1")
        // BTF needs debug information, and the maps need BTF.
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            [
                "-Cdebuginfo=2",
                "-Clink-arg=--btf",
                &format!("-Clinker={}", linker.display()),
                &format!(
                    "--cfg=bpf_target_arch=\"{}\"",
                    env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default()
                ),
            ]
            .join("\x1f"),
        );
    if env::var_os("CARGO_FEATURE_LOG").is_some() {
        cargo.args(["--features", "log"]);
    }
    // What the outer cargo tells its own compiler is not for this one.
    for inherited in ["RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "RUSTFLAGS", "RUSTUP_TOOLCHAIN", "CARGO"] {
        cargo.env_remove(inherited);
    }
    let done =
        cargo.output().map_err(|error| format!("cannot run {}: {error}", toolchain.cargo.display()))?;
    if !done.status.success() {
        return Err(format!(
            "the eBPF programs do not build with {} ({}); `cargo xtask setup` installs what building them needs:\n{}",
            toolchain.rustc.display(),
            done.status,
            String::from_utf8_lossy(&done.stderr)
        ));
    }
    Ok(target_dir.join(TARGET).join("release/hotpair"))
}

/// The first toolchain with the library's sources.
fn find() -> Result<Toolchain, String> {
    let distribution = Toolchain { cargo: "/usr/bin/cargo".into(), rustc: "/usr/bin/rustc".into() };
    if distribution.cargo.exists() && has_sources(&distribution.rustc) {
        return Ok(distribution);
    }
    let listed = Command::new("rustup").args(["toolchain", "list", "--verbose"]).output();
    let listed = listed.map(|done| String::from_utf8_lossy(&done.stdout).into_owned()).unwrap_or_default();
    // "name (active) /path": nightly first, since its compiler knows -Z by itself.
    let mut homes: Vec<&str> = listed.lines().filter_map(|line| line.split_whitespace().last()).collect();
    homes.sort_by_key(|home| !home.contains("nightly"));
    for home in homes {
        let bin = Path::new(home).join("bin");
        let rustup = Toolchain { cargo: bin.join("cargo"), rustc: bin.join("rustc") };
        if rustup.cargo.exists() && has_sources(&rustup.rustc) {
            return Ok(rustup);
        }
    }
    Err("no Rust toolchain here can build the eBPF programs: that needs Rust's library sources. \
         `cargo xtask setup` installs one (Debian: rustc-web, cargo-web, rust-web-src); \
         with rustup, `rustup toolchain install nightly --component rust-src` does as well"
        .to_owned())
}

fn has_sources(rustc: &Path) -> bool {
    Command::new(rustc).args(["--print", "sysroot"]).output().is_ok_and(|done| {
        let sysroot = String::from_utf8_lossy(&done.stdout).trim().to_owned();
        done.status.success()
            && Path::new(&sysroot).join("lib/rustlib/src/rust/library/core/Cargo.toml").exists()
    })
}

/// bpf-linker, from the PATH or from where cargo installs binaries.
fn linker() -> Result<PathBuf, String> {
    let cargo_bin = env::var_os("CARGO_HOME").map(|home| PathBuf::from(home).join("bin"));
    let home_bin = env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo/bin"));
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(cargo_bin)
        .chain(home_bin)
        .map(|dir| dir.join("bpf-linker"))
        .find(|file| file.is_file())
        .ok_or_else(|| {
            "bpf-linker, which links the eBPF programs, is not installed: run `cargo xtask setup`".to_owned()
        })
}
