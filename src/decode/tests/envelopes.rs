//! Envelopes: CloudEvents and gzip.

use super::*;
use crate::decode::envelope::memory_bytes;
use crate::decode::event::Mode;
use crate::gzip::compress;

const EVENT: [(&str, &str); 4] =
    [("ce-specversion", "1.0"), ("ce-id", "e1"), ("ce-source", "//s"), ("ce-type", "t")];

#[test]
fn events_carry_every_form() {
    let expected = [f32s(&[1, 2], &[1.0, 2.0])];
    let json = br#"{"instances": [[1, 2]]}"#;
    for (more, body) in [
        (vec![], &json[..]),
        (vec![("content-type", "application/json")], json),
        (vec![("ce-datacontenttype", "text/csv")], b"1,2"),
        (vec![CSV, ("ce-datacontenttype", "application/json")], b"1,2"),
        (vec![("content-encoding", "gzip")], &compress(json)),
    ] {
        let pairs = [&EVENT[..], &more].concat();
        assert_eq!(given(&asked(&pairs, body, &single())), expected);
        let attributes =
            attributes(&[&pairs[..], &[("ce-subject", "s"), ("ce-correlationid", "c")]].concat());
        let event = open(Headers(&attributes), body, &Limits::DEFAULT).response_format.event.unwrap();
        assert_eq!((event.mode, &*event.id), (Mode::Binary, "e1"));
        assert_eq!((event.subject.as_deref(), event.correlation_id.as_deref()), (Some("s"), Some("c")));
    }
    let base =
        r#""specversion": "1.0", "id": "e\u0032", "source": "//s", "type": "t", "subject": null, "x": [1]"#;
    let structured = [("content-type", "application/cloudevents+json; charset=utf-8")];
    for rest in [
        r#""data": {"instances": [[1, 2]]}"#,
        r#""datacontenttype": "application/json", "data": [[1, 2]]"#,
        r#""data": "1,2\n", "datacontenttype": "text/csv""#,
        r#""data_base64": "W1sxLDJdXQ==""#,
        r#""data_base64": "AACAPwAAAEA=", "datacontenttype": "application/octet-stream""#,
    ] {
        let body = format!("{{{base}, {rest}}}");
        assert_eq!(given(&asked(&structured, body.as_bytes(), &single())), expected, "{body}");
        let compressed = [structured[0], ("content-encoding", "GZIP")];
        assert_eq!(given(&asked(&compressed, &compress(body.as_bytes()), &single())), expected, "{body}");
        let attributes = attributes(&structured);
        let event =
            open(Headers(&attributes), body.as_bytes(), &Limits::DEFAULT).response_format.event.unwrap();
        assert_eq!((event.mode, &*event.id, event.subject.as_deref()), (Mode::Structured, "e2", None));
    }
}

