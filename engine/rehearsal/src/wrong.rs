//! Errors in the shape that OpenAI gives them.

use crate::http::Status;
use crate::json;

/// A request that is not answered, and why.
pub(crate) struct Wrong {
    pub(crate) status: Status,
    pub(crate) message: String,
    pub(crate) kind: &'static str,
    pub(crate) param: Option<&'static str>,
    pub(crate) code: Option<&'static str>,
}

impl Wrong {
    /// A request that must be changed.
    pub(crate) fn request(message: impl Into<String>, param: Option<&'static str>) -> Self {
        Self::new(Status::BAD_REQUEST, message, param, None)
    }

    pub(crate) fn new(status: Status, message: impl Into<String>, param: Option<&'static str>, code: Option<&'static str>) -> Self {
        Self { status, message: message.into(), kind: "invalid_request_error", param, code }
    }

    /// A fault that is not the client's.
    pub(crate) fn ours(status: Status, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), kind, param: None, code: None }
    }

    pub(crate) fn model(name: &str) -> Self {
        let message = format!("The model `{name}` does not exist or you do not have access to it.");
        Self::new(Status::NOT_FOUND, message, None, Some("model_not_found"))
    }

    /// `{"error": {message, type, param, code}}`.
    pub(crate) fn body(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(160 + self.message.len());
        out.extend_from_slice(b"{\"error\":{\"message\":");
        json::string(&mut out, &self.message);
        out.extend_from_slice(b",\"type\":");
        json::string(&mut out, self.kind);
        for (name, value) in [("param", self.param), ("code", self.code)] {
            out.push(b',');
            json::string(&mut out, name);
            out.push(b':');
            match value {
                Some(value) => json::string(&mut out, value),
                None => out.extend_from_slice(b"null"),
            }
        }
        out.extend_from_slice(b"}}");
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shape_is_openais() {
        let body = Wrong::model("missing-1").body();
        assert_eq!(
            String::from_utf8(body).unwrap(),
            "{\"error\":{\"message\":\"The model `missing-1` does not exist or you do not have access to it.\",\
             \"type\":\"invalid_request_error\",\"param\":null,\"code\":\"model_not_found\"}}"
        );
    }
}
