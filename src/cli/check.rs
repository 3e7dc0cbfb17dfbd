//! `predictd check`: every problem of a configuration, or what it comes to.

use std::path::PathBuf;

use super::Exit;
use crate::config::{Effective, Problems};

pub fn run(files: &[PathBuf]) -> Exit {
    let rendered = Effective::load(files).and_then(|effective| {
        let rendered = effective.render();
        effective.check().map(|_| rendered)
    });
    match rendered {
        Ok(yaml) => {
            print!("{yaml}");
            Exit::Ok
        }
        Err(problems @ Problems(_)) => {
            eprint!("{problems}");
            Exit::BadConfig
        }
    }
}
