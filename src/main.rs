//! The `predictd` command.

fn main() {
    predictd::cli::execute::main()
}
