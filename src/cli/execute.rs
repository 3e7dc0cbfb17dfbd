//! Runs a command and ends the process with its exit code.
//!
//! In the library rather than the binary: an asynchronous function is compiled where it is awaited, and the
//! library compiles in parallel.

use std::io::Write as _;

use clap::Parser as _;

use super::load_model::Threads;
use super::{Cli, Command, Exit, GenerateCommand, load_model, output, report};
use crate::cli;
use crate::headers::CONTENT_TYPE;
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
    signal_hook::low_level::exit(exit as i32)
}

async fn execute(command: Command) -> anyhow::Result<Exit> {
    let text = match command {
        Command::Run(args) => return cli::run::run(&args.config).await,
        Command::Serve(args) => return cli::serve::run(&args).await,
        Command::Batch(args) => return Box::pin(cli::batch::run(args)).await,
        Command::Check(args) => return cli::check::run(&args.config.config, args.connect).await,
        Command::Inspect(args) => {
            let threads = if args.tune { Threads::Measured } else { Threads::One };
            let runtime = load_model::runtime(args.library.as_deref(), threads)?;
            let loaded = load_model::load(&args.model, runtime).await?;
            if args.tune {
                loaded.model.executor.measurements().into_bytes()
            } else {
                let (models, example) = (Models::of(loaded.model), loaded.serving_example);
                cli::inspect::render(&models, example, args.json)?.into_bytes()
            }
        }
        Command::Predict(args) => {
            let runtime = load_model::runtime(args.library.as_deref(), Threads::One)?;
            let model = load_model::load(&args.model, runtime).await?.model;
            let request = cli::predict::read(&args.input)?;
            let content_type = args.content_type.map(|kind| (CONTENT_TYPE.to_owned(), kind));
            let attributes = args.attributes.into_iter().chain(content_type);
            let answer = cli::predict::predict(&Models::of(model), &request, attributes.collect());
            cli::predict::write(&answer, args.print_attributes)?;
            return Ok(if answer.is_prediction { Exit::Ok } else { Exit::Failure });
        }
        Command::Generate(GenerateCommand::Completions { what }) => cli::generate::generate(what)?,
        Command::Push(args) => (cli::push::push(&args).await? + "\n").into_bytes(),
        Command::Ready(args) => (cli::ready::ready(args.address).await? + "\n").into_bytes(),
    };
    output::print(text)?;
    Ok(Exit::Ok)
}
