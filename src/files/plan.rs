//! Plans a job: finds its input, reads all of it once, and cuts it into shards between two records.
//!
//! The plan says how many rows there are and on which line each shard begins, so that errors name lines. No
//! shard has more bytes than the job's `shard_size`, or more rows than are computed in a minute, where the
//! model's speed is known. A compressed file is one shard, since it can only be read from its beginning.

use std::collections::HashSet;
use std::io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
use std::io::{self, Read};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use flate2::read::MultiGzDecoder;

use super::job::{Input, InputChanged, InputFormat, JobSpec, Plan, Refused, Shard};
use super::records::{CHUNK_BYTES, Chunk, Records};
use super::store::Store;
use crate::hint::with_hint;
use crate::rfc3339;

/// Work of a shard: long enough that its cost of one message and one object does not count, short enough that
/// little is lost with a worker.
const SHARD_TIME: Duration = Duration::from_secs(60);
/// Files of a shard where each file is an instance.
const SHARD_FILES: u64 = 1000;
/// Files of a job where each is an instance. A list has no limit.
const MAX_FILES: usize = 100_000;
/// Records that are read at a time.
const RECORDS: usize = 1024;
/// Records that tell how fast the model is.
const FIRST_RECORDS: usize = 64;

const HEADER: &str =
    "a table begins with a line of names, which --key-field, --include and --exclude refer to";
const EXTENSIONS: [(&str, InputFormat); 9] = [
    ("jsonl", InputFormat::Jsonl),
    ("ndjson", InputFormat::Jsonl),
    ("json", InputFormat::Jsonl),
    ("csv", InputFormat::Csv),
    ("txt", InputFormat::FileList),
    ("jpg", InputFormat::Files),
    ("jpeg", InputFormat::Files),
    ("png", InputFormat::Files),
    ("webp", InputFormat::Files),
];

/// Measures rows a second with some records, whose table has this header. None if they do not tell.
type Speed<'a> = dyn Fn(&Chunk, InputFormat, Option<&[u8]>) -> Option<f64> + 'a;

/// Facts about the model that a plan needs.
pub struct ModelFacts<'a> {
    pub version: String,
    pub speed: &'a Speed<'a>,
}

/// Makes a plan.
///
/// # Errors
/// There is no input, or it cannot be read, or its format is not known.
pub fn plan(store: &Store, job: JobSpec, model: &ModelFacts<'_>) -> anyhow::Result<Plan> {
    job.check().map_err(Refused)?;
    store.check_folder(&job.output)?;
    let mut inputs = Vec::new();
    for address in &job.input {
        inputs.extend(store.expand(address)?);
    }
    let input_format = match job.input_format {
        Some(format) => format,
        None => format_of(&inputs)?,
    };
    let created = rfc3339::format(SystemTime::now());
    let model_version = model.version.clone();
    let mut plan = Plan { job, input_format, model_version, created, rows: 0, inputs, shards: Vec::new() };
    if input_format == InputFormat::Files {
        cut_files(&mut plan)?;
    } else {
        let mut most_rows = None;
        for number in 0..plan.inputs.len() {
            cut_records(store, &mut plan, number, model, &mut most_rows)?;
        }
    }
    plan.rows = plan.shards.iter().map(|shard| shard.rows).sum();
    Ok(plan)
}

/// The format that the names of all files say.
fn format_of(inputs: &[Input]) -> anyhow::Result<InputFormat> {
    let mut found: Option<(InputFormat, &str)> = None;
    for Input { address, .. } in inputs {
        let name = address.rsplit('/').next().unwrap_or(address).to_ascii_lowercase();
        let name = name.strip_suffix(".gz").unwrap_or(&name);
        let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
        let Some((_, format)) = EXTENSIONS.iter().find(|(known, _)| *known == extension) else {
            let known: Vec<&str> = EXTENSIONS.iter().map(|(known, _)| *known).collect();
            let known = known.join(", ");
            let error = Refused(format!("expected a file with one of the extensions {known}, got {address}"));
            let hint = "name the format with --input-format jsonl, csv, file-list or files";
            return Err(with_hint(error, hint));
        };
        match found {
            Some((other, first)) if other != *format => {
                let error = Refused(format!("expected files of one format, got {first} and {address}"));
                return Err(with_hint(error, "give each format a job of its own"));
            }
            _ => found = Some((*format, address)),
        }
    }
    found.map(|(format, _)| format).context("expected the address of at least one file, got none")
}

fn cut_files(plan: &mut Plan) -> anyhow::Result<()> {
    let count = plan.inputs.len();
    if count > MAX_FILES {
        let error = Refused(format!("expected at most {MAX_FILES} files, got {count}"));
        return Err(with_hint(
            error,
            "write their addresses into a text file, one a line, and name that as --input",
        ));
    }
    let mut first = 0;
    while first < count {
        let (begin, mut bytes) = (first, 0);
        while first < count && (first - begin) < SHARD_FILES as usize {
            bytes += plan.inputs[first].size;
            if first > begin && bytes > plan.job.shard_size {
                break;
            }
            first += 1;
        }
        plan.shards.push(Shard { input: begin, start: 0, end: 0, line: 0, rows: (first - begin) as u64 });
    }
    Ok(())
}

