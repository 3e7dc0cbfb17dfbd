//! The `predictd` command.

fn main() -> std::process::ExitCode {
    predictd::cli::execute::main()
}
