//! The directory behind the server: `s3s-fs`, and what it leaves out and others rely on: conditions on reads, the
//! list of unfinished multipart uploads, what aborting one that is gone means, and that writing makes no bucket. Other
//! operations are passed on as they are.

use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};
use s3s_fs::FileSystem;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

pub(super) struct Disk {
    inner: FileSystem,
    root: PathBuf,
}

impl Disk {
    pub fn open(root: &Path) -> io::Result<Self> {
        let inner = FileSystem::new(root).map_err(|error| io::Error::other(format!("{error:?}")))?;
        Ok(Disk { inner, root: root.to_owned() })
    }

    fn check_bucket(&self, bucket: &str) -> S3Result<()> {
        if self.root.join(bucket).is_dir() { Ok(()) } else { Err(s3_error!(NoSuchBucket)) }
    }
}

/// An upload that is neither completed nor aborted.
pub(super) struct OpenUpload {
    pub bucket: String,
    pub key: String,
    pub id: String,
    pub started: SystemTime,
}

/// All unfinished uploads below a root, by bucket, key and id.
pub(super) fn open_uploads(root: &Path) -> io::Result<Vec<OpenUpload>> {
    // An upload has two files: `.upload-ID.json` while it lives, and its object's name in that of the other one.
    let (mut started, mut names) = (BTreeMap::new(), BTreeMap::new());
    for entry in std::fs::read_dir(root)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if let Some(id) = name.strip_prefix(".upload-").and_then(|rest| rest.strip_suffix(".json")) {
            // It may have ended since the directory was read.
            let Ok(metadata) = entry.metadata() else { continue };
            started.insert(id.to_owned(), metadata.modified()?);
        } else if let Some((id, bucket, key)) = named(&name) {
            names.insert(id, (bucket, key));
        }
    }
    let mut open: Vec<OpenUpload> = Vec::new();
    for (id, started) in started {
        if let Some((bucket, key)) = names.remove(&id) {
            open.push(OpenUpload { bucket, key, id, started });
        }
    }
    open.sort_by(|a, b| (&a.bucket, &a.key, &a.id).cmp(&(&b.bucket, &b.key, &b.id)));
    Ok(open)
}

/// Id, bucket and key from `.bucket-B.object-K.upload-ID.metadata.json`.
fn named(name: &str) -> Option<(String, String, String)> {
    let rest = name.strip_prefix(".bucket-")?.strip_suffix(".metadata.json")?;
    let (bucket, rest) = rest.split_once(".object-")?;
    let (key, id) = rest.split_once(".upload-")?;
    Some((id.to_owned(), unbase64(bucket)?, unbase64(key)?))
}

/// Decodes URL-safe base64 without padding (RFC 4648 §5) to text.
fn unbase64(text: &str) -> Option<String> {
    let (mut bits, mut held, mut bytes) = (0u32, 0u32, Vec::with_capacity(text.len()));
    for c in text.bytes() {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xffff;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from(bits >> held & 0xff).ok()?);
        }
    }
    String::from_utf8(bytes).ok()
}

/// What `If-Match` and `If-None-Match` say about an object that has this tag (RFC 9110 §13.1).
fn check(tag: Option<&ETag>, if_match: Option<&ETagCondition>, if_none_match: Option<&ETagCondition>) -> S3Result<()> {
    let is = |condition: &ETagCondition| match (condition, tag) {
        (ETagCondition::Any, _) => true,
        (ETagCondition::ETag(wanted), Some(tag)) => wanted.strong_cmp(tag),
        (ETagCondition::ETag(_), None) => false,
    };
    if if_match.is_some_and(|condition| !is(condition)) {
        return Err(s3_error!(PreconditionFailed));
    }
    if if_none_match.is_some_and(is) {
        return Err(s3_error!(NotModified));
    }
    Ok(())
}

/// One page of uploads: those with the prefix after the markers, and whether more follow.
fn page(input: &ListMultipartUploadsInput, all: Vec<OpenUpload>) -> (Vec<OpenUpload>, bool) {
    let prefix = input.prefix.as_deref().unwrap_or_default();
    let after = (input.key_marker.as_deref().unwrap_or_default(), input.upload_id_marker.as_deref());
    let limit = usize::try_from(input.max_uploads.unwrap_or(1000)).unwrap_or(1000).clamp(1, 1000);
    let follows = |upload: &OpenUpload| match after {
        ("", _) => true,
        (key, None) => upload.key.as_str() > key,
        (key, Some(id)) => (upload.key.as_str(), upload.id.as_str()) > (key, id),
    };
    let mut found: Vec<OpenUpload> = all
        .into_iter()
        .filter(|upload| upload.bucket == input.bucket && upload.key.starts_with(prefix) && follows(upload))
        .collect();
    let is_truncated = found.len() > limit;
    found.truncate(limit);
    (found, is_truncated)
}