fn cut_records(
    store: &Store,
    plan: &mut Plan,
    number: usize,
    model: &ModelFacts<'_>,
    most_rows: &mut Option<u64>,
) -> anyhow::Result<()> {
    let input = &plan.inputs[number];
    let is_table = plan.input_format == InputFormat::Csv;
    let is_compressed = is_compressed(store, input)?;
    let content = store.open(input, 0, input.size)?;
    let content = if is_compressed { Box::new(MultiGzDecoder::new(content)) } else { content };
    let mut records = Records::new(content, is_table, 0, 1);
    let failed = |error: io::Error| match error.kind() {
        InvalidInput | InvalidData | UnexpectedEof if is_compressed => {
            Refused(format!("{} is no whole gzip file: {error}", input.address)).into()
        }
        _ => anyhow::Error::new(error).context(format!("cannot read {}", input.address)),
    };
    let mut at = 0;
    let mut header = None;
    if is_table {
        let Some(chunk) = records.next(1, CHUNK_BYTES).map_err(failed)? else { return Ok(()) };
        at = chunk.end;
        header = Some(chunk.bytes(&chunk.records[0]).to_vec());
        super::select::Table::new(&plan.job, header.as_deref().unwrap_or_default())
            .map_err(|error| with_hint(Refused(format!("{}, line 1: {error}", input.address)), HEADER))?;
    }
    let mut shard = Shard { input: number, start: at, end: at, line: records.line(), rows: 0 };
    let mut shards = Vec::new();
    loop {
        let line = records.line();
        let rows = rows_left(&shard, *most_rows).min(RECORDS);
        let bytes = usize::try_from(plan.job.shard_size).unwrap_or(usize::MAX).min(CHUNK_BYTES);
        let Some(chunk) = records.next(rows, bytes).map_err(failed)? else { break };
        if most_rows.is_none() {
            let speed = (model.speed)(&chunk, plan.input_format, header.as_deref());
            let rows = speed.map(|speed| (speed * SHARD_TIME.as_secs_f64()) as u64);
            *most_rows = Some(rows.unwrap_or(u64::MAX).max(1));
        }
        let is_full = shard.rows > 0
            && (chunk.end - shard.start > plan.job.shard_size || shard.rows >= most_rows.unwrap_or(u64::MAX));
        if is_full && !is_compressed {
            let next = Shard { start: shard.end, line, rows: 0, ..shard };
            shards.push(std::mem::replace(&mut shard, next));
        }
        shard.rows += chunk.records.len() as u64;
        shard.end = chunk.end;
    }
    if shard.rows > 0 {
        shards.push(shard);
    }
    plan.shards.extend(shards);
    Ok(())
}

/// Rows that a shard may still get; all, if it is full, since the next shard gets them.
fn rows_left(shard: &Shard, most_rows: Option<u64>) -> usize {
    let Some(most) = most_rows else { return FIRST_RECORDS };
    let left = most.saturating_sub(shard.rows);
    usize::try_from(if left == 0 { most } else { left }).unwrap_or(usize::MAX)
}

fn is_compressed(store: &Store, input: &Input) -> anyhow::Result<bool> {
    let mut magic = Vec::new();
    store.open(input, 0, input.size.min(2))?.read_to_end(&mut magic)?;
    Ok(magic == [0x1f, 0x8b])
}

/// A shard of a file, decompressed.
pub struct OpenShard {
    /// The header of a table.
    pub header: Option<Vec<u8>>,
    pub content: Box<dyn Read + Send>,
}

/// # Errors
/// The file cannot be read, or is not what it was when the job was planned.
pub fn open_shard(store: &Store, plan: &Plan, shard: &Shard) -> anyhow::Result<OpenShard> {
    let (input, is_table) = (&plan.inputs[shard.input], plan.input_format == InputFormat::Csv);
    if is_compressed(store, input)? {
        // Its only shard begins behind the header.
        let mut content = MultiGzDecoder::new(store.open(input, 0, input.size)?);
        let header = is_table.then(|| read_header(input, (&mut content).take(shard.start))).transpose()?;
        return Ok(OpenShard { header, content: Box::new(content.take(shard.end - shard.start)) });
    }
    let first = plan.shards.iter().find(|other| other.input == shard.input).unwrap_or(shard);
    let header = is_table.then(|| read_header(input, store.open(input, 0, first.start)?)).transpose()?;
    Ok(OpenShard { header, content: store.open(input, shard.start, shard.end)? })
}

/// Reads all of `source`, which is the header.
fn read_header(input: &Input, source: impl Read) -> anyhow::Result<Vec<u8>> {
    let chunk = Records::new(source, true, 0, 1).next(1, CHUNK_BYTES)?;
    let chunk = chunk.ok_or_else(|| InputChanged(format!("{} has no header any more", input.address)))?;
    Ok(chunk.bytes(&chunk.records[0]).to_vec())
}

/// The first input that is not as it was when the job was planned.
///
/// # Errors
/// It cannot be looked at.
pub fn changed_input(store: &Store, plan: &Plan) -> anyhow::Result<Option<String>> {
    let mut now = Vec::new();
    for address in &plan.job.input {
        now.extend(store.expand(address)?);
    }
    let (planned, now): (HashSet<&Input>, HashSet<&Input>) =
        (plan.inputs.iter().collect(), now.iter().collect());
    let changed = now.iter().find(|input| !planned.contains(*input)).map(|input| {
        let before = plan.inputs.iter().find(|before| before.address == input.address);
        match before {
            Some(before) => format!("{input} is not what the job was planned with: {before}"),
            None => format!("{input} was not there when the job was planned"),
        }
    });
    let gone = || plan.inputs.iter().find(|before| !now.contains(before));
    Ok(changed.or_else(|| gone().map(|before| format!("{before}, which the job was planned with, is gone"))))
}
