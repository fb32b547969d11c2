use super::*;
use proptest::prelude::*;

/// Reads as a reader does: never more than it was told to. What was found and how much was read.
fn read(bytes: &[u8]) -> (Result<Progress, Malformed>, usize) {
    let mut read = 0;
    loop {
        match parse(&bytes[..read]) {
            Ok(Progress::Needs(more)) if read + more <= bytes.len() => read += more,
            found => return (found, read),
        }
    }
}

fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [&V2[..], &[command, family], &length, body].concat()
}

const V4_BODY: [u8; 12] = [192, 0, 2, 7, 10, 0, 0, 1, 0x1f, 0x90, 0, 80];

fn client(text: &str) -> Source {
    Source::Client(text.parse().unwrap())
}

#[test]
fn headers_of_the_specification() {
    let v6_body: Vec<u8> =
        [&"2001:db8::7".parse::<Ipv6Addr>().unwrap().octets()[..], &[0; 16], &[0x1f, 0x90, 0, 80]]
            .concat();
    let longest = "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
                   ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
    let unknown = "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
                   ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
    assert_eq!((longest.len(), unknown.len()), (104, 107));
    let rows: Vec<(Vec<u8>, Source)> = vec![
        (
            "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n".into(),
            client("255.255.255.255:65535"),
        ),
        ("PROXY TCP4 192.0.2.7 10.0.0.1 8080 80\r\n".into(), client("192.0.2.7:8080")),
        ("PROXY TCP6 2001:db8::7 ::1 8080 0\r\n".into(), client("[2001:db8::7]:8080")),
        (longest.into(), client("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535")),
        ("PROXY UNKNOWN\r\n".into(), Source::Unknown),
        (unknown.into(), Source::Unknown),
        (v2(0x21, 0x11, &V4_BODY), client("192.0.2.7:8080")),
        (v2(0x21, 0x21, &v6_body), client("[2001:db8::7]:8080")),
        (v2(0x21, 0x11, &[&V4_BODY[..], &[4, 0, 1, 0]].concat()), client("192.0.2.7:8080")),
        (v2(0x21, 0x11, &[&V4_BODY[..], &[0xee; 4_084]].concat()), client("192.0.2.7:8080")),
        (v2(0x21, 0x12, &V4_BODY), Source::Unknown),
        (v2(0x21, 0x31, &[0; 216]), Source::Unknown),
        (v2(0x21, 0x00, &[]), Source::Unknown),
        (v2(0x20, 0x00, &[]), Source::Balancer),
        (v2(0x20, 0x11, &V4_BODY), Source::Balancer),
        (v2(0x20, 0x21, &[1, 2, 3]), Source::Balancer),
    ];
    for (header, expected) in rows {
        let request = [&header[..], b"GET / HTTP/1.1\r\n\r\n"].concat();
        assert_eq!(
            read(&request),
            (Ok(Progress::Whole(expected)), header.len()),
            "{:?}",
            String::from_utf8_lossy(&header)
        );
    }
}

#[test]
fn what_is_no_header_is_refused() {
    let no_end = format!("PROXY UNKNOWN {}", "x".repeat(120));
    let rows: Vec<Vec<u8>> = vec![
        "GET / HTTP/1.1\r\n\r\n".into(),
        "proxy TCP4 1.1.1.1 2.2.2.2 1 2\r\n".into(),
        "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n\r\n".into(),
        "PROXY TCP4 1.1.1.1 2.2.2.2 1\r2\r\n".into(),
        "PROXY  TCP4 1.1.1.1 2.2.2.2 1 2\r\n".into(),
        "PROXY TCP4 1.1.1.1  2.2.2.2 1 2\r\n".into(),
        "PROXY TCP4 1.1.1.1 2.2.2.2 1 2 \r\n".into(),
        "PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n".into(),
        "PROXY TCP4 1.1.1.1 2.2.2.2 1 65536\r\n".into(),
        "PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n".into(),
        "PROXY TCP4 1.1.1.1 2.2.2.2 +1 2\r\n".into(),
        "PROXY TCP4 1.1.1.01 2.2.2.2 1 2\r\n".into(),
        "PROXY TCP4 1.1.1 2.2.2.2 1 2\r\n".into(),
        "PROXY TCP4 ::1 ::2 1 2\r\n".into(),
        "PROXY TCP6 1.1.1.1 2.2.2.2 1 2\r\n".into(),
        "PROXY TCP6 fe80::1%eth0 ::2 1 2\r\n".into(),
        "PROXY UDP4 1.1.1.1 2.2.2.2 1 2\r\n".into(),
        "PROXY unknown\r\n".into(),
        "PROXY TCP4 \u{ff11}.1.1.1 2.2.2.2 1 2\r\n".into(),
        no_end.into(),
        b"\r\n\r\n\0\r\nQUIT\r".to_vec(),
        v2(0x11, 0x11, &V4_BODY),
        v2(0x22, 0x11, &V4_BODY),
        v2(0x21, 0x13, &V4_BODY),
        v2(0x21, 0x41, &V4_BODY),
        v2(0x21, 0x11, &V4_BODY[..11]),
        v2(0x21, 0x21, &[0; 35]),
        v2(0x21, 0x31, &[0; 215]),
        v2(0x21, 0x11, &[0; 4_097]),
        v2(0x20, 0x00, &[0; 4_097]),
    ];
    for header in rows {
        let (found, read) = read(&header);
        assert!(found.is_err() && read <= MAX_V1_BYTES, "{:?}", String::from_utf8_lossy(&header));
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), head in 0..3) {
        let beginning: &[u8] = match head { 0 => b"", 1 => V1, _ => V2 };
        let bytes = [beginning, &bytes].concat();
        let _ = parse(&bytes);
        let (found, read) = read(&bytes);
        prop_assert!(read <= bytes.len());
        if let Ok(Progress::Needs(more)) = found {
            prop_assert!(more > 0 && read + more <= V2_HEAD_BYTES + MAX_V2_BYTES);
        }
    }

    /// Wherever a header is torn, more of it is needed, and never more than there is.
    #[test]
    fn a_torn_header_is_waited_for(address: [u8; 4], port: u16, extensions in 0_usize..300, line: bool, cut in any::<proptest::sample::Index>()) {
        let source = SocketAddr::new(Ipv4Addr::from(address).into(), port);
        let header = if line {
            format!("PROXY TCP4 {} 10.0.0.1 {port} 80\r\n", source.ip()).into_bytes()
        } else {
            let body = [&address[..], &[10, 0, 0, 1], &port.to_be_bytes(), &[0, 80]].concat();
            v2(0x21, 0x11, &[&body[..], &vec![7; extensions]].concat())
        };
        prop_assert_eq!(parse(&header), Ok(Progress::Whole(Source::Client(source))));
        let cut = cut.index(header.len());
        match parse(&header[..cut]) {
            Ok(Progress::Needs(more)) => prop_assert!(cut + more <= header.len()),
            other => prop_assert!(false, "{:?}", other),
        }
    }
}
