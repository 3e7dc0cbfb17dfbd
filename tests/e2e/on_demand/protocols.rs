use std::io::{Read as _, Write as _};

use serde_json::json;

use super::{instances, post, serve_wine, value};
use crate::requests::references::{ALLOWED, store, wine_world};
use crate::requests::zoo::equal;
use crate::support::command::predictd;
use crate::support::harness::{http, outcome, repository, temporary};
use crate::support::oracle::wine;

/// The body of a response is, byte for byte, that of `predictd predict`.
#[tokio::test(flavor = "multi_thread")]
async fn predict_answers_as_the_command_does() {
    let worker = serve_wine(&[]).await;
    let row: Vec<String> = wine().rows[0].as_array().unwrap().iter().map(ToString::to_string).collect();
    let floats: Vec<u8> = wine().rows[0]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|number| (number.as_f64().unwrap() as f32).to_le_bytes())
        .collect();
    let tensor = json!({"name": "input", "shape": [1, 13], "datatype": "FP32", "data": wine().rows[0]});
    for (content_type, body) in [
        ("", instances(1).into_bytes()),
        ("application/json", json!({"id": "a", "inputs": wine().rows[..3]}).to_string().into_bytes()),
        ("application/json", json!({"inputs": [tensor]}).to_string().into_bytes()),
        ("text/csv; header=absent", row.join(",").into_bytes()),
        ("application/octet-stream", floats),
        ("application/json", b"{\"instances\": [[1, 2]]}".to_vec()),
        ("text/csv", b"alcohol\n1".to_vec()),
        ("image/png", b"x".to_vec()),
    ] {
        let (_folder, path) = temporary("request", "");
        std::fs::write(&path, &body).unwrap();
        let model = repository().join("tests/models/wine/2");
        let arguments = ["predict", "--model", model.to_str().unwrap(), "--input", path.to_str().unwrap()];
        let of_type = (!content_type.is_empty()).then_some(["--content-type", content_type]);
        let arguments: Vec<&str> = arguments.into_iter().chain(of_type.into_iter().flatten()).collect();
        let (_, printed, _) = outcome(predictd(&arguments), "");
        let headers = [("content-type", content_type)];
        let headers = if content_type.is_empty() { &[][..] } else { &headers[..] };
        let (status, _, answered) = post(&worker, "/predict", headers, body.clone()).await;
        assert_eq!(String::from_utf8_lossy(&answered), printed, "{status}");
    }
}

