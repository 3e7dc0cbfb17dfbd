//! Any file of lines, or table, with any choice of fields: it is cut into the same records wherever a shard begins,
//! what is chosen of them is JSON, and records that are decoded together give what each gives alone.
#![no_main]

mod signatures;

use std::ops::Range;

use libfuzzer_sys::fuzz_target;
use predictd::decode::{Limits, Request, decode_lines, decode_table};
use predictd::files::job::JobSpec;
use predictd::files::records::{CHUNK_BYTES, Chunk, Records};
use predictd::files::select::{self, Table};

/// All records, read so many at a time.
fn records(text: &[u8], is_table: bool, most: usize) -> Vec<Chunk> {
    let mut records = Records::new(text, is_table, 0, 1);
    std::iter::from_fn(|| records.next(most, CHUNK_BYTES).expect("memory can be read")).collect()
}

fn texts(chunks: &[Chunk]) -> Vec<(u64, &[u8])> {
    let records = |chunk: &'_ Chunk| chunk.records.len();
    assert!(chunks.iter().all(|chunk| records(chunk) > 0));
    chunks.iter().flat_map(|chunk| chunk.records.iter().map(|one| (one.line, chunk.bytes(one)))).collect()
}

/// A job with the fields `a` to `c` in these parts.
fn job(options: u8) -> JobSpec {
    let mut job = JobSpec::new("m".to_owned(), vec!["in".to_owned()], "out".to_owned());
    job.key_field = (options & 1 > 0).then(|| "a".to_owned());
    match options >> 1 & 3 {
        1 => job.include = vec!["b".to_owned()],
        2 => job.exclude = vec!["b".to_owned()],
        _ => {}
    }
    if options & 8 > 0 {
        job.parameters.insert("c".to_owned(), "1, \"x\"\n".into());
    }
    job
}

fn assert_json(text: &[u8]) {
    let read = serde_json::from_slice::<serde_json::Value>(text);
    assert!(read.is_ok(), "{}: {read:?}", String::from_utf8_lossy(text));
}

/// A record with chosen fields is a record of its kind, and the fields of results are JSON.
fn select(job: &JobSpec, header: Option<&[u8]>, rows: &[(u64, &[u8])]) {
    let Some(header) = header else {
        for (_, row) in rows {
            let Ok(selected) = select::object(job, row) else { continue };
            assert_json(&selected.instance);
            selected.key.iter().for_each(|key| assert_json(key));
        }
        return;
    };
    let Ok(table) = Table::new(job, header) else { return };
    for (_, row) in rows {
        if let Ok(object) = table.object(row) {
            assert_json(&object);
        }
        if let Ok(selected) = table.row(row) {
            selected.key.iter().for_each(|key| assert_json(key));
        }
    }
}

/// The inputs of requests that could be one.
fn joined(requests: Vec<Request>) -> Option<String> {
    let mut requests = requests.into_iter();
    let mut first = requests.next()?;
    let is_one = requests.all(|request| first.append(request).is_none());
    is_one.then(|| format!("{:?}", first.inputs))
}

fuzz_target!(|data: &[u8]| {
    let [options, which, most, text @ ..] = data else { return };
    let is_table = options & 16 > 0;
    let whole = records(text, is_table, usize::MAX);
    let parts = records(text, is_table, 1 + usize::from(*most % 7));
    assert_eq!(texts(&whole), texts(&parts));
    // A shard begins behind any chunk.
    let mut start = 0;
    for part in &parts {
        let end = usize::try_from(part.end).expect("the text is in memory");
        let mut shard = Records::new(&text[start..end], is_table, start as u64, part.records[0].line);
        let read = shard.next(usize::MAX, CHUNK_BYTES).expect("memory can be read").expect("it has records");
        assert_eq!(read.end, part.end);
        let content = |chunk: &Chunk| chunk.records.iter().map(|one| chunk.bytes(one).to_vec()).collect::<Vec<_>>();
        assert_eq!(content(&read), content(part));
        start = end;
    }
    let mut rows = texts(&whole);
    let header = (is_table && !rows.is_empty()).then(|| rows.remove(0).1);
    select(&job(*options), header, &rows);

    let signature = signatures::signature(*which);
    if !signature.batched || rows.is_empty() {
        return;
    }
    let limits = Limits { max_elements: 1 << 16, max_body_bytes: 1 << 20, ..Limits::DEFAULT };
    let decode = |rows: &[(u64, &[u8])]| match header {
        Some(header) => {
            let lines: Vec<&[u8]> = std::iter::once(header).chain(rows.iter().map(|row| row.1)).collect();
            decode_table(&[&lines.join(&b'\n')[..], b"\n"].concat(), &signature, &limits)
        }
        None => {
            let (mut text, mut places) = (Vec::new(), Vec::<Range<usize>>::new());
            for (_, row) in rows {
                places.push(text.len()..text.len() + row.len());
                text.extend_from_slice(row);
                text.push(b'\n');
            }
            decode_lines(&text, &places, &signature, &limits)
        }
    };
    let Ok(together) = decode(&rows) else { return };
    if together.rows != rows.len() {
        return;
    }
    let alone: Vec<Request> = rows
        .iter()
        .map(|row| decode(&[*row]).expect("a row that is decoded with others is decoded alone"))
        .collect();
    assert!(alone.iter().all(|request| request.rows == 1));
    if let Some(alone) = joined(alone) {
        assert_eq!(format!("{:?}", together.inputs), alone);
    }
});
