//! Runs a command and ends the process with its exit code.
//!
//! In the library rather than the binary: an asynchronous function is compiled where it is awaited, and the
//! library compiles in parallel.

use std::io::Write as _;

use clap::Parser as _;

use super::{Cli, Command, Exit, output, report};
use crate::cli;
use crate::model::Models;

/// Runs the whole program.
pub fn main() -> ! {
    let cli = Cli::parse();
    // Google's clients leave the choice of a cryptography provider to the program.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime can be started");
    let exit = runtime.block_on(execute(cli.command)).unwrap_or_else(|error| {
        report::report(&error);
        Exit::Failure
    });
    // A download or a load that still blocks a thread must not delay the end.
    runtime.shutdown_background();
    end(exit)
}

/// Ends the process at once. The destructors of ONNX Runtime's library would crash a load that still blocks a
/// thread.
pub(super) fn end(exit: Exit) -> ! {
    let _ = std::io::stdout().flush();
    signal_hook::low_level::exit(exit.code())
}

async fn execute(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Run(args) => cli::run::run(&args.config).await,
        Command::Check(args) => cli::check::run(&args.config.config, args.connect).await,
        Command::Inspect(args) => {
            let loaded = cli::load_model::load(&args.model, args.library.as_deref()).await?;
            let (models, example) = (Models::of(loaded.model), loaded.serving_example);
            output::print(cli::inspect::render(&models, example, args.json)?)?;
            Ok(Exit::Ok)
        }
        Command::Predict(args) => {
            let model = cli::load_model::load(&args.model, args.library.as_deref()).await?.model;
            let request = cli::predict::read(&args.input)?;
            let attributes =
                args.attributes.into_iter().chain(args.content_type.map(cli::predict::content_type));
            let answer = cli::predict::predict(&Models::of(model), &request, attributes.collect());
            cli::predict::write(&answer, args.print_attributes)?;
            Ok(if answer.is_prediction { Exit::Ok } else { Exit::Failure })
        }
        Command::Generate(what) => {
            let mut page = Vec::new();
            cli::generate::generate(&what, &mut page)?;
            output::print(page)?;
            Ok(Exit::Ok)
        }
        Command::Push(args) => {
            let pushed = cli::push::push(&args).await?;
            output::print(format!("{pushed}\n"))?;
            Ok(Exit::Ok)
        }
        Command::Ready(args) => {
            output::print(cli::ready::ready(args.address).await? + "\n")?;
            Ok(Exit::Ok)
        }
    }
}
