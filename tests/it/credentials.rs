//! Credentials that are not in the environment: from a profile, an assumed role, a web identity, a single sign-on, an instance, and
//! from a container's endpoint, renewed before they end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use serde_json::json;
use tokio::net::TcpListener;

use crate::support::eventually;
use crate::support::http::Http;
use crate::support::s3::S3;
use crate::support::server::{Server, Settings};

/// What each set of credentials is good for; it is renewed when three quarters of it are over.
const LIFE: Duration = Duration::from_secs(8);

/// What hands out credentials in Amazon's cloud: the endpoint of a container, the metadata of an instance, the services for tokens
/// (STS) and for single sign-on. The n-th answer is `key-n` with `secret-n`, whoever gives it.
struct Amazon {
    url: String,
    asked: Arc<AtomicU64>,
}

impl Amazon {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let count = Arc::clone(&count);
                let service = service_fn(move |request| answer(request, Arc::clone(&count)));
                tokio::spawn(async move {
                    let http = Builder::new(TokioExecutor::new());
                    drop(http.serve_connection(TokioIo::new(socket), service).await);
                });
            }
        });
        Self { url, asked }
    }
}

async fn answer(request: Request<Incoming>, asked: Arc<AtomicU64>) -> hyper::Result<Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let body = String::from_utf8(body.collect().await?.to_bytes().to_vec()).unwrap();
    let has = |name: &str, value: &str| head.headers.get(name).is_some_and(|it| it.to_str().unwrap().contains(value));
    let query = head.uri.query().unwrap_or_default();
    let path = (head.method.as_str(), head.uri.path());
    let is_instance = || has("x-aws-ec2-metadata-token", "of-the-instance");
    let is_token_service = |action: &str| path == ("POST", "/") && body.contains(&format!("Action={action}&"));
    Ok(match path {
        ("GET", "/credentials") if has("authorization", "token") => issued(&asked, of_a_machine),
        ("PUT", "/latest/api/token") => Response::builder()
            .header("x-aws-ec2-metadata-token-ttl-seconds", "21600")
            .body(Full::from("of-the-instance"))
            .unwrap(),
        ("GET", "/latest/meta-data/iam/security-credentials/") if is_instance() => Response::new(Full::from("role")),
        ("GET", "/latest/meta-data/iam/security-credentials/role") if is_instance() => issued(&asked, of_a_machine),
        _ if is_token_service("AssumeRoleWithWebIdentity") && body.contains("WebIdentityToken=who-it-is") => {
            issued(&asked, |key| of_tokens("AssumeRoleWithWebIdentity", key))
        }
        _ if is_token_service("AssumeRole") && has("authorization", "Credential=profile-key/") => {
            issued(&asked, |key| of_tokens("AssumeRole", key))
        }
        ("GET", "/federation/credentials")
            if has("x-amz-sso_bearer_token", "signed-on") && query.contains("role_name=keeper") =>
        {
            issued(&asked, of_sign_on)
        }
        _ => Response::builder().status(403).body(Full::default()).unwrap(),
    })
}

/// The next credentials.
struct Key {
    number: u64,
    end: SystemTime,
}

impl Key {
    fn end(&self) -> String {
        humantime::format_rfc3339_seconds(self.end).to_string()
    }
}

fn issued(asked: &AtomicU64, body: impl Fn(&Key) -> String) -> Response<Full<Bytes>> {
    let key = Key { number: asked.fetch_add(1, Ordering::Relaxed) + 1, end: SystemTime::now() + LIFE };
    let body = body(&key);
    let kind = if body.starts_with('<') { "text/xml" } else { "application/json" };
    Response::builder().header("content-type", kind).body(Full::from(body)).unwrap()
}

fn of_a_machine(key: &Key) -> String {
    json!({
        "Code": "Success",
        "Type": "AWS-HMAC",
        "AccessKeyId": format!("key-{}", key.number),
        "SecretAccessKey": format!("secret-{}", key.number),
        "Token": "session",
        "Expiration": key.end(),
    })
    .to_string()
}

