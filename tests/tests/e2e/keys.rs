//! Who asks with a key, and with what else.

use penstock_tests::{Penstock, Shop, Upstream, until};
use serde_json::Value;
use std::time::Duration;

/// Runs `penstock-control` over the shop's data and gives what it printed.
fn control(penstock: &Penstock, arguments: &[&str]) -> String {
    penstock.shop.control(arguments).ok().stdout
}

/// Makes a key: its id and its text.
fn make(penstock: &Penstock, arguments: &[&str]) -> (String, String) {
    let create = ["keys", "create", "--name", "till 7", "--json"];
    let made = control(penstock, &[&create[..], arguments].concat());
    let made: Value = serde_json::from_str(&made).unwrap();
    let text = |field: &str| made[field].as_str().unwrap().to_owned();
    (text("id"), text("key"))
}

async fn in_force(penstock: &Penstock, keys: u64) {
    until("the keys are in force", Duration::from_secs(5), async || {
        (penstock.status().await["keys"]["keys"] == keys).then_some(())
    })
    .await;
}

/// GET with header lines; the status and the end of the problem's type.
async fn ask(penstock: &Penstock, target: &str, lines: &[(&str, &str)]) -> (u16, String) {
    let request = penstock.request("GET", target);
    let request =
        lines.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let reply = penstock.send(request).await;
    if reply.status < 400 {
        return (reply.status, String::new());
    }
    if reply.status == 401 {
        assert_eq!(reply.header("www-authenticate"), "Bearer realm=\"penstock\"");
    }
    let kind = reply.problem()["type"].as_str().unwrap().replace("/problems/", "");
    (reply.status, kind)
}

#[tokio::test]
async fn a_key_that_is_not_good_is_401_and_counts_against_the_address() {
    let penstock = Penstock::over(Shop::demo())
        .policy("limits.toml", "[address.search]\nper_minute = 20\nburst = 25\n")
        .start()
        .await;
    let (id, key) = make(&penstock, &[]);
    let (_, elsewhere) = make(&penstock, &["--network", "10.0.0.0/8"]);
    let (_, short_lived) = make(&penstock, &["--expires", "1s"]);
    in_force(&penstock, 3).await;
    let bearer = format!("Bearer {key}");
    let lower = format!("apikey  {key}");
    let popular = "/popular?k=1";
    until("it expired", Duration::from_secs(10), async || {
        (ask(&penstock, popular, &[("x-api-key", &short_lived)]).await.0 == 401).then_some(())
    })
    .await;
    let unknown = key.replace(&id, "aaaaaaaaaaaa");
    let wrong = format!("{}{}", &key[..17], &elsewhere[17..]);
    let unauthorized = (401, "unauthorized".to_owned());
    for (lines, expected) in [
        (vec![("authorization", bearer.as_str())], (200, String::new())),
        (vec![("Authorization", lower.as_str())], (200, String::new())),
        (vec![("X-API-Key", &key)], (200, String::new())),
        (vec![("authorization", &bearer), ("x-api-key", &key)], (200, String::new())),
        (vec![("authorization", "Basic dTpw")], (200, String::new())),
        (vec![("x-api-key", &unknown)], unauthorized.clone()),
        (vec![("x-api-key", &wrong)], unauthorized.clone()),
        (vec![("x-api-key", "")], unauthorized.clone()),
        (vec![("authorization", "Bearer eyJ")], unauthorized.clone()),
        (vec![("authorization", &bearer), ("x-api-key", &unknown)], unauthorized.clone()),
        (vec![("x-api-key", &elsewhere)], (403, "key-not-allowed-here".to_owned())),
    ] {
        assert_eq!(ask(&penstock, popular, &lines).await, expected, "{lines:?}");
    }
    // Guessing is not free, however it is written.
    let mut guesses = Vec::new();
    for n in 0..30 {
        let guess = format!("psk_{}_{}", "a".repeat(12), format!("{n:x}").repeat(64));
        let line = [("authorization", "Bearer x"), ("x-api-key", guess.as_str())];
        guesses.push(ask(&penstock, &format!("/search?q=mug+{n}"), &line[n % 2..]).await.0);
    }
    assert_eq!(guesses.iter().filter(|&&status| status == 401).count(), 25, "{guesses:?}");
    assert!(guesses.iter().all(|status| [401, 429].contains(status)), "{guesses:?}");
    // Nor where requests are not limited.
    let guess = format!("psk_{}_{}", "a".repeat(12), "0".repeat(64));
    assert_eq!(ask(&penstock, "/page", &[]).await.0, 404);
    assert_eq!(ask(&penstock, "/page", &[("x-api-key", &guess)]).await.0, 429);

    // Ids and names are written down, secrets never.
    let reply = penstock.send(penstock.request("GET", popular).header("x-api-key", &key)).await;
    let trace = reply.header("x-trace-id").to_owned();
    let record = until("the decision", Duration::from_secs(5), async || {
        let found = penstock.ops(&format!("/decisions/{trace}")).await;
        (found.status == 200).then(|| found.json())
    })
    .await;
    assert_eq!(record[0]["client"]["key"]["id"], id.as_str());
    assert_eq!(record[0]["client"]["key"]["name"], "till 7");
    let metrics = penstock.ops("/metrics").await.body;
    let metrics = String::from_utf8_lossy(&metrics).into_owned();
    assert!(metrics.contains("penstock_keys 3\n"), "{metrics}");
    assert!(metrics.contains("penstock_keys_refused_total{why=\"wrong_secret\"} 1\n"), "{metrics}");
    let everything = [record.to_string(), metrics, penstock.logs()].concat();
    for secret in [&key, &elsewhere, &short_lived, &wrong] {
        assert!(!everything.contains(&secret[17..]), "a secret was written down");
    }
}