#[test]
fn wrong_events_are_refused() {
    let needs = "expected a CloudEvent with specversion, id, source and type, got no";
    for (gone, expected) in [("ce-id", "ce-id"), ("ce-source", "ce-source"), ("ce-type", "ce-type")] {
        let pairs: Vec<_> = EVENT.into_iter().filter(|(key, _)| *key != gone).collect();
        assert_eq!(refused(&pairs, b"[[1, 2]]", &single()), format!("{needs} {expected}"));
    }
    let old = [("ce-specversion", "0.3"), EVENT[1], EVENT[2], EVENT[3]];
    assert_eq!(
        refused(&old, b"[[1, 2]]", &single()),
        "expected a CloudEvent of specversion \"1.0\", got \"0.3\""
    );
    let base = r#""specversion": "1.0", "id": "e", "source": "//s", "type": "t""#;
    let type_of = |rest: &str| format!("{{{base}, {rest}}}");
    for (content_type, body, expected) in [
        (
            "application/cloudevents-batch+json",
            "[]".to_owned(),
            "batched CloudEvents (application/cloudevents-batch) are not supported; send each event as a request",
        ),
        (
            "application/cloudevents+avro",
            String::new(),
            "CloudEvents as \"application/cloudevents+avro\" are not supported; send application/cloudevents+json or ce- attributes",
        ),
        (
            "application/cloudevents",
            "[]".to_owned(),
            "expected a CloudEvent, a JSON object, got an array at byte 0",
        ),
    ] {
        assert_eq!(
            refused(&[("content-type", content_type)], body.as_bytes(), &single()),
            expected,
            "{body}"
        );
    }
    for (body, expected) in [
        ("{}".to_owned(), &*format!("{needs} specversion")),
        (r#"{"specversion": "1.0", "source": "s", "type": "t"}"#.to_owned(), &*format!("{needs} id")),
        (type_of(r#""id": "f""#), "expected each key once, got \"id\" twice"),
        (type_of(r#""subject": 1"#), "expected a string in \"subject\", got a number at byte 75"),
        (type_of(r#""x": 1"#), "expected data or data_base64 in the CloudEvent, got neither"),
        (type_of(r#""data": 1, "data_base64": """#), "expected data or data_base64, got both"),
        (type_of(r#""data": 1, "data": 2"#), "expected each key once, got \"data\" twice"),
        (
            type_of(r#""data_base64": "x""#),
            "data_base64: expected padded base64, got an error: Invalid input length: 1",
        ),
        (
            type_of(r#""data": "x", "datacontenttype": "application/octet-stream""#),
            "expected data_base64 for datacontenttype \"application/octet-stream\", got data",
        ),
        (
            type_of(r#""data": null, "datacontenttype": "text/csv""#),
            "expected a string in \"data\", got null",
        ),
        (
            type_of(r#""data_base64": "", "datacontenttype": "image/tiff""#),
            "content-type \"image/tiff\" is not supported; send one of application/json, text/csv, text/plain, image/jpeg, image/png, image/webp, application/octet-stream or application/cloudevents+json",
        ),
    ] {
        let structured = ("content-type", "application/cloudevents");
        assert_eq!(refused(&[structured], body.as_bytes(), &single()), expected, "{body}");
    }
    let forms = r#"{"instances": […]}, {"inputs": …} or an Open Inference Protocol v2 request"#;
    assert_eq!(
        message(r#"{"specversion": "1.0", "data": []}"#, &single()),
        format!(
            "expected {forms}, got an object with none of their keys; send a CloudEvent with content-type \
             application/cloudevents+json"
        )
    );
}

#[test]
fn compressed_bodies_count_with_their_decompressed_size() {
    let body = compress(br#"{"instances": [[1, 2]]}"#);
    let compressed = attributes(&[("content-encoding", "gzip")]);
    assert_eq!(memory_bytes(Headers(&compressed), &body, &Limits::DEFAULT), body.len() + 23);
    assert_eq!(memory_bytes(Headers(&HashMap::new()), &body, &Limits::DEFAULT), body.len());
    let small = Limits { max_body_bytes: 22, ..Limits::DEFAULT };
    assert_eq!(memory_bytes(Headers(&compressed), &body, &small), body.len());
    for (attributes, body, expected) in [
        (&compressed, &body[..], "expected a body of at most 22 bytes, got "),
        (&compressed, &compress(&[b' '; 30])[..22], ""),
        (&HashMap::new(), &[b' '; 23], "expected a body of at most 22 bytes, got 23"),
    ] {
        let rejection = open(Headers(attributes), body, &small).content.unwrap_err();
        assert!(rejection.message.starts_with(expected), "{rejection}");
    }
    assert_eq!(
        refused(&[("content-encoding", "br")], b"", &single()),
        "content-encoding \"br\" is not supported; send the body compressed by gzip, or as it is (identity)"
    );
    for (value, gzip) in [
        ("gzip", true),
        ("GZIP;q=0.5", true),
        ("br, gzip", true),
        ("gzip;q=0", false),
        ("gzip; q=0.0, br", false),
        ("br", false),
        ("", false),
    ] {
        let attributes = attributes(&[("accept-encoding", value)]);
        assert_eq!(open(Headers(&attributes), b"[]", &Limits::DEFAULT).response_format.gzip, gzip, "{value}");
    }
}