fn of_tokens(action: &str, key: &Key) -> String {
    let (number, end) = (key.number, key.end());
    format!(
        "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{action}Result>\
         <AssumedRoleUser><Arn>arn:aws:sts::1:assumed-role/keeper/t</Arn><AssumedRoleId>A:t</AssumedRoleId></AssumedRoleUser>\
         <Credentials><AccessKeyId>key-{number}</AccessKeyId><SecretAccessKey>secret-{number}</SecretAccessKey>\
         <SessionToken>session</SessionToken><Expiration>{end}</Expiration></Credentials>\
         </{action}Result></{action}Response>"
    )
}

fn of_sign_on(key: &Key) -> String {
    let end = key.end.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    json!({"roleCredentials": {
        "accessKeyId": format!("key-{}", key.number),
        "secretAccessKey": format!("secret-{}", key.number),
        "sessionToken": "session",
        "expiration": u64::try_from(end).unwrap(),
    }})
    .to_string()
}

/// Settings of a process that finds nothing in its home.
fn homeless(s3: &S3, home: &std::path::Path) -> Settings {
    let home = home.to_str().unwrap();
    s3.settings_without_keys().env("HOME", home).env("AWS_EC2_METADATA_DISABLED", "true")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_of_a_container_are_renewed_before_they_end() {
    let (s3, container, home) = (S3::start().await, Amazon::start().await, tempfile::tempdir().unwrap());
    s3.keys().set([("key-1", "secret-1"), ("key-2", "secret-2")]);
    let settings = homeless(&s3, home.path())
        .env("AWS_CONTAINER_CREDENTIALS_FULL_URI", &format!("{}/credentials", container.url))
        .env("AWS_CONTAINER_AUTHORIZATION_TOKEN", "token");
    let server = Server::start_with(settings).await;
    let http = Http::new(server.url());
    http.create_topic("t", &json!({})).await;
    let flush = async || {
        http.produce("t", &json!([{"text": "x"}])).await.expect(200);
        http.flush("t", false).await;
    };
    flush().await;
    assert!(s3.keys().used("key-1") && !s3.keys().used("key-2"));
    let metrics = String::from_utf8(http.get("/metrics").await.body).unwrap();
    let line = metrics.lines().find(|line| line.starts_with("tidelog_bucket_credentials_expiry_timestamp_seconds"));
    let expiry: f64 = line.and_then(|line| line.split(' ').next_back()).unwrap().parse().unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    assert!(expiry > now - LIFE.as_secs_f64() && expiry < now + LIFE.as_secs_f64() + 1.0, "{expiry} at {now}");

    eventually("a call under new credentials", || async {
        flush().await;
        s3.keys().used("key-2").then_some(())
    })
    .await;
    assert!(container.asked.load(Ordering::Relaxed) >= 2);
    assert!(!server.log().contains("could not be renewed"), "{}", server.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_profile_has_keys_and_a_region_and_nothing_is_told_in_one_sentence() {
    let (s3, home) = (S3::start().await, tempfile::tempdir().unwrap());
    s3.keys().set([("profile-key", "profile-secret")]);
    let (credentials, config) = (home.path().join("credentials"), home.path().join("config"));
    std::fs::write(&credentials, "[tide]\naws_access_key_id = profile-key\naws_secret_access_key = profile-secret\n")
        .unwrap();
    std::fs::write(&config, "[profile tide]\nregion = eu-central-1\n").unwrap();
    let (credentials, config) = (credentials.to_str().unwrap(), config.to_str().unwrap());
    let url = s3.url();
    let check = ["bucket", "check", "--quick", "--bucket", url.as_str()];
    let (home, none) = (home.path().to_str().unwrap(), ("AWS_EC2_METADATA_DISABLED", "true"));
    let files = [("AWS_SHARED_CREDENTIALS_FILE", credentials), ("AWS_CONFIG_FILE", config)];
    let environment = [&files[..], &[("AWS_PROFILE", "tide"), ("HOME", home), none]].concat();
    let said = s3.run_without(&check, &["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"], &environment);
    said.await.ok();
    assert!(s3.keys().used("profile-key"));

    let said = s3.run_without(&check, &["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"], &[("HOME", home), none]).await;
    let said = said.failed(1);
    assert!(said.contains("no credentials are found"), "{said}");
}

/// Whose start page this is, and the name of the file that its sign-on is kept in: the SHA-1 of that.
const SIGN_ON: &str = "https://tide.awsapps.example/start";
const SIGNED_ON: &str = ".aws/sso/cache/750c6adf7a787d96da29eecaea58d230aa971235.json";

/// What a source of credentials needs: files in the home, and variables.
struct Source {
    files: Vec<(&'static str, String)>,
    variables: Vec<(&'static str, String)>,
}

fn sources(amazon: &str, home: &str) -> Vec<(&'static str, Source)> {
    let no_instance = ("AWS_EC2_METADATA_DISABLED", "true".to_owned());
    let profile = ("AWS_PROFILE", "tide".to_owned());
    let tokens = ("AWS_ENDPOINT_URL_STS", amazon.to_owned());
    let assumed = "[profile tide]\nrole_arn = arn:aws:iam::1:role/keeper\nsource_profile = base\n\
                   [profile base]\naws_access_key_id = profile-key\naws_secret_access_key = profile-secret\n";
    let signed_on = format!(
        "[profile tide]\nsso_start_url = {SIGN_ON}\nsso_region = eu-central-1\nsso_account_id = 123456789012\nsso_role_name = keeper\n"
    );
    let sign_on = json!({"accessToken": "signed-on", "expiresAt": "2999-01-01T00:00:00Z", "region": "eu-central-1", "startUrl": SIGN_ON});
    vec![
        (
            "a role of an instance",
            Source { files: vec![], variables: vec![("AWS_EC2_METADATA_SERVICE_ENDPOINT", amazon.to_owned())] },
        ),
        (
            "a web identity",
            Source {
                files: vec![("token", "who-it-is".to_owned())],
                variables: vec![
                    ("AWS_WEB_IDENTITY_TOKEN_FILE", format!("{home}/token")),
                    ("AWS_ROLE_ARN", "arn:aws:iam::1:role/keeper".to_owned()),
                    tokens.clone(),
                    no_instance.clone(),
                ],
            },
        ),
        (
            "a role that a profile assumes",
            Source {
                files: vec![(".aws/config", assumed.to_owned())],
                variables: vec![profile.clone(), tokens, no_instance.clone()],
            },
        ),
        (
            "a single sign-on",
            Source {
                files: vec![(".aws/config", signed_on), (SIGNED_ON, sign_on.to_string())],
                variables: vec![profile, ("AWS_ENDPOINT_URL_SSO", amazon.to_owned()), no_instance],
            },
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_are_found_wherever_amazon_s_tools_find_them() {
    let s3 = S3::start().await;
    s3.keys().set([("key-1", "secret-1")]);
    let url = s3.url();
    for at in 0..4 {
        let (amazon, home) = (Amazon::start().await, tempfile::tempdir().unwrap());
        let home = home.path().to_str().unwrap();
        let (name, source) = sources(&amazon.url, home).swap_remove(at);
        for (file, content) in source.files {
            let path = std::path::Path::new(home).join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        let variables: Vec<(&str, &str)> =
            source.variables.iter().map(|(name, value)| (*name, value.as_str())).chain([("HOME", home)]).collect();
        let check = ["bucket", "check", "--quick", "--bucket", url.as_str()];
        let said = s3.run_without(&check, &["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"], &variables).await;
        assert_eq!(said.code, 0, "{name}: {}{}", said.stdout, said.stderr);
        assert!(amazon.asked.load(Ordering::Relaxed) >= 1, "{name}");
    }
    assert!(s3.keys().used("key-1"));
}