#[tokio::test]
async fn a_revoked_key_is_refused_within_a_second() {
    let penstock =
        Penstock::over(Shop::demo()).policy("limits.toml", "enabled = false\n").start().await;
    let (id, key) = make(&penstock, &[]);
    let (_, other) = make(&penstock, &[]);
    in_force(&penstock, 2).await;
    let status = async |key: &str| ask(&penstock, "/popular?k=1", &[("x-api-key", key)]).await.0;
    assert_eq!(status(&key).await, 200);
    control(&penstock, &["keys", "revoke", &id]);
    let began = penstock_config::clock::now();
    let traffic = async {
        until("it is refused", Duration::from_secs(5), async || {
            (status(&key).await == 401).then_some(())
        })
        .await;
        began.elapsed()
    };
    let took = traffic.await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(status(&other).await, 200);

    // A torn line changes nothing; the next command ends it and is in force.
    let path = penstock.shop.data().join("policy/keys.jsonl");
    let mut text = std::fs::read(&path).unwrap();
    text.extend(b"{\"create\":{\"id\":\"abc");
    std::fs::write(&path, text).unwrap();
    let (_, third) = make(&penstock, &[]);
    until("the third is in force", Duration::from_secs(5), async || {
        (status(&third).await == 200).then_some(())
    })
    .await;
    assert_eq!(status(&other).await, 200);
    assert_eq!(status(&key).await, 401);
    assert_eq!(penstock.status().await["keys"]["problems"], 1);
    std::fs::remove_file(&path).unwrap();
    until("it is told", Duration::from_secs(5), async || {
        penstock.status().await["keys"]["error"].as_str().map(drop)
    })
    .await;
    assert_eq!((status(&third).await, status(&key).await), (200, 401));
}

#[tokio::test]
async fn the_application_keeps_its_own_tokens_and_never_sees_ours() {
    let upstream = Upstream::http1().await;
    let penstock = Penstock::before(&[upstream.address]).await;
    let (_, key) = make(&penstock, &[]);
    in_force(&penstock, 1).await;
    let bearer = format!("Bearer {key}");
    let seen = async |lines: &[(&str, &str)]| {
        let (status, _) = ask(&penstock, "/account", lines).await;
        let last = upstream.requests().pop();
        let all = |name: &str| -> Vec<String> {
            let last = last.as_ref().filter(|_| status == 200);
            last.map_or(vec![], |seen| seen.all(name).into_iter().map(Into::into).collect())
        };
        (status, all("authorization"), all("x-api-key"))
    };
    let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
    let theirs = [("authorization", "Bearer eyJ"), ("x-api-key", "theirs")];
    assert_eq!(seen(&theirs).await, (200, texts(&["Bearer eyJ"]), texts(&["theirs"])));
    let both = [theirs[0], ("X-Api-Key", &key)];
    assert_eq!(seen(&both).await, (200, texts(&["Bearer eyJ"]), vec![]));
    assert_eq!(seen(&[("authorization", &bearer)]).await, (200, vec![], vec![]));
    let forged = key.replace(&key[17..], &"0".repeat(64));
    assert_eq!(seen(&[("x-api-key", &forged)]).await, (401, vec![], vec![]));
    assert_eq!(seen(&[("authorization", "Bearer psk_")]).await, (401, vec![], vec![]));
    assert_eq!(upstream.requests().len(), 3, "what is refused does not reach the application");
}

#[tokio::test]
async fn the_last_use_outlives_the_process() {
    let mut penstock = Penstock::demo().await;
    let (id, key) = make(&penstock, &[]);
    in_force(&penstock, 1).await;
    assert_eq!(ask(&penstock, "/popular?k=1", &[("x-api-key", &key)]).await.0, 200);
    penstock.signal("TERM");
    assert!(penstock.exit().await.success());
    let listed = control(&penstock, &["keys", "list", "--json"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed[0]["id"], id.as_str());
    assert!(listed[0]["last_used"].is_string(), "{listed}");
}
