//! Calls about rules: `/v1/rules`.

use crate::client::{Client, ClientError};
use crate::routes;
use crate::types::{Rule, RuleList, RuleTest, RuleVerdict, StoredRule};
use reqwest::Method;

impl Client {
    /// `GET /v1/rules`: of one tenant, or of all; a page after `after`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn rules(&self, tenant: Option<&str>, after: Option<&str>) -> Result<RuleList, ClientError> {
        self.answer(self.call(Method::GET, routes::RULES, &[])?.maybe("tenant", tenant).maybe("after", after)).await
    }

    /// `GET /v1/rules/{id}`, of the caller's tenant or another.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn rule(&self, id: &str, tenant: Option<&str>) -> Result<StoredRule, ClientError> {
        self.answer(self.call(Method::GET, routes::RULE, &[id])?.maybe("tenant", tenant)).await
    }

    /// `POST /v1/rules`.
    ///
    /// # Errors
    /// [`ClientError`]; `invalid` with every mistake.
    pub async fn create_rule(&self, rule: &Rule, tenant: Option<&str>) -> Result<StoredRule, ClientError> {
        self.answer(self.call(Method::POST, routes::RULES, &[])?.maybe("tenant", tenant).json(rule)?).await
    }

    /// `DELETE /v1/rules/{id}`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn delete_rule(&self, id: &str, tenant: Option<&str>) -> Result<(), ClientError> {
        self.done(self.call(Method::DELETE, routes::RULE, &[id])?.maybe("tenant", tenant)).await
    }

    /// `POST /v1/rules:test`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn test_rules(&self, object: &RuleTest) -> Result<RuleVerdict, ClientError> {
        self.answer(self.call(Method::POST, routes::RULES_TEST, &[])?.json(object)?.repeatable()).await
    }
}
