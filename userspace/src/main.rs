//! The `hotpair` command.

fn main() -> std::process::ExitCode {
    hotpair::cli::main()
}