/// `curl -d` sends the content type of a form.
#[tokio::test(flavor = "multi_thread")]
async fn a_form_without_fields_is_read_by_its_bytes() {
    let worker = serve_wine(&[]).await;
    let form = [("content-type", "application/x-www-form-urlencoded")];
    for path in ["/predict", "/predict?model=wine&version=2", "/invocations", "/v1/models/wine:predict"] {
        let (status, headers, body) = post(&worker, path, &form, instances(2)).await;
        assert_eq!(status, 200, "{path}: {body:?}");
        assert_eq!(
            (&headers["x-predictd-model"], &headers["x-predictd-model-version"]),
            (&"wine".parse().unwrap(), &"2".parse().unwrap())
        );
        assert_eq!(headers["content-type"], "application/json");
        assert_eq!(value(&body)["predictions"].as_array().unwrap().len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_are_one_request_a_file() {
    let worker = serve_wine(&[]).await;
    let file = |name: &str, kind: &str, body: &str| {
        let kind = if kind.is_empty() { String::new() } else { format!("content-type: {kind}\r\n") };
        format!(
            "--B\r\ncontent-disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n{kind}\r\n{body}\r\n"
        )
    };
    let upload = async |files: &[String]| {
        let body = files.concat() + "--B--\r\n";
        let (status, _, body) =
            post(&worker, "/predict", &[("content-type", "multipart/form-data; boundary=B")], body).await;
        (status, value(&body))
    };
    let row: Vec<String> = wine().rows[1].as_array().unwrap().iter().map(ToString::to_string).collect();
    let files = [file("a.json", "", &instances(1)), file("b.csv", "text/csv; header=absent", &row.join(","))];
    let (status, answer) = upload(&files).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["prediction"], answer["predictions"]);
    assert_eq!((&answer["model"], &answer["model_version"]), (&json!("wine"), &json!("2")));
    let single = value(&post(&worker, "/predict", &[], instances(2)).await.2);
    assert_eq!(answer["predictions"], single["predictions"]);

    let (status, answer) = upload(&[file("a.tiff", "image/tiff", "x")]).await;
    assert_eq!((status, &answer["error"]["code"]), (400, &json!("INVALID_INPUT")));
    assert_eq!(answer["detail"], answer["error"]["message"]);
    assert!(answer["detail"].as_str().unwrap().starts_with("file \"a.tiff\": content-type"), "{answer}");
    let (status, answer) = upload(&[]).await;
    assert_eq!(status, 400);
    assert!(answer["detail"].as_str().unwrap().contains("expected one or more fields \"file\""), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tensorflow_serving_and_kserve() {
    let worker = serve_wine(&[]).await;
    for path in ["/v1/models/wine", "/v1/models/wine/versions/2", "/v1/models/wine/labels/stable"] {
        let (status, body) = worker.get(path).await;
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        let entry = json!({"version": "2", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}});
        assert_eq!((status, &body["model_version_status"]), (200, &json!([entry])), "{path}");
        assert_eq!((&body["name"], &body["ready"]), (&json!("wine"), &json!(true)));
        let predict = format!("{path}:predict");
        let octets = [("content-type", "application/octet-stream")];
        let (status, _, body) = post(&worker, &predict, &octets, instances(1)).await;
        let predictions = &value(&body)["predictions"];
        assert_eq!(status, 200);
        assert!(
            equal(&predictions[0]["probabilities"], &wine().versions["2"]["probabilities"][0], 1e-5),
            "{predictions}"
        );
    }
    let (_, models) = worker.get("/v1/models").await;
    assert_eq!(value(models.as_bytes()), json!({"models": ["wine"]}));
    let (_, metadata) = worker.get("/v1/models/wine/metadata").await;
    let metadata = value(metadata.as_bytes());
    let signature = &metadata["metadata"]["signature_def"]["signature_def"]["serving_default"];
    let dim = json!([{"size": "-1", "name": ""}, {"size": "13", "name": ""}]);
    assert_eq!(signature["inputs"]["input"]["dtype"], "DT_FLOAT");
    assert_eq!(signature["inputs"]["input"]["tensor_shape"]["dim"], dim);
    assert_eq!(metadata["model_spec"]["version"], "2");

    let names = [
        "alcohol",
        "malic_acid",
        "ash",
        "alcalinity_of_ash",
        "magnesium",
        "total_phenols",
        "flavanoids",
        "nonflavanoid_phenols",
        "proanthocyanins",
        "color_intensity",
        "hue",
        "od280/od315_of_diluted_wines",
        "proline",
    ];
    let row = wine().rows[0].as_array().unwrap();
    let example: serde_json::Map<_, _> =
        names.iter().zip(row).skip(1).map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    let classify = json!({"context": {"alcohol": row[0]}, "examples": [example]}).to_string();
    let (status, _, body) = post(&worker, "/v1/models/wine:classify", &[], classify.clone()).await;
    let body = value(&body);
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["results"][0].as_array().unwrap().len(), 3);
    assert_eq!(body["results"][0][0][0], "0");
    let (status, _, body) = post(&worker, "/v1/models/wine:regress", &[], classify).await;
    assert_eq!(status, 501, "{:?}", value(&body));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_open_inference_protocol_and_its_extensions() {
    let worker = serve_wine(&[]).await;
    let get = async |path: &str| {
        let (status, body) = worker.get(path).await;
        (status, value(body.as_bytes()))
    };
    assert_eq!(get("/v2").await.1["name"], "predictd");
    assert_eq!(get("/v2/health/live").await, (200, json!({"live": true})));
    assert_eq!(get("/v2/health/ready").await, (200, json!({"ready": true})));
    assert_eq!(get("/v2/models/wine/ready").await, (200, json!({"name": "wine", "ready": true})));
    assert_eq!(get("/v2/models/wine/versions/2/ready").await.0, 200);
    let (_, metadata) = get("/v2/models/wine").await;
    assert_eq!(metadata["inputs"], json!([{"name": "input", "datatype": "FP32", "shape": [-1, 13]}]));
    assert_eq!((&metadata["versions"], &metadata["platform"]), (&json!(["2"]), &json!("onnxruntime_onnx")));
    let (_, config) = get("/v2/models/wine/config").await;
    assert_eq!(config["max_batch_size"], 128);
    assert_eq!(config["input"], json!([{"name": "input", "data_type": "TYPE_FP32", "dims": [13]}]));

    let rows: Vec<f32> = wine().rows[..2]
        .iter()
        .flat_map(|row| row.as_array().unwrap())
        .map(|n| n.as_f64().unwrap() as f32)
        .collect();
    let bytes: Vec<u8> = rows.iter().flat_map(|number| number.to_le_bytes()).collect();
    let header = json!({"id": "7", "inputs": [{"name": "input", "shape": [2, 13], "datatype": "FP32",
        "parameters": {"binary_data_size": bytes.len()}}], "parameters": {"binary_data_output": true}})
    .to_string();
    let length = header.len().to_string();
    let headers = [("inference-header-content-length", length.as_str()), ("content-type", "text/plain")];
    let body = [header.into_bytes(), bytes].concat();
    let (status, headers, answer) = post(&worker, "/v2/models/wine/versions/2/infer", &headers, body).await;
    assert_eq!(status, 200, "{:?}", String::from_utf8_lossy(&answer));
    assert_eq!(headers["content-type"], "application/octet-stream");
    let length: usize = headers["inference-header-content-length"].to_str().unwrap().parse().unwrap();
    let json_part = value(&answer[..length]);
    assert_eq!((&json_part["id"], &json_part["model_version"]), (&json!("7"), &json!("2")));
    assert_eq!(answer.len() - length, 2 * 8 + 2 * 3 * 4);

    let (_, stats) = get("/v2/models/wine/stats").await;
    let stats = &stats["model_stats"][0];
    assert_eq!(
        (&stats["inference_count"], &stats["inference_stats"]["success"]["count"]),
        (&json!(2), &json!(1))
    );
    assert!(stats["inference_stats"]["compute_infer"]["ns"].as_u64().unwrap() > 0);
    let (status, _, index) = post(&worker, "/v2/repository/index", &[], "{}").await;
    assert_eq!((status, &value(&index)[0]["state"]), (200, &json!("READY")));
    assert_eq!(post(&worker, "/v2/repository/models/wine/unload", &[], "{}").await.0, 501);
}

#[tokio::test(flavor = "multi_thread")]
async fn mlflow_and_sagemaker() {
    let worker = serve_wine(&[]).await;
    assert_eq!(worker.get("/ping").await, (200, "\n".to_owned()));
    assert_eq!(worker.get("/version").await.0, 200);
    let columns = json!({"inputs": {"input": wine().rows[..2]}}).to_string();
    let (status, _, body) =
        post(&worker, "/invocations", &[("content-type", "application/json")], columns).await;
    let body = value(&body);
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["predictions"]["label"].as_array().unwrap().len(), 2);
    let (status, _, body) = post(&worker, "/invocations", &[], "{}").await;
    assert_eq!((status, &value(&body)["error_code"]), (400, &json!("BAD_REQUEST")));
    let parquet = [("content-type", "application/x-parquet")];
    assert_eq!(post(&worker, "/invocations", &parquet, "x").await.0, 415);
}

/// Both ways, where it pays; a body of a few bytes is sent as it is.
#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_compressed_as_their_headers_say() {
    let worker = serve_wine(&[]).await;
    let plain = instances(100);
    let (_, _, expected) = post(&worker, "/v1/models/wine:predict", &[], plain.clone()).await;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(plain.as_bytes()).unwrap();
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    zlib.write_all(plain.as_bytes()).unwrap();
    for (coding, body) in [("gzip", gzip.finish().unwrap()), ("deflate", zlib.finish().unwrap())] {
        let headers = [("content-encoding", coding), ("accept-encoding", coding)];
        for path in ["/predict", "/v1/models/wine:predict"] {
            let (status, headers, answer) = post(&worker, path, &headers, body.clone()).await;
            assert_eq!(status, 200, "{}", String::from_utf8_lossy(&answer));
            assert_eq!(headers["content-encoding"], coding);
            let mut read = Vec::new();
            match coding {
                "gzip" => flate2::read::GzDecoder::new(&*answer).read_to_end(&mut read).unwrap(),
                _ => flate2::read::ZlibDecoder::new(&*answer).read_to_end(&mut read).unwrap(),
            };
            assert_eq!(read, expected);
        }
    }
    let (_, headers, _) =
        post(&worker, "/predict", &[("accept-encoding", "gzip, deflate")], instances(1)).await;
    assert!(!headers.contains_key("content-encoding"));
    let broken = [("content-encoding", "deflate")];
    let (status, _, body) = post(&worker, "/predict", &broken, "x").await;
    assert_eq!(status, 400);
    assert!(String::from_utf8_lossy(&body).contains("compressed as its header says"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cloud_event_is_answered_by_one() {
    let worker = serve_wine(&[]).await;
    let headers = [
        ("ce-specversion", "1.0"),
        ("ce-id", "7"),
        ("ce-source", "/cellar"),
        ("ce-type", "t"),
        ("ce-subject", "caf%C3%A9"),
        ("content-type", "application/json"),
        ("x-request-id", "r-1"),
    ];
    let (status, headers, _) = post(&worker, "/predict", &headers, instances(1)).await;
    assert_eq!(status, 200);
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    assert_eq!(
        (header("ce-id"), header("ce-subject")),
        ("prediction-r-1".to_owned(), "caf%C3%A9".to_owned())
    );
    assert_eq!((header("ce-causationid"), header("x-request-id")), ("7".to_owned(), "r-1".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reference_is_followed_into_allowed_buckets() {
    let world = wine_world().await;
    let worker = world.ready_worker(&[ALLOWED]).await;
    store(&world, "inputs", "rows.json", instances(2), "application/json");
    let expected = value(&post(&worker, "/predict", &[], instances(2)).await.2);
    let by_body = json!({"dataref": "gs://inputs/rows.json"}).to_string();
    let (status, _, body) = post(&worker, "/predict", &[], by_body).await;
    assert_eq!((status, value(&body)), (200, expected.clone()));
    let by_header = [("dataref", "gs://inputs/rows.json")];
    let (status, _, body) = post(&worker, "/predict", &by_header, "").await;
    assert_eq!((status, value(&body)), (200, expected));
    for (object, status) in [("inputs/none.json", 400), ("secret/rows.json", 403)] {
        let body = json!({"dataref": format!("gs://{object}")}).to_string();
        let (got, _, body) = post(&worker, "/predict", &[], body).await;
        assert_eq!(got, status, "{}", value(&body));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_path_says_which_methods_it_has() {
    let worker = serve_wine(&[]).await;
    let address = worker.address().await;
    for (path, allowed) in [
        ("/predict", "POST"),
        ("/v1/models/wine", "GET,HEAD"),
        ("/v1/models/wine:predict", "POST"),
        ("/v2/models/wine", "GET,HEAD"),
    ] {
        let response = http().delete(format!("http://{address}{path}")).send().await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["allow"]),
            (405, &allowed.parse().unwrap()),
            "{path}"
        );
        assert!(response.text().await.unwrap().contains("got DELETE"));
    }
    let (status, body) = worker.get("/v3").await;
    assert_eq!(status, 404);
    assert!(body.contains("/v3"), "{body}");
}
