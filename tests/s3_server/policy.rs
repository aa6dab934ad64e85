//! What the user may do: the policy file of minio/, read strictly. Only what is allowed by a statement is done, whatever
//! else the server could do; what a statement says that is not understood here stops the start.

use anyhow::{Context as _, Result, bail};
use async_trait::async_trait;
use s3s::access::{S3Access, S3AccessContext};
use s3s::dto::DeleteObjectsInput;
use s3s::path::S3Path;
use s3s::{S3Error, S3ErrorCode, S3Request, S3Result};
use serde::Deserialize;

/// The statements of a policy.
#[derive(Debug)]
pub(crate) struct Policy(Vec<Statement>);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Document {
    version: String,
    statement: Vec<Statement>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Statement {
    effect: String,
    action: Vec<String>,
    resource: Vec<String>,
}

impl Policy {
    /// Reads a policy in the form of IAM.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let document: Document = serde_json::from_str(text).context("the policy cannot be read")?;
        if document.version != "2012-10-17" || document.statement.iter().any(|statement| statement.effect != "Allow") {
            bail!("the policy has another version or another effect than Allow");
        }
        Ok(Self(document.statement))
    }

    fn allows(&self, action: &str, resource: &str) -> bool {
        self.0.iter().any(|statement| {
            statement.action.iter().any(|allowed| allowed == action)
                && statement.resource.iter().any(|pattern| matches(pattern, resource))
        })
    }

    fn demand(&self, action: &str, resource: &str) -> S3Result<()> {
        if self.allows(action, resource) {
            return Ok(());
        }
        eprintln!("s3-server: denied {action} on {resource}");
        Err(S3Error::with_message(S3ErrorCode::AccessDenied, format!("the policy does not allow {action}")))
    }
}

/// A pattern may end with a star, which stands for anything.
fn matches(pattern: &str, resource: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(begin) => resource.starts_with(begin),
        None => pattern == resource,
    }
}

/// What IAM calls the right to an operation of S3; none of those that are not in this list.
fn action(operation: &str) -> Option<&'static str> {
    Some(match operation {
        "GetObject" | "HeadObject" => "s3:GetObject",
        "PutObject" | "CreateMultipartUpload" | "UploadPart" | "CompleteMultipartUpload" => "s3:PutObject",
        "AbortMultipartUpload" => "s3:AbortMultipartUpload",
        "DeleteObject" => "s3:DeleteObject",
        "ListObjects" | "ListObjectsV2" | "HeadBucket" => "s3:ListBucket",
        "GetBucketLocation" => "s3:GetBucketLocation",
        _ => return None,
    })
}

fn resource(bucket: &str, key: Option<&str>) -> String {
    match key {
        Some(key) => format!("arn:aws:s3:::{bucket}/{key}"),
        None => format!("arn:aws:s3:::{bucket}"),
    }
}

#[async_trait]
impl S3Access for Policy {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        let denied = || S3Error::with_message(S3ErrorCode::AccessDenied, "the policy does not allow this");
        if context.credentials().is_none() {
            return Err(denied());
        }
        let operation = context.s3_op().name();
        // Its keys are in its body: `delete_objects` looks at each of them.
        if operation == "DeleteObjects" {
            return Ok(());
        }
        let resource = match context.s3_path() {
            S3Path::Root => return Err(denied()),
            S3Path::Bucket { bucket } => resource(bucket, None),
            S3Path::Object { bucket, key } => resource(bucket, Some(key)),
        };
        let Some(action) = action(operation) else {
            eprintln!("s3-server: denied {operation} on {resource}");
            return Err(denied());
        };
        self.demand(action, &resource)
    }

    async fn delete_objects(&self, request: &mut S3Request<DeleteObjectsInput>) -> S3Result<()> {
        let DeleteObjectsInput { bucket, delete, .. } = &request.input;
        delete
            .objects
            .iter()
            .try_for_each(|object| self.demand("s3:DeleteObject", &resource(bucket, Some(&object.key))))
    }
}
