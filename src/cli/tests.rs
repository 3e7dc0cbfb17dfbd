use clap::CommandFactory as _;
use clap::error::ErrorKind;

use super::*;

fn parse(line: &str) -> Result<Command, ErrorKind> {
    Cli::try_parse_from(line.split(' ')).map(|cli| cli.command).map_err(|error| error.kind())
}

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn config_may_be_repeated_in_order_or_left_out() {
    let Ok(Command::Run(args)) = parse("predictd run --config a.yaml --config b.yaml") else {
        panic!("run was refused")
    };
    assert_eq!(args.config, [PathBuf::from("a.yaml"), PathBuf::from("b.yaml")]);
    let Ok(Command::Check(args)) = parse("predictd check") else { panic!("check was refused") };
    assert!(args.config.config.is_empty() && !args.connect);
}

#[test]
fn predict_reads_standard_input_unless_told() {
    let Ok(Command::Predict(args)) = parse("predictd predict --model models/wine/1") else {
        panic!("predict was refused")
    };
    assert_eq!((args.input, args.content_type), (PathBuf::from("-"), None));
}

#[test]
fn bad_usage_is_refused() {
    for (line, kind) in [
        ("predictd", ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
        ("predictd fly", ErrorKind::InvalidSubcommand),
        ("predictd run --speed 9", ErrorKind::UnknownArgument),
        ("predictd run predictd.yaml", ErrorKind::UnknownArgument),
        ("predictd inspect", ErrorKind::MissingRequiredArgument),
        ("predictd predict --model m --attribute no-value", ErrorKind::ValueValidation),
        ("predictd push folder", ErrorKind::MissingRequiredArgument),
        ("predictd predict", ErrorKind::MissingRequiredArgument),
    ] {
        assert_eq!(parse(line).err(), Some(kind), "{line}");
    }
}
