use super::*;

fn answer(lines: &[(&'static str, &str)]) -> ResponseHeader {
    let mut answer = ResponseHeader::build(200, None).unwrap();
    for (name, value) in lines {
        answer.append_header(*name, *value).unwrap();
    }
    answer
}

fn lines(answer: &ResponseHeader) -> Vec<(String, String)> {
    let lines = answer.headers.iter();
    let mut lines: Vec<_> =
        lines.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
    lines.sort();
    lines
}

#[test]
fn only_what_lasts_is_kept() {
    let mut kept = answer(&[
        ("connection", "close, X-Hop"),
        ("x-hop", "1"),
        ("keep-alive", "timeout=5"),
        ("transfer-encoding", "chunked"),
        ("trailer", "x-t"),
        ("upgrade", "h2c"),
        ("proxy-authenticate", "Basic"),
        ("age", "7"),
        ("etag", "\"a\""),
        ("x-twice", "1"),
        ("x-twice", "2"),
    ]);
    keep_only_what_lasts(&mut kept, UNIX_EPOCH);
    assert_eq!(
        lines(&kept),
        lines(&answer(&[
            ("date", "Thu, 01 Jan 1970 00:00:00 GMT"),
            ("etag", "\"a\""),
            ("x-twice", "1"),
            ("x-twice", "2"),
        ]))
    );
}

#[test]
fn an_answer_found_good_takes_over_what_is_new() {
    let mut kept = answer(&[
        ("content-type", "text/html"),
        ("content-length", "3"),
        ("etag", "\"a\""),
        ("vary", "accept"),
        ("x-old", "1"),
        ("x-both", "1"),
    ]);
    let newer = answer(&[
        ("content-type", "text/plain"),
        ("content-length", "0"),
        ("etag", "\"b\""),
        ("vary", "*"),
        ("x-both", "2"),
        ("x-both", "3"),
        ("date", "now"),
    ]);
    update(&mut kept, &newer.headers);
    assert_eq!(
        lines(&kept),
        lines(&answer(&[
            ("content-type", "text/html"),
            ("content-length", "3"),
            ("etag", "\"b\""),
            ("vary", "accept"),
            ("x-old", "1"),
            ("x-both", "2"),
            ("x-both", "3"),
            ("date", "now"),
        ]))
    );
}