macro_rules! serve {
    ($($name:ident($input:ty) -> $output:ty),* $(,)?) => {
        #[async_trait::async_trait]
        impl S3 for Disk {
            $(
                async fn $name(&self, request: S3Request<$input>) -> S3Result<S3Response<$output>> {
                    self.inner.$name(request).await
                }
            )*

            async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
                let (wanted, unwanted) = (request.input.if_match.clone(), request.input.if_none_match.clone());
                let response = self.inner.get_object(request).await?;
                check(response.output.e_tag.as_ref(), wanted.as_ref(), unwanted.as_ref())?;
                Ok(response)
            }

            async fn head_object(&self, request: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
                let (wanted, unwanted) = (request.input.if_match.clone(), request.input.if_none_match.clone());
                let response = self.inner.head_object(request).await?;
                check(response.output.e_tag.as_ref(), wanted.as_ref(), unwanted.as_ref())?;
                Ok(response)
            }

            async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
                self.check_bucket(&request.input.bucket)?;
                self.inner.put_object(request).await
            }

            async fn create_multipart_upload(
                &self,
                request: S3Request<CreateMultipartUploadInput>,
            ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
                self.check_bucket(&request.input.bucket)?;
                self.inner.create_multipart_upload(request).await
            }

            async fn abort_multipart_upload(
                &self,
                request: S3Request<AbortMultipartUploadInput>,
            ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
                let open = open_uploads(&self.root).map_err(s3s::S3Error::internal_error)?;
                if !open.iter().any(|upload| upload.id == request.input.upload_id) {
                    return Err(s3_error!(NoSuchUpload));
                }
                self.inner.abort_multipart_upload(request).await
            }

            async fn list_multipart_uploads(
                &self,
                request: S3Request<ListMultipartUploadsInput>,
            ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
                let input = request.input;
                let all = open_uploads(&self.root).map_err(s3s::S3Error::internal_error)?;
                let (found, is_truncated) = page(&input, all);
                let last = found.last().filter(|_| is_truncated);
                let output = ListMultipartUploadsOutput {
                    is_truncated: Some(is_truncated),
                    next_key_marker: last.map(|upload| upload.key.clone()),
                    next_upload_id_marker: last.map(|upload| upload.id.clone()),
                    bucket: Some(input.bucket),
                    prefix: input.prefix,
                    key_marker: input.key_marker,
                    upload_id_marker: input.upload_id_marker,
                    max_uploads: input.max_uploads,
                    uploads: Some(
                        found
                            .into_iter()
                            .map(|upload| MultipartUpload {
                                key: Some(upload.key),
                                upload_id: Some(upload.id),
                                initiated: Some(upload.started.into()),
                                ..Default::default()
                            })
                            .collect(),
                    ),
                    ..Default::default()
                };
                Ok(S3Response::new(output))
            }
        }
    };
}

serve! {
    complete_multipart_upload(CompleteMultipartUploadInput) -> CompleteMultipartUploadOutput,
    copy_object(CopyObjectInput) -> CopyObjectOutput,
    create_bucket(CreateBucketInput) -> CreateBucketOutput,
    delete_bucket(DeleteBucketInput) -> DeleteBucketOutput,
    delete_object(DeleteObjectInput) -> DeleteObjectOutput,
    delete_objects(DeleteObjectsInput) -> DeleteObjectsOutput,
    get_bucket_location(GetBucketLocationInput) -> GetBucketLocationOutput,
    head_bucket(HeadBucketInput) -> HeadBucketOutput,
    list_buckets(ListBucketsInput) -> ListBucketsOutput,
    list_objects(ListObjectsInput) -> ListObjectsOutput,
    list_objects_v2(ListObjectsV2Input) -> ListObjectsV2Output,
    list_parts(ListPartsInput) -> ListPartsOutput,
    upload_part(UploadPartInput) -> UploadPartOutput,
    upload_part_copy(UploadPartCopyInput) -> UploadPartCopyOutput,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_names_are_read_back() {
        assert_eq!(unbase64(""), Some(String::new()));
        assert_eq!(unbase64("Zg").as_deref(), Some("f"));
        assert_eq!(unbase64("Zm9vYmFy").as_deref(), Some("foobar"));
        assert_eq!(unbase64("w7_Dvi0").as_deref(), Some("ÿþ-"));
        assert_eq!(unbase64("a+b"), None);
    }

    #[test]
    fn only_files_of_live_uploads_count() {
        let root = std::env::temp_dir().join(format!("splitreel-uploads-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&root).unwrap();
        let touch = |name: &str| std::fs::write(root.join(name), "{}").unwrap();
        touch(".upload-1.json");
        touch(".bucket-Yg.object-aw.upload-1.metadata.json");
        touch(".bucket-Yg.object-aw.upload-2.metadata.json");
        touch(".bucket-Yg.object-aw.metadata.json");
        touch(".tmp.1.internal.part");
        let open = open_uploads(&root).unwrap();
        let seen: Vec<_> = open.iter().map(|u| (u.bucket.as_str(), u.key.as_str(), u.id.as_str())).collect();
        assert_eq!(seen, [("b", "k", "1")]);
        std::fs::remove_dir_all(&root).unwrap();
    }
}
